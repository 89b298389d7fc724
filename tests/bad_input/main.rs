//! Bad input gets a clear error, and nothing is lost by it.
//!
//! What a caller can do wrong through the public API; damaged files have a test of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod closed;
mod directories;
mod fences;
mod fingerprints;
mod names;
mod options;
mod panics;
mod sizes;

use std::time::Duration;

use firstclaim::{Builder, Claim, InFlight, Lease, ManualClock, Previous, Store};

const MINUTE: Duration = Duration::from_secs(60);

/// A store in memory, on a clock that the test moves.
fn store_and_clock() -> (Store, ManualClock) {
    let clock = ManualClock::new();
    let store = Builder::in_memory().clock(clock.clone()).open().unwrap();
    (store, clock)
}

/// The lease that a claim must have given.
#[track_caller]
fn claimed(claim: firstclaim::Result<Claim>) -> Lease {
    match claim {
        Ok(Claim::Claimed(lease)) => lease,
        other => panic!("not claimed: {other:?}"),
    }
}

/// What is in flight according to a claim.
#[track_caller]
fn in_flight(claim: firstclaim::Result<Claim>) -> InFlight {
    match claim {
        Ok(Claim::InFlight(running)) => running,
        other => panic!("not in flight: {other:?}"),
    }
}

/// The answer that a claim must have given.
#[track_caller]
fn answered(claim: firstclaim::Result<Claim>) -> Vec<u8> {
    match claim {
        Ok(Claim::Done(response)) => response.bytes().to_vec(),
        other => panic!("not done: {other:?}"),
    }
}

/// The store still does its work.
#[track_caller]
fn assert_usable(store: &Store) {
    let lease = claimed(store.claim("usable", "key"));
    assert_eq!((lease.attempt(), lease.previous()), (1, Previous::None));
    lease.complete("yes").unwrap();
    assert_eq!(answered(store.claim("usable", "key")), b"yes");
    assert!(store.forget("usable", "key").unwrap());
}
