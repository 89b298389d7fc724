//! Waiting for room, for a commit, and no longer.

use std::time::Duration;

use firstclaim::{Claim, Error, Peek};
use shuttle::future::block_on;

use crate::kit::{World, at_once, lease, thread};

/// Callers whose time is over: `Overloaded` did not happen; `Indeterminate` may have, and nobody
/// holds a lease for it.
pub fn deadlines() {
    tell_what_happened(
        World::with(|builder| builder.queue_wait(Duration::from_millis(1))),
        "",
    );
}

/// The same with tasks, whose deadlines the store's thread keeps, and little room.
pub fn deadlines_of_tasks() {
    tell_what_happened(
        World::with(|builder| {
            builder
                .queue_wait(Duration::from_millis(1))
                .queue_commands(1)
        }),
        "ab",
    );
}

fn tell_what_happened(world: World, tasks: &'static str) {
    let keys = ["a", "b", "c"];
    let threads = keys.map(|key| {
        let store = world.store.clone();
        thread(move || match tasks.contains(key) {
            true => block_on(store.claim_async("t", key)),
            false => store.claim("t", key),
        })
    });
    let answers = at_once(threads);
    // All that was queued is carried out, and what nobody took is released.
    let World { disk, clock, store } = world;
    for (key, answer) in keys.iter().zip(&answers) {
        match answer {
            Ok(Claim::Claimed(_)) | Err(Error::Overloaded | Error::Indeterminate) => {}
            other => panic!("{key}: {other:?}"),
        }
    }
    store.close().expect("closes");
    let leases = answers.iter().flatten().count();
    assert_eq!(store.stats().leases, leases, "leases that nobody has");
    let outcomes: Vec<_> = answers.iter().map(|a| a.as_ref().err().cloned()).collect();
    drop((answers, store));

    let store = crate::kit::builder(&disk, &clock)
        .open()
        .expect("opens again");
    for (key, outcome) in keys.iter().zip(outcomes) {
        let shown = store.peek("t", key).expect("readable");
        match (outcome, shown) {
            // Its holder is gone since.
            (None, Some(Peek::InFlight(running))) => assert!(running.is_interrupted()),
            (Some(Error::Overloaded), None) => {}
            (Some(Error::Indeterminate), None | Some(Peek::Released)) => {}
            (outcome, shown) => panic!("{key}: {outcome:?}, and then {shown:?}"),
        }
    }
    store.close().expect("closes");
}

/// A queue with room for one: everybody gets in, in the end.
pub fn a_full_queue() {
    let world = World::with(|builder| builder.queue_commands(1));
    let threads = ["a", "b", "c", "d"].map(|key| {
        let store = world.store.clone();
        thread(move || {
            let lease = lease(store.claim("t", key).expect("answered")).expect("a key of its own");
            lease.complete(key).expect("completes");
        })
    });
    at_once(threads);
    assert_eq!(world.store.stats().leases, 0);
    world.close();
}
