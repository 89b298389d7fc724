//! Who waits for an attempt in flight to end.
//!
//! A waiter waits for a fence, since fences are unique within a store: whatever ends or changes that
//! attempt notifies the fence. The order that loses no wake-up: a waiter takes its place, looks at the
//! key again, and only then parks; whoever changes the record shows the change first and notifies
//! then. So one of the two sees the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Holders;
use crate::record::Fence;
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering, wake};
use crate::time::Deadline;

/// Those who wait, by fence.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    table: Mutex<Table>,
    /// How many have a place. While there are none, notifying takes no mutex.
    count: AtomicU64,
    /// Some of them are notified and not woken yet.
    has_notified: AtomicBool,
}

#[derive(Debug, Default)]
struct Table {
    by_fence: HashMap<Fence, Vec<Arc<Waiter>>>,
    count: usize,
    notified: Vec<Arc<Waiter>>,
}

/// A thread or a task that waits.
#[derive(Debug, Default)]
struct Waiter {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_woken: bool,
    waker: Option<Waker>,
}

/// The most that may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MostWaiters {
    pub(crate) in_all: usize,
    pub(crate) per_fence: usize,
}

/// A place among those who wait for a fence, until it is dropped or woken.
#[derive(Debug)]
pub(crate) struct Place {
    holders: Arc<Holders>,
    fence: Fence,
    waiter: Arc<Waiter>,
}

impl Waiters {
    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.table.lock().count
    }

    /// Notes that the attempt with this fence has ended or changed, once that can be seen. Its waiters
    /// are woken by `wake_notified`: a waker is the user's code, and must not run where a mutex or the
    /// commit right is held.
    pub(crate) fn notify(&self, fence: Fence) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut table = self.table.lock();
        if let Some(waiters) = table.by_fence.remove(&fence) {
            table.notified.extend(waiters);
            self.has_notified.store(true, Ordering::SeqCst);
        }
    }

    /// Wakes everybody, whatever they wait for. New ones must look at what changed before they park.
    pub(crate) fn wake_all(&self) {
        {
            let mut table = self.table.lock();
            let all = std::mem::take(&mut table.by_fence);
            table.notified.extend(all.into_values().flatten());
            self.has_notified.store(true, Ordering::SeqCst);
        }
        self.wake_notified();
    }

    /// Wakes those who were notified. The caller holds nothing.
    pub(crate) fn wake_notified(&self) {
        if !self.has_notified.load(Ordering::SeqCst) {
            return;
        }
        let notified = {
            let mut table = self.table.lock();
            self.has_notified.store(false, Ordering::SeqCst);
            std::mem::take(&mut table.notified)
        };
        notified.iter().for_each(|waiter| waiter.wake());
    }

    fn leave(&self, fence: Fence, waiter: &Arc<Waiter>) {
        let mut table = self.table.lock();
        table.count -= 1;
        self.count.store(table.count as u64, Ordering::SeqCst);
        // Not there if it was notified.
        if let Some(waiters) = table.by_fence.get_mut(&fence) {
            waiters.retain(|other| !Arc::ptr_eq(other, waiter));
            if waiters.is_empty() {
                table.by_fence.remove(&fence);
            }
        }
    }
}

impl Waiter {
    fn wake(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.is_woken = true;
            state.waker.take()
        };
        self.woken.notify_one();
        waker.into_iter().for_each(wake);
    }
}

impl Place {
    /// Takes a place among those who wait for `fence`; none if there are as many as may be.
    pub(crate) fn take(holders: &Arc<Holders>, fence: Fence, most: MostWaiters) -> Option<Self> {
        let waiters = holders.waiters();
        let mut table = waiters.table.lock();
        let of_fence = table.by_fence.get(&fence).map_or(0, Vec::len);
        if table.count >= most.in_all || of_fence >= most.per_fence {
            return None;
        }
        let waiter = Arc::new(Waiter::default());
        let of_fence = table.by_fence.entry(fence).or_default();
        of_fence.push(waiter.clone());
        table.count += 1;
        waiters.count.store(table.count as u64, Ordering::SeqCst);
        drop(table);
        Some(Place {
            holders: holders.clone(),
            fence,
            waiter,
        })
    }

    pub(crate) fn fence(&self) -> Fence {
        self.fence
    }

    /// Whether it was woken, and is a place no longer.
    pub(crate) fn is_woken(&self) -> bool {
        self.waiter.state.lock().is_woken
    }

    /// Parks the thread until it is woken or the time is over.
    pub(crate) fn wait(&self, until: Deadline) {
        let mut state = self.waiter.state.lock();
        while !state.is_woken && !until.has_passed() {
            self.waiter.woken.wait_for(&mut state, until.left());
        }
    }

    /// Ready once it is woken; else the task will be.
    pub(crate) fn poll(&self, task: &Context<'_>) -> Poll<()> {
        let waker = task.waker().clone();
        let mut state = self.waiter.state.lock();
        if state.is_woken {
            return Poll::Ready(());
        }
        let before = state.waker.replace(waker);
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.holders.waiters().leave(self.fence, &self.waiter);
        let waker = self.waiter.state.lock().waker.take();
        drop(waker);
    }
}
