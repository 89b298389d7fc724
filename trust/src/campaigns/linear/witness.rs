//! What the threads of a history saw, in one count of moments.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firstclaim::internals::Timestamp;
use firstclaim::internals::record::Fence;
use firstclaim::{Clock, ManualClock};

use super::history::{Op, Seen, What};

/// The moments and the clock of one history.
#[derive(Debug)]
pub struct Witness {
    moment: AtomicU64,
    pub clock: ManualClock,
    /// Every time the clock has shown, with the moments before and after it was set.
    shown: Mutex<Vec<(u64, u64, Timestamp)>>,
}

/// An operation before it is known what times its clock may have shown.
#[derive(Debug, Clone)]
pub struct Event {
    pub key: usize,
    pub call: u64,
    pub ret: u64,
    pub what: What,
    pub is_optional: bool,
}

impl Witness {
    pub fn new() -> Self {
        let clock = ManualClock::new();
        let begin = Timestamp::from(clock.now());
        Witness {
            moment: AtomicU64::new(1),
            clock,
            shown: Mutex::new(vec![(0, 0, begin)]),
        }
    }

    /// The next moment; no two are equal.
    pub fn moment(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    pub fn advance(&self, by: Duration) {
        let mut shown = locked(&self.shown);
        let before = self.moment();
        self.clock.advance(by);
        shown.push((before, self.moment(), Timestamp::from(self.clock.now())));
    }

    /// The operations on each key, sorted by their calls. `at_risk` are the moments at which runs
    /// ended whose latest changes may be lost.
    pub fn histories(&self, keys: usize, events: &[Event], at_risk: &[(u64, u64)]) -> Vec<Vec<Op>> {
        let shown = locked(&self.shown);
        let mut all = vec![Vec::new(); keys];
        for event in events {
            all[event.key].push(Op {
                call: event.call,
                ret: event.ret,
                times: times_between(&shown, event.call, event.ret),
                what: event.what.clone(),
                is_optional: event.is_optional,
                is_at_risk: at_risk
                    .iter()
                    .any(|(begin, end)| (*begin..=*end).contains(&event.call)),
            });
        }
        for ops in &mut all {
            ops.sort_by_key(|op| op.call);
        }
        all
    }
}

/// What the clock may have shown: a time until the next one had surely been set, from when it was
/// about to be.
fn times_between(shown: &[(u64, u64, Timestamp)], call: u64, ret: u64) -> Vec<Timestamp> {
    let begin = shown.partition_point(|(_, after, _)| *after < call);
    let end = shown.partition_point(|(before, _, _)| *before < ret);
    shown[begin.saturating_sub(1)..end.max(1)]
        .iter()
        .map(|(_, _, time)| *time)
        .collect()
}

/// Checks over all keys that a fence is above each that had been given before it was asked for.
pub fn check_fences(events: &[Event]) -> Result<(), String> {
    let mut given: Vec<(u64, u64, Fence)> = events
        .iter()
        .filter_map(|event| match &event.what {
            What::Ask(_, Seen::Lease { fence, .. }) => Some((event.ret, event.call, *fence)),
            _ => None,
        })
        .collect();
    given.sort();
    // The highest fence of those returned so far, by the moment of its return.
    let mut highest: Vec<(u64, Fence)> = Vec::new();
    for (ret, call, fence) in given {
        let before = highest.partition_point(|(ret, _)| *ret < call);
        if let Some((at, earlier)) = before.checked_sub(1).map(|at| highest[at])
            && earlier >= fence
        {
            return Err(format!(
                "fence {fence} was asked for at {call}, after {earlier} had been given at {at}"
            ));
        }
        let so_far = highest
            .last()
            .map_or(fence, |(_, so_far)| fence.max(*so_far));
        highest.push((ret, so_far));
    }
    Ok(())
}

pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
