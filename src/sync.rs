//! The synchronisation types the store is built on, in one place, so that a model checker's own
//! can stand in for them.

mod at_once;
#[cfg(any(firstclaim_shuttle, firstclaim_loom))]
pub(crate) mod checked;

pub(crate) use self::at_once::AtOnce;

#[cfg(any(firstclaim_shuttle, firstclaim_loom))]
pub(crate) use self::checked::*;

#[cfg(not(any(firstclaim_shuttle, firstclaim_loom)))]
mod real {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use std::thread::{Builder as ThreadBuilder, JoinHandle, ThreadId, current, sleep};
    pub(crate) use std::time::Instant;
}

#[cfg(not(any(firstclaim_shuttle, firstclaim_loom)))]
pub(crate) use self::real::*;

/// Wakes a task. A waker is the user's code: a panic of it hurts nobody else.
pub(crate) fn wake(waker: std::task::Waker) {
    let woken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
    if let Err(payload) = woken {
        // To drop it may panic again.
        std::mem::forget(payload);
    }
}

/// Does `here` in this thread and `beside` in one of its own, or after it, if no thread can be begun.
pub(crate) fn both<A: Send, B>(beside: impl Fn() -> A + Sync, here: impl FnOnce() -> B) -> (A, B) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("firstclaim-open".to_owned());
        let begun = thread.spawn_scoped(scope, &beside);
        let of_here = here();
        let of_beside = match begun.map(|thread| thread.join()) {
            Ok(joined) => joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => beside(),
        };
        (of_beside, of_here)
    })
}

/// A bell that one thread waits for: ringing it while nobody waits is not lost.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock() = true;
        self.ringing.notify_one();
    }

    /// Waits until it is rung, at most for `wait`; true if it was.
    pub(crate) fn wait(&self, wait: std::time::Duration) -> bool {
        let mut rung = self.rung.lock();
        if !*rung {
            self.ringing.wait_for(&mut rung, wait);
        }
        std::mem::take(&mut *rung)
    }
}

#[cfg(all(test, not(any(firstclaim_shuttle, firstclaim_loom))))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;

    #[test]
    fn both_run_at_once_and_both_answers_come_back() {
        let meet = Barrier::new(2);
        let (beside, here) = both(
            || {
                meet.wait();
                1
            },
            || {
                meet.wait();
                2
            },
        );
        assert_eq!((beside, here), (1, 2));
    }

    #[test]
    fn a_panic_beside_is_one_here() {
        let panics = || both(|| panic!("on purpose"), || 2);
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    }
}
