//! Tasks beside threads, and futures that are dropped.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use firstclaim::{Claim, Error, Previous, Store, Takeover, UnfinishedState};
use shuttle::future::block_on;

use crate::kit::{self, World, at_once, builder, lease, thread};

/// Of a task and threads that claim one key, one has the lease; a task completes it.
pub fn claims() {
    let world = World::new();
    let (by_task, by_thread) = (world.store.clone(), world.store.clone());
    let answers = at_once(vec![
        thread(move || block_on(by_task.claim_async("t", "k")).expect("answered")),
        thread(move || by_thread.claim("t", "k").expect("answered")),
    ]);
    let mut leases: Vec<_> = answers.into_iter().filter_map(lease).collect();
    assert_eq!(leases.len(), 1, "leases on one key");
    let lease = leases.remove(0);
    block_on(lease.complete_async("once")).expect("completes");
    drop(lease);
    let shown = world.store.peek("t", "k").expect("readable");
    assert_eq!(kit::done(shown).as_deref(), Some(&b"once"[..]));
    world.close();
}

/// Polls a future so often and drops it; its output if it was ready.
fn poll_and_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        shuttle::thread::yield_now();
    }
    None
}

/// A claim that is dropped beside another: nobody ran anything under its lease, so that even under
/// `Never` the key is not interrupted.
pub fn dropped_claims() {
    let world = World::with(|builder| builder.takeover(Takeover::Never));
    let store = world.store.clone();
    let dropper = thread(move || {
        for polls in 1..3 {
            let polled = poll_and_drop(store.claim_async("t", "k"), polls);
            release(polled.map(|claim| claim.expect("answered")));
        }
    });
    let store = world.store.clone();
    let claimer = thread(move || {
        release(Some(store.claim("t", "k").expect("answered")));
    });
    at_once(vec![dropper, claimer]);
    let last = world.store.claim_or_wait("t", "k", kit::FOR_EVER);
    release(Some(last.expect("answered")));
    let open = world.store.unfinished().expect("readable");
    assert!(
        open.iter()
            .all(|key| key.state() == UnfinishedState::Released)
    );
    assert_eq!(world.store.stats().leases, 0);
    world.close();
}

/// Gives a lease back, if there is one; nobody was interrupted before.
fn release(claim: Option<Claim>) {
    if let Some(lease) = claim.and_then(lease) {
        assert_ne!(lease.previous(), Previous::Interrupted);
        lease.release().expect("releases");
    }
}

/// A completion whose future is dropped, and its lease, beside others who would take over: once it is
/// in the queue it is carried out, and nobody runs the operation again.
pub fn dropped_completion() {
    let world = World::new();
    let held = lease(world.store.claim("t", "k").expect("answered")).expect("a new key");
    let completer = thread(move || {
        poll_and_drop(held.complete_async("done"), 1);
        drop(held);
    });
    let waiters = (0..2).map(|n| {
        let store = world.store.clone();
        thread(move || {
            let claim = match n {
                0 => store.claim_or_wait("t", "k", kit::FOR_EVER),
                _ => block_on(store.claim_or_wait_async("t", "k", kit::FOR_EVER)),
            };
            match claim.expect("answered") {
                Claim::Done(response) => assert_eq!(response.bytes(), b"done"),
                other => panic!("accepted, and then {other:?}"),
            }
        })
    });
    let mut threads = vec![completer];
    threads.extend(waiters);
    at_once(threads);
    world.close();
}

/// Drops what it has when it is woken.
struct Dropping(Mutex<Option<Store>>);

impl Wake for Dropping {
    fn wake(self: Arc<Self>) {
        let had = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(had);
    }
}

/// The last handle is dropped by a waker, on whatever thread that is woken: the store closes, and what
/// was accepted is carried out.
pub fn last_handle() {
    let World { disk, clock, store } = World::new();
    let held = lease(store.claim("t", "k").expect("answered")).expect("a new key");
    let waker = Waker::from(Arc::new(Dropping(Mutex::new(Some(store.clone())))));
    let mut claim = Box::pin(store.claim_async("t", "other"));
    drop(store);
    let polled = claim.as_mut().poll(&mut Context::from_waker(&waker));
    let completer = thread(move || {
        poll_and_drop(held.complete_async("done"), 1);
        drop(held);
    });
    let dropper = thread(move || drop((claim, polled)));
    drop(waker);
    at_once(vec![completer, dropper]);
    // The thread that closes may not be joined; others can only wait.
    while disk.is_taken() {
        shuttle::thread::yield_now();
    }
    let again = builder(&disk, &clock).open().expect("opens again");
    match again.claim("t", "k") {
        Ok(Claim::Done(response)) => assert_eq!(response.bytes(), b"done"),
        other => panic!("accepted, and then {other:?}"),
    }
    again.close().expect("closes");
}

/// Tasks, and room for one command: each is answered.
pub fn room() {
    let world = World::with(|builder| builder.queue_commands(1));
    let threads = ["a", "b", "c"].map(|key| {
        let store = world.store.clone();
        thread(move || {
            let claim = match key {
                "a" => store.claim("t", key),
                _ => block_on(store.claim_async("t", key)),
            };
            match claim {
                Ok(Claim::Claimed(lease)) => drop(lease),
                // Nor is there more room in the line than for one.
                Err(Error::Overloaded) => {}
                other => panic!("{other:?}"),
            }
        })
    });
    at_once(threads);
    world.close();
}
