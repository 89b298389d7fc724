//! Responses and recovery points over their limits.

use firstclaim::{Builder, Error, Limits, Previous, Ran, RunError, Store};

use super::{MINUTE, answered, claimed, in_flight, store_and_clock};

const RESPONSE: usize = 4096;
const POINT: usize = 1024;

fn store() -> Store {
    let limits = Limits {
        response_bytes: RESPONSE,
        recovery_point_bytes: POINT,
        ..Limits::default()
    };
    Builder::in_memory().limits(limits).open().unwrap()
}

#[test]
fn a_lease_stays_usable_after_a_response_over_the_limit() {
    let store = store();
    let lease = claimed(store.claim("tenant", "key"));
    for result in [
        lease.complete(vec![1; RESPONSE + 1]),
        lease.complete_for(vec![1; RESPONSE + 1], MINUTE),
    ] {
        match result {
            Err(Error::TooLarge {
                what: "response",
                bytes,
                limit,
            }) => {
                assert_eq!((bytes, limit), (RESPONSE + 1, RESPONSE));
            }
            other => panic!("not too large: {other:?}"),
        }
    }
    assert!(!in_flight(store.claim("tenant", "key")).is_interrupted());
    lease.complete(vec![2; RESPONSE]).unwrap();
    assert_eq!(answered(store.claim("tenant", "key")), vec![2; RESPONSE]);
}

#[test]
fn a_lease_stays_usable_after_a_recovery_point_over_the_limit() {
    let store = store();
    let lease = claimed(store.claim("tenant", "key"));
    lease.save_recovery_point(vec![1; POINT]).unwrap();
    match lease.save_recovery_point(vec![2; POINT + 1]) {
        Err(Error::TooLarge {
            what: "recovery point",
            bytes,
            limit,
        }) => {
            assert_eq!((bytes, limit), (POINT + 1, POINT));
        }
        other => panic!("not too large: {other:?}"),
    }
    drop(lease);
    let next = claimed(store.claim("tenant", "key"));
    assert_eq!(
        next.recovery_point(),
        Some(&vec![1; POINT][..]),
        "the one before is kept"
    );
    next.complete("r").unwrap();
}

#[test]
fn the_default_limits_are_a_mebibyte_and_64_kibibytes() {
    let (store, _) = store_and_clock();
    let lease = claimed(store.claim("tenant", "key"));
    assert!(matches!(
        lease.save_recovery_point(vec![0; (64 << 10) + 1]),
        Err(Error::TooLarge { .. })
    ));
    lease.save_recovery_point(vec![0; 64 << 10]).unwrap();
    assert!(matches!(
        lease.complete(vec![0; (1 << 20) + 1]),
        Err(Error::TooLarge { .. })
    ));
    lease.complete(vec![9; 1 << 20]).unwrap();
    assert_eq!(answered(store.claim("tenant", "key")), vec![9; 1 << 20]);
}

#[test]
fn empty_responses_and_recovery_points_are_kept_as_such() {
    let (store, _) = store_and_clock();
    let lease = claimed(store.claim("tenant", "key"));
    lease.save_recovery_point("").unwrap();
    lease.release().unwrap();
    let next = claimed(store.claim("tenant", "key"));
    assert_eq!(next.recovery_point(), Some(&b""[..]));
    next.complete("").unwrap();
    assert_eq!(answered(store.claim("tenant", "key")), b"");
}

#[test]
fn run_gives_back_a_response_that_it_could_not_record_and_keeps_the_key_held() {
    let (store, clock) = store_and_clock();
    let response = vec![3; (1 << 20) + 1];
    let ran = store
        .request("tenant", "key")
        .lease_for(MINUTE)
        .run(|_| Ok::<_, &str>(response.clone()));
    match ran {
        Err(RunError::NotRecorded {
            error: Error::TooLarge { .. },
            bytes,
        }) => {
            assert_eq!(bytes, response);
        }
        other => panic!("recorded: {other:?}"),
    }
    // The operation did run: nobody may run it at once again.
    assert!(!in_flight(store.claim("tenant", "key")).is_interrupted());
    clock.advance(MINUTE);
    let next = claimed(store.claim("tenant", "key"));
    assert_eq!(
        (next.attempt(), next.previous()),
        (2, Previous::Interrupted)
    );
}

#[test]
fn run_records_a_response_at_the_limit() {
    let store = store();
    let ran = store
        .run("tenant", "key", |_| Ok::<_, &str>(vec![4; RESPONSE]))
        .unwrap();
    assert!(matches!(ran, Ran::Executed(response) if response.bytes() == vec![4; RESPONSE]));
}
