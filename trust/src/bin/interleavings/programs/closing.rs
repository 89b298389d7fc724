//! Closing beside everything else: everybody is answered, nothing acknowledged is lost, and the
//! directory is free once the store is closed and no lease is out.

use firstclaim::{Claim, Error};

use crate::kit::{Thread, World, assert_all_done, at_once, builder, lease, thread};

/// What a call may say while the store is being closed.
fn closed_or<T>(answer: Result<T, Error>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(Error::Closed) => None,
        Err(other) => panic!("{other:?} beside a close"),
    }
}

pub fn close_beside_calls() {
    let world = World::new();
    let held = lease(world.store.claim("t", "held").expect("answered")).expect("a new key");
    let completer = thread(move || closed_or(held.complete("held")).map(|()| "held"));
    let claimer = {
        let store = world.store.clone();
        thread(move || {
            let lease = closed_or(store.claim("t", "new")).and_then(lease)?;
            closed_or(lease.complete("new")).map(|()| "new")
        })
    };
    let closer = |store: firstclaim::Store| {
        thread(move || {
            store.close().expect("closes");
            assert!(matches!(store.claim("t", "later"), Err(Error::Closed)));
            assert!(store.stats().closed);
            None
        })
    };
    let threads: Vec<Thread<Option<&'static str>>> = vec![
        completer,
        claimer,
        closer(world.store.clone()),
        closer(world.store.clone()),
    ];
    let acknowledged = at_once(threads);
    assert!(
        !world.disk.is_taken(),
        "closed, no lease is out, and the directory is in use"
    );

    let again = builder(&world.disk, &world.clock)
        .open()
        .expect("opens again");
    assert_all_done(&again, acknowledged);
    again.close().expect("closes");
}

/// Whoever's `close` returns may open the directory again, if no lease is out.
pub fn close_beside_close() {
    let World { disk, store, .. } = World::new();
    let closer = |store: firstclaim::Store| {
        let disk = disk.clone();
        thread(move || {
            store.close().expect("closes");
            assert!(!disk.is_taken(), "closed, and the directory is in use");
        })
    };
    at_once::<()>(vec![closer(store.clone()), closer(store)]);
}

/// Leases that go while the store is being closed, one of them the last handle of all.
pub fn close_beside_lease_drops() {
    let World { disk, clock, store } = World::new();
    let leases = ["a", "b"].map(|key| lease(store.claim("t", key).expect("answered")));
    let mut threads: Vec<Thread<()>> = Vec::new();
    for lease in leases.into_iter().map(|lease| lease.expect("a new key")) {
        threads.push(thread(move || drop(lease)));
    }
    let closers = [store.clone(), store.clone()];
    for closer in closers {
        threads.push(thread(move || closer.close().expect("closes")));
    }
    at_once(threads);
    assert!(
        !disk.is_taken(),
        "closed, no lease is out, and the directory is in use"
    );
    drop(store);

    // And without a `close`: the last handle closes.
    let store = builder(&disk, &clock).open().expect("opens again");
    let lease = match store.resolve("t", "a").expect("answered") {
        Some(Claim::Claimed(lease)) => lease,
        other => panic!("its holder is gone: {other:?}"),
    };
    at_once::<()>(vec![
        thread(move || drop(lease)),
        thread(move || drop(store)),
    ]);
    assert!(
        !disk.is_taken(),
        "no handle is left, and the directory is in use"
    );
}
