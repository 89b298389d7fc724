//! What the HTTP layer costs a request: beside the bare operation, and beside the store alone. On
//! disk, in this process, without a socket.
//!
//! `cargo bench --bench http --features http`

#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(missing_docs)] // what `criterion_group!` makes

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use firstclaim::http::{Body, IdempotencyLayer, single_tenant};
use firstclaim::{Claim, Fingerprint, Store};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt, service_fn};

const ORDER: &[u8] = br#"{"product_id":42,"quantity":1}"#;
const ANSWER: &[u8] =
    br#"{"id":"118f3d59-1490-40e5-ad2c-9719c1f098b0","product_id":42,"quantity":1}"#;

fn new_key() -> String {
    static KEYS: AtomicU64 = AtomicU64::new(0);
    format!(
        "118f3d59-1490-40e5-ad2c-{:012}",
        KEYS.fetch_add(1, Ordering::Relaxed)
    )
}

/// Reads the request and answers.
async fn operation(request: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
    let order = request.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(order, ORDER);
    Ok(Response::builder()
        .status(201)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(ANSWER)))
        .unwrap())
}

fn request(key: &str) -> Request<Body> {
    Request::post("/orders")
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(Body::from(Bytes::from_static(ORDER)))
        .unwrap()
}

async fn answered<S, R>(service: &S, key: &str)
where
    S: Service<Request<Body>, Response = Response<R>, Error = Infallible> + Clone,
    R: http_body::Body<Error: std::fmt::Debug>,
{
    let answer = service.clone().oneshot(request(key)).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, ANSWER);
}

/// What the layer asks of the store for a request that is new.
async fn cycle(store: &Store, key: &str) {
    let fingerprint = Fingerprint::of([ORDER]);
    let request = store.request("single", key).fingerprint(fingerprint);
    let Claim::Claimed(lease) = request.claim_async().await.unwrap() else {
        panic!("the key is new");
    };
    lease.complete_async(ANSWER).await.unwrap();
}

async fn replay(store: &Store, key: &str) {
    let fingerprint = Fingerprint::of([ORDER]);
    let request = store.request("single", key).fingerprint(fingerprint);
    assert!(matches!(request.claim_async().await, Ok(Claim::Done(_))));
}

fn requests(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let bare = service_fn(operation);
    let layered = IdempotencyLayer::new(store.clone(), single_tenant()).layer(bare);

    let mut group = criterion.benchmark_group("http_new");
    group.bench_function("bare_operation", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { answered(&bare, &new_key()).await });
    });
    group.bench_function("store_alone", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { cycle(&store, &new_key()).await });
    });
    group.bench_function("layer", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { answered(&layered, &new_key()).await });
    });
    group.finish();

    let (of_the_store, of_the_layer) = (new_key(), new_key());
    runtime.block_on(async {
        cycle(&store, &of_the_store).await;
        answered(&layered, &of_the_layer).await;
    });
    let mut group = criterion.benchmark_group("http_replay");
    group.bench_function("store_alone", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { replay(&store, &of_the_store).await });
    });
    group.bench_function("layer", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| async { answered(&layered, &of_the_layer).await });
    });
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
