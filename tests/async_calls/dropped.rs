//! Futures that are dropped: a claim leaves no lease that nobody holds, and what a lease was told once
//! it was accepted is carried out.

use std::task::Poll;
use std::time::Duration;

use firstclaim::{Claim, Lease, ManualClock, Peek, Previous, Store, StoreFuture, Takeover};

use crate::executor::Task;
use crate::gate::{Gate, gated, lease, until};

const HOUR: Duration = Duration::from_secs(3600);

/// Where a command is when its future is dropped.
#[derive(Debug, Clone, Copy, PartialEq)]
enum When {
    Unpolled,
    InTheQueue,
    BeingCommitted,
    Answered,
}

const WHEN: [When; 4] = [
    When::Unpolled,
    When::InTheQueue,
    When::BeingCommitted,
    When::Answered,
];

struct World {
    store: Store,
    gate: Gate,
}

impl World {
    fn new() -> Self {
        let (store, gate, _) = gated(|builder| builder);
        World { store, gate }
    }

    /// Drops the future of a call when its command is there.
    fn drop_when<T>(&self, when: When, future: StoreFuture<T>) {
        let mut task = Task::new(future);
        // What is committed before it.
        let mut blocker = Task::new(self.store.claim_async("t", "blocker"));
        if when == When::InTheQueue {
            self.gate.shut();
            assert!(blocker.poll().is_pending());
            self.gate.until_reached();
        }
        if when != When::Unpolled {
            self.gate.shut();
            assert!(task.poll().is_pending());
        }
        match when {
            When::Unpolled => {}
            When::InTheQueue => assert_eq!(self.store.stats().queued, 1),
            When::BeingCommitted => self.gate.until_reached(),
            When::Answered => {
                self.gate.open();
                task.wait();
            }
        }
        drop((task, blocker));
        self.gate.open();
        // Whatever is in the queue is carried out before this.
        self.store.forget("t", "other").unwrap();
    }

    fn held(&self) -> Lease {
        lease(self.store.claim("t", "k"))
    }

    fn until_free(&self) {
        until("a lease that nobody holds", || {
            self.store.stats().leases == 0
        });
    }
}

#[test]
fn a_dropped_claim_leaves_no_lease_and_no_interruption() {
    for when in WHEN {
        let world = World::new();
        let claim = world.store.request("t", "k").takeover(Takeover::Never);
        world.drop_when(when, claim.claim_async());
        world.until_free();
        let next = world.held();
        // Nobody ran anything, so that even this policy lets the next one run.
        let was = match when {
            When::Unpolled | When::InTheQueue => Previous::None,
            When::BeingCommitted | When::Answered => Previous::Released,
        };
        assert_eq!(next.previous(), was, "{when:?}");
    }
}

#[test]
fn a_dropped_resolve_leaves_the_key_as_it_was() {
    for when in WHEN {
        let world = World::new();
        let never = world.store.request("t", "k").takeover(Takeover::Never);
        drop(lease(never.claim()));
        world.drop_when(when, world.store.resolve_async("t", "k"));
        world.until_free();
        match world.store.claim("t", "k").unwrap() {
            Claim::InFlight(running) => assert!(running.is_interrupted(), "{when:?}"),
            other => panic!("{when:?}: {other:?}"),
        }
    }
}

#[test]
fn a_dropped_completion_is_carried_out_once_it_is_accepted() {
    for when in WHEN {
        let world = World::new();
        let held = world.held();
        world.drop_when(when, held.complete_async("done"));
        let is_done = matches!(world.store.peek("t", "k").unwrap(), Some(Peek::Done(_)));
        assert_eq!(is_done, when != When::Unpolled, "{when:?}");
        // And the lease is still there to be completed.
        held.complete("done").unwrap();
    }
}

#[test]
fn a_completion_is_carried_out_though_its_lease_is_dropped_before() {
    for when in WHEN {
        let world = World::new();
        let held = world.held();
        let completed = held.complete_async("done");
        drop(held);
        // The future has a share in the lease.
        assert!(matches!(
            world.store.claim("t", "k").unwrap(),
            Claim::InFlight(_)
        ));
        world.drop_when(when, completed);
        world.until_free();
        match world.store.claim("t", "k").unwrap() {
            Claim::Done(response) => assert_eq!(response.bytes(), b"done"),
            Claim::Claimed(next) => {
                assert_eq!(when, When::Unpolled);
                assert_eq!(next.previous(), Previous::Interrupted);
            }
            other => panic!("{when:?}: {other:?}"),
        }
    }
}

#[test]
fn a_key_is_held_until_an_accepted_completion_is_carried_out() {
    let world = World::new();
    let held = world.held();
    let mut completed = Task::new(held.complete_async("done"));
    world.gate.shut();
    assert!(completed.poll().is_pending());
    world.gate.until_reached();
    drop((completed, held));
    let seen = world.store.claim("t", "k").unwrap();
    let Claim::InFlight(running) = seen else {
        panic!("{seen:?}")
    };
    assert!(!running.is_interrupted());
    world.gate.open();
    world.until_free();
    assert!(matches!(
        world.store.claim("t", "k").unwrap(),
        Claim::Done(_)
    ));
}

#[test]
fn a_key_stays_held_if_an_accepted_completion_fails_after_its_future_and_lease_are_gone() {
    let world = World::new();
    let held = world.held();
    let mut completed = Task::new(held.complete_async("done"));
    world.gate.shut();
    assert!(completed.poll().is_pending());
    world.gate.until_reached();
    drop((completed, held));
    world.gate.open_and_fail();
    world.until_free();
    // The operation did run; its holder's place is kept to the end of the lease.
    match world.store.claim("t", "k").unwrap() {
        Claim::InFlight(running) => assert!(!running.is_interrupted()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_stays_held_to_the_end_that_the_store_itself_has_moved() {
    let clock = ManualClock::new();
    let (store, gate, _) = gated(|builder| builder.clock(clock.clone()));
    let lease_for = Duration::from_millis(200);
    let request = store
        .request("t", "k")
        .lease_for(lease_for)
        .takeover(Takeover::GoneOrExpired);
    let (its_store, its_clock, its_gate) = (store.clone(), clock.clone(), gate.clone());
    let mut ran = Task::new(request.run_async(async move |_| {
        its_clock.advance(lease_for / 2);
        // Counted: a lease that is asked for its end knows it from then on. The first renewal to come may
        // have been decided before.
        let enough = its_store.stats().changes + 2;
        until("a lease that is renewed", || {
            its_store.stats().changes >= enough
        });
        its_gate.shut();
        Ok::<_, firstclaim::Error>("ran")
    }));
    // Until the operation has run: its completion is in the queue then.
    while !gate.is_shut() {
        assert!(ran.poll().is_pending());
        std::thread::yield_now();
    }
    gate.until_reached();
    drop(ran);
    gate.open_and_fail();
    until("a lease that nobody holds", || store.stats().leases == 0);
    // Past the end that the claim gave, and before the other.
    clock.advance(lease_for * 3 / 4);
    match store.claim("t", "k").unwrap() {
        Claim::InFlight(running) => assert!(!running.is_interrupted()),
        other => panic!("{other:?}"),
    }
    clock.advance(lease_for);
    assert!(matches!(
        store.claim("t", "k"),
        Err(firstclaim::Error::Poisoned)
    ));
}

#[test]
fn a_key_is_interrupted_if_the_release_of_an_undelivered_lease_fails() {
    let world = World::new();
    let mut claim = Task::new(world.store.claim_async("t", "k"));
    world.gate.shut();
    assert!(claim.poll().is_pending());
    world.gate.open();
    claim.wait();
    world.gate.open_and_fail();
    drop(claim);
    world.until_free();
    let seen = world.store.peek("t", "k").unwrap();
    assert!(
        matches!(&seen, Some(Peek::InFlight(running)) if running.is_interrupted()),
        "{seen:?}"
    );
}

#[test]
fn a_dropped_renewal_or_recovery_point_is_carried_out() {
    for when in WHEN {
        let world = World::new();
        let held = world.held();
        let end = held.ends_at();
        world.drop_when(when, held.renew_async(HOUR));
        world.drop_when(when, held.save_recovery_point_async("half"));
        assert_eq!(held.ends_at() > end, when != When::Unpolled, "{when:?}");
        drop(held);
        let point = (when != When::Unpolled).then_some(&b"half"[..]);
        assert_eq!(world.held().recovery_point(), point, "{when:?}");
    }
}

#[test]
fn a_dropped_release_is_carried_out_though_its_lease_is_dropped_too() {
    for when in WHEN {
        let world = World::new();
        let held = world.held();
        let released = held.release_async();
        drop(held);
        world.drop_when(when, released);
        world.until_free();
        let was = match when {
            When::Unpolled => Previous::Interrupted,
            _ => Previous::Released,
        };
        assert_eq!(world.held().previous(), was, "{when:?}");
    }
}

#[test]
fn a_dropped_forget_is_carried_out_once_it_is_in_the_queue() {
    for when in WHEN {
        let world = World::new();
        drop(world.held());
        world.drop_when(when, world.store.forget_async("t", "k"));
        let is_there = world.store.peek("t", "k").unwrap().is_some();
        assert_eq!(is_there, when == When::Unpolled, "{when:?}");
    }
}

#[test]
fn a_run_dropped_at_any_poll_leaves_an_answer_or_nobody() {
    // Far more polls than there are.
    for polls in 0..12 {
        let world = World::new();
        let ran = world.store.run_async("t", "k", async |lease| {
            lease.save_recovery_point_async("half").await.unwrap();
            lease.renew_async(HOUR).await.unwrap();
            Ok::<_, std::io::Error>("ran")
        });
        let mut task = Task::new(ran);
        let is_over = task.poll_times(polls).is_some();
        drop(task);
        world.until_free();
        match world.store.claim("t", "k").unwrap() {
            Claim::Done(response) => assert_eq!(response.bytes(), b"ran"),
            Claim::Claimed(_) => assert!(!is_over),
            other => panic!("{polls}: {other:?}"),
        }
        assert!(is_over || polls < 6);
    }
}

#[test]
fn a_claim_dropped_while_it_waits_claims_nothing() {
    let world = World::new();
    let held = world.held();
    let mut task = Task::new(world.store.claim_or_wait_async("t", "k", HOUR));
    assert!(task.poll().is_pending());
    assert_eq!(world.store.stats().waiters, 1);
    drop(task);
    assert_eq!(world.store.stats().waiters, 0);
    held.release().unwrap();
    assert_eq!(world.held().attempt(), 2);
}

#[test]
fn a_waiting_claim_dropped_while_it_claims_leaves_no_lease() {
    for polls in 2..5 {
        let world = World::new();
        let held = world.held();
        let mut task = Task::new(world.store.claim_or_wait_async("t", "k", HOUR));
        assert!(task.poll().is_pending());
        held.release().unwrap();
        drop(held);
        let answered = task.poll_times(polls - 1);
        drop((answered, task));
        world.until_free();
        assert_eq!(world.store.stats().waiters, 0);
    }
}

#[test]
fn a_task_may_be_polled_for_no_reason() {
    let world = World::new();
    let mut task = Task::new(world.store.claim_async("t", "k"));
    world.gate.shut();
    for _ in 0..3 {
        assert!(matches!(task.poll(), Poll::Pending));
    }
    world.gate.open();
    drop(lease(task.finish()));
}
