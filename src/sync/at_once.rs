//! Threads that wait for the same thing and are woken all at once.

#[cfg(any(firstclaim_shuttle, firstclaim_loom))]
use super::checked::{Condvar, Mutex};
#[cfg(not(any(firstclaim_shuttle, firstclaim_loom)))]
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::bugs::{self, Bug};

/// Where many threads wait until something has happened. It is the standard library's condition variable
/// that they wait for: that wakes all by one call of the kernel, where parking_lot's wakes one, who wakes
/// the next.
#[derive(Debug, Default)]
pub(crate) struct AtOnce {
    happening: Mutex<()>,
    happened: Condvar,
}

impl AtOnce {
    /// Lets it happen, and wakes all who wait for it.
    pub(crate) fn wake_all_after(&self, it: impl FnOnce()) {
        {
            let _happening = self.happening.lock();
            it();
        }
        if bugs::is(Bug::OthersNotWoken) {
            self.happened.notify_one();
            return;
        }
        self.happened.notify_all();
    }

    /// Waits until woken, at most for `wait` and perhaps not so long; not at all if it has happened.
    #[cfg(not(any(firstclaim_shuttle, firstclaim_loom)))]
    pub(crate) fn wait_unless(&self, has_happened: impl FnOnce() -> bool, wait: Duration) {
        let happening = self.happening.lock();
        // What it guards is nothing that a panic could leave half done.
        let happening = happening.unwrap_or_else(PoisonError::into_inner);
        if !has_happened() {
            drop(self.happened.wait_timeout(happening, wait));
        }
    }

    /// The same under a model checker.
    #[cfg(any(firstclaim_shuttle, firstclaim_loom))]
    pub(crate) fn wait_unless(&self, has_happened: impl FnOnce() -> bool, wait: Duration) {
        let mut happening = self.happening.lock();
        if !has_happened() {
            self.happened.wait_for(&mut happening, wait);
        }
    }
}
