//! Counts and sizes of a store.

use crate::committer::Queue;
use crate::engine::Engine;
use crate::sync::Ordering;

/// Counts and sizes of a store at one moment; counts of events are since its opening.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Leases that are out.
    pub leases: usize,
    /// Claims that wait for an attempt in flight to end.
    pub waiters: usize,
    /// Keys in flight, interrupted or released, expired but unswept ones included.
    pub unfinished: usize,
    /// Bytes of their names and recovery points.
    pub unfinished_bytes: usize,
    /// Records and tombstones in memory that are not all in the base yet.
    pub overlay_records: usize,
    /// Done records in the base, expired but unswept ones included.
    pub base_records: u64,
    /// Tables of the base they are in.
    pub generations: usize,
    /// Tables of the base that have not been read through since the opening: a thread does so in the
    /// background, and until then a lost row can make a key look vacant.
    pub unverified: usize,
    /// Bytes of the filters in memory.
    pub filter_bytes: usize,
    /// Commands waiting to be committed.
    pub queued: usize,
    /// Frames written to the journal: batches committed.
    pub batches: u64,
    /// Changes in them.
    pub changes: u64,
    /// Checkpoints finished.
    pub checkpoints: u64,
    /// Sweeps finished, those in the background and those asked for.
    pub sweeps: u64,
    /// Look-ups that read the base: neither what is in memory nor the filters could answer.
    pub base_reads: u64,
    /// A write failed, so that nothing more can be written until the store is reopened.
    pub poisoned: bool,
    /// What went wrong first: that failure, or damage that a verification found.
    pub trouble: Option<String>,
    /// The store is closed.
    pub closed: bool,
}

impl Stats {
    pub(super) fn of(engine: &Engine, queue: &Queue, closed: bool) -> Self {
        let (overlay_records, (unfinished, unfinished_bytes)) = engine.memory_sizes();
        let (generations, base_records, filter_bytes) = engine.catalog().sizes();
        let counters = engine.counters();
        Stats {
            leases: engine.holders().guards(),
            waiters: engine.holders().waiters().count(),
            unfinished,
            unfinished_bytes,
            overlay_records,
            base_records,
            generations,
            unverified: engine.catalog().unverified(),
            filter_bytes,
            queued: queue.len(),
            batches: counters.frames.load(Ordering::Relaxed),
            changes: counters.changes.load(Ordering::Relaxed),
            checkpoints: counters.checkpoints.load(Ordering::Relaxed),
            sweeps: counters.sweeps.load(Ordering::Relaxed),
            base_reads: engine.catalog().reads(),
            poisoned: engine.is_poisoned(),
            trouble: engine.trouble(),
            closed,
        }
    }
}
