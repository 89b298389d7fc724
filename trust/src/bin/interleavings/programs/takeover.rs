//! Leases that end, and who comes after.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use firstclaim::{Claim, Error, Peek, Previous, Takeover};

use crate::kit::{self, SECOND, World, at_once, lease, thread};

/// A lease is dropped while others claim its key: at most one is live, fences rise, attempts
/// follow each other.
pub fn drop_against_takeover() {
    let world = World::new();
    let live = Arc::new(AtomicUsize::new(0));
    let attempts = Arc::new(AtomicUsize::new(0));
    let highest = Arc::new(AtomicU64::new(0));
    let threads = (0..3).map(|_| {
        let store = world.store.clone();
        let (live, attempts, highest) = (live.clone(), attempts.clone(), highest.clone());
        thread(move || {
            for _ in 0..2 {
                let Some(lease) = lease(store.claim("t", "k").expect("answered")) else {
                    continue;
                };
                assert_eq!(live.fetch_add(1, SeqCst), 0, "two live leases");
                let before = attempts.fetch_add(1, SeqCst);
                assert_eq!(lease.attempt() as usize, before + 1, "attempts");
                let expected = match before {
                    0 => Previous::None,
                    _ => Previous::Interrupted,
                };
                assert_eq!(lease.previous(), expected);
                let fence = u64::from(lease.fence());
                assert!(highest.swap(fence, SeqCst) < fence, "fences rise");
                shuttle::thread::sleep(Duration::ZERO);
                live.fetch_sub(1, SeqCst);
                drop(lease);
            }
        })
    });
    at_once(threads);
    assert!(attempts.load(SeqCst) > 0, "nobody had a lease");
    let last = world.store.claim("t", "k").expect("answered");
    assert!(lease(last).is_some(), "everybody is gone");
    world.close();
}

/// A lease that is over was taken over. Its late holder completes in vain and goes, and its
/// successor stays.
pub fn late_drop_beside_a_successor() {
    let world = World::with(|builder| builder.lease_for(SECOND).takeover(Takeover::GoneOrExpired));
    let late = lease(world.store.claim("t", "k").expect("answered")).expect("a new key");
    world.clock.advance(2 * SECOND);
    let store = world.store.clone();
    let successor = thread(move || match store.claim("t", "k").expect("answered") {
        Claim::Claimed(lease) => {
            let next = store.claim("t", "k").expect("answered");
            let Claim::InFlight(running) = next else {
                panic!("held, and then {next:?}");
            };
            assert!(!running.is_interrupted(), "its holder is alive");
            assert!(matches!(store.forget("t", "k"), Err(Error::Held)));
            lease
                .complete("second")
                .expect("the current lease completes");
            true
        }
        Claim::Done(response) => {
            assert_eq!(response.bytes(), b"first");
            false
        }
        Claim::InFlight(_) => panic!("its lease is over"),
    });
    let first = thread(move || {
        let completed = late.complete("first");
        assert!(
            matches!(completed, Ok(()) | Err(Error::Fenced)),
            "{completed:?}"
        );
        completed.is_ok()
    });
    let outcomes = at_once(vec![successor, first]);
    assert!(
        outcomes[0] != outcomes[1],
        "one of them completed: {outcomes:?}"
    );
    let shown = kit::done(world.store.peek("t", "k").expect("readable"));
    let expected: &[u8] = if outcomes[0] { b"second" } else { b"first" };
    assert_eq!(shown.as_deref(), Some(expected));
    world.close();
}

/// What expired is swept while it is claimed anew: the new record stays.
pub fn sweep_beside_claims() {
    let world = World::with(|builder| builder.retain_for(SECOND));
    let store = &world.store;
    let done = lease(store.claim("t", "done").expect("answered")).expect("a new key");
    done.complete("old").expect("completes");
    let released = lease(store.claim("t", "released").expect("answered")).expect("a new key");
    released.release().expect("releases");
    drop((done, released));
    store.checkpoint().expect("checkpoints");
    world.clock.advance(kit::DAY);
    let sweeper = {
        let store = store.clone();
        thread(move || {
            store.sweep().expect("sweeps");
            None
        })
    };
    let claimers = ["done", "released"].map(|key| {
        let store = store.clone();
        thread(move || {
            let lease = lease(store.claim("t", key).expect("answered"));
            let lease = lease.expect("expired means vacant");
            assert_eq!((lease.attempt(), lease.previous()), (1, Previous::None));
            Some(lease)
        })
    });
    let mut threads = vec![sweeper];
    threads.extend(claimers);
    let leases = at_once(threads);
    for lease in leases.into_iter().flatten() {
        let shown = store.peek("t", lease.key()).expect("readable");
        assert!(matches!(shown, Some(Peek::InFlight(_))), "swept while held");
        lease.complete("new").expect("completes");
    }
    world.close();
}
