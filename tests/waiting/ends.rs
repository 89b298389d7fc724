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

#[test]
fn an_attempt_that_is_gone_is_taken_over_at_its_leases_end_by_policy() {
    let builder = Builder::in_memory().lease_for(Duration::from_millis(50));
    let store = builder.takeover(Takeover::Expired).open().unwrap();
    for key in ["thread", "task"] {
        drop(held(&store, key));
        let ends_at = match store.peek("t", key).unwrap() {
            Some(firstclaim::Peek::InFlight(running)) => {
                running.since() + Duration::from_millis(50)
            }
            other => panic!("{other:?}"),
        };
        let claim = match key {
            "thread" => store.claim_or_wait("t", key, LONG),
            _ => block_on(store.claim_or_wait_async("t", key, LONG)),
        };
        let next = lease(claim.unwrap());
        assert_eq!(next.previous(), Previous::Interrupted);
        assert!(
            next.ends_at() >= ends_at + Duration::from_millis(50),
            "too soon"
        );
    }
}

#[test]
fn a_key_held_after_a_failed_completion_is_free_at_its_leases_end() {
    let builder = Builder::in_memory().lease_for(Duration::from_millis(100));
    let store = builder.open().unwrap();
    let too_long = vec![0; (1 << 20) + 1];
    let told = both_forms(
        &store,
        |key| held(&store, key),
        |lease| {
            assert!(matches!(
                lease.complete(&too_long),
                Err(Error::TooLarge { .. })
            ));
        },
    );
    for claim in told {
        assert_eq!(lease(claim.unwrap()).previous(), Previous::Interrupted);
    }
}

#[test]
fn a_lease_that_is_made_to_end_sooner_is_taken_over_then() {
    let builder = Builder::in_memory().takeover(Takeover::GoneOrExpired);
    let store = builder.open().unwrap();
    let told = both_forms(
        &store,
        |key| held(&store, key),
        |lease| {
            lease.renew(Duration::from_millis(50)).unwrap();
            std::mem::forget(lease);
        },
    );
    for claim in told {
        assert_eq!(lease(claim.unwrap()).attempt(), 2);
    }
}

#[test]
fn a_holder_that_goes_under_never_ends_the_wait_without_a_lease() {
    let store = Builder::in_memory()
        .takeover(Takeover::Never)
        .open()
        .unwrap();
    let told = both_forms(&store, |key| held(&store, key), drop);
    for claim in told {
        assert!(in_flight(claim.unwrap()).is_interrupted());
    }
}

#[test]
fn a_resolve_that_takes_over_is_waited_for_next() {
    let builder = Builder::in_memory().takeover(Takeover::Expired);
    let store = builder.open().unwrap();
    let told = both_forms(
        &store,
        |key| {
            drop(held(&store, key));
            key.to_owned()
        },
        |key| {
            let resolved = store.resolve("t", key).unwrap();
            lease(resolved.unwrap()).complete("resolved").unwrap();
        },
    );
    for claim in told {
        assert_eq!(bytes(claim.unwrap()), b"resolved");
    }
}

/// All at once, as threads and as tasks; the winner sees to it that somebody waits.
fn race(threads: usize, tasks: usize, operation: impl Fn(&Store) + Sync) {
    let store = store();
    let ran = AtomicUsize::new(0);
    let run = |claim: Claim| match claim {
        Claim::Claimed(lease) => {
            ran.fetch_add(1, SeqCst);
            until_waiting(&store, threads + tasks - 1);
            operation(&store);
            lease.complete("once").unwrap();
        }
        claim => assert_eq!(bytes(claim), b"once"),
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run(store.claim_or_wait("t", "k", LONG).unwrap()));
        }
        for _ in 0..tasks {
            scope.spawn(|| run(block_on(store.claim_or_wait_async("t", "k", LONG)).unwrap()));
        }
    });
    assert_eq!(ran.load(SeqCst), 1, "times that it ran");
    assert_eq!(store.stats().waiters, 0);
}

#[test]
fn of_many_that_come_at_once_one_runs_and_all_have_its_answer() {
    race(16, 16, |_| {});
}

#[test]
fn a_checkpoint_meanwhile_changes_nothing_for_those_who_wait() {
    race(4, 4, |store| store.checkpoint().unwrap());
}

#[test]
fn of_many_that_wait_each_has_its_turn_as_holders_go() {
    let store = store();
    let first = held(&store, "k");
    let turns = AtomicUsize::new(0);
    thread::scope(|scope| {
        for n in 0..12 {
            let (store, turns) = (&store, &turns);
            scope.spawn(move || {
                let claim = match n % 2 {
                    0 => store.claim_or_wait("t", "k", LONG),
                    _ => block_on(store.claim_or_wait_async("t", "k", LONG)),
                };
                let mine = lease(claim.unwrap());
                let attempt = turns.fetch_add(1, SeqCst) + 2;
                assert_eq!(mine.attempt() as usize, attempt, "two live leases");
                drop(mine);
            });
        }
        until_waiting(&store, 12);
        drop(first);
    });
    assert_eq!(turns.load(SeqCst), 12);
}

#[test]
fn a_waiter_gets_what_run_stored() {
    let store = store();
    let first = held(&store, "k");
    let mut waiting = Task::new(store.claim_or_wait_async("t", "k", LONG));
    assert!(waiting.poll().is_pending());
    first.release().unwrap();
    let ran = store.run("t", "k", |_| Ok::<_, Error>("ran")).unwrap();
    assert!(matches!(ran, Ran::Executed(_)));
    assert_eq!(bytes(waiting.finish().unwrap()), b"ran");
}
