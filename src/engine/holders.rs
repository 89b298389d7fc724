//! Who holds a lease now.
//!
//! Fences are unique within a store, so a fence alone names a lease. The table lives in memory
//! only: a store is opened by one process at a time, so every holder of an earlier run is gone.

mod lease_hold;
mod waiters;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

pub(crate) use self::lease_hold::LeaseHold;
pub(crate) use self::waiters::{MostWaiters, Place, Waiters};

use crate::bugs::{self, Bug};
use crate::record::{Fence, Holder};
use crate::sync::Mutex;
use crate::time::Timestamp;

/// The leases whose holders count as alive, and who waits for them.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    table: Mutex<Table>,
    waiters: Waiters,
}

#[derive(Debug, Default)]
struct Table {
    holds: HashMap<Fence, Hold, BuildHasherDefault<Spread>>,
    /// How many of `holds` are guards.
    guards: usize,
}

#[derive(Debug, Clone, Copy)]
enum Hold {
    /// The guard is out.
    Guard,
    /// The guard was dropped after a `complete` that failed: the operation did run, so the key
    /// stays held until then.
    Until(Timestamp),
}

impl Holders {
    /// Whether the holder of `fence` is alive at `now`.
    pub(crate) fn status(&self, fence: Fence, now: Timestamp) -> Holder {
        match self.table.lock().holds.get(&fence) {
            Some(Hold::Guard) => Holder::Alive,
            Some(Hold::Until(end)) if now < *end => Holder::Alive,
            _ => Holder::Gone,
        }
    }

    /// Until when the holder of `fence` counts as alive though its guard is gone.
    pub(crate) fn kept_until(&self, fence: Fence) -> Option<Timestamp> {
        match self.table.lock().holds.get(&fence) {
            Some(Hold::Until(end)) => Some(*end),
            _ => None,
        }
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// How many guards are out.
    pub(crate) fn guards(&self) -> usize {
        self.table.lock().guards
    }

    /// Registers the holder of a new lease. Must come before the record is published: a reader
    /// that sees the record first would take the holder for gone.
    pub(crate) fn register(self: &Arc<Self>, fence: Fence) -> Holding {
        let mut table = self.table.lock();
        table.holds.insert(fence, Hold::Guard);
        table.guards += 1;
        Holding {
            holders: self.clone(),
            fence,
            keep_until: None,
        }
    }

    /// Forgets a holder whose lease was completed or released, its guard out or not.
    pub(crate) fn end(&self, fence: Fence) {
        self.table.lock().replace(fence, None);
    }

    /// Forgets a holder whose guard is gone already and whose attempt is over: it was forgotten, or taken
    /// over.
    pub(crate) fn end_kept(&self, fence: Fence) {
        let mut table = self.table.lock();
        if matches!(table.holds.get(&fence), Some(Hold::Until(_))) {
            table.replace(fence, None);
        }
    }

    /// Forgets those that were to be held until a time that has come.
    pub(crate) fn forget_over(&self, now: Timestamp) {
        let mut table = self.table.lock();
        table
            .holds
            .retain(|_, hold| !matches!(hold, Hold::Until(end) if *end <= now));
    }
}

impl Table {
    /// Changes what is known of `fence`, if anything is.
    fn replace(&mut self, fence: Fence, with: Option<Hold>) {
        let Some(before) = self.holds.remove(&fence) else {
            return;
        };
        if matches!(before, Hold::Guard) {
            self.guards -= 1;
        }
        if let Some(hold) = with {
            self.holds.insert(fence, hold);
        }
    }
}

/// Spreads fences over a table: multiplicative hashing (Knuth, *The Art of Computer Programming*, 6.4). The
/// store gives them, one after the other, so nobody can choose those that collide.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 over the golden ratio.
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// A registered holder: dropping it makes the holder gone, and touches no other fence. Who waits for
/// it is notified, and woken by whoever dropped it once that holds nothing.
#[derive(Debug)]
pub struct Holding {
    holders: Arc<Holders>,
    fence: Fence,
    keep_until: Option<Timestamp>,
}

impl Holding {
    /// Ends the guard as dropping it does, but keeps the key held until `end`.
    pub(crate) fn keep_until(mut self, end: Timestamp) {
        self.keep_until = Some(end);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let hold = self.keep_until.map(Hold::Until);
        let mut table = self.holders.table.lock();
        table.replace(self.fence, hold);
        if bugs::is(Bug::LateDropRemovesNewer)
            && let Some(newest) = table.holds.keys().max().copied()
        {
            table.replace(newest, None);
        }
        drop(table);
        if !bugs::is(Bug::GoneHolderUnnoticed) {
            self.holders.waiters.notify(self.fence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_micros(1_000);

    #[test]
    fn a_dropped_holding_is_gone_and_others_stay() {
        let holders = Arc::new(Holders::default());
        let (old, new) = (Fence::from_u64(1), Fence::from_u64(2));
        let late = holders.register(old);
        let _current = holders.register(new);
        drop(late);
        assert_eq!(holders.status(old, NOW), Holder::Gone);
        assert_eq!(holders.status(new, NOW), Holder::Alive);
        assert_eq!(holders.guards(), 1);
    }

    #[test]
    fn an_ended_lease_is_not_counted_and_its_drop_changes_nothing() {
        let holders = Arc::new(Holders::default());
        let holding = holders.register(Fence::from_u64(1));
        holders.end(Fence::from_u64(1));
        assert_eq!(holders.guards(), 0);
        drop(holding);
        assert_eq!(holders.guards(), 0);
    }

    #[test]
    fn a_kept_hold_ends_with_its_time() {
        let holders = Arc::new(Holders::default());
        let fence = Fence::from_u64(1);
        let end = NOW.after(Duration::from_secs(1));
        holders.register(fence).keep_until(end);
        assert_eq!(holders.guards(), 0);
        assert_eq!(holders.status(fence, NOW), Holder::Alive);
        holders.forget_over(NOW);
        assert_eq!(holders.status(fence, NOW), Holder::Alive);
        assert_eq!(holders.status(fence, end), Holder::Gone);
        holders.forget_over(end);
        assert!(holders.table.lock().holds.is_empty());
    }

    #[test]
    fn a_kept_hold_goes_with_its_attempt_and_a_guards_stays() {
        let holders = Arc::new(Holders::default());
        let (kept, guarded) = (Fence::from_u64(1), Fence::from_u64(2));
        holders
            .register(kept)
            .keep_until(NOW.after(Duration::from_secs(1)));
        let _guard = holders.register(guarded);
        holders.end_kept(kept);
        holders.end_kept(guarded);
        assert_eq!(holders.status(kept, NOW), Holder::Gone);
        assert_eq!(holders.status(guarded, NOW), Holder::Alive);
        assert_eq!(holders.table.lock().holds.len(), 1);
    }
}
