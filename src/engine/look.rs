//! Looking keys up: in the overlay, then in the base; with or without the commit right.

use std::sync::Arc;

use super::overlay::{Entry, Found, Overlay, Since, Slot};
use super::{Answer, Engine, base, commit};
use crate::bugs::{self, Bug};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::record::{Fence, Holder, Record, State};
use crate::time::Timestamp;
use crate::transition::{Command, Terms, Write, step};

/// A reader that meets a freeze or a change of its key starts over; after this many times it waits
/// for the commit right, under which there is none.
const MAX_READ_TRIES: usize = 4;

/// A record with whether its holder is alive.
pub type Seen = (Arc<Record>, Holder);

/// What can be said to a claim without a write.
#[derive(Debug)]
pub enum Tried {
    /// This.
    Answered(Answer),
    /// Nothing; and what was found out for the commit that is to come.
    MustWrite(Option<Vacancy>),
}

/// That neither the overlay nor the base had anything of a key, while so many freezes had been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vacancy {
    freezes: u64,
}

/// What a look at a key without the commit right has found.
enum Looked {
    Record(Arc<Record>),
    Nothing(Option<Vacancy>),
}

impl From<Entry> for Looked {
    fn from(entry: Entry) -> Self {
        entry.map_or(Looked::Nothing(None), Looked::Record)
    }
}

impl Engine {
    /// The answer to a claim that needs no write, if it is one: the key is done, or in flight and
    /// not to be taken over, or the fingerprint does not fit.
    ///
    /// # Errors
    /// As a claim.
    pub fn try_claim(&self, key: &RecordKey, terms: &Terms) -> Result<Tried> {
        let mut now = self.time.now();
        let record = match self.find_without_right(key, now)? {
            Looked::Record(record) => record,
            Looked::Nothing(vacancy) => return Ok(Tried::MustWrite(vacancy)),
        };
        let Some((record, holder)) = self.confirm(key, record, &mut now)? else {
            return Ok(Tried::MustWrite(None));
        };
        let command = Command::Claim(terms.clone());
        let step = step(Some(&record), holder, &command, now, Fence::from_u64(0))
            .map_err(commit::refused)?;
        Ok(match step.write {
            Write::Keep => Tried::Answered(Answer {
                reply: step.reply,
                record: Some(record),
                holding: None,
            }),
            Write::Put(_) | Write::Delete => Tried::MustWrite(None),
        })
    }

    /// The record of `key`, unless it has expired.
    ///
    /// # Errors
    /// `Corrupt`, `Poisoned` if it may or may not have expired, or an I/O error of the base.
    pub fn peek(&self, key: &RecordKey) -> Result<Option<Seen>> {
        let mut now = self.time.now();
        let seen = self.look(key, &mut now)?;
        if !seen.as_ref().is_some_and(|seen| is_doubtful(seen, now)) {
            return Ok(seen.filter(|seen| !is_over(seen, now)));
        }
        let _right = self.writer.lock();
        let now = self.time.now();
        let seen = self.look_under_right(key, now)?;
        self.check_settled(key, seen.as_ref(), now)?;
        Ok(seen.filter(|seen| !is_over(seen, now)))
    }

    /// Every unfinished record whose encoded name begins with `prefix`, by name.
    ///
    /// # Errors
    /// `Corrupt` if one of them is damaged, `Poisoned` if one may or may not have expired.
    pub fn unfinished(&self, prefix: &[u8]) -> Result<Vec<(RecordKey, Seen)>> {
        let mut now = self.time.now();
        let mut all = Vec::new();
        self.for_each_unfinished(prefix, |page| {
            let mut found = Vec::with_capacity(page.len());
            for (key, slot) in page {
                match slot {
                    Slot::Record(record) => {
                        let seen = self.confirm(&key, record, &mut now)?;
                        found.extend(seen.map(|seen| (key, seen)));
                    }
                    Slot::Damaged => return Err(damaged(&key)),
                }
            }
            self.settle(&mut found, &mut now)?;
            found.retain(|(_, seen)| seen.0.is_unfinished() && !is_over(seen, now));
            all.append(&mut found);
            Ok(())
        })?;
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(all)
    }

    /// Looks again at those that seem to have expired, all under one hold of the commit right.
    fn settle(&self, found: &mut [(RecordKey, Seen)], now: &mut Timestamp) -> Result<()> {
        if !found.iter().any(|(_, seen)| is_doubtful(seen, *now)) {
            return Ok(());
        }
        let _right = self.writer.lock();
        *now = self.time.now();
        for (key, seen) in found {
            if is_doubtful(seen, *now)
                && let Some(again) = self.look_under_right(key, *now)?
            {
                self.check_settled(key, Some(&again), *now)?;
                *seen = again;
            }
        }
        Ok(())
    }

    /// The record of `key`, expired or not, with its holder, without the commit right.
    fn look(&self, key: &RecordKey, now: &mut Timestamp) -> Result<Option<Seen>> {
        match self.find_without_right(key, *now)? {
            Looked::Record(record) => self.confirm(key, record, now),
            Looked::Nothing(_) => Ok(None),
        }
    }

    /// Adds the holder to a record just read. A completion or a release is shown first, and then its
    /// holder is gone: a record in flight counts as left behind only if it is still the one in force
    /// after its holder was found gone. Time may have passed before that, so `now` is read again: what
    /// was kept by its holder alone has expired since then.
    fn confirm(
        &self,
        key: &RecordKey,
        mut record: Arc<Record>,
        now: &mut Timestamp,
    ) -> Result<Option<Seen>> {
        for _ in 0..MAX_READ_TRIES {
            let holder = self.holders.status(record.fence, *now);
            if holder == Holder::Alive || !matches!(record.state, State::InFlight { .. }) {
                return Ok(Some((record, holder)));
            }
            if !bugs::is(Bug::ReaderKeepsItsTime) {
                *now = self.time.now();
            }
            match self.find_without_right(key, *now)? {
                Looked::Record(again) if Arc::ptr_eq(&again, &record) => {
                    return Ok(Some((again, holder)));
                }
                Looked::Record(again) => record = again,
                Looked::Nothing(_) => return Ok(None),
            }
        }
        let _right = self.writer.lock();
        *now = self.time.now();
        self.look_under_right(key, *now)
    }

    /// Refuses to call a key vacant because its record has expired, if the frame that poisoned the
    /// store may have put one that goes on from it. The caller has the commit right.
    pub(super) fn check_settled(
        &self,
        key: &RecordKey,
        seen: Option<&Seen>,
        now: Timestamp,
    ) -> Result<()> {
        match seen {
            Some(seen) if is_doubtful(seen, now) && self.unsettled.lock().contains(key) => {
                Err(Error::Poisoned)
            }
            _ => Ok(()),
        }
    }

    fn look_under_right(&self, key: &RecordKey, now: Timestamp) -> Result<Option<Seen>> {
        let found = self.find(key, now, None)?;
        Ok(found.map(|record| {
            let holder = self.holders.status(record.fence, now);
            (record, holder)
        }))
    }

    pub(super) fn for_each_unfinished(
        &self,
        prefix: &[u8],
        mut with: impl FnMut(Vec<(RecordKey, Slot)>) -> Result<()>,
    ) -> Result<()> {
        for shard in 0..Overlay::SHARDS {
            let page = self.overlay.unfinished_in(shard, prefix);
            if !page.is_empty() {
                with(page)?;
            }
        }
        Ok(())
    }

    /// Looks a key up without the commit right. A miss counts only if no freeze happened since
    /// the look-up began: what was active before may by now have changed the base.
    fn find_without_right(&self, key: &RecordKey, now: Timestamp) -> Result<Looked> {
        for _ in 0..MAX_READ_TRIES {
            match self.overlay.find(key) {
                Found::Entry(entry) => return Ok(Looked::from(entry)),
                Found::Damaged => return Err(damaged(key)),
                Found::AskBase { freezes } => {
                    let found = self.find_in_base(key, now);
                    if self.overlay.freezes() == freezes || bugs::is(Bug::ReaderIgnoresFreezes) {
                        let vacancy = Some(Vacancy { freezes });
                        return Ok(found?.map_or(Looked::Nothing(vacancy), Looked::Record));
                    }
                }
            }
        }
        let _right = self.writer.lock();
        self.find(key, now, None).map(Looked::from)
    }

    /// Looks a key up under the commit right. Only what is active is looked at if the caller found nothing
    /// anywhere, nothing was frozen since, so that what was written to the key since then would be active,
    /// and no damage is known, which a verification may have found since.
    pub(super) fn find(
        &self,
        key: &RecordKey,
        now: Timestamp,
        vacancy: Option<Vacancy>,
    ) -> Result<Entry> {
        if let Some(Vacancy { freezes }) = vacancy {
            match self.overlay.find_since(key, freezes) {
                Since::Entry(entry) => return Ok(entry),
                Since::Nothing if !self.catalog.has_found_damage() => return Ok(None),
                _ if bugs::is(Bug::VacancyOutlivesFreeze) => return Ok(None),
                Since::Nothing | Since::AskAgain => {}
            }
        }
        match self.overlay.find(key) {
            Found::Entry(entry) => Ok(entry),
            Found::Damaged => Err(damaged(key)),
            Found::AskBase { .. } => self.find_in_base(key, now),
        }
    }

    fn find_in_base(&self, key: &RecordKey, now: Timestamp) -> Result<Entry> {
        let found = self.catalog.find(key, now).inspect_err(|_| {
            if self.catalog.is_broken() {
                self.checkpoint_bell.ring();
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
