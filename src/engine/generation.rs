//! Done records by the time they expire.
//!
//! A generation is one table of the base: records that expire by its end, put within a short time
//! of each other. It is closed for good when that time is over or it is full; then it takes no
//! more puts, so that new records always land in a small, recent table, and sweeping drops a whole
//! table at once.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bucket::buckets_for;
use super::filter::{Banks, Filter, LAYOUT, Probe};
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::time::{Timestamp, micros};

/// No bucket is narrower.
const MIN_WIDTH: Duration = Duration::from_secs(60);
/// About how many buckets lie between now and a record's expiry.
const BUCKETS_PER_RETENTION: u64 = 24;

/// Names a generation: when its bucket ends, and a number that no other generation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct GenerationId {
    pub(crate) end_us: u64,
    pub(crate) number: u64,
}

impl GenerationId {
    /// The name of its table.
    pub(crate) fn table(self) -> String {
        format!("done-{:016x}-{:016x}", self.end_us, self.number)
    }

    /// The key of its rows in the tables that describe generations.
    pub(crate) fn key(self) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.end_us.to_be_bytes());
        key[8..].copy_from_slice(&self.number.to_be_bytes());
        key
    }

    /// The time by which all its records have expired.
    pub(crate) fn end(self) -> Timestamp {
        Timestamp::from_micros(self.end_us)
    }
}

/// How many records a table has and the wrapping sum of their keys' hashes, kept in the transactions
/// that change the table, so that a lost or changed one is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    pub(crate) hash_sum: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, hash: u64) {
        self.rows = self.rows.wrapping_add(1);
        self.hash_sum = self.hash_sum.wrapping_add(hash);
    }

    pub(crate) fn remove(&mut self, hash: u64) {
        self.rows = self.rows.wrapping_sub(1);
        self.hash_sum = self.hash_sum.wrapping_sub(hash);
    }
}

/// What a new generation is made for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Capacity {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// What the base's `generations` table says of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GenerationRow {
    pub(crate) id: GenerationId,
    pub(crate) tally: Tally,
    /// It takes no puts from then on.
    pub(crate) closes_at_us: u64,
    /// It takes no more puts, and its filter is stored for good.
    pub(crate) closed: bool,
    /// It takes no puts beyond this many records,
    pub(crate) capacity_rows: u64,
    /// nor once so many bytes were put into it.
    pub(crate) capacity_bytes: u64,
    pub(crate) put_bytes: u64,
    /// What `put_bytes` was when its filter was stored last: while they are the same, every key of the
    /// table is in that filter.
    pub(crate) filter_at: u64,
    /// The length of that filter.
    pub(crate) filter_bytes: u64,
    /// Over so many rows its records are spread.
    pub(crate) buckets: u32,
}

impl GenerationRow {
    /// A new, empty generation whose bucket is `width` wide.
    pub(crate) fn new(
        id: GenerationId,
        width: Duration,
        capacity: Capacity,
        now: Timestamp,
    ) -> Self {
        GenerationRow {
            id,
            tally: Tally::default(),
            closes_at_us: now.after(width).as_micros(),
            closed: false,
            capacity_rows: capacity.rows,
            capacity_bytes: capacity.bytes,
            put_bytes: 0,
            filter_at: 0,
            filter_bytes: 0,
            buckets: buckets_for(capacity.rows, capacity.bytes),
        }
    }

    /// What its stored filter is sealed under: an older one must not be taken for it.
    pub(crate) fn filter_seal_key(&self) -> [u8; 25] {
        let mut key = [LAYOUT; 25];
        key[..16].copy_from_slice(&self.id.key());
        key[16..24].copy_from_slice(&self.filter_at.to_be_bytes());
        key
    }

    /// Whether it must take no more puts at `now`.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now.as_micros() >= self.closes_at_us
            || self.tally.rows >= self.capacity_rows
            || self.put_bytes >= self.capacity_bytes
    }

    /// Whether it takes a put at `now`, with `staged` more on their way to it.
    pub(crate) fn takes_put(&self, now: Timestamp, staged: u64) -> bool {
        !self.closed && !self.is_due(now) && self.tally.rows + staged < self.capacity_rows
    }
}

/// A generation as readers see it.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) id: GenerationId,
    pub(crate) table: String,
    pub(crate) buckets: u32,
    /// Every key that the table may hold is in it, or will be before the base commit that adds
    /// it, once `filter_is_ready`.
    pub(crate) filter: Filter,
    filter_is_ready: AtomicBool,
    findings: Arc<Findings>,
}

/// What is known of a table's rows. Shared by all filters that a generation has in its life, so
/// that a verification of one is not lost with it.
#[derive(Debug, Default)]
struct Findings {
    /// The table was read through, or made by this run.
    verified: AtomicBool,
    /// A row was found lost or unreadable: a miss in this table means nothing.
    damaged: AtomicBool,
    rows: AtomicU64,
}

impl Generation {
    /// A new, empty generation.
    pub(crate) fn new(row: &GenerationRow, banks: &Banks) -> Self {
        let new = Self::loaded(row, Some(banks.filter_for(row.capacity_rows)), banks);
        new.set_verified(true);
        new
    }

    /// One that was in the base, with its filter if that is stored; else with an empty one that is
    /// not ready: then it may hold any key.
    pub(crate) fn loaded(row: &GenerationRow, filter: Option<Filter>, banks: &Banks) -> Self {
        let generation = Generation {
            id: row.id,
            table: row.id.table(),
            buckets: row.buckets,
            filter_is_ready: AtomicBool::new(filter.is_some()),
            filter: filter.unwrap_or_else(|| banks.filter_for(row.capacity_rows)),
            findings: Arc::default(),
        };
        generation.set_rows(row.tally.rows);
        generation
    }

    /// The same with another filter, which is complete.
    pub(crate) fn with_filter(&self, filter: Filter) -> Self {
        Generation {
            id: self.id,
            table: self.table.clone(),
            buckets: self.buckets,
            filter,
            filter_is_ready: AtomicBool::new(true),
            findings: self.findings.clone(),
        }
    }

    /// Whether the table may hold that key.
    pub(crate) fn may_contain(&self, probe: &Probe) -> bool {
        !self.filter_is_ready() || self.filter.may_contain(probe)
    }

    pub(crate) fn filter_is_ready(&self) -> bool {
        self.filter_is_ready.load(Ordering::SeqCst)
    }

    /// Says that all keys of the table are in the filter.
    pub(crate) fn set_filter_ready(&self) {
        self.filter_is_ready.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_verified(&self) -> bool {
        self.findings.verified.load(Ordering::SeqCst)
    }

    pub(crate) fn set_verified(&self, verified: bool) {
        self.findings.verified.store(verified, Ordering::SeqCst);
    }

    pub(crate) fn is_damaged(&self) -> bool {
        self.findings.damaged.load(Ordering::SeqCst)
    }

    pub(crate) fn set_damaged(&self, damaged: bool) {
        self.findings.damaged.store(damaged, Ordering::SeqCst);
    }

    /// How many rows it has; for statistics.
    pub(crate) fn rows(&self) -> u64 {
        self.findings.rows.load(Ordering::Relaxed)
    }

    pub(crate) fn set_rows(&self, rows: u64) {
        self.findings.rows.store(rows, Ordering::Relaxed);
    }
}

/// The bucket of a record that expires at `expires_at`: its end and its width.
///
/// The width is a power of two of minutes, about a 24th of the time left, at least a minute: far
/// buckets are coarser, so that however retentions are mixed the number of buckets is bounded by
/// some 25 for every doubling of the time left.
pub(crate) fn bucket(expires_at: Timestamp, now: Timestamp) -> (Timestamp, Duration) {
    let left_us = micros(expires_at.since(now));
    let min_us = micros(MIN_WIDTH);
    let mut width_us = min_us;
    while width_us < left_us / BUCKETS_PER_RETENTION {
        width_us = width_us.saturating_mul(2);
    }
    let end_us = expires_at
        .as_micros()
        .div_ceil(width_us)
        .saturating_mul(width_us);
    (
        Timestamp::from_micros(end_us),
        Duration::from_micros(width_us),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    #[test]
    fn a_record_expires_before_its_bucket_ends_and_not_much_before() {
        for left in [0, 1, 59, 60, 61, 3_600, 86_400, 7 * 86_400, 366 * 86_400] {
            let expires_at = NOW.after(Duration::from_secs(left));
            let (end, width) = bucket(expires_at, NOW);
            assert!(expires_at <= end && end.since(expires_at) < width);
            assert!(width >= MIN_WIDTH && width <= MIN_WIDTH.max(Duration::from_secs(left / 12)));
        }
    }

    #[test]
    fn a_day_of_expiries_falls_into_few_buckets() {
        let mut ends: Vec<_> = (0..24 * 60)
            .map(|minute| bucket(NOW.after(Duration::from_secs(minute * 60)), NOW).0)
            .collect();
        ends.sort();
        ends.dedup();
        assert!(ends.len() < 160, "{} buckets", ends.len());
    }

    fn capacity(rows: u64) -> Capacity {
        Capacity {
            rows,
            bytes: rows * 300,
        }
    }

    #[test]
    fn a_generation_is_due_when_full_or_over() {
        let id = GenerationId {
            end_us: 0,
            number: 1,
        };
        let mut row = GenerationRow::new(id, Duration::from_secs(60), capacity(2), NOW);
        assert!(!row.is_due(NOW));
        assert!(row.is_due(NOW.after(Duration::from_secs(60))));
        row.tally.add(3);
        row.tally.add(4);
        assert!(row.is_due(NOW));
        row.tally.remove(3);
        row.tally.remove(4);
        assert_eq!(row.tally, Tally::default());
        assert!(!row.is_due(NOW));
        assert!(row.takes_put(NOW, 1) && !row.takes_put(NOW, 2));
        row.put_bytes = row.capacity_bytes;
        assert!(row.is_due(NOW) && !row.takes_put(NOW, 0));
    }

    #[test]
    fn a_bucket_is_a_minute_wide_up_to_24_minutes_and_two_beyond() {
        let width = |secs| bucket(NOW.after(Duration::from_secs(secs)), NOW).1;
        assert_eq!(width(24 * 60), MIN_WIDTH);
        assert_eq!(width(24 * 60 + 24), 2 * MIN_WIDTH);
    }

    #[test]
    fn a_filter_says_no_only_once_it_is_ready_and_findings_outlive_it() {
        let id = GenerationId {
            end_us: 0,
            number: 1,
        };
        let mut row = GenerationRow::new(id, Duration::from_secs(60), capacity(100), NOW);
        row.tally.add(3);
        let banks = Banks::default();
        let loaded = Generation::loaded(&row, None, &banks);
        assert!(!loaded.filter_is_ready() && loaded.may_contain(&Probe::of(9)));
        assert!(!loaded.is_verified());
        loaded.set_filter_ready();
        assert!(loaded.filter_is_ready() && !loaded.may_contain(&Probe::of(9)));
        assert_eq!(loaded.rows(), 1);

        let again = loaded.with_filter(banks.filter_for(100));
        again.set_rows(7);
        again.set_verified(true);
        again.set_damaged(true);
        assert_eq!(loaded.rows(), 7);
        assert!(loaded.is_verified() && loaded.is_damaged());
        assert!(Generation::new(&row, &banks).is_verified());
    }
}
