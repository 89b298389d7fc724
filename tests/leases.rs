//! What a lease says of itself, and how `run` keeps it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // tests sleep and start threads

use std::time::Duration;

use firstclaim::{Builder, Claim, ManualClock, Previous, Ran, Store, Takeover};

fn claimed(claim: Claim) -> firstclaim::Lease {
    match claim {
        Claim::Claimed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_end_of_a_lease_stays_as_renewed_after_its_completion() {
    let clock = ManualClock::new();
    let store = Builder::in_memory().clock(clock.clone()).open().unwrap();
    let lease = claimed(store.claim("t", "k").unwrap());
    let first = lease.ends_at();
    clock.advance(Duration::from_secs(50));
    lease.renew(Duration::from_secs(60)).unwrap();
    let renewed = lease.ends_at();
    assert_eq!(
        renewed.duration_since(first).unwrap(),
        Duration::from_secs(50)
    );
    lease.complete("r").unwrap();
    assert_eq!(lease.ends_at(), renewed);
}

#[test]
fn run_keeps_a_lease_from_being_taken_over_while_its_operation_runs() {
    let lease_for = Duration::from_millis(1500);
    let store = Store::in_memory().unwrap();
    let request = |store: &Store| {
        let request = store.request("t", "k").takeover(Takeover::GoneOrExpired);
        request.lease_for(lease_for).claim().unwrap()
    };
    let ran = store
        .request("t", "k")
        .takeover(Takeover::GoneOrExpired)
        .lease_for(lease_for)
        .run(|lease| {
            // Twice the lease's length: without renewals it would be over half way.
            for _ in 0..30 {
                std::thread::sleep(Duration::from_millis(100));
                assert!(matches!(request(&store), Claim::InFlight(r) if !r.is_interrupted()));
            }
            assert!(store.peek("t", "k").unwrap().is_some());
            Ok::<_, std::convert::Infallible>(format!("fence {}", lease.fence()))
        });
    assert!(matches!(ran, Ok(Ran::Executed(_))));
    // Nothing renews it any more.
    assert!(matches!(request(&store), Claim::Done(_)));
}

#[test]
fn a_lease_that_run_does_not_have_to_keep_may_still_be_late() {
    let clock = ManualClock::new();
    let store = Builder::in_memory().clock(clock.clone()).open().unwrap();
    let ran = store.run("t", "k", |_| {
        clock.advance(Duration::from_secs(3600));
        // The default policy never takes over from a live holder.
        assert!(matches!(store.claim("t", "k"), Ok(Claim::InFlight(_))));
        Ok::<_, std::convert::Infallible>("late")
    });
    assert!(matches!(ran, Ok(Ran::Executed(_))));
}

#[test]
fn recovery_points_reach_the_next_attempt_and_the_latest_counts() {
    let store = Store::in_memory().unwrap();
    let first = claimed(store.claim("t", "k").unwrap());
    assert_eq!(first.recovery_point(), None);
    first.save_recovery_point("reserved").unwrap();
    first.save_recovery_point("charged").unwrap();
    drop(first);
    let second = claimed(store.claim("t", "k").unwrap());
    assert_eq!(second.recovery_point(), Some(b"charged".as_slice()));
    assert_eq!(second.previous(), Previous::Interrupted);
    drop(second);
    let third = claimed(store.claim("t", "k").unwrap());
    assert_eq!(third.recovery_point(), Some(b"charged".as_slice()));
    assert_eq!(third.attempt(), 3);
}
