//! Claims of one key, and completions, beside each other and beside readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use firstclaim::{Claim, Error, Peek, Ran, Store};

use crate::kit::{World, at_once, done, lease, thread};

/// Of claims that race for a key, one has the lease, and the others see it held.
pub fn racing_claims() {
    let world = World::new();
    let threads = (0..3).map(|_| {
        let store = world.store.clone();
        thread(move || store.claim("t", "k").expect("answered"))
    });
    // Who has the lease still has it when the others are answered.
    let answers = at_once(threads);
    let mut leases = Vec::new();
    for answer in answers {
        match answer {
            Claim::Claimed(lease) => leases.push(lease),
            Claim::InFlight(running) => assert!(!running.is_interrupted(), "its holder is alive"),
            Claim::Done(_) => panic!("nobody completed"),
        }
    }
    assert_eq!(leases.len(), 1, "leases on one key");
    assert_eq!(leases[0].attempt(), 1);
    leases[0].complete("once").expect("completes");
    drop(leases);
    let shown = world.store.peek("t", "k").expect("readable");
    assert_eq!(done(shown).as_deref(), Some(&b"once"[..]));
    world.close();
}

/// A key goes from vacant to in flight to done, and a reader never sees it go back, nor a holder
/// gone who is not.
pub fn completion_beside_readers() {
    let world = World::new();
    let claimers = ["a", "b"].map(|name| {
        let store = world.store.clone();
        thread(move || -> usize {
            match store.claim("t", "k").expect("answered") {
                Claim::Claimed(lease) => {
                    lease.complete(name).expect("completes");
                    assert_eq!(answer(&store), name.as_bytes(), "its own answer");
                    1
                }
                Claim::InFlight(running) => {
                    assert!(!running.is_interrupted(), "its holder is alive");
                    0
                }
                Claim::Done(_) => 0,
            }
        })
    });
    let store = world.store.clone();
    let reader = thread(move || {
        let mut last: (u8, Option<Vec<u8>>) = (0, None);
        for _ in 0..4 {
            let seen = match store.peek("t", "k").expect("readable") {
                None => (0, None),
                Some(Peek::InFlight(running)) => {
                    assert!(!running.is_interrupted(), "shown as interrupted");
                    (1, None)
                }
                Some(Peek::Done(response)) => (2, Some(response.bytes().to_vec())),
                Some(other) => panic!("nobody released: {other:?}"),
            };
            assert!(seen >= last, "{last:?} was shown, and then {seen:?}");
            assert!(last.0 < 2 || seen == last, "another answer");
            last = seen;
        }
        let open = store.unfinished().expect("readable");
        assert!(open.is_empty() || last.0 < 2, "done, and then unfinished");
        0
    });
    let mut threads: Vec<_> = claimers.into_iter().collect();
    threads.push(reader);
    let completed: usize = at_once(threads).into_iter().sum();
    assert_eq!(completed, 1, "completions");
    world.close();
}

fn answer(store: &Store) -> Vec<u8> {
    match store.claim("t", "k").expect("answered") {
        Claim::Done(response) => response.bytes().to_vec(),
        other => panic!("completed, and then {other:?}"),
    }
}

/// `run` runs an operation once, kept renewed by the store's thread, whatever the clock does.
pub fn operations_run_once() {
    let world = World::with(|builder| builder.lease_for(crate::kit::SECOND));
    let ran = Arc::new(AtomicUsize::new(0));
    let threads = (0..2).map(|_| {
        let (store, ran) = (world.store.clone(), ran.clone());
        thread(move || {
            let request = store
                .request("t", "k")
                .takeover(firstclaim::Takeover::GoneOrExpired);
            let outcome = request.run(|_| {
                ran.fetch_add(1, SeqCst);
                Ok::<_, Error>("ran")
            });
            match outcome.expect("answered") {
                Ran::Executed(response) | Ran::Replayed(response) => {
                    assert_eq!(response.bytes(), b"ran");
                    true
                }
                Ran::InFlight(running) => {
                    assert!(!running.is_interrupted(), "its holder is alive");
                    false
                }
            }
        })
    });
    let answers = at_once(threads);
    assert!(answers.contains(&true), "nobody ran it");
    assert_eq!(ran.load(SeqCst), 1, "times that it ran");
    assert!(lease(world.store.claim("t", "k").expect("answered")).is_none());
    world.close();
}
