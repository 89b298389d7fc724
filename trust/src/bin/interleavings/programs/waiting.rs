//! Claims that wait, beside whatever ends their wait: nobody's wake-up is lost, which would be a
//! deadlock, since no wait here ends by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use firstclaim::{Claim, Error, Lease, Store};
use shuttle::future::block_on;
use shuttle::rand::{RngCore, thread_rng};

use crate::kit::{self, Thread, World, at_once, lease, thread};

fn held(store: &Store) -> Lease {
    lease(store.claim("t", "k").expect("answered")).expect("a new key")
}

/// A thread and a task that claim or wait, and do this with what they are told.
fn waiters(
    store: &Store,
    told: impl Fn(Result<Claim, Error>) + Send + Sync + 'static,
) -> Vec<Thread<()>> {
    let told = Arc::new(told);
    [false, true]
        .map(|is_task| {
            let (store, told) = (store.clone(), told.clone());
            thread(move || {
                told(match is_task {
                    true => block_on(store.claim_or_wait_async("t", "k", kit::FOR_EVER)),
                    false => store.claim_or_wait("t", "k", kit::FOR_EVER),
                });
            })
        })
        .into()
}

pub fn completion() {
    let world = World::new();
    let held = held(&world.store);
    let mut threads = waiters(&world.store, |claim| match claim.expect("answered") {
        Claim::Done(response) => assert_eq!(response.bytes(), b"winner"),
        other => panic!("{other:?}"),
    });
    threads.push(thread(move || held.complete("winner").expect("completes")));
    at_once(threads);
    assert_eq!(world.store.stats().waiters, 0);
    world.close();
}

/// The first is dropped or released; of those who wait each has its turn, one at a time, until one
/// completes.
pub fn turns() {
    let world = World::new();
    let held = held(&world.store);
    let (live, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut threads = waiters(&world.store, move |claim| match claim.expect("answered") {
        Claim::Claimed(lease) => {
            assert_eq!(live.fetch_add(1, SeqCst), 0, "two live leases");
            shuttle::thread::yield_now();
            live.fetch_sub(1, SeqCst);
            match turns.fetch_add(1, SeqCst) {
                0 => drop(lease),
                _ => lease.complete("done").expect("completes"),
            }
        }
        other => panic!("{other:?}"),
    });
    threads.push(thread(move || match thread_rng().next_u64() % 2 {
        0 => drop(held),
        _ => held.release().expect("releases"),
    }));
    at_once(threads);
    let shown = kit::done(world.store.peek("t", "k").expect("readable"));
    assert_eq!(shown.as_deref(), Some(&b"done"[..]));
    world.close();
}

/// Those whose time is over are told what they saw last, and the others the answer.
pub fn timeouts() {
    let world = World::new();
    let held = held(&world.store);
    let mut threads: Vec<Thread<()>> = [false, true]
        .map(|is_task| {
            let store = world.store.clone();
            thread(move || {
                let claim = match is_task {
                    true => block_on(store.claim_or_wait_async("t", "k", kit::SECOND)),
                    false => store.claim_or_wait("t", "k", kit::SECOND),
                };
                match claim.expect("answered") {
                    Claim::Done(response) => assert_eq!(response.bytes(), b"winner"),
                    Claim::InFlight(running) => assert!(!running.is_interrupted()),
                    other => panic!("{other:?}"),
                }
            })
        })
        .into();
    threads.push(thread(move || held.complete("winner").expect("completes")));
    at_once(threads);
    assert_eq!(world.store.stats().waiters, 0);
    world.close();
}

/// A holder that goes without I/O.
pub fn gone() {
    let world = World::new();
    let held = held(&world.store);
    let mut threads = waiters(&world.store, |claim| match claim.expect("answered") {
        Claim::Claimed(lease) => drop(lease),
        other => panic!("{other:?}"),
    });
    threads.push(thread(move || drop(held)));
    at_once(threads);
    world.close();
}

/// A close ends every wait, though the holder stays.
pub fn close() {
    let world = World::new();
    let held = held(&world.store);
    let mut threads = waiters(&world.store, |claim| {
        assert!(matches!(claim, Err(Error::Closed)), "{claim:?}");
    });
    let store = world.store.clone();
    threads.push(thread(move || store.close().expect("closes")));
    at_once(threads);
    drop(held);
    assert!(!world.disk.is_taken(), "closed, and in use");
}
