//! Durations, limits and sizes that are out of bounds or contradict each other.

use std::time::Duration;

use firstclaim::{Builder, Error, Limits, Store};

use super::{MINUTE, answered, claimed, in_flight, store_and_clock};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Shorter than a millisecond, or longer than 366 days.
fn bad_durations() -> [Duration; 5] {
    [
        Duration::ZERO,
        Duration::from_micros(999),
        366 * DAY + Duration::from_nanos(1),
        100 * 366 * DAY,
        Duration::MAX,
    ]
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(result: firstclaim::Result<T>) {
    assert!(matches!(result, Err(Error::InvalidOption(_))), "{result:?}");
}

#[test]
fn durations_of_zero_and_of_centuries_are_refused_by_the_builder() {
    for bad in bad_durations() {
        assert_invalid(Builder::in_memory().lease_for(bad).open());
        assert_invalid(Builder::in_memory().retain_for(bad).open());
        assert_invalid(Builder::in_memory().sweep_every(bad).open());
        assert_invalid(Builder::in_memory().checkpoint_every(bad).open());
        assert_invalid(Builder::in_memory().queue_wait(bad).open());
    }
}

#[test]
fn durations_of_zero_and_of_centuries_are_refused_by_a_request() {
    let (store, _) = store_and_clock();
    for bad in bad_durations() {
        assert_invalid(store.request("tenant", "key").lease_for(bad).claim());
        assert_invalid(store.request("tenant", "key").retain_for(bad).claim());
    }
    assert!(store.peek("tenant", "key").unwrap().is_none());
}

#[test]
fn a_lease_stays_usable_after_a_bad_duration() {
    let (store, _) = store_and_clock();
    let lease = claimed(store.claim("tenant", "key"));
    let ends_at = lease.ends_at();
    for bad in bad_durations() {
        assert_invalid(lease.renew(bad));
        assert_invalid(lease.complete_for("r", bad));
    }
    assert_eq!(lease.ends_at(), ends_at);
    assert!(!in_flight(store.claim("tenant", "key")).is_interrupted());
    lease.complete("r").unwrap();
    assert_eq!(answered(store.claim("tenant", "key")), b"r");
}

#[test]
fn the_shortest_and_the_longest_durations_are_taken() {
    let (store, clock) = store_and_clock();
    for good in [Duration::from_millis(1), 366 * DAY] {
        let request = store.request("tenant", format!("{good:?}"));
        let lease = claimed(request.lease_for(good).retain_for(good).claim());
        lease.renew(good).unwrap();
        lease.complete("r").unwrap();
    }
    clock.advance(366 * DAY - Duration::from_micros(1));
    assert_eq!(
        answered(store.claim("tenant", format!("{:?}", 366 * DAY))),
        b"r"
    );
    clock.advance(Duration::from_micros(1));
    assert_eq!(
        claimed(store.claim("tenant", format!("{:?}", 366 * DAY))).attempt(),
        1
    );
}

#[test]
fn limits_out_of_bounds_are_refused() {
    let bad = [
        Limits {
            key_bytes: 0,
            ..Limits::default()
        },
        Limits {
            response_bytes: usize::MAX,
            ..Limits::default()
        },
        Limits {
            recovery_point_bytes: usize::MAX,
            ..Limits::default()
        },
        Limits {
            unfinished: 0,
            ..Limits::default()
        },
        Limits {
            unfinished_bytes: 0,
            ..Limits::default()
        },
        Limits {
            leases: 0,
            ..Limits::default()
        },
        Limits {
            queue_commands: 0,
            ..Limits::default()
        },
        Limits {
            queue_bytes: 0,
            ..Limits::default()
        },
    ];
    for limits in bad {
        assert_invalid(Builder::in_memory().limits(limits).open());
    }
    assert_invalid(Builder::in_memory().queue_commands(0).open());
    for bytes in [0, 1, 511, 64 * 1024 + 1, u64::MAX] {
        assert_invalid(Builder::in_memory().journal_bytes(bytes).open());
    }
    assert_invalid(Builder::in_memory().base_cache_bytes(0).open());
}

#[test]
fn a_response_that_the_queue_does_not_hold_is_a_contradiction() {
    let limits = Limits {
        queue_bytes: 4096,
        response_bytes: 8192,
        ..Limits::default()
    };
    assert_invalid(Builder::in_memory().limits(limits).open());
}

#[test]
fn a_response_that_no_segment_holds_is_a_contradiction() {
    let small = || Builder::in_memory().journal_bytes(64 * 1024);
    assert_invalid(small().open());
    assert_invalid(
        small()
            .limits(Limits {
                response_bytes: 64 * 1024,
                ..Limits::default()
            })
            .open(),
    );
    let fitting = Limits {
        response_bytes: 4096,
        recovery_point_bytes: 1024,
        ..Limits::default()
    };
    assert!(small().limits(fitting).open().is_ok());
}

#[test]
fn a_refused_option_touches_nothing_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    assert_invalid(Store::builder(&path).lease_for(Duration::ZERO).open());
    assert!(!path.exists());

    let store = Store::open(&path).unwrap();
    claimed(store.claim("tenant", "key")).complete("r").unwrap();
    store.close().unwrap();
    assert_invalid(Store::builder(&path).journal_bytes(1).open());
    let store = Store::open(&path).unwrap();
    assert_eq!(answered(store.claim("tenant", "key")), b"r");
}

#[test]
fn more_leases_and_unfinished_keys_than_the_limits_are_overload() {
    let limits = Limits {
        leases: 2,
        ..Limits::default()
    };
    let store = Builder::in_memory().limits(limits).open().unwrap();
    let first = claimed(store.claim("tenant", "1"));
    let _second = claimed(store.claim("tenant", "2"));
    assert!(matches!(store.claim("tenant", "3"), Err(Error::Overloaded)));
    first.complete("r").unwrap();
    drop(first);
    assert_eq!(claimed(store.claim("tenant", "3")).attempt(), 1);

    let limits = Limits {
        unfinished: 2,
        ..Limits::default()
    };
    let store = Builder::in_memory().limits(limits).open().unwrap();
    claimed(store.claim("tenant", "1")).release().unwrap();
    drop(claimed(store.claim("tenant", "2")));
    assert!(matches!(store.claim("tenant", "3"), Err(Error::Overloaded)));
    // What is there can still be finished, and that makes room.
    claimed(store.claim("tenant", "1"))
        .complete_for("r", MINUTE)
        .unwrap();
    assert_eq!(claimed(store.claim("tenant", "3")).attempt(), 1);
}

#[test]
fn a_lease_at_the_limit_of_bytes_can_still_be_renewed_saved_and_released() {
    let limits = Limits {
        unfinished_bytes: 10_000,
        ..Limits::default()
    };
    let store = Builder::in_memory().limits(limits).open().unwrap();
    let lease = claimed(store.claim("tenant", "key"));
    lease.save_recovery_point([1; 6_000]).unwrap();
    let other = claimed(store.claim("tenant", "other"));
    let refusal = other.save_recovery_point([2; 6_000]);
    assert!(matches!(refusal, Err(Error::Overloaded)), "{refusal:?}");

    lease.renew(MINUTE).unwrap();
    lease.save_recovery_point([3; 6_000]).unwrap();
    lease.release().unwrap();
    let next = claimed(store.claim("tenant", "key"));
    assert_eq!(next.recovery_point(), Some(&[3; 6_000][..]));
    next.complete("r").unwrap();
    other.save_recovery_point([2; 6_000]).unwrap();
}
