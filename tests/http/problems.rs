//! The layer's own answers, and trouble in the store.

use axum::http::{StatusCode, Uri};
use firstclaim::http::ProblemKind;
use firstclaim::{Error, IdempotencyLayer};

use crate::kit::{Server, is_replayed, problem};

async fn created() -> &'static str {
    "created"
}

#[tokio::test]
async fn problems_point_to_the_users_documentation() {
    let url = "https://developer.example.com/idempotency";
    let set = |layer: IdempotencyLayer| layer.documentation(Uri::from_static(url));
    let server = Server::with(set, created).await;
    let answer = server.send("a,b").await;
    let link = format!("<{url}>; rel=\"describedby\"; type=\"text/html\"");
    assert_eq!(answer.headers()["link"], link);
    let text = answer.text().await.unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["type"], format!("{url}#key-invalid"));
    assert_eq!(document["title"], ProblemKind::KeyInvalid.title());
    assert!(
        document["detail"]
            .as_str()
            .unwrap()
            .contains("idempotency-key")
    );
}

#[tokio::test]
async fn a_closure_reshapes_any_of_them_the_stored_one_too() {
    let set = |layer: IdempotencyLayer| {
        layer.problems(|problem, mut response| {
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            *response.body_mut() = format!("{:?}", problem.kind).into();
            response
        })
    };
    let operation = async || -> &'static str { panic!("a bug of the operation's") };
    let server = Server::with(set, operation).await;
    let invalid = server.send("a,b").await;
    assert_eq!(invalid.status(), 418);
    assert_eq!(invalid.text().await.unwrap(), "KeyInvalid");
    for replayed in [false, true] {
        let failed = server.send("k").await;
        assert_eq!(failed.status(), 418);
        assert_eq!(is_replayed(&failed), replayed);
        assert_eq!(failed.text().await.unwrap(), "OperationFailed");
    }
}

#[tokio::test]
async fn a_closure_that_panics_changes_nothing() {
    let set = |layer: IdempotencyLayer| layer.problems(|_, _| panic!("a bug of the closure's"));
    let operation = async || -> &'static str { panic!("a bug of the operation's") };
    let server = Server::with(set, operation).await;
    problem(server.send("a,b").await, 400, "key-invalid").await;
    problem(server.send("k").await, 500, "operation-failed").await;
    assert!(is_replayed(&server.send("k").await));
}

#[tokio::test]
async fn trouble_in_the_store_is_503_and_runs_nothing() {
    let set = |layer: IdempotencyLayer| {
        layer.problems(|problem, mut response| {
            let closed = matches!(problem.error, Some(Error::Closed));
            response
                .headers_mut()
                .insert("x-closed", u64::from(closed).into());
            response
        })
    };
    let server = Server::with(set, created).await;
    server.store.close().unwrap();
    let answer = server.send("k").await;
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["x-closed"], "1");
    let document = problem(answer, 503, "store-unavailable").await;
    assert!(
        !document.to_string().contains("closed"),
        "the client is not told"
    );
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn running_without_the_store_is_an_explicit_choice() {
    let set = |layer: IdempotencyLayer| layer.run_unprotected_without_store(true);
    let echo = async |attempt: Option<firstclaim::Attempt>, body: String| {
        assert!(attempt.is_none());
        body
    };
    let server = Server::with(set, echo).await;
    server.store.close().unwrap();
    for _ in 0..2 {
        let answer = server.post("k").body("order").send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "order");
    }
    assert_eq!(server.calls(), 2);
    // What is wrong with the request stays wrong.
    problem(server.send("a,b").await, 400, "key-invalid").await;
}

#[tokio::test]
async fn a_key_too_long_for_the_store_is_the_clients_mistake() {
    let limits = firstclaim::Limits {
        key_bytes: 36,
        ..firstclaim::Limits::default()
    };
    let store = firstclaim::Builder::in_memory()
        .limits(limits)
        .open()
        .unwrap();
    let server = Server::on(store, |layer| layer, created).await;
    problem(server.send(&"k".repeat(37)).await, 400, "key-invalid").await;
    assert_eq!(server.send(&"k".repeat(36)).await.status(), 200);
}

#[tokio::test]
async fn what_another_stored_under_the_key_is_not_taken_for_an_answer() {
    let fingerprint = firstclaim::Fingerprint::from([7; 32]);
    let server = Server::with(|layer| layer.fingerprint(move |_, _| fingerprint), created).await;
    let request = server
        .store
        .request("acct_42", "k")
        .fingerprint(fingerprint);
    let firstclaim::Claim::Claimed(lease) = request.claim().unwrap() else {
        panic!("the key is not vacant");
    };
    lease.complete("charged").unwrap();
    problem(server.send("k").await, 500, "unreadable").await;
    assert_eq!(server.calls(), 0);
}
