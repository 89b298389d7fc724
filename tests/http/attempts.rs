//! What an operation knows of its attempt.

use std::sync::{Arc, Mutex};

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use firstclaim::{Attempt, Error, Fingerprint, IdempotencyLayer, Previous};

use crate::kit::{Server, until};

#[tokio::test]
async fn the_first_attempt_is_the_first() {
    let operation = async |attempt: Attempt| {
        assert_eq!(attempt.attempt(), 1);
        assert_eq!(attempt.previous(), Previous::None);
        assert_eq!(attempt.recovery_point(), None);
        assert_eq!(
            (attempt.tenant(), attempt.key()),
            (&b"acct_42"[..], &b"k"[..])
        );
        attempt.fence().to_string()
    };
    let server = Server::start(operation).await;
    let first = server.send("k").await;
    assert_eq!(first.status(), 200);
    assert!(first.text().await.unwrap().parse::<u64>().unwrap() > 0);
}

#[tokio::test]
async fn an_attempt_that_follows_a_cut_one_has_its_recovery_point() {
    let fingerprint = Fingerprint::from([7; 32]);
    let set = |layer: IdempotencyLayer| layer.fingerprint(move |_, _| fingerprint);
    let operation = async |attempt: Attempt| {
        assert_eq!(attempt.attempt(), 2);
        assert_eq!(attempt.previous(), Previous::Interrupted);
        attempt.recovery_point().unwrap().to_vec()
    };
    let server = Server::with(set, operation).await;
    let request = server
        .store
        .request("acct_42", "k")
        .fingerprint(fingerprint);
    let firstclaim::Claim::Claimed(cut) = request.claim().unwrap() else {
        panic!("the key is not vacant");
    };
    cut.save_recovery_point("half way").unwrap();
    drop(cut);
    assert_eq!(server.send("k").await.text().await.unwrap(), "half way");
}

#[tokio::test]
async fn a_recovery_point_is_saved_for_the_next_attempt() {
    let operation = async |attempt: Attempt| -> Response {
        match attempt.recovery_point() {
            None => {
                attempt.save_recovery_point("order 7").await.unwrap();
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            }
            Some(point) => point.to_vec().into_response(),
        }
    };
    let server = Server::start(operation).await;
    assert_eq!(server.send("k").await.status(), 503);
    assert_eq!(server.send("k").await.text().await.unwrap(), "order 7");
}

#[tokio::test]
async fn an_attempt_that_is_kept_keeps_no_lease() {
    let kept = Arc::new(Mutex::new(None));
    let keep = kept.clone();
    let operation = async move |attempt: Attempt| {
        *keep.lock().unwrap() = Some(attempt.clone());
        "created"
    };
    let server = Server::start(operation).await;
    server.send("k").await;
    until(|| server.store.stats().leases == 0).await;
    let attempt = kept.lock().unwrap().take().unwrap();
    let saved = attempt.save_recovery_point("too late").await;
    assert!(matches!(saved, Err(Error::Fenced)), "{saved:?}");
}

#[tokio::test]
async fn without_the_layers_protection_there_is_no_attempt() {
    let needs_one = Server::start(async |_: Attempt| "created").await;
    let unprotected = needs_one.request(Method::GET, "/op").send().await.unwrap();
    assert_eq!(unprotected.status(), 500);
    let optional = async |attempt: Option<Attempt>| attempt.is_some().to_string();
    let server = Server::start(optional).await;
    let unprotected = server.request(Method::GET, "/op").send().await.unwrap();
    assert_eq!(unprotected.text().await.unwrap(), "false");
    assert_eq!(server.send("k").await.text().await.unwrap(), "true");
}
