//! The base's account of itself as a transaction of a checkpoint will leave it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Catalog;
use super::checkpoint::{Applied, Write};
use super::ledger::{FILTERS, Ledger, StoreRow, UNFINISHED};
use super::list::List;
use crate::bugs::{self, Bug};
use crate::codec::{checksum, encode_record, seal_bytes};
use crate::engine::base::Transaction;
use crate::engine::bucket::{self, Contents, entry_bytes};
use crate::engine::filter::{Banks, Probe, room_for};
use crate::engine::generation::{
    Capacity, Generation, GenerationId, GenerationRow, Tally, bucket as time_bucket,
};
use crate::engine::overlay::Entry;
use crate::engine::pace::Pace;
use crate::error::Result;
use crate::record::{Record, State};
use crate::sync::{AtomicBool, Ordering};
use crate::time::Timestamp;

/// A generation is made for this many times what its bucket gets in the checkpoint that makes it,
const CAPACITY_FACTOR: u64 = 2;
/// within these bounds.
const CAPACITY_ROWS: std::ops::RangeInclusive<u64> = 256..=1 << 20;
/// What a record adds to its name and response, about.
const RECORD_BYTES: u64 = 48;

/// Where a record belongs.
pub(super) enum Place {
    Unfinished,
    /// The generation for records that expire then.
    Bucket(Timestamp),
}

/// Where an entry belongs; nowhere if it was deleted or has expired.
pub(super) fn place(entry: &Entry, now: Timestamp) -> Option<Place> {
    let record = entry.as_ref()?;
    match record.state {
        State::Done { .. } if now >= record.expires_at => None,
        State::Done { .. } => Some(Place::Bucket(record.expires_at)),
        State::InFlight { .. } | State::Released => Some(Place::Unfinished),
    }
}

/// The ledger and the list as they will be if the transaction commits.
pub(super) struct Staged<'c> {
    pub(super) ledger: Ledger,
    /// The list before.
    before: Arc<List>,
    generations: BTreeMap<GenerationId, Arc<Generation>>,
    /// Those of them that this transaction makes.
    made: Vec<Arc<Generation>>,
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
            before,
            made: Vec::new(),
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
    ) -> Result<()> {
        self.close_due(transaction)?;
        let mut changes = BTreeMap::<GenerationId, Vec<Change<'_>>>::new();
        for (write, copies) in chunk.iter().zip(self.possible_copies(chunk)) {
            self.pace.step(1);
            if write.entry.is_none() && bugs::is(Bug::TombstoneLost) {
                continue;
            }
            self.stage(transaction, write, &copies, &mut changes)?;
        }
        for (id, changes) in &changes {
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

    /// For each key, the generations that may have a copy of its record, but for those that this
    /// transaction makes. The filters are asked in the order in which they lie in memory.
    fn possible_copies(&self, chunk: &[Write<'_>]) -> Vec<Vec<GenerationId>> {
        let probes = chunk.iter().map(|write| Probe::of(write.hash)).enumerate();
        let mut probes: Vec<(usize, Probe)> = probes.collect();
        probes.sort_unstable_by_key(|(_, probe)| probe.place());
        let mut all = vec![Vec::new(); chunk.len()];
        for (n, probe) in probes {
            self.pace.step(1);
            let candidates = self.before.candidates(&probe).into_iter();
            all[n] = candidates.map(|generation| generation.id).collect();
        }
        all
    }

    /// Notes what a record changes in the generations, and changes the unfinished ones.
    fn stage<'e>(
        &mut self,
        transaction: &mut Transaction<'_>,
        write: &Write<'e>,
        copies: &[GenerationId],
        changes: &mut BTreeMap<GenerationId, Vec<Change<'e>>>,
    ) -> Result<()> {
        let (name, hash) = (write.key.as_bytes(), write.hash);
        let place = place(write.entry, self.now);
        let mut bytes = Vec::new();
        if let (Some(record), Some(_)) = (write.entry, &place) {
            encode_record(name, record, &mut bytes);
        }
        let single = bucket::single_key(hash, name);
        if matches!(place, Some(Place::Unfinished)) {
            if !transaction.put(UNFINISHED, &single, &bytes)? {
                self.ledger.unfinished.add(hash);
            }
        } else if transaction.remove(UNFINISHED, &single)? {
            self.ledger.unfinished.remove(hash);
        }
        let target = match place {
            Some(Place::Bucket(expires_at)) => {
                let staged = |id| changes.get(&id).map_or(0, Vec::len) as u64;
                let id = self.open_generation(expires_at, staged);
                self.note_put(id, entry_bytes(name, &bytes));
                Some(id)
            }
            _ => None,
        };
        let mut add = |id, record| {
            changes
                .entry(id)
                .or_default()
                .push(Change { hash, name, record });
        };
        let probe = Probe::of(hash);
        let made = self.made.iter().filter(|g| g.may_contain(&probe));
        for id in copies.iter().copied().chain(made.map(|g| g.id)) {
            if target != Some(id) {
                add(id, None);
            }
        }
        if let Some(generation) = target.and_then(|id| self.generations.get(&id)) {
            // Before the commit: a reader must not miss it once the commit shows it.
            generation.filter.insert(&probe);
            add(generation.id, write.entry.as_deref());
        }
        Ok(())
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
        // Only now: the bytes of all records that a transaction changes would lie between the pages of
        // the base, and leave holes.
        let mut encoded = Vec::new();
        for same_bucket in changes.chunk_by(|one, next| row_key(one) == row_key(next)) {
            self.pace.step(same_bucket.len());
            let key = row_key(&same_bucket[0]);
            let records = encode_all(same_bucket, &mut encoded);
            let old = transaction.get(&table, &key)?;
            let mut contents = old.as_deref().map_or_else(Contents::default, Contents::of);
            let mut changed = false;
            for (Change { hash, name, .. }, record) in same_bucket.iter().zip(records) {
                let was_there = contents.set(name, record);
                match (was_there, record.is_some()) {
                    (false, true) => row.tally.add(*hash),
                    (true, false) => row.tally.remove(*hash),
                    _ => {}
                }
                changed |= was_there || record.is_some();
            }
            if changed {
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
        let capacity = capacity(self.expected.get(&end).copied().unwrap_or_default());
        let row = GenerationRow::new(id, width, capacity, self.now);
        let made = Arc::new(Generation::new(&row, self.banks));
        self.made.push(made.clone());
        self.generations.insert(id, made);
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
    row.filter_at = row.put_bytes;
    let sealed = seal_bytes(&row.filter_seal_key(), &generation.filter.to_bytes());
    transaction.put(FILTERS, &row.id.key(), &sealed)?;
    Ok(())
}

/// A change to a generation.
struct Change<'e> {
    hash: u64,
    name: &'e [u8],
    /// None: the one it has there, if any, is to go.
    record: Option<&'e Record>,
}

/// The bytes of the records that these changes bring, in `buffer`.
fn encode_all<'b>(changes: &[Change<'_>], buffer: &'b mut Vec<u8>) -> Vec<Option<&'b [u8]>> {
    buffer.clear();
    let mut encode = |change: &Change<'_>| {
        let begin = buffer.len();
        encode_record(change.name, change.record?, buffer);
        Some(begin..buffer.len())
    };
    let ranges: Vec<_> = changes.iter().map(&mut encode).collect();
    let bytes = |range| &buffer[range];
    ranges.into_iter().map(|range| range.map(bytes)).collect()
}

/// What a generation is made for whose bucket gets that much in this checkpoint.
fn capacity(expected: Capacity) -> Capacity {
    let rows = expected.rows.saturating_mul(CAPACITY_FACTOR);
    let rows = room_for(rows.clamp(*CAPACITY_ROWS.start(), *CAPACITY_ROWS.end()));
    let row_bytes = RECORD_BYTES + expected.bytes / expected.rows.max(1);
    Capacity {
        rows,
        bytes: rows.saturating_mul(row_bytes),
    }
}
