//! One key is for one request.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::routing::post;
use firstclaim::http::fingerprint;
use firstclaim::{Fingerprint, IdempotencyLayer, Store};
use tokio::sync::Notify;

use crate::kit::{Server, account, is_replayed, problem};

async fn created() -> &'static str {
    "created"
}

#[tokio::test]
async fn another_request_with_the_same_key_is_422() {
    let server = Server::with(|layer| layer.methods([Method::POST, Method::PUT]), created).await;
    let request = |method: Method, path: &str, kind: &str, body: &'static str| {
        let request = server.request(method, path).header("content-type", kind);
        request.header("idempotency-key", "k").body(body).send()
    };
    let text = "text/plain";
    request(Method::POST, "/op?a=1", text, "x").await.unwrap();
    for other in [
        request(Method::PUT, "/op?a=1", text, "x"),
        request(Method::POST, "/op?a=2", text, "x"),
        request(Method::POST, "/op", text, "x"),
        request(Method::POST, "/op?a=1", "text/html", "x"),
        request(Method::POST, "/op?a=1", text, "y"),
        request(Method::POST, "/op?a=1", text, ""),
    ] {
        problem(other.await.unwrap(), 422, "key-reused").await;
    }
    let parameters = "Text/Plain; charset=utf-8";
    let same = request(Method::POST, "/op?a=1", parameters, "x");
    assert!(is_replayed(&same.await.unwrap()));
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn it_is_422_at_once_while_the_first_is_running() {
    let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = Server::start({
        let (begun, end) = (begun.clone(), end.clone());
        async move || {
            begun.notify_one();
            end.notified().await;
            "created"
        }
    })
    .await;
    let first = tokio::spawn(server.post("k").body("x").send());
    begun.notified().await;
    let other = server.post("k").body("y").send().await.unwrap();
    problem(other, 422, "key-reused").await;
    end.notify_one();
    let first = first.await.unwrap().unwrap();
    assert_eq!(first.text().await.unwrap(), "created");
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn the_status_of_a_mismatch_is_settable() {
    let set = |layer: IdempotencyLayer| layer.mismatch_status(StatusCode::CONFLICT);
    let server = Server::with(set, created).await;
    server.post("k").body("x").send().await.unwrap();
    let other = server.post("k").body("y").send().await.unwrap();
    problem(other, 409, "key-reused").await;
}

#[tokio::test]
async fn the_path_is_the_one_that_the_client_sent_not_the_nested_routers() {
    let store = Store::in_memory().unwrap();
    let layer = IdempotencyLayer::new(store.clone(), account);
    let inner = || {
        Router::new()
            .route("/op", post(created))
            .route_layer(layer.clone())
    };
    let routes = Router::new().nest("/a", inner()).nest("/b", inner());
    let server = Server::of(routes, store, layer.clone(), Arc::new(AtomicUsize::new(0))).await;
    let send = |path: &str| {
        let request = server.request(Method::POST, path);
        request.header("idempotency-key", "k").send()
    };
    assert_eq!(send("/a/op").await.unwrap().status(), 200);
    problem(send("/b/op").await.unwrap(), 422, "key-reused").await;
    assert!(is_replayed(&send("/a/op").await.unwrap()));
}

#[tokio::test]
async fn canonical_json_and_chosen_fields_are_ready() {
    let canonical = |layer: IdempotencyLayer| layer.fingerprint(fingerprint::canonical_json);
    let server = Server::with(canonical, created).await;
    let send = |body: &'static str| server.post("k").body(body).send();
    send(r#"{"product_id": 42, "quantity": 1}"#).await.unwrap();
    let same = send(r#"{"quantity":1.0,"product_id":42}"#).await.unwrap();
    assert!(is_replayed(&same));
    let other = send(r#"{"quantity":2,"product_id":42}"#).await.unwrap();
    problem(other, 422, "key-reused").await;

    let chosen = fingerprint::json_fields(["product_id"]);
    let server = Server::with(|layer| layer.fingerprint(chosen), created).await;
    let send = |body: &'static str| server.post("k").body(body).send();
    send(r#"{"product_id":42,"sent_at":1}"#).await.unwrap();
    let same = send(r#"{"product_id":42,"sent_at":2}"#).await.unwrap();
    assert!(is_replayed(&same));
    let other = send(r#"{"product_id":43,"sent_at":1}"#).await.unwrap();
    problem(other, 422, "key-reused").await;
}

#[tokio::test]
async fn a_closure_may_take_anything_of_the_request() {
    let set = |layer: IdempotencyLayer| {
        layer.fingerprint(|request, _| Fingerprint::of([request.headers["x-order"].as_bytes()]))
    };
    let server = Server::with(set, created).await;
    let send = |order: &str, body: &'static str| {
        server.post("k").header("x-order", order).body(body).send()
    };
    send("7", "x").await.unwrap();
    assert!(is_replayed(&send("7", "y").await.unwrap()));
    problem(send("8", "x").await.unwrap(), 422, "key-reused").await;
}

#[tokio::test]
async fn a_claim_made_without_a_fingerprint_is_another_request() {
    let server = Server::start(created).await;
    let _lease = server.store.claim("acct_42", "k").unwrap();
    problem(server.send("k").await, 422, "key-reused").await;
}
