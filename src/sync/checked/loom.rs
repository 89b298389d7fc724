//! What loom leaves open: time. It passes once, when a thread of the model says so.

use std::time::Duration;

pub(crate) use ::loom::sync;
pub(crate) use ::loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use ::loom::thread::{Builder as ThreadBuilder, JoinHandle, ThreadId, current};

::loom::lazy_static! {
    static ref IS_OVER: AtomicBool = AtomicBool::new(false);
}

/// From here on every deadline has passed.
pub(crate) fn pass_all_deadlines() {
    IS_OVER.store(true, Ordering::Release);
}

/// Whether this wait ends by itself, not by a notification: a deadline passes before a wait or
/// after it. Whoever waits changes nothing meanwhile, so that no other case is lost by this.
pub(super) fn ends_by_itself(wait: Duration) -> bool {
    wait.is_zero()
}

pub(super) fn let_time_pass(_: Duration) {}

/// Not needed by what is run under loom.
pub(crate) fn fresh_u64() -> u64 {
    0
}

/// A point in time, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        match IS_OVER.load(Ordering::Acquire) {
            true => Instant(Duration::MAX),
            false => Instant(Duration::from_secs(1)),
        }
    }

    pub(crate) fn checked_add(self, wait: Duration) -> Option<Self> {
        self.0.checked_add(wait).map(Instant)
    }

    pub(crate) fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Instant(self.0.saturating_add(wait))
    }
}
