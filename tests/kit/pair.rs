//! A store and its model, side by side: everything is done to both and every answer compared.

mod answers;
mod restart;
mod setup;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use firstclaim::internals::MemoryDisk;
use firstclaim::{Claim, Clock, Error, Lease, ManualClock, Store};

use super::model::{Answer, Ask, Model, Name};
use super::operation::{NAMES, Operation, TENANTS, name};
use setup::{
    BULK_KEYS, LEASE_FOR, POINT_LIMIT, RESPONSE_LIMIT, bulk_name, bytes, default_terms, open,
    request,
};

/// As many leases stay out; the oldest is dropped for the next.
const LEASES_OUT: usize = 12;
/// Keys of one burst.
const BURST: usize = 200;

/// The store under test beside the model of it.
#[derive(Debug)]
pub struct Pair {
    store: Store,
    disk: Arc<MemoryDisk>,
    clock: ManualClock,
    model: Model,
    leases: Vec<Out>,
    done: usize,
}

/// A lease that is out.
#[derive(Debug)]
struct Out {
    lease: Lease,
    name: Name,
    fence: u64,
    /// Completed or released: the guard remains, but the lease is not out any more.
    ended: bool,
}

/// Does all of it, on a new store.
pub fn perform_all(operations: impl IntoIterator<Item = Operation>) {
    let mut pair = Pair::new();
    for operation in operations {
        pair.perform(&operation);
    }
    pair.perform(&Operation::Unfinished);
    pair.perform(&Operation::Reopen {
        clock_back: Duration::ZERO,
    });
    pair.perform(&Operation::Verify);
    pair.look_everywhere();
}

impl Pair {
    pub fn new() -> Self {
        let clock = ManualClock::new();
        let disk = Arc::new(MemoryDisk::new());
        let store = open(&disk, &clock).expect("a new store opens");
        let model = Model::new(clock.now(), RESPONSE_LIMIT, POINT_LIMIT);
        Pair {
            store,
            disk,
            clock,
            model,
            leases: Vec::new(),
            done: 0,
        }
    }

    /// Does one thing to both.
    ///
    /// # Panics
    /// If the store's answer is not the model's, naming the operation and its place in the run.
    pub fn perform(&mut self, operation: &Operation) {
        self.done += 1;
        match operation {
            Operation::Claim { name: index, ask } => {
                let out = self.claim(&name(*index), ask, false);
                self.keep(out);
            }
            Operation::ClaimPlainly { name: index } => {
                let out = self.claim(&name(*index), &default_terms(), true);
                self.keep(out);
            }
            Operation::Resolve { name: index } => {
                let out = self.resolve(&name(*index));
                self.keep(out);
            }
            Operation::Run {
                name: index,
                ask,
                answer,
            } => self.run(&name(*index), ask, *answer),
            Operation::Peek { name: index } => self.peek(&name(*index)),
            Operation::Forget { name: index } => self.forget(&name(*index), false),
            Operation::ForgetHeld { name: index } => self.forget(&name(*index), true),
            Operation::Complete { lease, answer } => {
                self.with(*lease, |pair, out| {
                    pair.complete(out, &bytes(*answer), None)
                });
            }
            Operation::CompleteFor {
                lease,
                answer,
                retain_for,
            } => self.with(*lease, |pair, out| {
                pair.complete(out, &bytes(*answer), Some(*retain_for));
            }),
            Operation::CompleteTooLarge { lease } => {
                let too_large = [0; RESPONSE_LIMIT + 1];
                self.with(*lease, |pair, out| pair.complete(out, &too_large, None));
            }
            Operation::Renew { lease, lease_for } => {
                self.with(*lease, |pair, out| pair.renew(out, *lease_for));
            }
            Operation::Save { lease, point } => {
                let bytes = vec![*point; usize::from(*point) * 4];
                self.with(*lease, |pair, out| pair.save(out, &bytes));
            }
            Operation::SaveTooLarge { lease } => {
                self.with(*lease, |pair, out| pair.save(out, &[0; POINT_LIMIT + 1]));
            }
            Operation::Release { lease } => self.with(*lease, Pair::release),
            Operation::Drop { .. } if self.leases.is_empty() => {}
            Operation::Drop { lease } => self.drop_lease(usize::from(*lease) % self.leases.len()),
            Operation::Unfinished => self.unfinished(),
            Operation::Sweep => drop(self.store.sweep().expect("sweeping succeeds")),
            Operation::Checkpoint => self.store.checkpoint().expect("a checkpoint succeeds"),
            Operation::Verify => drop(self.store.verify().expect("nothing is damaged")),
            Operation::Advance { by } => self.move_clock(self.model.time.clock() + *by),
            Operation::SetBack { by } => self.move_clock(self.model.time.clock() - *by),
            Operation::Burst { first, retain_for } => self.burst(*first, *retain_for),
            Operation::Reopen { clock_back } => self.reopen(*clock_back),
            Operation::Kill { clock_back } => self.kill(*clock_back),
        }
    }

    /// Peeks at every name there is.
    pub fn look_everywhere(&mut self) {
        for index in 0..NAMES {
            self.peek(&name(index));
        }
        for index in 0..BULK_KEYS {
            self.peek(&bulk_name(index));
        }
    }

    #[track_caller]
    fn same<T: PartialEq + Debug>(&self, what: impl Debug, store: &T, model: &T) {
        assert!(
            store == model,
            "operation {}, {what:?}\n store: {store:?}\n model: {model:?}\n   now: {:?}",
            self.done,
            self.model.time.now(),
        );
    }

    fn claim(&mut self, name: &Name, ask: &Ask, plainly: bool) -> Option<Out> {
        let expected = self.model.claim(name, ask);
        let claim = if plainly {
            self.store.claim(&name.0, &name.1)
        } else {
            request(&self.store, name, ask).claim()
        };
        self.given(("claim", name), claim.map(Some), &expected)
    }

    fn resolve(&mut self, name: &Name) -> Option<Out> {
        let expected = self.model.resolve(name, LEASE_FOR);
        let claim = self.store.resolve(&name.0, &name.1);
        self.given(("resolve", name), claim, &expected)
    }

    /// Compares what a claim or `resolve` gave, and tells the model the fence of a lease.
    fn given(
        &mut self,
        (what, name): (&str, &Name),
        claim: Result<Option<Claim>, Error>,
        expected: &Answer,
    ) -> Option<Out> {
        let (answer, lease) = answers::of_claim(claim);
        self.same((what, name), &answer, expected);
        let lease = lease?;
        assert_eq!(lease.tenant(), name.0.as_bytes());
        assert_eq!(lease.key(), name.1.as_bytes());
        let fence = lease.fence().as_u64();
        self.model.given(name, fence);
        Some(Out {
            lease,
            name: name.clone(),
            fence,
            ended: false,
        })
    }

    /// Does something with one of the leases that are out, if any is.
    fn with(&mut self, index: u8, act: impl FnOnce(&mut Self, &mut Out)) {
        if self.leases.is_empty() {
            return;
        }
        let index = usize::from(index) % self.leases.len();
        let mut out = self.leases.remove(index);
        act(self, &mut out);
        self.leases.insert(index, out);
    }

    /// Keeps a lease out.
    fn keep(&mut self, out: Option<Out>) {
        self.leases.extend(out);
        if self.leases.len() > LEASES_OUT {
            self.drop_lease(0);
        }
    }

    fn run(&mut self, name: &Name, ask: &Ask, answer: Option<u8>) {
        let expected = self.model.claim(name, ask);
        let mut fence = None;
        let ran = request(&self.store, name, ask).run(|lease| {
            fence = Some(lease.fence().as_u64());
            answer.map(bytes).ok_or("the operation failed")
        });
        let expected = match (expected, fence) {
            (Answer::Claimed { .. }, Some(fence)) => {
                self.model.given(name, fence);
                self.ran(name, fence, answer)
            }
            (expected, _) => expected,
        };
        self.same(("run", name), &answers::of_run(ran), &expected);
    }

    /// What becomes of an operation that did run.
    fn ran(&mut self, name: &Name, fence: u64, answer: Option<u8>) -> Answer {
        match answer {
            Some(answer) => {
                let completed = self.model.complete(name, fence, &bytes(answer), None);
                assert_eq!(completed, Answer::Changed);
                self.model.peek(name)
            }
            None => {
                self.model.drop_lease(name, fence);
                Answer::Failed
            }
        }
    }

    fn peek(&self, name: &Name) {
        let peek = self.store.peek(&name.0, &name.1);
        self.same(
            ("peek", name),
            &answers::of_peek(peek),
            &self.model.peek(name),
        );
    }

    fn forget(&mut self, name: &Name, even_held: bool) {
        let forgotten = if even_held {
            self.store.forget_held(&name.0, &name.1)
        } else {
            self.store.forget(&name.0, &name.1)
        };
        let expected = self.model.forget(name, even_held);
        self.same(("forget", name), &answers::of_forget(forgotten), &expected);
    }

    /// Compares what is unfinished in the store and in each tenant.
    fn unfinished(&mut self) {
        let rows = self.store.unfinished().expect("listing succeeds");
        for row in &rows {
            self.model.saw_fence(row.fence().as_u64());
        }
        let expected = self.model.unfinished();
        self.same(
            "unfinished",
            &answers::of_unfinished(&rows, &expected),
            &expected,
        );
        for tenant in TENANTS {
            let rows = self
                .store
                .tenant(tenant)
                .unfinished()
                .expect("listing succeeds");
            let expected: Vec<_> = expected
                .iter()
                .filter(|row| row.name.0 == tenant)
                .cloned()
                .collect();
            let what = ("unfinished of", tenant);
            self.same(what, &answers::of_unfinished(&rows, &expected), &expected);
        }
    }

    fn complete(&mut self, out: &mut Out, bytes: &[u8], retain_for: Option<Duration>) {
        let completed = match retain_for {
            Some(retain_for) => out.lease.complete_for(bytes, retain_for),
            None => out.lease.complete(bytes),
        };
        let expected = self.model.complete(&out.name, out.fence, bytes, retain_for);
        self.same(
            ("complete", &out.name),
            &answers::of_change(completed),
            &expected,
        );
        out.ended |= expected == Answer::Changed;
    }

    fn renew(&mut self, out: &mut Out, lease_for: Duration) {
        let renewed = answers::of_change(out.lease.renew(lease_for));
        let (expected, ends_at) = self.model.renew(&out.name, out.fence, lease_for);
        self.same(("renew", &out.name), &renewed, &expected);
        if expected == Answer::Changed {
            self.same(("end of", &out.name), &out.lease.ends_at(), &ends_at);
        }
    }

    fn save(&mut self, out: &mut Out, point: &[u8]) {
        let saved = answers::of_change(out.lease.save_recovery_point(point));
        let expected = self.model.save(&out.name, out.fence, point);
        self.same(("save", &out.name), &saved, &expected);
    }

    fn release(&mut self, out: &mut Out) {
        let released = answers::of_change(out.lease.release());
        let expected = self.model.release(&out.name, out.fence);
        self.same(("release", &out.name), &released, &expected);
        out.ended |= expected == Answer::Changed;
    }

    fn drop_lease(&mut self, index: usize) {
        let out = self.leases.remove(index);
        drop(out.lease);
        self.model.drop_lease(&out.name, out.fence);
    }

    fn burst(&mut self, first: u8, retain_for: Duration) {
        let ask = Ask {
            retain_for,
            ..default_terms()
        };
        for n in 0..BURST {
            let index = (usize::from(first) * 50 + n) % BULK_KEYS;
            if let Some(mut out) = self.claim(&bulk_name(index), &ask, false) {
                let bytes = vec![index as u8; 1024 + index * 37 % 2048];
                self.complete(&mut out, &bytes, None);
            }
        }
    }

    /// Moves the clock, and has the store look at it.
    fn move_clock(&mut self, to: SystemTime) {
        self.clock.set(to);
        self.model.time.move_clock(to);
        self.peek(&name(0));
    }
}
