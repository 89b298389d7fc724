//! What shuttle leaves open: atomics without needless choices, and time.
//!
//! Time stands still but for waits that end by themselves. Whether one does is the scheduler's
//! choice, so that a schedule can be repeated.

use std::sync::atomic;
use std::time::Duration;

use ::shuttle::rand::RngCore;
pub(crate) use ::shuttle::sync;
pub(crate) use ::shuttle::thread::{self, Builder as ThreadBuilder, JoinHandle, ThreadId, current};
pub(crate) use std::sync::atomic::Ordering;

/// Of so many waits with a deadline, one ends by itself,
const ONE_WAIT_OF: u64 = 4;
/// and no more than this in a schedule, so that every schedule ends.
const MOST_TIMEOUTS: u64 = 4;
/// Whoever waits longer waits for ever.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

::shuttle::lazy_static! {
    static ref TIME_US: atomic::AtomicU64 = atomic::AtomicU64::new(0);
    static ref TIMEOUTS: atomic::AtomicU64 = atomic::AtomicU64::new(0);
}

/// Whether this wait ends by itself, not by a notification.
pub(super) fn ends_by_itself(wait: Duration) -> bool {
    if wait.is_zero() {
        return true;
    }
    let may_end = wait <= LONGEST_WAIT && TIMEOUTS.load(Ordering::SeqCst) < MOST_TIMEOUTS;
    let ends = may_end && fresh_u64().is_multiple_of(ONE_WAIT_OF);
    if ends {
        TIMEOUTS.fetch_add(1, Ordering::SeqCst);
    }
    ends
}

/// Others run, for as long as the scheduler likes, and `wait` is over.
pub(super) fn let_time_pass(wait: Duration) {
    let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
    let end_us = TIME_US.load(Ordering::SeqCst).saturating_add(wait_us);
    thread::yield_now();
    TIME_US.fetch_max(end_us, Ordering::SeqCst);
}

/// A number of the scheduler's.
pub(crate) fn fresh_u64() -> u64 {
    ::shuttle::rand::thread_rng().next_u64()
}

/// A point on the clock of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    pub(crate) fn now() -> Self {
        Instant(Duration::from_micros(TIME_US.load(Ordering::SeqCst)))
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
        Instant(self.0 + wait)
    }
}

/// Lets the scheduler choose who runs next. Counters and filters order nothing, and are passed over.
fn choose(order: Ordering) {
    if order != Ordering::Relaxed {
        thread::sleep(Duration::ZERO);
    }
}

#[derive(Debug, Default)]
pub(crate) struct AtomicBool(atomic::AtomicBool);

impl AtomicBool {
    pub(crate) const fn new(value: bool) -> Self {
        AtomicBool(atomic::AtomicBool::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> bool {
        choose(order);
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: bool, order: Ordering) {
        choose(order);
        self.0.store(value, order);
    }

    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        choose(order);
        self.0.swap(value, order)
    }
}

#[derive(Debug, Default)]
pub(crate) struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) const fn new(value: u64) -> Self {
        AtomicU64(atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        choose(order);
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        choose(order);
        self.0.store(value, order);
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        choose(order);
        self.0.fetch_add(value, order)
    }
}
