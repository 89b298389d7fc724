//! The store's time, as the design promises it.

use std::time::{Duration, SystemTime};

/// Time that moves forward only: within a run, and across runs never behind what was persisted.
#[derive(Debug)]
pub struct Time {
    /// What the clock shows. A test may set it back.
    clock: SystemTime,
    /// How far the store is ahead of it, because it was behind at opening.
    ahead: Duration,
    /// The latest time that the store has seen.
    latest: SystemTime,
    /// The time of the latest change that was written.
    persisted: SystemTime,
}

impl Time {
    pub fn new(clock: SystemTime) -> Self {
        Time {
            clock,
            ahead: Duration::ZERO,
            latest: clock,
            persisted: clock,
        }
    }

    pub fn clock(&self) -> SystemTime {
        self.clock
    }

    pub fn now(&self) -> SystemTime {
        self.latest.max(self.clock + self.ahead)
    }

    /// The clock was moved, and the store has looked at it.
    pub fn move_clock(&mut self, to: SystemTime) {
        self.clock = to;
        self.latest = self.now();
    }

    /// A change was written now.
    pub fn persist(&mut self) {
        self.persisted = self.now();
    }

    /// The store was opened again, told its time, and wrote something. This is the one place where
    /// the design leaves room: a clock that is behind may take the store back as far as what was
    /// persisted, and no further.
    pub fn reopened(&mut self, clock: SystemTime, told: SystemTime) {
        let earliest = clock.max(self.persisted);
        let latest = clock.max(self.latest);
        assert!(
            earliest <= told && told <= latest,
            "the reopened store says it is {told:?}, which is not from {earliest:?} to {latest:?}"
        );
        *self = Time {
            clock,
            ahead: told.duration_since(clock).unwrap_or_default(),
            latest: told,
            persisted: told,
        };
    }
}
