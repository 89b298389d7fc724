//! What ends a wait.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use firstclaim::{Builder, Claim, Error, Previous, Ran, Store, Takeover};

use crate::executor::{Task, block_on};
use crate::kit::{LONG, both_forms, bytes, held, in_flight, lease, until_waiting};

fn store() -> Store {
    Store::in_memory().unwrap()
}

#[test]
fn a_completion_gives_its_bytes() {
    let store = store();
    let told = both_forms(
        &store,
        |key| held(&store, key),
        |lease| lease.complete("winner").unwrap(),
    );
    for claim in told {
        assert_eq!(bytes(claim.unwrap()), b"winner");
    }
}

#[test]
fn a_release_gives_the_lease() {
    let store = store();
    let told = both_forms(
        &store,
        |key| held(&store, key),
        |lease| lease.release().unwrap(),
    );
    for claim in told {
        assert_eq!(lease(claim.unwrap()).previous(), Previous::Released);
    }
}

#[test]
fn a_dropped_lease_gives_the_next_one() {
    let store = store();
    let told = both_forms(&store, |key| held(&store, key), drop);
    for claim in told {
        assert_eq!(lease(claim.unwrap()).previous(), Previous::Interrupted);
    }
}

#[test]
fn a_forgotten_key_is_claimed_anew() {
    let store = store();
    let told = both_forms(
        &store,
        |key| held(&store, key),
        |lease| assert!(store.forget_held("t", lease.key()).unwrap()),
    );
    for claim in told {
        assert_eq!(lease(claim.unwrap()).attempt(), 1);
    }
}

#[test]
fn a_lease_that_is_over_is_taken_over_by_policy() {
    let builder = Builder::in_memory().lease_for(Duration::from_millis(50));
    let store = builder.takeover(Takeover::GoneOrExpired).open().unwrap();
    let late = [held(&store, "thread"), held(&store, "task")];
    let claims = [
        store.claim_or_wait("t", "thread", LONG),
        block_on(store.claim_or_wait_async("t", "task", LONG)),
    ];
    for claim in claims {
        assert_eq!(lease(claim.unwrap()).attempt(), 2);
    }
    assert!(matches!(late[0].complete("late"), Err(Error::Fenced)));
}
