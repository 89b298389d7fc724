//! Panics and errors in the caller's closure.

use std::panic::{AssertUnwindSafe, catch_unwind};

use firstclaim::{Error, Previous, Ran, RunError, Store, Takeover};

use super::{answered, assert_usable, claimed, in_flight, store_and_clock};

/// Runs an operation that panics, and returns what it panicked with.
fn panicking_run(store: &Store, policy: Takeover, release: bool) -> String {
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        store
            .request("tenant", "key")
            .takeover(policy)
            .run(|lease| -> Result<&str, Error> {
                if release {
                    lease.release()?;
                }
                panic!("the operation broke")
            })
    }));
    let panic = unwound.expect_err("the panic goes through");
    panic.downcast_ref::<&str>().unwrap().to_string()
}

#[test]
fn a_panic_of_the_operation_reaches_the_caller_and_ends_the_lease() {
    let (store, _) = store_and_clock();
    assert_eq!(
        panicking_run(&store, Takeover::Gone, false),
        "the operation broke"
    );
    let next = claimed(store.claim("tenant", "key"));
    assert_eq!(
        (next.attempt(), next.previous()),
        (2, Previous::Interrupted)
    );
    next.complete("r").unwrap();
    assert_eq!(answered(store.claim("tenant", "key")), b"r");
    assert_usable(&store);
}

#[test]
fn a_panic_under_never_leaves_the_key_interrupted() {
    let (store, _) = store_and_clock();
    panicking_run(&store, Takeover::Never, false);
    assert!(in_flight(store.claim("tenant", "key")).is_interrupted());
    assert_usable(&store);
}

#[test]
fn a_panic_after_a_release_leaves_the_key_released() {
    let (store, _) = store_and_clock();
    panicking_run(&store, Takeover::Never, true);
    let next = claimed(store.claim("tenant", "key"));
    assert_eq!((next.attempt(), next.previous()), (2, Previous::Released));
}

#[test]
fn a_panic_on_one_thread_harms_no_other() {
    let (store, _) = store_and_clock();
    let other = claimed(store.claim("tenant", "other"));
    std::thread::scope(|scope| {
        let panicked = scope.spawn(|| panicking_run(&store, Takeover::Gone, false));
        let held = scope.spawn(|| {
            let _lease = claimed(store.claim("tenant", "held"));
            panic!("while a lease is held");
        });
        assert!(panicked.join().is_ok());
        assert!(held.join().is_err());
    });
    assert_eq!(
        claimed(store.claim("tenant", "held")).previous(),
        Previous::Interrupted
    );
    other.complete("r").unwrap();
    store.close().unwrap();
}

#[test]
fn an_error_of_the_operation_comes_back_as_it_was() {
    let (store, _) = store_and_clock();
    let ran = store.run("tenant", "key", |_| Err::<&str, _>("card declined"));
    assert!(
        matches!(ran, Err(RunError::Operation("card declined"))),
        "{ran:?}"
    );
    let ran = store.run("tenant", "key", |lease| {
        assert_eq!(
            (lease.attempt(), lease.previous()),
            (2, Previous::Interrupted)
        );
        Ok::<_, &str>("charged")
    });
    assert!(matches!(ran, Ok(Ran::Executed(_))), "{ran:?}");
    let ran = store.run("tenant", "key", |_| -> Result<&str, &str> {
        panic!("run again")
    });
    assert!(matches!(ran, Ok(Ran::Replayed(response)) if response.bytes() == b"charged"));
}

#[test]
fn an_error_after_a_release_leaves_no_interruption() {
    let (store, _) = store_and_clock();
    let ran = store.run("tenant", "key", |lease| {
        lease.release().unwrap();
        Err::<&str, _>("nothing done")
    });
    assert!(
        matches!(ran, Err(RunError::Operation("nothing done"))),
        "{ran:?}"
    );
    assert_eq!(
        claimed(store.claim("tenant", "key")).previous(),
        Previous::Released
    );
}
