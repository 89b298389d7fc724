//! The thread that keeps deadlines: it renews leases and wakes tasks whose time is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::later;
use crate::committer::Queue;
use crate::engine::Request;
use crate::key::RecordKey;
use crate::record::Fence;
use crate::sync::{AtomicBool, Bell, Instant, Mutex, Ordering, wake};
use crate::time::Deadline;
use crate::transition::Command;

/// A lease is renewed this many times in its length.
const RENEWALS_PER_LEASE: u32 = 3;
/// The thread looks at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What is to be done at what time.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    table: Mutex<Table>,
    changed: Bell,
}

#[derive(Debug, Default)]
struct Table {
    /// The leases that are renewed while their operations run: at most as many as leases.
    renewals: HashMap<Fence, Renewal>,
    /// The tasks to be woken: at most as many as wait for a key, for room, or for a commit.
    alarms: BTreeMap<AlarmTime, Waker>,
    last_alarm: u64,
    /// When the thread looks again by itself; nothing while it is looking.
    next_look: Option<Instant>,
}

/// With a number that makes it unique.
type AlarmTime = (Instant, u64);

#[derive(Debug, Clone)]
struct Renewal {
    key: RecordKey,
    lease_for: Duration,
    next: Instant,
}

impl Deadlines {
    /// Keeps a lease renewed until what is returned is dropped.
    pub(crate) fn keep_renewed(
        self: &Arc<Self>,
        key: RecordKey,
        fence: Fence,
        lease_for: Duration,
    ) -> KeptRenewed {
        let next = later(Instant::now(), lease_for / RENEWALS_PER_LEASE);
        let renewal = Renewal {
            key,
            lease_for,
            next,
        };
        self.add(next, |table| drop(table.renewals.insert(fence, renewal)));
        KeptRenewed {
            deadlines: self.clone(),
            fence,
        }
    }

    /// Adds what is due at `at`, and calls the thread if it would look later than that.
    fn add(&self, at: Instant, add: impl FnOnce(&mut Table)) {
        let is_sooner = {
            let mut table = self.table.lock();
            add(&mut table);
            table.next_look.is_some_and(|next| at < next)
        };
        if is_sooner {
            self.changed.ring();
        }
    }

    /// Wakes the thread, to end.
    pub(crate) fn stop(&self) {
        self.changed.ring();
    }

    pub(super) fn run(&self, queue: &Queue, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let sleep = self.do_due(queue);
            self.changed.wait(sleep);
        }
    }

    /// Does what is due, and tells how long it is until the next thing will be.
    fn do_due(&self, queue: &Queue) -> Duration {
        let now = Instant::now();
        let (due, next) = {
            let mut table = self.table.lock();
            let due = table.take_due(now);
            let next = later(now, LONGEST_SLEEP);
            let next = table.renew_due(queue, now).map_or(next, |at| at.min(next));
            let alarm = table.alarms.first_key_value().map(|((at, _), _)| *at);
            let next = alarm.map_or(next, |at| at.min(next));
            table.next_look = Some(next);
            (due, next)
        };
        due.into_iter().for_each(wake);
        next.saturating_duration_since(Instant::now())
    }
}

impl Table {
    fn take_due(&mut self, now: Instant) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(first) = self.alarms.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }

    /// Renews the leases that are due, and tells when the next will be.
    fn renew_due(&mut self, queue: &Queue, now: Instant) -> Option<Instant> {
        for (fence, renewal) in &mut self.renewals {
            if renewal.next <= now {
                let renew = Command::Renew {
                    fence: *fence,
                    lease_for: renewal.lease_for,
                };
                let sent = queue.send(Request::new(renewal.key.clone(), renew));
                // If the queue is full, soon again.
                let part = if sent { 1 } else { 8 };
                renewal.next = later(now, renewal.lease_for / RENEWALS_PER_LEASE / part);
            }
        }
        self.renewals.values().map(|renewal| renewal.next).min()
    }
}

/// Ends the renewing of a lease when dropped.
#[derive(Debug)]
pub(crate) struct KeptRenewed {
    deadlines: Arc<Deadlines>,
    fence: Fence,
}

impl Drop for KeptRenewed {
    fn drop(&mut self) {
        self.deadlines.table.lock().renewals.remove(&self.fence);
    }
}

/// Wakes a task at a time, unless it is dropped before.
#[derive(Debug)]
pub(crate) struct Alarm {
    deadlines: Arc<Deadlines>,
    set: Option<AlarmTime>,
}

impl Alarm {
    /// An alarm that is not set.
    pub(crate) fn new(deadlines: &Arc<Deadlines>) -> Self {
        Alarm {
            deadlines: deadlines.clone(),
            set: None,
        }
    }

    /// Sets the alarm, in place of how it was set before.
    pub(crate) fn set(&mut self, at: Deadline, task: &Context<'_>) {
        let Some(at) = at.at() else {
            return self.unset();
        };
        // It is the user's code that clones and drops wakers: not under the mutex.
        let waker = task.waker().clone();
        let (deadlines, set) = (&self.deadlines, &mut self.set);
        let mut before = None;
        deadlines.add(at, |table| {
            before = set.take().and_then(|at| table.alarms.remove(&at));
            table.last_alarm += 1;
            table.alarms.insert((at, table.last_alarm), waker);
            *set = Some((at, table.last_alarm));
        });
        drop(before);
    }

    fn unset(&mut self) {
        if let Some(at) = self.set.take() {
            let waker = self.deadlines.table.lock().alarms.remove(&at);
            drop(waker);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.unset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    const HOUR: Duration = Duration::from_secs(3600);

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn alarms(deadlines: &Deadlines) -> usize {
        deadlines.table.lock().alarms.len()
    }

    #[test]
    fn an_alarm_is_there_once_until_it_is_dropped() {
        let deadlines = Arc::new(Deadlines::default());
        let task = Context::from_waker(Waker::noop());
        let mut alarm = Alarm::new(&deadlines);
        assert_eq!(alarms(&deadlines), 0);
        for _ in 0..3 {
            alarm.set(Deadline::after(HOUR), &task);
            assert_eq!(alarms(&deadlines), 1);
        }
        alarm.set(Deadline::after(Duration::MAX), &task);
        assert_eq!(alarms(&deadlines), 0);
        alarm.set(Deadline::after(HOUR), &task);
        drop(alarm);
        assert_eq!(alarms(&deadlines), 0);
    }

    #[test]
    fn what_is_due_is_woken_once_and_the_next_is_known() {
        let (deadlines, queue) = (Arc::new(Deadlines::default()), Queue::new(1, 1));
        let counting = Arc::new(Counting::default());
        let waker = Waker::from(counting.clone());
        let task = Context::from_waker(&waker);
        let mut due = Alarm::new(&deadlines);
        let mut later = Alarm::new(&deadlines);
        due.set(Deadline::after(Duration::ZERO), &task);
        later.set(Deadline::after(Duration::from_secs(20)), &task);
        for _ in 0..2 {
            let sleep = deadlines.do_due(&queue);
            assert!(sleep <= Duration::from_secs(20), "{sleep:?}");
            assert_eq!(counting.0.load(Ordering::SeqCst), 1);
        }
        assert_eq!(alarms(&deadlines), 1);
        // The thread would look too late for this one.
        assert!(!deadlines.changed.wait(Duration::ZERO));
        due.set(Deadline::after(Duration::ZERO), &task);
        assert!(deadlines.changed.wait(Duration::ZERO));
    }
}
