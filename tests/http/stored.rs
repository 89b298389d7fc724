//! Which answers are stored, and which release the key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use firstclaim::http::{NotStored, Stored};
use firstclaim::{Peek, Previous};

use crate::kit::{Server, is_replayed, problem};

/// A server whose operation answers with the status it is set to.
async fn with_status(
    set: impl FnOnce(firstclaim::IdempotencyLayer) -> firstclaim::IdempotencyLayer,
) -> (Server, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let said = status.clone();
    let operation = async move || StatusCode::from_u16(said.load(Ordering::SeqCst)).unwrap();
    (Server::with(set, operation).await, status)
}

#[tokio::test]
async fn what_says_that_it_did_not_start_releases_the_key() {
    let (server, status) = with_status(|layer| layer).await;
    for refusal in [401, 403, 404, 405, 408, 413, 415, 425, 429, 503] {
        let key = format!("k{refusal}");
        status.store(refusal, Ordering::SeqCst);
        for _ in 0..2 {
            let before = server.calls();
            let answer = server.send(&key).await;
            assert_eq!(answer.status(), refusal);
            assert!(!is_replayed(&answer));
            assert_eq!(server.calls(), before + 1, "{refusal}");
            // Before the answer was sent.
            let peeked = server.store.peek("acct_42", &key).unwrap();
            assert!(matches!(peeked, Some(Peek::Released)), "{refusal}");
        }
        status.store(201, Ordering::SeqCst);
        assert_eq!(server.send(&key).await.status(), 201);
        assert!(is_replayed(&server.send(&key).await));
    }
}

#[tokio::test]
async fn everything_else_is_stored_errors_too() {
    let (server, status) = with_status(|layer| layer).await;
    for stored in [
        200, 201, 202, 204, 302, 304, 400, 402, 409, 410, 418, 422, 500, 502, 504,
    ] {
        let key = format!("k{stored}");
        status.store(stored, Ordering::SeqCst);
        assert!(!is_replayed(&server.send(&key).await));
        status.store(299, Ordering::SeqCst);
        let before = server.calls();
        let answer = server.send(&key).await;
        assert_eq!(answer.status(), stored);
        assert!(is_replayed(&answer));
        assert_eq!(server.calls(), before, "{stored}");
    }
}

#[tokio::test]
async fn a_response_may_say_otherwise_of_itself() {
    let server = Server::start(async || (NotStored, "not yet")).await;
    for _ in 0..2 {
        assert!(!is_replayed(&server.send("k").await));
    }
    assert_eq!(server.calls(), 2);
    let stored = async || (StatusCode::NOT_FOUND, Stored, "never was");
    let server = Server::start(stored).await;
    server.send("k").await;
    assert!(is_replayed(&server.send("k").await));
}

#[tokio::test]
async fn a_predicate_decides_otherwise_unless_the_response_does() {
    let no_errors = |layer: firstclaim::IdempotencyLayer| {
        layer.store_if(|response| response.status.is_success())
    };
    let (server, status) = with_status(no_errors).await;
    status.store(500, Ordering::SeqCst);
    server.send("k").await;
    assert!(!is_replayed(&server.send("k").await));
    status.store(200, Ordering::SeqCst);
    server.send("k").await;
    assert!(is_replayed(&server.send("k").await));

    let server = Server::with(no_errors, async || (StatusCode::BAD_GATEWAY, Stored, "")).await;
    server.send("k").await;
    assert!(is_replayed(&server.send("k").await));
}

#[tokio::test]
async fn an_operation_that_panics_stores_a_500() {
    let server = Server::start(async || -> Response { panic!("a bug of the operation's") }).await;
    problem(server.send("k").await, 500, "operation-failed").await;
    let replay = server.send("k").await;
    assert_eq!(replay.status(), 500);
    assert!(is_replayed(&replay));
    let document: serde_json::Value = serde_json::from_str(&replay.text().await.unwrap()).unwrap();
    assert_eq!(document["type"], "urn:firstclaim:problem:operation-failed");
    assert_eq!(server.calls(), 1);
    assert_eq!(server.store.stats().leases, 0);
}

#[tokio::test]
async fn a_body_that_panics_and_a_predicate_that_does_store_a_500_too() {
    struct Panics;
    impl http_body::Body for Panics {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            panic!("a bug of the body's")
        }
    }
    let server = Server::start(async || Response::new(axum::body::Body::new(Panics))).await;
    problem(server.send("k").await, 500, "operation-failed").await;
    assert!(is_replayed(&server.send("k").await));

    let set = |layer: firstclaim::IdempotencyLayer| layer.store_if(|_| panic!("a bug of its"));
    let server = Server::with(set, async || "created").await;
    problem(server.send("k").await, 500, "operation-failed").await;
    assert!(is_replayed(&server.send("k").await));
}

#[tokio::test]
async fn a_key_that_was_released_says_so_to_the_next_attempt() {
    let server = Server::start(async |attempt: firstclaim::Attempt| -> Response {
        match attempt.attempt() {
            1 => StatusCode::TOO_MANY_REQUESTS.into_response(),
            _ => {
                assert_eq!(attempt.previous(), Previous::Released);
                "created".into_response()
            }
        }
    })
    .await;
    assert_eq!(server.send("k").await.status(), 429);
    assert_eq!(server.send("k").await.status(), 200);
}
