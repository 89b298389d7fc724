//! A lease that is not the current one on its key is refused, whatever it asks.

use std::time::Duration;

use firstclaim::{Error, Lease, Previous, Takeover};

use super::{MINUTE, answered, claimed, store_and_clock};

/// Every call of a lease is refused.
#[track_caller]
fn assert_fenced(lease: &Lease) {
    for result in [
        lease.complete("late"),
        lease.complete_for("late", MINUTE),
        lease.renew(MINUTE),
        lease.save_recovery_point("late"),
        lease.release(),
    ] {
        assert!(matches!(result, Err(Error::Fenced)), "{result:?}");
    }
}

#[test]
fn a_replaced_holder_is_fenced_and_its_successor_is_not() {
    for policy in [Takeover::Expired, Takeover::GoneOrExpired] {
        let (store, clock) = store_and_clock();
        let request = || {
            store
                .request("tenant", "key")
                .lease_for(MINUTE)
                .takeover(policy)
        };
        let stale = claimed(request().claim());
        stale.save_recovery_point("half").unwrap();
        clock.advance(MINUTE);
        let current = claimed(request().claim());
        assert!(current.fence() > stale.fence());

        assert_fenced(&stale);
        assert_eq!(current.previous(), Previous::Interrupted);
        assert_eq!(current.recovery_point(), Some(&b"half"[..]));
        current.renew(MINUTE).unwrap();
        current.complete("done").unwrap();
        assert_fenced(&stale);
        drop(stale);
        assert_eq!(answered(store.claim("tenant", "key")), b"done");
    }
}

#[test]
fn a_stale_holder_that_is_dropped_does_not_take_its_successor_along() {
    let (store, clock) = store_and_clock();
    let request = || {
        let request = store.request("tenant", "key");
        request.lease_for(MINUTE).takeover(Takeover::GoneOrExpired)
    };
    let stale = claimed(request().claim());
    clock.advance(MINUTE);
    let current = claimed(request().claim());
    drop(stale);
    let running = super::in_flight(request().claim());
    assert!(!running.is_interrupted());
    assert_eq!(running.attempt(), 2);
    current.complete("done").unwrap();
}

#[test]
fn a_late_holder_whom_nobody_replaced_may_complete() {
    for policy in [
        Takeover::Gone,
        Takeover::GoneOrExpired,
        Takeover::Expired,
        Takeover::Never,
    ] {
        let (store, clock) = store_and_clock();
        let request = store
            .request("tenant", "key")
            .lease_for(MINUTE)
            .takeover(policy);
        let late = claimed(request.claim());
        clock.advance(10 * MINUTE);
        late.complete("late, but first").unwrap();
        assert_eq!(answered(store.claim("tenant", "key")), b"late, but first");
    }
}

#[test]
fn a_released_lease_is_fenced() {
    let (store, _) = store_and_clock();
    let lease = claimed(store.claim("tenant", "key"));
    lease.release().unwrap();
    assert_fenced(&lease);
    let interrupted = claimed(store.claim("tenant", "key"));
    drop(interrupted);
    let lease = claimed(store.claim("tenant", "key"));
    lease.release().unwrap();
    assert_fenced(&lease);
    let next = claimed(store.claim("tenant", "key"));
    assert_eq!(
        (next.attempt(), next.previous()),
        (4, Previous::Interrupted)
    );
}

#[test]
fn a_lease_whose_key_was_forgotten_is_fenced() {
    let (store, _) = store_and_clock();
    let lease = claimed(store.claim("tenant", "key"));
    assert!(matches!(store.forget("tenant", "key"), Err(Error::Held)));
    assert!(store.forget_held("tenant", "key").unwrap());
    assert_fenced(&lease);
    assert_eq!(claimed(store.claim("tenant", "key")).attempt(), 1);
}

#[test]
fn a_completed_lease_takes_its_own_bytes_again_and_nothing_else() {
    let (store, _) = store_and_clock();
    let lease = claimed(store.claim("tenant", "key"));
    lease.complete("first").unwrap();
    lease.complete("first").unwrap();
    assert!(matches!(
        lease.complete("second"),
        Err(Error::AlreadyCompleted)
    ));
    assert!(matches!(lease.complete(""), Err(Error::AlreadyCompleted)));
    for result in [
        lease.renew(MINUTE),
        lease.save_recovery_point("p"),
        lease.release(),
    ] {
        assert!(matches!(result, Err(Error::Fenced)), "{result:?}");
    }
    drop(lease);
    assert_eq!(answered(store.claim("tenant", "key")), b"first");
}

#[test]
fn a_completed_lease_is_fenced_once_its_record_has_expired() {
    let (store, clock) = store_and_clock();
    let lease = claimed(store.claim("tenant", "key"));
    lease.complete_for("first", Duration::from_secs(1)).unwrap();
    clock.advance(Duration::from_secs(1));
    assert_fenced(&lease);
    assert_eq!(claimed(store.claim("tenant", "key")).attempt(), 1);
}
