//! Closings, kills and openings.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::super::model::{Answer, Refused};
use super::setup::{BULK_KEYS, LEASE_FOR, bulk_name, default_terms, open, request};
use super::{Pair, answers};

impl Pair {
    pub fn reopen(&mut self, clock_back: Duration) {
        self.store.close().expect("closing succeeds");
        self.closed_store_refuses();
        self.leases.retain(|out| out.ended);
        self.start(clock_back);
        self.leases.clear();
    }

    /// Every call is refused, and while a lease is out so is another store in the directory.
    fn closed_store_refuses(&self) {
        let closed = Answer::Refused(Refused::Closed);
        let claim = answers::of_claim(self.store.claim("a", "b").map(Some)).0;
        self.same("claim when closed", &claim, &closed);
        for out in &self.leases {
            let completed = answers::of_change(out.lease.complete("late"));
            self.same("complete when closed", &completed, &closed);
        }
        if self.leases.iter().any(|out| !out.ended) {
            let again = open(&self.disk, &self.clock).map(drop);
            let locked = Answer::Refused(Refused::Locked);
            self.same("open with a lease out", &answers::of_change(again), &locked);
        }
    }

    pub fn kill(&mut self, clock_back: Duration) {
        self.disk = Arc::new(self.disk.snapshot());
        self.leases.clear(); // on the disk left behind
        self.start(clock_back);
    }

    /// Opens the store again and learns from it what time it is.
    fn start(&mut self, clock_back: Duration) {
        let clock = self.model.time.clock() - clock_back;
        self.clock.set(clock);
        self.store = open(&self.disk, &self.clock).expect("the store opens again");
        let told = self.ask_time();
        self.model.reopened(clock, told);
    }

    /// The store's time, by the end of a lease on a key that leaves no trace.
    fn ask_time(&mut self) -> SystemTime {
        let name = bulk_name(BULK_KEYS);
        let asked = request(&self.store, &name, &default_terms()).claim();
        let (_, Some(lease)) = answers::of_claim(asked.map(Some)) else {
            panic!("a key that was forgotten is vacant");
        };
        self.model.saw_fence(lease.fence().as_u64());
        let told = lease.ends_at() - LEASE_FOR;
        drop(lease);
        let forgotten = self.store.forget(&name.0, &name.1);
        assert!(forgotten.expect("a dropped lease does not hold its key"));
        told
    }
}
