//! One key used for two requests is noticed in every state of the record.

use firstclaim::{Claim, Error, Fingerprint, Previous, RunError, Store, Takeover};

use super::{MINUTE, answered, claimed, in_flight, store_and_clock};

fn ours() -> Fingerprint {
    Fingerprint::of(["POST", "/payments", "500"])
}

fn claim(store: &Store, fingerprint: Option<Fingerprint>) -> firstclaim::Result<Claim> {
    let request = store.request("tenant", "key").takeover(Takeover::Never);
    match fingerprint {
        Some(fingerprint) => request.fingerprint(fingerprint).claim(),
        None => request.claim(),
    }
}

/// Other requests are refused, by claim and by run, and none of them leaves a trace.
#[track_caller]
fn assert_others_are_refused(store: &Store, of_record: Option<Fingerprint>) {
    let others = match of_record {
        Some(_) => [None, Some(Fingerprint::of(["POST", "/payments", "501"]))],
        None => [Some(ours()), Some([0; 32].into())],
    };
    for other in others {
        let refusal = claim(store, other);
        assert!(
            matches!(refusal, Err(Error::FingerprintMismatch)),
            "{refusal:?}"
        );
    }
    let ran = store
        .request("tenant", "key")
        .fingerprint([7; 32])
        .run(|_| -> Result<&str, &str> { panic!("run for another request") });
    assert!(
        matches!(ran, Err(RunError::NotRun(Error::FingerprintMismatch))),
        "{ran:?}"
    );
}

#[test]
fn another_fingerprint_is_refused_in_every_state() {
    for fingerprint in [Some(ours()), None] {
        let (store, _) = store_and_clock();
        let first = claimed(claim(&store, fingerprint));

        assert_others_are_refused(&store, fingerprint);
        assert!(!in_flight(claim(&store, fingerprint)).is_interrupted());

        first.release().unwrap();
        assert_others_are_refused(&store, fingerprint);
        let second = claimed(claim(&store, fingerprint));
        assert_eq!(
            (second.attempt(), second.previous()),
            (2, Previous::Released)
        );

        drop(second);
        assert_others_are_refused(&store, fingerprint);
        assert!(in_flight(claim(&store, fingerprint)).is_interrupted());

        let Some(Claim::Claimed(third)) = store.resolve("tenant", "key").unwrap() else {
            panic!("not resolved");
        };
        assert_eq!(third.attempt(), 3);
        assert_others_are_refused(&store, fingerprint);
        third.complete("done").unwrap();
        assert_others_are_refused(&store, fingerprint);
        assert_eq!(answered(claim(&store, fingerprint)), b"done");
    }
}

#[test]
fn an_expired_key_takes_any_fingerprint() {
    let (store, clock) = store_and_clock();
    let lease = claimed(claim(&store, Some(ours())));
    lease.complete_for("done", MINUTE).unwrap();
    clock.advance(MINUTE);
    let next = claimed(claim(&store, None));
    assert_eq!((next.attempt(), next.previous()), (1, Previous::None));
}

#[test]
fn a_forgotten_key_takes_any_fingerprint() {
    let (store, _) = store_and_clock();
    claimed(claim(&store, Some(ours())))
        .complete("done")
        .unwrap();
    assert!(store.forget("tenant", "key").unwrap());
    assert_eq!(claimed(claim(&store, None)).attempt(), 1);
}
