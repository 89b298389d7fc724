//! What a wait is bounded by, and what is told at once.

use std::thread;
use std::time::Duration;

use firstclaim::{Builder, Claim, Error, Limits, Store, Takeover};

use crate::executor::{Task, block_on};
use crate::kit::{LONG, both_at_once, bytes, held, in_flight, until_waiting};

fn store() -> Store {
    Store::in_memory().unwrap()
}

#[test]
fn a_vacant_or_done_key_is_answered_at_once() {
    let store = store();
    match store.claim_or_wait("t", "k", LONG).unwrap() {
        Claim::Claimed(lease) => lease.complete("done").unwrap(),
        other => panic!("{other:?}"),
    }
    for claim in both_at_once(&store, "k") {
        assert_eq!(bytes(claim.unwrap()), b"done");
    }
}

#[test]
fn a_wait_that_is_over_tells_what_was_seen_last() {
    let store = store();
    let held = held(&store, "k");
    for wait in [Duration::ZERO, Duration::from_millis(50)] {
        let told = [
            store.claim_or_wait("t", "k", wait),
            block_on(store.claim_or_wait_async("t", "k", wait)),
        ];
        for claim in told {
            let running = in_flight(claim.unwrap());
            assert_eq!((running.attempt(), running.is_interrupted()), (1, false));
        }
    }
    assert_eq!(store.stats().waiters, 0);
    held.complete("done").unwrap();
}

#[test]
fn a_time_to_wait_is_366_days_at_most() {
    let store = store();
    let days = |n: u64| Duration::from_secs(n * 24 * 60 * 60);
    assert!(store.claim_or_wait("t", "k", days(366)).is_ok());
    let longer = days(366) + Duration::from_nanos(1);
    let refused = store.claim_or_wait("t", "k", longer);
    assert!(matches!(refused, Err(Error::InvalidOption(_))));
    let refused = block_on(store.claim_or_wait_async("t", "k", Duration::MAX));
    assert!(matches!(refused, Err(Error::InvalidOption(_))));
}

#[test]
fn nobody_waits_for_an_interrupted_attempt_that_only_a_decision_ends() {
    let builder = Builder::in_memory().takeover(Takeover::Never);
    let store = builder.open().unwrap();
    drop(held(&store, "k"));
    for claim in both_at_once(&store, "k") {
        assert!(in_flight(claim.unwrap()).is_interrupted());
    }
}

#[test]
fn another_fingerprint_is_told_at_once() {
    let store = store();
    let _held = held(&store, "k");
    let other = || store.request("t", "k").fingerprint([7; 32]);
    let told = [
        other().claim_or_wait(LONG),
        block_on(other().claim_or_wait_async(LONG)),
    ];
    for claim in told {
        assert!(
            matches!(claim, Err(Error::FingerprintMismatch)),
            "{claim:?}"
        );
    }
}

#[test]
fn beyond_the_bound_for_one_key_a_claim_is_in_flight_at_once() {
    let limits = Limits {
        waiters_per_key: 2,
        ..Limits::default()
    };
    bound_of_two(limits, false);
}

#[test]
fn beyond_the_bound_in_all_a_claim_is_in_flight_at_once() {
    let limits = Limits {
        waiters: 2,
        ..Limits::default()
    };
    bound_of_two(limits, true);
}

/// Two wait for one key; a third does not wait for it, nor, if the bound is for all, for another.
fn bound_of_two(limits: Limits, for_all: bool) {
    let store = Builder::in_memory().limits(limits).open().unwrap();
    let (first, second) = (held(&store, "a"), held(&store, "b"));
    let wait_for = |key| Task::new(store.claim_or_wait_async("t", key, LONG));
    let mut waiting = [wait_for("a"), wait_for("a")];
    assert!(waiting.iter_mut().all(|task| task.poll().is_pending()));
    for claim in both_at_once(&store, "a") {
        assert!(matches!(claim, Ok(Claim::InFlight(_))));
    }
    let mut other = wait_for("b");
    assert_eq!(other.poll().is_ready(), for_all);
    drop(other);
    // A place that is left is free again.
    let [left, stays] = waiting;
    drop(left);
    let mut next = wait_for("a");
    assert!(next.poll().is_pending());
    first.complete("done").unwrap();
    for task in [stays, next] {
        assert!(matches!(task.finish(), Ok(Claim::Done(_))));
    }
    assert_eq!(store.stats().waiters, 0);
    drop(second);
}

#[test]
fn nobody_need_be_let_wait() {
    let limits = Limits {
        waiters: 0,
        ..Limits::default()
    };
    let store = Builder::in_memory().limits(limits).open().unwrap();
    let _held = held(&store, "k");
    for claim in both_at_once(&store, "k") {
        in_flight(claim.unwrap());
    }
}

#[test]
fn a_close_ends_every_wait() {
    let store = store();
    let held = held(&store, "k");
    let thread = {
        let store = store.clone();
        thread::spawn(move || store.claim_or_wait("t", "k", LONG))
    };
    let mut task = Task::new(store.claim_or_wait_async("t", "k", LONG));
    assert!(task.poll().is_pending());
    until_waiting(&store, 2);
    store.close().unwrap();
    assert!(matches!(thread.join().unwrap(), Err(Error::Closed)));
    assert!(matches!(task.finish(), Err(Error::Closed)));
    drop(held);
}
