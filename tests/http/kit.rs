//! A server on a loopback socket, and what tests say to it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::request::Parts;
use axum::middleware::map_request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use firstclaim::{IdempotencyLayer, Store, Tenant};
use reqwest::{Method, RequestBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One route, `/op`, with a protected operation of the test's.
pub struct Server {
    pub address: std::net::SocketAddr,
    pub store: Store,
    pub layer: IdempotencyLayer,
    /// How often the operation was started.
    pub calls: Arc<AtomicUsize>,
    client: reqwest::Client,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    /// With a new store in memory, and the layer's defaults.
    pub async fn start<H, T>(operation: H) -> Self
    where
        H: Handler<T, ()>,
        T: 'static,
    {
        Self::with(|layer| layer, operation).await
    }

    /// With other settings.
    pub async fn with<H, T>(
        set: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer,
        operation: H,
    ) -> Self
    where
        H: Handler<T, ()>,
        T: 'static,
    {
        Self::on(Store::in_memory().unwrap(), set, operation).await
    }

    /// On a store of the test's.
    pub async fn on<H, T>(
        store: Store,
        set: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer,
        operation: H,
    ) -> Self
    where
        H: Handler<T, ()>,
        T: 'static,
    {
        let layer = set(IdempotencyLayer::new(store.clone(), account));
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let routes = Router::new()
            .route("/op", any(operation))
            .route_layer(map_request(move |request: Request| {
                counted.fetch_add(1, Ordering::SeqCst);
                async { request }
            }))
            .route_layer(layer.clone());
        Self::of(routes, store, layer, calls).await
    }

    /// Any routes.
    pub async fn of(
        routes: Router,
        store: Store,
        layer: IdempotencyLayer,
        calls: Arc<AtomicUsize>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Server {
            address,
            store,
            layer,
            calls,
            client: reqwest::Client::new(),
            serving,
        }
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client.request(method, url)
    }

    /// A POST to the operation.
    pub fn post(&self, key: &str) -> RequestBuilder {
        self.request(Method::POST, "/op")
            .header("idempotency-key", key)
    }

    /// The same, sent.
    pub async fn send(&self, key: &str) -> reqwest::Response {
        self.post(key).send().await.unwrap()
    }

    /// Sends bytes as they are, and reads until the server closes the connection.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut connection = self.connect().await;
        connection.write_all(bytes.as_ref()).await.unwrap();
        read_all(connection).await
    }

    /// Closes the client's connections.
    pub fn hang_up(&mut self) {
        self.client = reqwest::Client::new();
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The header `x-account` says it; `nobody` is refused.
#[allow(clippy::result_large_err)]
pub fn account(request: &Parts) -> Result<Tenant, Response> {
    let account = request.headers.get("x-account").map(|id| id.as_bytes());
    match account.unwrap_or(b"acct_42") {
        b"nobody" => Err((axum::http::StatusCode::UNAUTHORIZED, "who?").into_response()),
        id => Ok(Tenant::new(id).unwrap()),
    }
}

pub async fn read_all(mut connection: TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is reset has said what it had to.
    let _ = connection.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Whether a response is a replay.
pub fn is_replayed(response: &reqwest::Response) -> bool {
    match response.headers().get("idempotency-replayed") {
        Some(value) => {
            assert_eq!(value, "true");
            true
        }
        None => false,
    }
}

/// Checks that a response is a problem of this kind, and gives its document.
#[track_caller]
pub fn problem(
    response: reqwest::Response,
    status: u16,
    kind: &str,
) -> impl Future<Output = serde_json::Value> {
    assert_eq!(response.status(), status, "{kind}");
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert!(!is_replayed(&response));
    let kind = format!("urn:firstclaim:problem:{kind}");
    async move {
        let text = response.text().await.unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(document["type"], *kind);
        assert_eq!(document["status"], status);
        document
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until<F: FnMut() -> bool>(mut is_so: F) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "waited in vain at {caller}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
