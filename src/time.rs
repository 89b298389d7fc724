//! Time: the only file that reads a clock.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use crate::sync::Instant;

/// The shortest duration an option or a call takes.
pub(crate) const MIN_DURATION: Duration = Duration::from_millis(1);
/// The longest: 366 days.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A point in time, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time `us` microseconds after the Unix epoch.
    pub const fn from_micros(us: u64) -> Self {
        Timestamp(us)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// This time and `duration` more, or the last representable time.
    pub fn after(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_add(micros(duration)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Timestamp(time.duration_since(UNIX_EPOCH).map_or(0, micros))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        UNIX_EPOCH
            .checked_add(Duration::from_micros(time.0))
            .unwrap_or(UNIX_EPOCH)
    }
}

/// The duration in whole microseconds, or the most that fit.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Checks a duration against the bounds of 1 ms and 366 days.
pub(crate) fn check_duration(what: &str, duration: Duration) -> Result<Duration> {
    if (MIN_DURATION..=MAX_DURATION).contains(&duration) {
        Ok(duration)
    } else {
        Err(Error::option(format!(
            "{what} of {duration:?} is not between 1 ms and 366 days"
        )))
    }
}

/// Checks a time to wait against the bounds of zero and 366 days.
pub(crate) fn check_wait(what: &str, wait: Duration) -> Result<Duration> {
    if wait.is_zero() {
        return Ok(wait);
    }
    check_duration(what, wait.max(MIN_DURATION)).map(|_| wait)
}

/// Where a store reads the time of day.
///
/// The store itself makes time move forward only: a clock that steps back holds the store's time
/// still until it has caught up.
pub trait Clock: Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> SystemTime {
        (**self).now()
    }
}

/// The system's clock, read once; from there it runs with the monotonic clock, so that a step of
/// the system's time while the store is open neither expires nor revives anything.
#[derive(Debug, Clone)]
pub struct SystemClock {
    wall: SystemTime,
    monotonic: Instant,
}

impl SystemClock {
    /// Reads the system's time.
    #[allow(clippy::disallowed_methods)] // the one place
    pub fn new() -> Self {
        SystemClock {
            wall: SystemTime::now(),
            monotonic: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        self.wall
            .checked_add(self.monotonic.elapsed())
            .unwrap_or(self.wall)
    }
}

/// A clock that a test moves by hand. Clones share the time.
///
/// ```
/// use std::time::Duration;
/// use firstclaim::{Builder, Claim, ManualClock};
///
/// let clock = ManualClock::new();
/// let store = Builder::in_memory().clock(clock.clone()).open()?;
/// if let Claim::Claimed(lease) = store.claim("acct", "key")? {
///     lease.complete_for("done", Duration::from_secs(60))?;
/// }
/// assert!(matches!(store.claim("acct", "key")?, Claim::Done(_)));
/// clock.advance(Duration::from_secs(60));
/// assert!(matches!(store.claim("acct", "key")?, Claim::Claimed(_)));
/// # Ok::<(), firstclaim::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock at 2001-09-09 01:46:40 UTC, a billion seconds after the Unix epoch.
    pub fn new() -> Self {
        Self::at(UNIX_EPOCH + Duration::from_secs(1_000_000_000))
    }

    /// A clock at `time`.
    pub fn at(time: SystemTime) -> Self {
        ManualClock(Arc::new(AtomicU64::new(Timestamp::from(time).as_micros())))
    }

    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        let _ = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |us| {
                Some(us.saturating_add(micros(by)))
            });
    }

    /// Sets the time, forward or back.
    pub fn set(&self, time: SystemTime) {
        self.0
            .store(Timestamp::from(time).as_micros(), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst)).into()
    }
}

/// The store's time: the clock's, shifted so that it began no earlier than what earlier runs had
/// persisted, and never going back.
#[derive(Debug)]
pub(crate) struct StoreTime {
    clock: Arc<dyn Clock>,
    /// Added to the clock's time: how far it was behind the persisted time at opening.
    shift: Duration,
    /// The latest time given out.
    latest_us: AtomicU64,
}

impl StoreTime {
    /// Time that runs with `clock` but begins no earlier than `floor`.
    pub(crate) fn starting_at(clock: Arc<dyn Clock>, floor: Timestamp) -> Self {
        let begin = Timestamp::from(clock.now());
        StoreTime {
            clock,
            shift: floor.since(begin),
            latest_us: AtomicU64::new(floor.max(begin).as_micros()),
        }
    }

    /// The time now: never before a time that was given out earlier.
    pub(crate) fn now(&self) -> Timestamp {
        let read = Timestamp::from(self.clock.now()).after(self.shift);
        let latest = self.latest_us.fetch_max(read.as_micros(), Ordering::SeqCst);
        read.max(Timestamp::from_micros(latest))
    }
}

/// A deadline on the monotonic clock, for waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// `wait` from now; no deadline at all if that lies beyond what the clock can name.
    pub(crate) fn after(wait: Duration) -> Self {
        Deadline(Instant::now().checked_add(wait))
    }

    /// When it is, if ever.
    pub(crate) fn at(self) -> Option<Instant> {
        self.0
    }

    /// The earlier of the two.
    pub(crate) fn earlier(self, other: Deadline) -> Self {
        match (self.0, other.0) {
            (Some(one), Some(two)) => Deadline(Some(one.min(two))),
            (one, two) => Deadline(one.or(two)),
        }
    }

    /// How long is left, zero once it has passed.
    pub(crate) fn left(self) -> Duration {
        match self.0 {
            Some(at) => at.saturating_duration_since(Instant::now()),
            None => MAX_DURATION,
        }
    }

    pub(crate) fn has_passed(self) -> bool {
        self.left().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[test]
    fn store_time_never_goes_back() {
        let clock = ManualClock::at(at(100));
        let time = StoreTime::starting_at(Arc::new(clock.clone()), Timestamp::default());
        assert_eq!(time.now(), at(100).into());
        clock.set(at(50));
        assert_eq!(time.now(), at(100).into());
        clock.set(at(101));
        assert_eq!(time.now(), at(101).into());
    }

    #[test]
    fn a_clock_behind_at_opening_runs_on_from_the_persisted_time() {
        let clock = ManualClock::at(at(100));
        let time = StoreTime::starting_at(Arc::new(clock.clone()), at(500).into());
        assert_eq!(time.now(), at(500).into());
        clock.advance(Duration::from_secs(7));
        assert_eq!(time.now(), at(507).into());
    }

    #[test]
    fn durations_of_zero_and_of_centuries_are_refused() {
        let century = Duration::from_secs(100 * 366 * 24 * 60 * 60);
        for bad in [
            Duration::ZERO,
            Duration::from_micros(999),
            century,
            Duration::MAX,
        ] {
            assert!(matches!(
                check_duration("lease", bad),
                Err(Error::InvalidOption(_))
            ));
        }
        assert!(check_duration("lease", MIN_DURATION).is_ok());
        assert!(check_duration("lease", MAX_DURATION).is_ok());
    }

    #[test]
    fn times_at_the_end_of_the_range_saturate() {
        let end = Timestamp::from_micros(u64::MAX);
        assert_eq!(end.after(Duration::from_secs(1)), end);
        let _: SystemTime = end.into();
    }
}
