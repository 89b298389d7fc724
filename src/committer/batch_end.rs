//! What the callers of one batch wait for together: the end of its commit.

use std::thread::yield_now;

use crate::bugs::{self, Bug};
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering};
use crate::time::Deadline;

/// How often a caller gives way before it parks.
const YIELDS: usize = if cfg!(firstclaim_shuttle) { 1 } else { 16 };

/// The end of a batch's commit. It is announced once, to all who wait for it: to wake a thread costs
/// more than all the rest, so that it is not done for each by itself.
#[derive(Debug, Default)]
pub(super) struct BatchEnd {
    has_come: AtomicBool,
    /// Held while it comes, and from a look at whether it has come to the wait for it.
    coming: Mutex<()>,
    came: Condvar,
}

impl BatchEnd {
    /// Wakes all who wait for it. Every command of the batch has its answer by now.
    pub(super) fn announce(&self) {
        {
            let _coming = self.coming.lock();
            self.has_come.store(true, Ordering::Release);
        }
        if bugs::is(Bug::OthersNotWoken) {
            self.came.notify_one();
            return;
        }
        self.came.notify_all();
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
            // There it would only look earlier, in many more interleavings.
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
        let mut coming = self.coming.lock();
        if !self.has_come() {
            self.came.wait_for(&mut coming, deadline.left());
        }
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
