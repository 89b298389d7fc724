//! Writing frozen records into the base.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ledger::{FILTERS, Ledger, StoreRow, UNFINISHED};
use super::{Catalog, List};
use crate::bugs::{self, Bug};
use crate::codec::{checksum, encode_record, seal_bytes};
use crate::engine::base::Transaction;
use crate::engine::filter::Filter;
use crate::engine::generation::{Generation, GenerationId, GenerationRow, Tally, bucket};
use crate::engine::overlay::Entry;
use crate::error::Result;
use crate::key::RecordKey;
use crate::record::{Record, State};
use crate::time::Timestamp;

/// A transaction takes no more bytes of records, past its first.
const TRANSACTION_BYTES: usize = 2 << 20;
/// A generation is made for this many times the records its bucket gets in the checkpoint that
/// makes it,
const CAPACITY_FACTOR: u64 = 4;
/// within these bounds.
const CAPACITY_ROWS: std::ops::RangeInclusive<u64> = 256..=1 << 20;

/// What the base is to say of itself once it has all the records.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applied {
    /// The run that begins with this, if one does.
    pub(crate) new_run: Option<u64>,
    pub(crate) first_segment: u64,
    pub(crate) through: u64,
}

impl Catalog {
    /// Writes `entries` in key order, in bounded transactions, each published once committed. The
    /// first carries the high-water marks of fence and time, the last `applied`.
    ///
    /// After an error some of the transactions may have happened. Doing it all again is right.
    pub(crate) fn apply<'e>(
        &self,
        entries: impl Iterator<Item = (&'e RecordKey, &'e Entry)>,
        applied: Applied,
        fence: u64,
        now: Timestamp,
    ) -> Result<()> {
        let mut sorted: Vec<_> = entries.collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        let expected = expected_rows(&sorted, now);
        let mut rest = sorted.as_slice();
        loop {
            let (chunk, after) = rest.split_at(chunk_len(rest, self.transaction_records));
            rest = after;
            let mut ledger = self.ledger.lock();
            self.heal_with(&mut ledger)?;
            let mut staged = Staged::over(self, &ledger, &expected, now);
            staged.ledger.store.fence = ledger.store.fence.max(fence);
            staged.ledger.store.time_us = ledger.store.time_us.max(now.as_micros());
            if rest.is_empty() {
                staged.note_applied(applied);
            }
            self.write_base(&mut ledger, |transaction| staged.write(transaction, chunk))?;
            let list = staged.publishable();
            *ledger = staged.ledger;
            *self.list.write() = list;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}

/// How many of the first entries make a transaction.
fn chunk_len(entries: &[(&RecordKey, &Entry)], most: usize) -> usize {
    let mut bytes = 0;
    let fits = entries.iter().take(most).take_while(|(_, entry)| {
        let fits = bytes < TRANSACTION_BYTES;
        bytes += entry.as_ref().map_or(0, |record| body_bytes(record));
        fits
    });
    fits.count()
}

fn body_bytes(record: &Record) -> usize {
    let point = record
        .recovery_point
        .as_ref()
        .map_or(0, |point| point.len());
    record.response().map_or(0, <[u8]>::len) + point
}

/// How many records every bucket gets.
fn expected_rows(entries: &[(&RecordKey, &Entry)], now: Timestamp) -> BTreeMap<Timestamp, u64> {
    let mut rows = BTreeMap::new();
    for (_, entry) in entries {
        if let Some(Place::Bucket(expires_at)) = place(entry, now) {
            *rows.entry(bucket(expires_at, now).0).or_default() += 1;
        }
    }
    rows
}

/// Where a record belongs.
enum Place {
    Unfinished,
    /// The generation for records that expire then.
    Bucket(Timestamp),
}

/// Where an entry belongs; nowhere if it was deleted or has expired.
fn place(entry: &Entry, now: Timestamp) -> Option<Place> {
    let record = entry.as_ref()?;
    match record.state {
        State::Done { .. } if now >= record.expires_at => None,
        State::Done { .. } => Some(Place::Bucket(record.expires_at)),
        State::InFlight { .. } | State::Released => Some(Place::Unfinished),
    }
}

/// The ledger and the list as they will be if the transaction commits.
struct Staged<'c> {
    ledger: Ledger,
    list: Vec<Arc<Generation>>,
    touched: BTreeSet<GenerationId>,
    expected: &'c BTreeMap<Timestamp, u64>,
    hash_seed: u64,
    now: Timestamp,
}

impl<'c> Staged<'c> {
    fn over(
        catalog: &Catalog,
        ledger: &Ledger,
        expected: &'c BTreeMap<Timestamp, u64>,
        now: Timestamp,
    ) -> Self {
        Staged {
            ledger: Ledger {
                is_stale: false,
                ..ledger.clone()
            },
            list: catalog.list.read().to_vec(),
            touched: BTreeSet::new(),
            expected,
            hash_seed: catalog.hash_seed,
            now,
        }
    }

    fn note_applied(&mut self, applied: Applied) {
        let store = &mut self.ledger.store;
        *store = StoreRow {
            run: applied.new_run.unwrap_or(store.run),
            first_segment: Some(applied.first_segment),
            applied: applied.through,
            ..*store
        };
    }

    fn write(
        &mut self,
        transaction: &mut Transaction<'_>,
        chunk: &[(&RecordKey, &Entry)],
    ) -> Result<()> {
        self.close_due(transaction)?;
        let mut bytes = Vec::new();
        for (key, entry) in chunk {
            if entry.is_none() && bugs::is(Bug::TombstoneLost) {
                continue;
            }
            bytes.clear();
            if let Some(record) = entry {
                encode_record(key.as_bytes(), record, &mut bytes);
            }
            self.write_record(transaction, key.as_bytes(), place(entry, self.now), &bytes)?;
        }
        for id in &self.touched {
            self.ledger.write_generation(transaction, *id)?;
        }
        self.ledger.write_store(transaction)
    }

    /// Puts one record in its place, if it has one, and removes every other copy of its key.
    fn write_record(
        &mut self,
        transaction: &mut Transaction<'_>,
        name: &[u8],
        place: Option<Place>,
        bytes: &[u8],
    ) -> Result<()> {
        let hash = checksum(self.hash_seed, name);
        let target = match place {
            Some(Place::Bucket(expires_at)) => Some(self.open_generation(expires_at)),
            _ => None,
        };
        if matches!(place, Some(Place::Unfinished)) {
            if !transaction.put(UNFINISHED, name, bytes)? {
                self.ledger.unfinished.add(hash);
            }
        } else if transaction.remove(UNFINISHED, name)? {
            self.ledger.unfinished.remove(hash);
        }
        for generation in &self.list {
            let is_target = target == Some(generation.id);
            if is_target || !generation.may_contain(hash) {
                continue;
            }
            if transaction.remove(&generation.table, name)? {
                tally(&mut self.ledger, &mut self.touched, generation.id, |t| {
                    t.remove(hash)
                });
            }
        }
        let target = self.list.iter().find(|g| target == Some(g.id));
        if let Some(generation) = target {
            // Before the commit: a reader must not miss it once the commit shows it.
            generation.filter.insert(hash);
            if !transaction.put(&generation.table, name, bytes)? {
                tally(&mut self.ledger, &mut self.touched, generation.id, |t| {
                    t.add(hash)
                });
            }
        }
        Ok(())
    }

    /// The generation that takes records which expire then; a closed one takes none.
    fn open_generation(&mut self, expires_at: Timestamp) -> GenerationId {
        let (end, width) = bucket(expires_at, self.now);
        let end_us = end.as_micros();
        let first = GenerationId { end_us, number: 0 };
        let last = GenerationId {
            end_us,
            number: u64::MAX,
        };
        let mut same_end = self.ledger.generations.range(first..=last).rev();
        let takes_puts = |row: &GenerationRow| {
            (!row.closed && !row.is_due(self.now)) || bugs::is(Bug::ClosedGenerationTakesPut)
        };
        if let Some((id, _)) = same_end.find(|(_, row)| takes_puts(row)) {
            return *id;
        }
        let number = self.ledger.next_generation_number();
        let id = GenerationId { end_us, number };
        let rows = self.expected.get(&end).copied().unwrap_or(0);
        let capacity = (rows.saturating_mul(CAPACITY_FACTOR))
            .clamp(*CAPACITY_ROWS.start(), *CAPACITY_ROWS.end());
        let row = GenerationRow::new(id, width, capacity, self.now);
        self.list.push(Arc::new(Generation::new(&row)));
        self.ledger.generations.insert(id, row);
        self.touched.insert(id);
        id
    }

    /// Closes the generations whose time is over or which are full, and stores their filters, made
    /// anew where much smaller ones will do.
    fn close_due(&mut self, transaction: &mut Transaction<'_>) -> Result<()> {
        for generation in &mut self.list {
            let Some(row) = self.ledger.generations.get_mut(&generation.id) else {
                continue;
            };
            // One that is not ready is closed when it is.
            if row.closed || !row.is_due(self.now) || !generation.filter_is_ready() {
                continue;
            }
            row.closed = true;
            self.touched.insert(row.id);
            if row.tally.rows < row.capacity_rows / 2 {
                let filter = Filter::for_keys(row.tally.rows);
                let mut read = Tally::default();
                transaction.for_each_key(&generation.table, |name| {
                    let hash = checksum(self.hash_seed, name);
                    filter.insert(hash);
                    read.add(hash);
                })?;
                // A filter made from what is left would forget the keys of lost rows.
                if read == row.tally {
                    *generation = Arc::new(generation.with_filter(filter));
                } else {
                    generation.set_damaged(true);
                }
            }
            let key = row.id.key();
            let sealed = seal_bytes(&key, &generation.filter.to_bytes());
            transaction.put(FILTERS, &key, &sealed)?;
        }
        Ok(())
    }

    /// The list for readers, once the commit has succeeded.
    fn publishable(&self) -> List {
        for generation in &self.list {
            if let Some(row) = self.ledger.generations.get(&generation.id) {
                generation.set_rows(row.tally.rows);
            }
        }
        Arc::new(self.list.clone())
    }
}

fn tally(
    ledger: &mut Ledger,
    touched: &mut BTreeSet<GenerationId>,
    id: GenerationId,
    change: impl FnOnce(&mut Tally),
) {
    if let Some(row) = ledger.generations.get_mut(&id) {
        change(&mut row.tally);
        touched.insert(id);
    }
}
