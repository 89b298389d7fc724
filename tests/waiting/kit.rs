//! What the tests of waiting share.

use std::thread;
use std::time::{Duration, Instant};

use firstclaim::{Claim, InFlight, Lease, Result, Store};

use crate::executor::{Task, block_on};

/// No wait of a test ends by itself.
pub const LONG: Duration = Duration::from_secs(3600);

pub fn lease(claim: Claim) -> Lease {
    match claim {
        Claim::Claimed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

pub fn bytes(claim: Claim) -> Vec<u8> {
    match claim {
        Claim::Done(response) => response.bytes().to_vec(),
        other => panic!("{other:?}"),
    }
}

pub fn in_flight(claim: Claim) -> InFlight {
    match claim {
        Claim::InFlight(running) => running,
        other => panic!("{other:?}"),
    }
}

pub fn held(store: &Store, key: &str) -> Lease {
    lease(store.claim("t", key).unwrap())
}

/// Waits until so many claims wait.
pub fn until_waiting(store: &Store, waiters: usize) {
    let begin = Instant::now();
    while store.stats().waiters != waiters {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "{waiters} waiters"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

/// What a thread and a task that wait for `k` are told, one after the other, once `end` has ended what
/// `begin` began.
pub fn both_forms<L: Send>(
    store: &Store,
    begin: impl Fn(&str) -> L,
    end: impl Fn(L),
) -> [Result<Claim>; 2] {
    let held = begin("thread");
    let of_thread = thread::scope(|scope| {
        let waiter = scope.spawn(|| store.claim_or_wait("t", "thread", LONG));
        until_waiting(store, 1);
        end(held);
        waiter.join().unwrap()
    });
    let held = begin("task");
    let mut task = Task::new(store.claim_or_wait_async("t", "task", LONG));
    assert!(task.poll().is_pending());
    assert_eq!(store.stats().waiters, 1);
    end(held);
    let of_task = task.finish();
    assert_eq!(store.stats().waiters, 0);
    [of_thread, of_task]
}

/// What both are told that do not wait.
pub fn both_at_once(store: &Store, key: &str) -> [Result<Claim>; 2] {
    let of_thread = store.claim_or_wait("t", key, LONG);
    let of_task = block_on(store.claim_or_wait_async("t", key, LONG));
    [of_thread, of_task]
}
