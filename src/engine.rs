//! The engine: commit, look-up, checkpoint, sweep and recovery, as plain calls. It starts no
//! thread, so that tests can drive it step by step under a clock they hold.

mod append;
#[cfg(not(firstclaim_shuttle))]
pub(crate) mod base;
#[cfg(firstclaim_shuttle)]
#[path = "engine/base/stub.rs"]
pub(crate) mod base;
pub(crate) mod bucket;
pub(crate) mod catalog;
mod commit;
pub(crate) mod disk;
pub(crate) mod entropy;
mod filter;
mod generation;
pub(crate) mod holders;
pub(crate) mod journal;
mod look;
mod opening;
mod overlay;
mod pace;
mod seal;
#[cfg(test)]
pub(crate) mod testing;
mod upkeep;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

pub use self::commit::{Answer, Request};
pub use self::look::{Seen, Tried, Vacancy};
pub use self::upkeep::{Swept, Verified};

use self::append::{Failure, Writer};
use self::catalog::Catalog;
use self::disk::Disk;
use self::holders::Holders;
use self::journal::Spares;
use self::overlay::{Found, Overlay};
use crate::bugs::{self, Bug};
use crate::builder::{Durability, Limits};
use crate::key::RecordKey;
use crate::record::{Fence, State};
use crate::sync::{AtomicBool, AtomicU64, Bell, Mutex, Ordering};
use crate::time::{Clock, StoreTime, Timestamp};

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
    /// By what a new store's keys are hashed; at random if not given. With one given, what is written
    /// where can be repeated.
    pub hash_seed: Option<u64>,
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
    /// Rung when there is a frozen overlay to be written, or a base to be reopened.
    checkpoint_bell: Bell,
    /// The engine is being closed: long readings stop.
    stopping: AtomicBool,
}

/// What has happened since the opening.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) frames: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) sweeps: AtomicU64,
}

impl Engine {
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

    /// Wakes who waited for what has happened. The caller holds nothing: a waker is the user's code.
    pub(crate) fn wake_waiters(&self) {
        self.holders.waiters().wake_notified();
    }

    /// How long until `time`, on the store's clock.
    pub(crate) fn time_until(&self, time: Timestamp) -> Duration {
        time.since(self.time.now())
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
}
