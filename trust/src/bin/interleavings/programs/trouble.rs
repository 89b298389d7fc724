//! A commit that fails or panics beside calls that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use firstclaim::{Claim, Error};
use shuttle::rand::Rng;

use crate::kit::{Fault, Thread, World, assert_all_done, at_once, builder, done, lease, thread};

/// A sync that fails, or panics, ends writing: everybody is answered, nobody is told a guess,
/// replays go on, and a reopening settles it.
pub fn a_failed_sync_beside_calls() {
    let World { disk, clock, store } = World::new();
    let first = lease(store.claim("t", "done").expect("answered")).expect("a new key");
    first.complete("before").expect("completes");
    drop(first);
    let fault = match shuttle::rand::thread_rng().gen_bool(0.5) {
        true => Fault::Fails,
        false => Fault::Panics,
    };
    let failed = Arc::new(AtomicBool::new(false));
    let keys = ["a", "b"];
    let mut threads: Vec<Thread<Option<&'static str>>> = Vec::new();
    for key in keys {
        let (store, failed) = (store.clone(), failed.clone());
        threads.push(thread(move || {
            let was_failed = failed.load(SeqCst);
            let claimed = told(store.claim("t", key), &failed);
            assert!(
                !(was_failed && claimed.is_some()),
                "a lease from a poisoned store"
            );
            let lease = claimed.and_then(lease)?;
            told(lease.complete(key), &failed).map(|()| key)
        }));
    }
    {
        let (store, disk) = (store.clone(), disk.clone());
        threads.push(thread(move || {
            disk.fail_next_sync(fault);
            let shown = done(store.peek("t", "done").expect("replays go on"));
            assert_eq!(shown.as_deref(), Some(&b"before"[..]));
            None
        }));
    }
    let acknowledged = at_once(threads);
    if failed.load(SeqCst) {
        assert!(store.stats().poisoned);
        let answer = store.claim("t", "later");
        assert!(
            matches!(answer, Err(Error::Poisoned)),
            "poisoned, and then {answer:?}"
        );
        let again = store.claim("t", "done").expect("replays go on");
        assert!(matches!(again, Claim::Done(_)));
    }
    // If nothing was written since: a checkpoint that panics would be this thread's.
    disk.fail_no_more();
    let closed = store.close();
    assert!(
        matches!(closed, Ok(()) | Err(Error::Poisoned)),
        "{closed:?}"
    );
    assert!(!disk.is_taken());

    let again = builder(&disk.after_power_cut(), &clock)
        .open()
        .expect("opens again");
    assert_all_done(&again, acknowledged);
    again.close().expect("closes");
}

/// The answer, or none if it is one of a store in trouble, which is noted.
fn told<T>(answer: Result<T, Error>, failed: &AtomicBool) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(Error::Indeterminate | Error::Poisoned) => {
            failed.store(true, SeqCst);
            None
        }
        Err(other) => panic!("{other:?} after a failed sync"),
    }
}
