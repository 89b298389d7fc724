//! The engine: commit, look-up, checkpoint, sweep and recovery, as plain calls. It starts no
//! thread, so that tests can drive it step by step under a clock they hold.

mod append;
#[cfg(not(firstclaim_shuttle))]
pub(crate) mod base;
#[cfg(firstclaim_shuttle)]
#[path = "engine/base/stub.rs"]
pub(crate) mod base;
pub(crate) mod catalog;
mod commit;
pub(crate) mod disk;
mod entropy;
mod filter;
mod generation;
pub(crate) mod holders;
pub(crate) mod journal;
mod opening;
mod overlay;
mod seal;
mod upkeep;

use std::collections::HashSet;
use std::sync::Arc;

pub use self::commit::{Answer, Request};
pub use self::upkeep::{Swept, Verified};

use self::append::{Failure, Writer};
use self::catalog::Catalog;
use self::disk::Disk;
use self::holders::Holders;
use self::journal::Spares;
use self::overlay::{Entry, Found, Overlay, Slot};
use crate::bugs::{self, Bug};
use crate::builder::{Durability, Limits};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::record::{Fence, Holder, Record, State};
use crate::sync::{AtomicBool, AtomicU64, Bell, Mutex, Ordering};
use crate::time::{Clock, StoreTime, Timestamp};
use crate::transition::{Command, Terms, Write, step};

/// A reader that meets a freeze or a change of its key starts over; after this many times it waits
/// for the commit right, under which there is none.
const MAX_READ_TRIES: usize = 4;
/// How many unfinished records are listed under one hold of the overlay.
const UNFINISHED_PAGE: usize = 1024;

/// What an engine is opened with.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// What "durable" means.
    pub durability: Durability,
    /// Its limits.
    pub limits: Limits,
    /// The length of a segment.
    pub journal_bytes: u64,
    /// The memory the base may use for pages.
    pub base_cache_bytes: usize,
    /// A transaction of a checkpoint takes no more records.
    pub transaction_records: usize,
    /// Where it reads the time.
    pub clock: Arc<dyn Clock>,
}

/// A store without its threads.
#[derive(Debug)]
pub struct Engine {
    disk: Arc<dyn Disk>,
    options: EngineOptions,
    time: StoreTime,
    overlay: Overlay,
    holders: Arc<Holders>,
    catalog: Catalog,
    /// The longest response or recovery point that may have to be written: a limit, or what an
    /// earlier run left under a higher one.
    longest_body: usize,
    /// The commit right. Taken before `checkpointing`, never after it.
    writer: Mutex<Writer>,
    /// The room in the segment being written, for those without the commit right.
    room: AtomicU64,
    /// Held by whoever writes what is frozen into the base.
    checkpointing: Mutex<()>,
    /// The last checkpoint, if it failed.
    failure: Mutex<Option<Failure>>,
    spares: Arc<Spares>,
    /// The highest fence given. Changed under the commit right.
    fence: AtomicU64,
    /// A write to the journal failed: nothing more may be written.
    poisoned: AtomicBool,
    /// The keys of the frame that failed: what is shown of them may not be what the next opening
    /// finds.
    unsettled: Mutex<HashSet<RecordKey>>,
    /// What went wrong first.
    trouble: Mutex<Option<String>>,
    counters: Counters,
    /// Rung when there is something for whoever looks after the engine: a frozen overlay to be
    /// written, or a base to be reopened.
    bell: Bell,
    /// The engine is being closed: long readings stop.
    stopping: AtomicBool,
}

/// What has happened since the opening.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) frames: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) base_reads: AtomicU64,
}

/// A record with whether its holder is alive.
pub type Seen = (Arc<Record>, Holder);

impl Engine {
    /// The answer to a claim that needs no write, if it is one: the key is done, or in flight and
    /// not to be taken over, or the fingerprint does not fit.
    ///
    /// # Errors
    /// As a claim.
    pub fn try_claim(&self, key: &RecordKey, terms: &Terms) -> Result<Option<Answer>> {
        let now = self.time.now();
        let Some((record, holder)) = self.look(key, now)? else {
            return Ok(None);
        };
        let command = Command::Claim(terms.clone());
        let step = step(Some(&record), holder, &command, now, Fence::from_u64(0))
            .map_err(commit::refused)?;
        Ok(match step.write {
            Write::Keep => Some(Answer {
                reply: step.reply,
                record: Some(record),
                holding: None,
            }),
            Write::Put(_) | Write::Delete => None,
        })
    }

    /// The record of `key`, unless it has expired.
    ///
    /// # Errors
    /// `Corrupt`, `Poisoned` if it may or may not have expired, or an I/O error of the base.
    pub fn peek(&self, key: &RecordKey) -> Result<Option<Seen>> {
        let now = self.time.now();
        let seen = self.look(key, now)?;
        if !seen.as_ref().is_some_and(|seen| is_doubtful(seen, now)) {
            return Ok(seen.filter(|seen| !is_over(seen, now)));
        }
        let _right = self.writer.lock();
        let seen = self.look_under_right(key, now)?;
        self.check_settled(key, seen.as_ref(), now)?;
        Ok(seen.filter(|seen| !is_over(seen, now)))
    }

    /// Every unfinished record whose encoded name begins with `prefix`.
    ///
    /// # Errors
    /// `Corrupt` if one of them is damaged, `Poisoned` if one may or may not have expired.
    pub fn unfinished(&self, prefix: &[u8]) -> Result<Vec<(RecordKey, Seen)>> {
        let now = self.time.now();
        let mut all = Vec::new();
        self.for_each_unfinished(prefix, |page| {
            let mut found = Vec::with_capacity(page.len());
            for (key, slot) in page {
                match slot {
                    Slot::Record(record) => {
                        let seen = self.confirm(&key, record, now)?;
                        found.extend(seen.map(|seen| (key, seen)));
                    }
                    Slot::Damaged => return Err(damaged(&key)),
                }
            }
            self.settle(&mut found, now)?;
            found.retain(|(_, seen)| seen.0.is_unfinished() && !is_over(seen, now));
            all.append(&mut found);
            Ok(())
        })?;
        Ok(all)
    }

    /// Looks again at those that seem to have expired, all under one hold of the commit right.
    fn settle(&self, found: &mut [(RecordKey, Seen)], now: Timestamp) -> Result<()> {
        if !found.iter().any(|(_, seen)| is_doubtful(seen, now)) {
            return Ok(());
        }
        let _right = self.writer.lock();
        for (key, seen) in found {
            if is_doubtful(seen, now)
                && let Some(again) = self.look_under_right(key, now)?
            {
                self.check_settled(key, Some(&again), now)?;
                *seen = again;
            }
        }
        Ok(())
    }

    /// The end of the lease with this fence, if it is the current one of `key`. No I/O: records in
    /// flight are all in memory.
    pub(crate) fn lease_end(&self, key: &RecordKey, fence: Fence) -> Option<Timestamp> {
        match self.overlay.find(key) {
            Found::Entry(Some(record)) if record.fence == fence => match record.state {
                State::InFlight { ends_at } => Some(ends_at),
                _ => None,
            },
            _ => None,
        }
    }

    /// The time now.
    #[cfg(feature = "internals")]
    pub fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// Whether nothing more may be written until the store is reopened.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::SeqCst) && !bugs::is(Bug::PoisonIgnored)
    }

    /// From here on nothing more is written; the first cause is kept to be shown.
    pub(crate) fn poison(&self, cause: impl Into<String>) {
        self.note_trouble(cause.into());
        self.poisoned.store(true, Ordering::SeqCst);
    }

    pub(crate) fn note_trouble(&self, what: String) {
        self.trouble.lock().get_or_insert(what);
    }

    /// What went wrong first: why nothing more can be written, or the damage that was found.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    pub(crate) fn holders(&self) -> &Arc<Holders> {
        &self.holders
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Records and tombstones in memory; unfinished records and their bytes.
    pub(crate) fn memory_sizes(&self) -> (usize, (usize, usize)) {
        (self.overlay.entries(), self.overlay.unfinished_size())
    }

    /// The record of `key`, expired or not, with its holder, without the commit right.
    fn look(&self, key: &RecordKey, now: Timestamp) -> Result<Option<Seen>> {
        match self.find_without_right(key, now)? {
            Some(record) => self.confirm(key, record, now),
            None => Ok(None),
        }
    }

    /// Adds the holder to a record just read. A completion or a release is shown first, and then its
    /// holder is gone: a record in flight counts as left behind only if it is still the one in force
    /// after its holder was found gone.
    fn confirm(
        &self,
        key: &RecordKey,
        mut record: Arc<Record>,
        now: Timestamp,
    ) -> Result<Option<Seen>> {
        for _ in 0..MAX_READ_TRIES {
            let holder = self.holders.status(record.fence, now);
            if holder == Holder::Alive || !matches!(record.state, State::InFlight { .. }) {
                return Ok(Some((record, holder)));
            }
            match self.find_without_right(key, now)? {
                Some(again) if Arc::ptr_eq(&again, &record) => return Ok(Some((again, holder))),
                Some(again) => record = again,
                None => return Ok(None),
            }
        }
        let _right = self.writer.lock();
        self.look_under_right(key, now)
    }

    /// Refuses to call a key vacant because its record has expired, if the frame that poisoned the
    /// store may have put one that goes on from it. The caller has the commit right.
    fn check_settled(&self, key: &RecordKey, seen: Option<&Seen>, now: Timestamp) -> Result<()> {
        match seen {
            Some(seen) if is_doubtful(seen, now) && self.unsettled.lock().contains(key) => {
                Err(Error::Poisoned)
            }
            _ => Ok(()),
        }
    }

    fn look_under_right(&self, key: &RecordKey, now: Timestamp) -> Result<Option<Seen>> {
        let found = self.find(key, now)?;
        Ok(found.map(|record| {
            let holder = self.holders.status(record.fence, now);
            (record, holder)
        }))
    }

    fn for_each_unfinished(
        &self,
        prefix: &[u8],
        mut with: impl FnMut(Vec<(RecordKey, Slot)>) -> Result<()>,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let page = self
                .overlay
                .unfinished_page(prefix, after.as_ref(), UNFINISHED_PAGE);
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            with(page)?;
        }
    }

    /// Looks a key up without the commit right. A miss counts only if no freeze happened since
    /// the look-up began: what was active before may by now have changed the base.
    fn find_without_right(&self, key: &RecordKey, now: Timestamp) -> Result<Entry> {
        for _ in 0..MAX_READ_TRIES {
            match self.overlay.find(key) {
                Found::Entry(entry) => return Ok(entry),
                Found::Damaged => return Err(damaged(key)),
                Found::AskBase { freezes } => {
                    let found = self.find_in_base(key, now);
                    if self.overlay.freezes() == freezes || bugs::is(Bug::ReaderIgnoresFreezes) {
                        return found;
                    }
                }
            }
        }
        let _right = self.writer.lock();
        self.find(key, now)
    }

    /// Looks a key up under the commit right.
    fn find(&self, key: &RecordKey, now: Timestamp) -> Result<Entry> {
        match self.overlay.find(key) {
            Found::Entry(entry) => Ok(entry),
            Found::Damaged => Err(damaged(key)),
            Found::AskBase { .. } => self.find_in_base(key, now),
        }
    }

    fn find_in_base(&self, key: &RecordKey, now: Timestamp) -> Result<Entry> {
        self.counters.base_reads.fetch_add(1, Ordering::Relaxed);
        let found = self.catalog.find(key, now).inspect_err(|_| {
            if self.catalog.is_broken() {
                self.bell.ring();
            }
        });
        Ok(found?.map(Arc::new))
    }
}

fn is_over((record, holder): &Seen, now: Timestamp) -> bool {
    record.is_expired(*holder, now)
}

/// Whether an unfinished record seen without the commit right seems to have expired. A takeover that
/// was decided before its holder went, or before its time came, may be on its way to the disk; then
/// the key is not vacant, and never was.
fn is_doubtful(seen: &Seen, now: Timestamp) -> bool {
    seen.0.is_unfinished() && is_over(seen, now)
}

fn damaged(key: &RecordKey) -> Error {
    Error::corrupt(base::BASE_FILE, format!("the unfinished record of {key:?}"))
}
