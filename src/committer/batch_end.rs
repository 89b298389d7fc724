//! What the callers of one batch wait for together: the end of its commit.

use std::thread::yield_now;

use crate::sync::{AtOnce, AtomicBool, Ordering};
use crate::time::Deadline;

/// How often a caller gives way before it parks.
const YIELDS: usize = if cfg!(firstclaim_shuttle) { 1 } else { 16 };

/// The end of a batch's commit. It is announced once, to all who wait for it: to wake a thread costs
/// more than all the rest, and who has not parked yet need not be woken.
#[derive(Debug, Default)]
pub(super) struct BatchEnd {
    has_come: AtomicBool,
    parked: AtOnce,
}

impl BatchEnd {
    /// Wakes all who wait for it. Every command of the batch has its answer by now.
    pub(super) fn announce(&self) {
        self.parked
            .wake_all_after(|| self.has_come.store(true, Ordering::Release));
    }

    /// Whether it was announced: what was done before that is seen by who is told so.
    pub(super) fn has_come(&self) -> bool {
        self.has_come.load(Ordering::Acquire)
    }

    /// Gives way to others while it has not come, a few times. Where there are more callers than cores it
    /// often has come by the time the others have had their turn; a thread that has parked costs a wake-up
    /// and a switch more.
    pub(super) fn give_way(&self) {
        if cfg!(firstclaim_loom) {
            // To give way would only mean to look earlier, in many more interleavings.
            return;
        }
        for _ in 0..YIELDS {
            if self.has_come() {
                return;
            }
            yield_now();
        }
    }

    /// Waits until it is announced, or the deadline has passed; perhaps not so long.
    pub(super) fn wait(&self, deadline: Deadline) {
        self.parked.wait_unless(|| self.has_come(), deadline.left());
    }
}

#[cfg(all(test, not(any(firstclaim_shuttle, firstclaim_loom))))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_wait_ends_at_its_deadline_and_there_is_none_once_the_end_has_come() {
        let end = BatchEnd::default();
        end.wait(Deadline::after(Duration::from_millis(1)));
        assert!(!end.has_come());
        end.announce();
        end.wait(Deadline::after(Duration::MAX));
        assert!(end.has_come());
    }
}
