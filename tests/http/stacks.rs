//! The layer in stacks that are not axum's.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use axum::http::{Request, Response, StatusCode};
use bytes::Bytes;
use firstclaim::http::Body;
use firstclaim::{Claim, IdempotencyLayer, Peek, Store, single_tenant};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::kit::read_all;

type Answer = Response<Full<Bytes>>;

fn layer() -> (Store, IdempotencyLayer) {
    let store = Store::in_memory().unwrap();
    (store.clone(), IdempotencyLayer::new(store, single_tenant()))
}

fn request(key: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::from_static(b"order"));
    let request = Request::post("/orders").header("idempotency-key", key);
    request.body(body).unwrap()
}

async fn text(response: Response<Body>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_plain_function_is_protected() {
    let (_store, layer) = layer();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let echo = service_fn(move |request: Request<Body>| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            Ok::<_, Infallible>(Response::new(Full::new(body)))
        }
    });
    let service = ServiceBuilder::new().layer(layer).service(echo);
    for replayed in [false, true] {
        let answer = service.clone().oneshot(request("k")).await.unwrap();
        assert_eq!(
            answer.headers().contains_key("idempotency-replayed"),
            replayed
        );
        assert_eq!(text(answer).await, "order");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_service_that_fails_stores_a_500_and_its_failure_is_told() {
    let (_store, layer) = layer();
    let fails = service_fn(async |_: Request<Body>| Err::<Answer, _>("broken"));
    let service = ServiceBuilder::new().layer(layer).service(fails);
    let failed = service.clone().oneshot(request("k")).await;
    assert_eq!(failed.err(), Some("broken"));
    let replay = service.oneshot(request("k")).await.unwrap();
    assert_eq!(replay.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(replay.headers()["idempotency-replayed"], "true");
}

#[tokio::test]
async fn a_length_that_does_not_fit_is_not_passed_on() {
    for (said, kept) in [("5", true), ("99", false)] {
        let (_store, layer) = layer();
        let created = service_fn(move |_: Request<Body>| {
            let answer = Response::builder().header("content-length", said);
            let body = Full::new(Bytes::from_static(b"order"));
            std::future::ready(Ok::<_, Infallible>(answer.body(body).unwrap()))
        });
        let service = ServiceBuilder::new().layer(layer).service(created);
        for _ in 0..2 {
            let answer = service.clone().oneshot(request("k")).await.unwrap();
            assert_eq!(answer.headers().contains_key("content-length"), kept);
            assert_eq!(answer.body().size_hint().exact(), Some(5));
            assert_eq!(text(answer).await, "order");
        }
    }
}

/// A service that must be ready before each call; a clone of one that is ready is not.
#[derive(Default)]
struct MustBeReady(bool);

impl Clone for MustBeReady {
    fn clone(&self) -> Self {
        MustBeReady(false)
    }
}

impl Service<Request<Body>> for MustBeReady {
    type Response = Answer;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let was_ready = std::mem::take(&mut self.0);
        let status = if was_ready { 201 } else { 500 };
        let mut answer = Answer::default();
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        std::future::ready(Ok(answer))
    }
}

#[tokio::test]
async fn the_service_that_was_ready_is_the_one_that_is_called() {
    let (_store, layer) = layer();
    let mut service = ServiceBuilder::new()
        .layer(layer)
        .service(MustBeReady::default());
    for key in ["a", "b", "c"] {
        assert_eq!(call(&mut service, request(key)).await.status(), 201);
    }
    let get = Request::get("/orders").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(call(&mut service, get).await.status(), 201);
}

/// Calls a service that was ready, and is called again later.
async fn call<S, B>(service: &mut S, request: Request<B>) -> S::Response
where
    S: Service<Request<B>, Error = Infallible>,
{
    service.ready().await.unwrap().call(request).await.unwrap()
}

#[tokio::test]
async fn hyper_serves_it() {
    let (_store, layer) = layer();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let operation = service_fn(async |_: Request<Body>| {
        Ok::<_, Infallible>(Answer::new(Full::new(Bytes::from_static(b"created"))))
    });
    let service = ServiceBuilder::new().layer(layer).service(operation);
    let serving = tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http
                .serve_connection(TokioIo::new(connection), service)
                .await;
        }
    });
    for replayed in [false, true] {
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n";
        connection.write_all(request.as_bytes()).await.unwrap();
        let answer = read_all(connection).await;
        assert!(answer.ends_with("created"), "{answer}");
        assert_eq!(answer.contains("idempotency-replayed: true"), replayed);
    }
    serving.abort();
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Without tokio.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn without_a_runtime_nothing_runs_and_the_key_is_released() {
    let (store, layer) = layer();
    let service = ServiceBuilder::new()
        .layer(layer)
        .service(MustBeReady::default());
    let answer = block_on(service.oneshot(request("k"))).unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let peeked = store.peek("single", "k").unwrap();
    assert!(matches!(peeked, Some(Peek::Released)), "{peeked:?}");
}

#[test]
fn an_operation_whose_runtime_ends_is_interrupted_and_its_next_attempt_told() {
    let (store, layer) = layer();
    let started = Arc::new(AtomicUsize::new(0));
    let own = started.clone();
    let never = service_fn(move |_: Request<Body>| {
        own.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<Answer, Infallible>>()
    });
    let service = ServiceBuilder::new().layer(layer).service(never);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let asked = runtime.spawn(service.oneshot(request("k")));
    while started.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    drop(runtime);
    drop(asked);
    let resolved = store.resolve("single", "k").unwrap();
    let Some(Claim::Claimed(lease)) = resolved else {
        panic!("{resolved:?}");
    };
    assert_eq!(lease.previous(), firstclaim::Previous::Interrupted);
}

#[tokio::test]
async fn a_limit_that_a_layer_outside_sets_is_413_too() {
    let (_store, layer) = layer();
    let service = ServiceBuilder::new()
        .layer(layer)
        .service(MustBeReady::default());
    let request = request("k").map(|body| axum::body::Body::new(Limited::new(body, 4)));
    let answer = service.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

/// A body of so many frames of a mebibyte, which counts those that are read.
struct Counted {
    left: usize,
    read: Arc<AtomicUsize>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.read.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; 1 << 20])))))
    }
}

/// On a real network a client that is still sending may lose the answer to a reset.
#[tokio::test]
async fn of_a_body_that_is_too_large_some_more_is_read_before_that_is_said() {
    for (frames, expect, read) in [(3, false, 3), (3, true, 2), (100, false, 16)] {
        let (_store, layer) = layer();
        let service = ServiceBuilder::new()
            .layer(layer)
            .service(MustBeReady::default());
        let counted = Arc::new(AtomicUsize::new(0));
        let mut request = Request::post("/orders").header("idempotency-key", "k");
        if expect {
            request = request.header("expect", "100-continue");
        }
        let body = Counted {
            left: frames,
            read: counted.clone(),
        };
        let answer = service.oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(counted.load(Ordering::SeqCst), read, "{frames} frames");
    }
}
