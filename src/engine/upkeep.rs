//! What keeps the store small: checkpoints, sweeps, verification.

use std::time::Duration;

use super::Engine;
use super::catalog::{Applied, Verification};
use super::commit::Request;
use super::overlay::{Frozen, Slot};
use super::pace::Pace;
use super::seal;
use crate::bugs::{self, Bug};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::sync::Ordering;
use crate::time::Timestamp;
use crate::transition::{Command, Reply};

/// A checkpoint is to be done before so much of the next segment is filled: well before commits wait.
const FILLED_AFTER_CHECKPOINT: f64 = 0.6;
/// A commit removes no more expired unfinished records.
const EXPIRIES_PER_COMMIT: usize = 1024;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Swept {
    /// Expired records that were in flight or released.
    pub unfinished: u64,
    /// Expired records that were done.
    pub done: u64,
}

/// What a verification read, all of it whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Verified {
    /// Records read from the base.
    pub records: u64,
    /// Tables they were in.
    pub tables: u64,
}

impl Engine {
    /// Writes everything committed so far into the base.
    ///
    /// # Errors
    /// `Poisoned`; `NoSpace` or `Io` if the disk says so: it may be tried again.
    pub fn checkpoint(&self) -> Result<()> {
        self.catalog.heal()?;
        self.write_frozen()?;
        {
            let mut writer = self.writer.lock();
            if self.is_poisoned() {
                return Err(Error::Poisoned);
            }
            // If another call froze meanwhile, what was active at the beginning is in there.
            if !self.overlay.active_is_empty() && self.overlay.frozen().is_none() {
                self.rotate(&mut writer)?;
            }
        }
        self.write_frozen()
    }

    /// Finishes a checkpoint that a full segment began, and reopens the base if need be.
    ///
    /// # Errors
    /// As a checkpoint.
    pub(crate) fn finish_checkpoint(&self) -> Result<()> {
        self.catalog.heal()?;
        self.write_frozen()
    }

    /// Tries a checkpoint again that failed, if one did: something may have become free.
    pub(crate) fn retry_checkpoint(&self) {
        if self.failure.lock().is_some() {
            // It notes how that went, and tells the next commit that needs it.
            let _ = self.finish_checkpoint();
        }
    }

    /// Writes what is frozen into the base, if anything is, and then lets go of it.
    pub(super) fn write_frozen(&self) -> Result<()> {
        let _one_at_a_time = self.checkpointing.lock();
        let Some(frozen) = self.overlay.frozen() else {
            return Ok(());
        };
        let written = self.write_to_base(&frozen);
        self.note_checkpoint(&written);
        written
    }

    fn write_to_base(&self, frozen: &Frozen) -> Result<()> {
        let applied = Applied {
            new_run: None,
            first_segment: frozen.next_segment,
            through: frozen.through,
        };
        let fence = self.fence.load(Ordering::SeqCst);
        let now = self.time.now();
        let due = || self.checkpoint_due();
        if bugs::is(Bug::FrozenDroppedEarly) {
            self.overlay.drop_frozen();
        }
        self.catalog
            .apply(frozen.entries.iter(), applied, fence, now, &due)?;
        self.overlay.drop_frozen();
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        if let Some(old) = &frozen.old_segment {
            // A file that cannot be removed is void all the same; the next opening tries again.
            let _ = self.spares.keep(&*self.disk, old.clone());
        }
        Ok(())
    }

    /// How much of a checkpoint is to be done by now: all of it while the segment being written has
    /// room left. Else whoever commits waits for it.
    fn checkpoint_due(&self) -> f64 {
        if self.is_stopped() {
            // Whoever closes the store waits for it.
            return f64::INFINITY;
        }
        let room = self.room.load(Ordering::SeqCst) as f64;
        let filled = 1.0 - room / self.options.journal_bytes as f64;
        filled / FILLED_AFTER_CHECKPOINT
    }

    /// The same of all other upkeep: nothing, unless it has what a checkpoint could use, the right to write the
    /// base or a snapshot that keeps pages from being used again.
    fn upkeep_due(&self) -> f64 {
        if self.has_frozen() {
            f64::INFINITY
        } else {
            0.0
        }
    }

    /// Whether there is something frozen to be written.
    pub(crate) fn has_frozen(&self) -> bool {
        self.overlay.frozen().is_some()
    }

    /// Waits until there is a checkpoint to finish or a base to reopen, at most for `wait`.
    pub(crate) fn wait_to_checkpoint(&self, wait: Duration) {
        self.checkpoint_bell.wait(wait);
    }

    /// Waits until part of the base is to be read through, at most for `wait`.
    pub(crate) fn wait_to_verify(&self, wait: Duration) {
        self.catalog.reloaded.wait(wait);
    }

    /// Whether there is something that cannot wait for its time.
    pub(crate) fn is_urgent(&self) -> bool {
        self.has_frozen() || self.catalog.is_broken()
    }

    /// Reads through one table that has not been since it was loaded.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub(crate) fn verify_one(&self) -> Result<()> {
        let due = || self.upkeep_due();
        let pace = Pace::of(1, &due);
        let found = self.catalog.verify_one(&self.stopping, &pace)?;
        self.note_damage(found).map(drop)
    }

    fn note_damage(&self, found: Verification) -> Result<Verification> {
        let result = found.into_result();
        result.inspect_err(|damage| self.note_trouble(damage.to_string()))
    }

    /// Whether part of the base has not been read through since it was loaded.
    pub(crate) fn is_unverified(&self) -> bool {
        self.catalog.unverified() > 0
    }

    /// Makes long readings end early, and wakes whoever waits for work.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.checkpoint_bell.ring();
        self.catalog.reloaded.ring();
    }

    /// Whether it was told to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Writes everything into the base and closes it. Nothing works afterwards.
    ///
    /// # Errors
    /// As a checkpoint; the base is closed all the same, and the journal has what it lacks.
    pub fn close(&self) -> Result<()> {
        let written = self.checkpoint();
        self.catalog.close();
        // The base as it is now; without a seal the next opening only knows less.
        written.inspect(|()| drop(seal::write(&*self.disk)))
    }

    /// Makes the next segment ready ahead of its need.
    ///
    /// # Errors
    /// What the disk says.
    pub fn prepare_segment(&self) -> Result<()> {
        if self.has_frozen() {
            // The segment that it came from will be it.
            return Ok(());
        }
        Ok(self
            .spares
            .prepare(&*self.disk, self.options.journal_bytes)?)
    }

    /// As [`sweep_with`](Self::sweep_with), without a pause.
    ///
    /// # Errors
    /// The same.
    #[cfg(feature = "internals")]
    pub fn sweep(&self) -> Result<Swept> {
        self.sweep_with(|| Ok(()))
    }

    /// Removes what has expired: done records a generation and a transaction at a time, with something
    /// done after each, and unfinished ones by commits of bounded size. Neither holds up claims for
    /// long. The done ones first: on a full disk they give the space that a commit may need.
    ///
    /// # Errors
    /// `Poisoned`; `Closed` once the engine is stopped; `NoSpace` or `Io` if the disk says so: it may be
    /// tried again.
    pub(crate) fn sweep_with(&self, mut after_one: impl FnMut() -> Result<()>) -> Result<Swept> {
        let now = self.time.now();
        self.holders.forget_over(now);
        let mut swept = Swept::default();
        while let Some(rows) = self.sweep_one()? {
            swept.done += rows;
            after_one()?;
        }
        let mut expired = Vec::new();
        self.for_each_unfinished(&[], |page| {
            expired.extend(self.expired_of(page, now));
            if expired.len() >= EXPIRIES_PER_COMMIT {
                swept.unfinished += self.expire(std::mem::take(&mut expired))?;
            }
            Ok(())
        })?;
        swept.unfinished += self.expire(expired)?;
        self.counters.sweeps.fetch_add(1, Ordering::Relaxed);
        Ok(swept)
    }

    /// Removes one generation that has expired, in one transaction, and tells how many records it had.
    ///
    /// # Errors
    /// As a sweep.
    pub fn sweep_one(&self) -> Result<Option<u64>> {
        let due = || self.upkeep_due();
        let pace = Pace::of(1, &due);
        self.catalog
            .drop_one_expired(self.time.now(), &self.stopping, &pace)
    }

    /// Those of some unfinished records that have expired.
    fn expired_of(
        &self,
        page: Vec<(RecordKey, Slot)>,
        now: Timestamp,
    ) -> impl Iterator<Item = RecordKey> {
        page.into_iter().filter_map(move |(key, slot)| match slot {
            Slot::Record(record) => {
                let holder = self.holders.status(record.fence, now);
                record.is_expired(holder, now).then_some(key)
            }
            Slot::Damaged => None,
        })
    }

    /// Removes the records of these keys that have expired. In the order of their names, so that the
    /// same things are written whatever the order they were found in.
    fn expire(&self, mut keys: Vec<RecordKey>) -> Result<u64> {
        keys.sort_unstable();
        let requests = keys
            .into_iter()
            .map(|key| Request::new(key, Command::Expire));
        let requests: Vec<Request> = requests.collect();
        let mut removed = 0;
        for some in requests.chunks(EXPIRIES_PER_COMMIT) {
            for answer in self.commit(some) {
                removed += u64::from(answer?.reply == Reply::Changed);
            }
        }
        Ok(removed)
    }

    /// Reads the whole base through.
    ///
    /// # Errors
    /// `Corrupt`, naming the first damage, if anything is damaged; `Io` if the base cannot be read;
    /// `Closed` if the store is closed meanwhile.
    pub fn verify(&self) -> Result<Verified> {
        self.catalog.heal()?;
        let due = || self.upkeep_due();
        let found = self.catalog.verify(&self.stopping, &Pace::of(1, &due))?;
        let found = self.note_damage(found)?;
        Ok(Verified {
            records: found.records,
            tables: found.tables,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{claim, engine};
    use crate::time::ManualClock;

    #[test]
    fn a_checkpoint_is_tried_again_only_if_it_failed() {
        let engine = engine(&ManualClock::new());
        let _claimed = claim(&engine, "k", Duration::from_secs(60));
        engine.rotate(&mut engine.writer.lock()).unwrap();
        engine.retry_checkpoint();
        assert!(engine.has_frozen());
        engine.note_checkpoint(&Err(Error::NoSpace));
        engine.retry_checkpoint();
        assert!(!engine.has_frozen());
    }
}
