//! Calls after `close`, and a directory that somebody still uses.

use std::convert::Infallible;
use std::path::Path;
use std::time::{Duration, Instant};

use firstclaim::{Error, Previous, RunError, Store};

use super::{MINUTE, answered, claimed, store_and_clock};

#[test]
fn every_call_on_a_closed_store_says_so() {
    let (store, _) = store_and_clock();
    let lease = claimed(store.claim("tenant", "held"));
    let clone = store.clone();
    claimed(store.claim("tenant", "done"))
        .complete("r")
        .unwrap();
    store.close().unwrap();
    store.close().unwrap();
    clone.close().unwrap();

    let ran = clone.run("t", "k", |_| -> Result<&str, Infallible> {
        panic!("run when closed")
    });
    let view = store.tenant("tenant");
    let refusals = [
        ("claim", store.claim("tenant", "new").err()),
        ("claim of what is done", store.claim("tenant", "done").err()),
        ("claim of what is held", clone.claim("tenant", "held").err()),
        ("request", store.request("tenant", "new").claim().err()),
        ("peek", store.peek("tenant", "done").err()),
        ("forget", store.forget("tenant", "done").err()),
        ("forget_held", store.forget_held("tenant", "held").err()),
        ("resolve", store.resolve("tenant", "held").err()),
        ("unfinished", store.unfinished().err()),
        ("sweep", store.sweep().err()),
        ("checkpoint", store.checkpoint().err()),
        ("verify", store.verify().err()),
        ("view.claim", view.claim("new").err()),
        ("view.unfinished", view.unfinished().err()),
        ("complete", lease.complete("late").err()),
        ("complete_for", lease.complete_for("late", MINUTE).err()),
        ("renew", lease.renew(MINUTE).err()),
        (
            "save_recovery_point",
            lease.save_recovery_point("late").err(),
        ),
        ("release", lease.release().err()),
    ];
    for (call, refusal) in refusals {
        assert!(
            matches!(refusal, Some(Error::Closed)),
            "{call}: {refusal:?}"
        );
    }
    assert!(
        matches!(ran, Err(RunError::NotRun(Error::Closed))),
        "{ran:?}"
    );
    let _ = store.stats();
}

#[test]
fn a_directory_stays_in_use_until_no_lease_is_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = claimed(store.claim("tenant", "key"));
    assert_locked(dir.path());
    store.close().unwrap();
    assert_locked(dir.path());
    assert!(matches!(lease.complete("late"), Err(Error::Closed)));
    assert_locked(dir.path());
    drop(lease);

    let store = Store::open(dir.path()).unwrap();
    let lease = claimed(store.claim("tenant", "key"));
    assert_eq!(
        (lease.attempt(), lease.previous()),
        (2, Previous::Interrupted)
    );
}

#[test]
fn a_lease_is_a_handle_that_keeps_the_store_working() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = claimed(store.claim("tenant", "key"));
    drop(store);
    assert_locked(dir.path());
    lease.complete("r").unwrap();
    assert_locked(dir.path());
    drop(lease);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(answered(store.claim("tenant", "key")), b"r");
}

#[test]
fn a_directory_is_free_when_close_or_the_last_drop_returns() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let store = Store::open(dir.path()).unwrap();
        let clone = store.clone();
        claimed(store.claim("tenant", format!("{round}")))
            .complete("r")
            .unwrap();
        if round % 2 == 0 {
            store.close().unwrap();
            let store = Store::open(dir.path()).unwrap();
            assert!(matches!(clone.claim("tenant", "key"), Err(Error::Closed)));
            assert_eq!(answered(store.claim("tenant", format!("{round}"))), b"r");
        }
        drop((store, clone));
    }
    let store = Store::open(dir.path()).unwrap();
    for round in 0..5 {
        assert_eq!(answered(store.claim("tenant", format!("{round}"))), b"r");
    }
}

#[test]
fn wait_for_lock_waits_for_a_directory_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();

    let begin = Instant::now();
    let refusal = Store::builder(dir.path())
        .wait_for_lock(Duration::from_millis(100))
        .open();
    assert!(matches!(refusal, Err(Error::Locked)), "{refusal:?}");
    assert!(begin.elapsed() >= Duration::from_millis(100));

    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            store.close().unwrap();
        });
        let begin = Instant::now();
        let store = Store::builder(dir.path())
            .wait_for_lock(MINUTE)
            .open()
            .unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(100));
        assert!(begin.elapsed() < MINUTE / 2);
        super::assert_usable(&store);
    });
}

#[track_caller]
fn assert_locked(dir: &Path) {
    let refusal = Store::open(dir);
    assert!(matches!(refusal, Err(Error::Locked)), "{refusal:?}");
}
