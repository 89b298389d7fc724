//! Writing frozen records into the base, in bounded transactions.

use std::collections::BTreeMap;

use super::Catalog;
use super::change::fetch;
use super::copies::Copies;
use super::ledger::Ledger;
use super::staged::Staged;
use crate::engine::base::Transaction;
use crate::engine::generation::{Capacity, bucket};
use crate::engine::overlay::Entry;
use crate::engine::pace::Pace;
use crate::error::Result;
use crate::key::RecordKey;
use crate::record::State;
use crate::time::Timestamp;

/// A transaction takes no more bytes of records, past its first.
const TRANSACTION_BYTES: usize = 8 << 20;

/// Copies of the records of so many transactions are looked for at once.
const TRANSACTIONS_LOOKED_FOR: usize = 16;

/// What is done with a record: its other copies are looked for, its place is found, it is written.
const STEPS_PER_RECORD: usize = 3;

/// So many records are fetched from memory together.
const FETCHED_AT_ONCE: usize = 64;

/// What the base is to say of itself once it has all the records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applied {
    /// The run that begins with this, if one does.
    pub(crate) new_run: Option<u64>,
    pub(crate) first_segment: u64,
    pub(crate) through: u64,
}

impl Catalog {
    /// What is to be written, in no order.
    fn writes<'e>(
        &self,
        entries: impl Iterator<Item = (&'e RecordKey, &'e Entry)>,
        now: Timestamp,
    ) -> Vec<Write<'e>> {
        let entries: Vec<_> = entries.collect();
        let mut writes = Vec::with_capacity(entries.len());
        for some in entries.chunks(FETCHED_AT_ONCE) {
            let names = some.iter().map(|(key, _)| key.as_bytes());
            let records = some.iter().filter_map(|(_, entry)| entry.as_deref());
            fetch(names, records);
            let some = some.iter();
            writes.extend(some.map(|(key, entry)| Write::of(self.hash(key), key, entry, now)));
        }
        writes
    }

    /// Writes `entries` in the order of their hashes, and so of the buckets, in bounded transactions,
    /// each published once committed. The first carries the high-water marks of fence and time, the last `applied`.
    /// `due` tells how much of it is to be done by now, from 0 to 1.
    ///
    /// After an error some of the transactions may have happened. Doing it all again is right.
    pub(crate) fn apply<'e>(
        &self,
        entries: impl Iterator<Item = (&'e RecordKey, &'e Entry)>,
        applied: Applied,
        fence: u64,
        now: Timestamp,
        due: &dyn Fn() -> f64,
    ) -> Result<()> {
        let mut sorted = self.writes(entries, now);
        sorted.sort_unstable_by(|one, other| (one.hash, one.key).cmp(&(other.hash, other.key)));
        let expected = expected(&sorted, now);
        let pace = Pace::of(sorted.len() * STEPS_PER_RECORD, due);
        // A commit that failed may have happened, then the list does not show what it put.
        self.heal()?;
        let copies_of = |writes: &[Write<'_>]| {
            let list = self.list.read().clone();
            Copies::of(list, writes, &pace)
        };
        let mut rest = sorted.as_slice();
        let (mut copies, mut looked_for) = (copies_of(&[]), 0);
        loop {
            let (chunk, after) = rest.split_at(chunk_len(rest, self.transaction_records));
            if looked_for < chunk.len() {
                looked_for = rest
                    .len()
                    .min(TRANSACTIONS_LOOKED_FOR * self.transaction_records);
                copies = copies_of(&rest[..looked_for]);
            }
            looked_for -= chunk.len();
            rest = after;
            let mut ledger = self.ledger.lock();
            self.heal_with(&mut ledger)?;
            let write_chunk = |ledger: &mut Ledger, copies: &Copies| {
                let mut staged = Staged::over(self, ledger, &expected, &pace, now);
                staged.ledger.store.fence = ledger.store.fence.max(fence);
                staged.ledger.store.time_us = ledger.store.time_us.max(now.as_micros());
                if rest.is_empty() {
                    staged.note_applied(applied);
                }
                let write =
                    |transaction: &mut Transaction<'_>| staged.write(transaction, chunk, copies);
                pace.with_pages(|| self.write_base(ledger, write))?;
                let list = staged.publishable();
                *ledger = staged.ledger;
                *self.list.write() = list;
                Ok(())
            };
            match write_chunk(&mut ledger, &copies) {
                Err(error) if self.is_worth_another_try(&ledger, &error) => {
                    write_chunk(&mut ledger, &copies_of(chunk))?
                }
                written => written?,
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}

/// A record, or the tombstone of one, on its way into the base.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'e> {
    pub(super) hash: u64,
    pub(super) key: &'e RecordKey,
    pub(super) entry: &'e Entry,
    /// None if it is a tombstone or the record has expired.
    pub(super) place: Option<Place>,
    /// The bytes of its response and recovery point.
    body_bytes: usize,
    fingerprint_bytes: usize,
}

/// Where a record belongs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Unfinished,
    /// The generation for records that expire then.
    Bucket(Timestamp),
}

impl<'e> Write<'e> {
    fn of(hash: u64, key: &'e RecordKey, entry: &'e Entry, now: Timestamp) -> Self {
        let record = entry.as_deref();
        let place = record.and_then(|record| match record.state {
            State::Done { .. } if now >= record.expires_at => None,
            State::Done { .. } => Some(Place::Bucket(record.expires_at)),
            State::InFlight { .. } | State::Released => Some(Place::Unfinished),
        });
        let body_bytes = record.map_or(0, |record| {
            let point = record.recovery_point.as_ref();
            record.response().map_or(0, <[u8]>::len) + point.map_or(0, |point| point.len())
        });
        let fingerprint = record.and_then(|record| record.fingerprint.as_ref());
        Write {
            hash,
            key,
            entry,
            place,
            body_bytes,
            fingerprint_bytes: fingerprint.map_or(0, size_of_val),
        }
    }

    /// The bytes it brings, but for what every record has.
    pub(super) fn bytes(&self) -> u64 {
        (self.key.as_bytes().len() + self.body_bytes + self.fingerprint_bytes) as u64
    }
}

/// How many of the first writes make a transaction.
fn chunk_len(writes: &[Write<'_>], most: usize) -> usize {
    let mut bytes = 0;
    let fits = writes.iter().take(most).take_while(|write| {
        let fits = bytes < TRANSACTION_BYTES;
        bytes += write.body_bytes;
        fits
    });
    fits.count()
}

/// What every bucket of time gets.
fn expected(writes: &[Write<'_>], now: Timestamp) -> BTreeMap<Timestamp, Capacity> {
    let mut all = BTreeMap::<_, Capacity>::new();
    for write in writes {
        if let Some(Place::Bucket(expires_at)) = write.place {
            let expected = all.entry(bucket(expires_at, now).0).or_default();
            expected.rows += 1;
            expected.bytes += write.bytes();
        }
    }
    all
}

#[cfg(all(test, not(any(firstclaim_shuttle, firstclaim_loom))))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::engine::testing::{engine, key};
    use crate::time::ManualClock;

    /// Whoever has the ledger changes the list, and then readers wait for both.
    #[test]
    fn the_list_can_be_changed_whenever_a_checkpoint_lets_others_run() {
        let engine = engine(&ManualClock::new());
        let catalog = engine.catalog();
        let entries: Vec<_> = (0..1000).map(|n| (key(&format!("k{n}")), None)).collect();
        let entries = entries.iter().map(|(key, entry)| (key, entry));
        let turns = Cell::new(0);
        let due = || {
            turns.set(turns.get() + 1);
            assert!(catalog.list.try_write().is_some());
            0.0
        };
        let store = catalog.store();
        let applied = Applied {
            new_run: None,
            first_segment: store.first_segment.unwrap_or(1),
            through: store.applied,
        };
        let now = Timestamp::from_micros(store.time_us);
        catalog
            .apply(entries, applied, store.fence, now, &due)
            .unwrap();
        assert!(turns.get() > 1000 / 16);
    }
}
