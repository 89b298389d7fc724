//! The base's account of itself as a transaction of a checkpoint will leave it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Catalog;
use super::change::{Change, encode_all, make};
use super::checkpoint::{Applied, Place, Write};
use super::copies::Copies;
use super::ledger::{FILTERS, Ledger, StoreRow};
use super::list::List;
use super::unfinished;
use crate::bugs::{self, Bug};
use crate::codec::{checksum, seal_bytes};
use crate::engine::base::Transaction;
use crate::engine::bucket::{self, Contents};
use crate::engine::filter::{Banks, Probe, room_for};
use crate::engine::generation::{
    Capacity, Generation, GenerationId, GenerationRow, Tally, bucket as time_bucket,
};
use crate::engine::pace::Pace;
use crate::error::Result;
use crate::sync::{AtomicBool, Ordering};
use crate::time::Timestamp;

/// While there are fewer generations, one is made for what its bucket gets in the checkpoint that makes it:
/// to write it again with the next would cost more than to ask one more filter.
const FEW_GENERATIONS: usize = 128;
/// After that it is made for this many times as much, so that they do not become too many.
const CAPACITY_FACTOR: u64 = 2;
/// None is made for fewer records or for more.
const CAPACITY_ROWS: std::ops::RangeInclusive<u64> = 256..=1 << 20;
/// What a record takes in its bucket besides what differs from record to record, about.
const RECORD_BYTES: u64 = 64;

/// What a transaction changes, in the order of the hashes.
#[derive(Default)]
struct Changes<'e> {
    unfinished: Vec<Change<'e>>,
    by_generation: BTreeMap<GenerationId, Vec<Change<'e>>>,
}

/// The ledger and the list as they will be if the transaction commits.
pub(super) struct Staged<'c> {
    pub(super) ledger: Ledger,
    generations: BTreeMap<GenerationId, Arc<Generation>>,
    banks: &'c Banks,
    touched: BTreeSet<GenerationId>,
    /// This is the last transaction of its checkpoint.
    is_last: bool,
    expected: &'c BTreeMap<Timestamp, Capacity>,
    damage_found: &'c AtomicBool,
    hash_seed: u64,
    pace: &'c Pace<'c>,
    now: Timestamp,
}

impl<'c> Staged<'c> {
    pub(super) fn over(
        catalog: &'c Catalog,
        ledger: &Ledger,
        expected: &'c BTreeMap<Timestamp, Capacity>,
        pace: &'c Pace<'c>,
        now: Timestamp,
    ) -> Self {
        let before = catalog.list.read().clone();
        Staged {
            generations: before.iter().map(|g| (g.id, g.clone())).collect(),
            banks: &catalog.banks,
            ledger: Ledger {
                is_stale: false,
                ..ledger.clone()
            },
            touched: BTreeSet::new(),
            is_last: false,
            expected,
            damage_found: &catalog.damage_found,
            hash_seed: catalog.hash_seed,
            pace,
            now,
        }
    }

    /// Notes that with this transaction the checkpoint is done.
    pub(super) fn note_applied(&mut self, applied: Applied) {
        self.is_last = true;
        let store = &mut self.ledger.store;
        *store = StoreRow {
            run: applied.new_run.unwrap_or(store.run),
            first_segment: Some(applied.first_segment),
            applied: applied.through,
            ..*store
        };
    }

    /// Puts every record in its place, if it has one, and removes every other copy of its key.
    pub(super) fn write(
        &mut self,
        transaction: &mut Transaction<'_>,
        chunk: &[Write<'_>],
        copies: &Copies,
    ) -> Result<()> {
        self.close_due(transaction)?;
        let mut changes = Changes::default();
        for write in chunk {
            self.pace.step(1);
            if write.entry.is_none() && bugs::is(Bug::TombstoneLost) {
                continue;
            }
            self.stage(write, copies, &mut changes);
        }
        let hash_of = |name: &[u8]| checksum(self.hash_seed, name);
        let tally = &mut self.ledger.unfinished;
        unfinished::change(transaction, &changes.unfinished, hash_of, tally, self.pace)?;
        for (id, changes) in &changes.by_generation {
            self.change_generation(transaction, *id, changes)?;
        }
        if self.is_last {
            self.store_filters(transaction)?;
        }
        for id in &self.touched {
            self.ledger.write_generation(transaction, *id)?;
        }
        self.ledger.write_store(transaction)
    }

    /// Notes what a record changes in the tables.
    fn stage<'e>(&mut self, write: &Write<'e>, copies: &Copies, changes: &mut Changes<'e>) {
        let (name, hash) = (write.key.as_bytes(), write.hash);
        let with = |record| Change { hash, name, record };
        let record = write.entry.as_deref();
        let is_unfinished = matches!(write.place, Some(Place::Unfinished));
        changes
            .unfinished
            .push(with(record.filter(|_| is_unfinished)));

        let changes = &mut changes.by_generation;
        let target = match write.place {
            Some(Place::Bucket(expires_at)) => {
                let staged = |id| changes.get(&id).map_or(0, Vec::len) as u64;
                let id = self.open_generation(expires_at, staged);
                self.note_put(id, RECORD_BYTES + write.bytes());
                Some(id)
            }
            _ => None,
        };
        let mut add = |id, record| changes.entry(id).or_default().push(with(record));
        let probe = Probe::of(hash);
        for id in copies.of_key(hash, &probe) {
            if target != Some(id) {
                add(id, None);
            }
        }
        if let Some(generation) = target.and_then(|id| self.generations.get(&id)) {
            // Before the commit: a reader must not miss it once the commit shows it.
            generation.filter.insert(&probe);
            add(generation.id, record);
        }
    }

    /// Makes changes, in the order of their hashes, to a generation.
    fn change_generation(
        &mut self,
        transaction: &mut Transaction<'_>,
        id: GenerationId,
        changes: &[Change<'_>],
    ) -> Result<()> {
        let Some(row) = self.ledger.generations.get_mut(&id) else {
            return Ok(());
        };
        let (table, buckets) = (id.table(), row.buckets);
        let before = row.tally;
        let row_key = |change: &Change<'_>| bucket::row_key(change.hash, buckets);
        let mut encoded = Vec::new();
        for same_bucket in changes.chunk_by(|one, next| row_key(one) == row_key(next)) {
            self.pace.step(same_bucket.len());
            let key = row_key(&same_bucket[0]);
            let records = encode_all(same_bucket, &mut encoded);
            let old = transaction.get(&table, &key)?;
            let mut contents = old.as_deref().map_or_else(Contents::default, Contents::of);
            if make(&mut contents, same_bucket, records, &mut row.tally) {
                match contents.row(&key) {
                    Some(row) => transaction.put(&table, &key, &row)?,
                    None => transaction.remove(&table, &key)?,
                };
            }
        }
        if row.tally != before {
            self.touched.insert(id);
        }
        Ok(())
    }

    /// The generation that takes records which expire then; a closed one takes none.
    /// `staged` tells how many changes of one are on their way.
    fn open_generation(
        &mut self,
        expires_at: Timestamp,
        staged: impl Fn(GenerationId) -> u64,
    ) -> GenerationId {
        let (end, width) = time_bucket(expires_at, self.now);
        let end_us = end.as_micros();
        let first = GenerationId { end_us, number: 0 };
        let last = GenerationId {
            end_us,
            number: u64::MAX,
        };
        let mut same_end = self.ledger.generations.range(first..=last).rev();
        let takes_put = |row: &GenerationRow| {
            row.takes_put(self.now, staged(row.id)) || bugs::is(Bug::ClosedGenerationTakesPut)
        };
        if let Some((id, _)) = same_end.find(|(_, row)| takes_put(row)) {
            return *id;
        }
        let number = self.ledger.next_generation_number();
        let id = GenerationId { end_us, number };
        let expected = self.expected.get(&end).copied().unwrap_or_default();
        let capacity = capacity(expected, self.generations.len());
        let row = GenerationRow::new(id, width, capacity, self.now);
        let made = Generation::new(&row, self.banks);
        self.generations.insert(id, Arc::new(made));
        self.ledger.generations.insert(id, row);
        self.touched.insert(id);
        id
    }

    fn note_put(&mut self, id: GenerationId, bytes: u64) {
        if let Some(row) = self.ledger.generations.get_mut(&id) {
            row.put_bytes = row.put_bytes.saturating_add(bytes);
            self.touched.insert(id);
        }
    }

    /// Closes the generations whose time is over or which are full, and stores their filters, made
    /// anew where smaller ones will do.
    fn close_due(&mut self, transaction: &mut Transaction<'_>) -> Result<()> {
        for generation in self.generations.values_mut() {
            let Some(row) = self.ledger.generations.get_mut(&generation.id) else {
                continue;
            };
            // One that is not ready is closed when it is.
            if row.closed || !row.is_due(self.now) || !generation.filter_is_ready() {
                continue;
            }
            row.closed = true;
            self.touched.insert(row.id);
            if generation.filter.is_oversized_for(row.tally.rows) {
                let filter = self.banks.filter_for(row.tally.rows);
                let mut read = Tally::default();
                transaction.for_each(&generation.table, |_, row| {
                    for (name, _) in bucket::entries(row).into_iter().flatten().flatten() {
                        let hash = checksum(self.hash_seed, name);
                        filter.insert(&Probe::of(hash));
                        read.add(hash);
                    }
                })?;
                // A filter made from what is left would forget the keys of lost rows.
                if read == row.tally {
                    *generation = Arc::new(generation.with_filter(filter));
                } else {
                    generation.set_damaged(true);
                    self.damage_found.store(true, Ordering::SeqCst);
                }
            }
            store_filter(transaction, row, generation)?;
        }
        Ok(())
    }

    /// Stores the filters of generations that are open, so that an opening need not read their tables:
    /// of those that got at least as many bytes of records since the last time.
    fn store_filters(&mut self, transaction: &mut Transaction<'_>) -> Result<()> {
        for generation in self.generations.values() {
            let Some(row) = self.ledger.generations.get_mut(&generation.id) else {
                continue;
            };
            let put_since = row.put_bytes.saturating_sub(row.filter_at);
            let is_worth_it = put_since >= generation.filter.len_bytes() as u64;
            if !row.closed && put_since > 0 && is_worth_it && generation.filter_is_ready() {
                self.touched.insert(row.id);
                store_filter(transaction, row, generation)?;
            }
        }
        Ok(())
    }

    /// The list for readers, once the commit has succeeded.
    pub(super) fn publishable(&self) -> Arc<List> {
        for generation in self.generations.values() {
            if let Some(row) = self.ledger.generations.get(&generation.id) {
                generation.set_rows(row.tally.rows);
            }
        }
        Arc::new(List::of(self.generations.values().cloned().collect()))
    }
}

/// Stores the filter of a generation, which has all its keys.
fn store_filter(
    transaction: &mut Transaction<'_>,
    row: &mut GenerationRow,
    generation: &Generation,
) -> Result<()> {
    let filter = generation.filter.to_bytes();
    row.filter_at = row.put_bytes;
    row.filter_bytes = filter.len() as u64;
    let sealed = seal_bytes(&row.filter_seal_key(), &filter);
    transaction.put(FILTERS, &row.id.key(), &sealed)?;
    Ok(())
}

/// What a generation is made for beside so many others, if its bucket gets that much in this checkpoint.
fn capacity(expected: Capacity, others: usize) -> Capacity {
    let factor = match others < FEW_GENERATIONS {
        true => 1,
        false => CAPACITY_FACTOR,
    };
    let rows = expected.rows.saturating_mul(factor);
    let rows = room_for(rows.clamp(*CAPACITY_ROWS.start(), *CAPACITY_ROWS.end()));
    let row_bytes = RECORD_BYTES + expected.bytes / expected.rows.max(1);
    Capacity {
        rows,
        bytes: rows.saturating_mul(row_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_made_for_one_checkpoint_and_for_two_where_there_are_many() {
        let expected = Capacity {
            rows: 10_000,
            bytes: 1_000_000,
        };
        let rows = |others| capacity(expected, others).rows;
        assert!((10_000..14_000).contains(&rows(0)));
        assert_eq!(rows(FEW_GENERATIONS - 1), rows(0));
        assert!((20_000..28_000).contains(&rows(FEW_GENERATIONS)));
        let of_few = capacity(Capacity::default(), 0).rows;
        assert!(of_few >= *CAPACITY_ROWS.start());
    }
}
