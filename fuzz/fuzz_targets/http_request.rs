//! The HTTP layer: whatever a request's headers and body are, and however its client leaves, there is
//! no panic, an answer that is stored is not made a second time, and a replay is that answer.
//!
//! Input: settings, then rounds of up to three requests at once. Each is what the operation answers,
//! and then the request: method, path, tenant, key, headers, body, and how long its client stays.

#![no_main]

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use firstclaim::http::{
    Attempt, Body, IdempotencyLayer, NotStored, Stored, Tenant, is_stored_by_default,
};
use firstclaim::{Store, http::fingerprint};
use firstclaim_fuzz::input::Input;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, ServiceExt, service_fn};

/// The layer's limit on bodies, both ways.
const LIMIT: usize = 64;
const MOST_ROUNDS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(30);

type Name = (Vec<u8>, Vec<u8>);

/// What is known of the operations of one input.
#[derive(Default)]
struct Model {
    running: HashSet<Name>,
    /// Answers that are stored, or may be.
    stored: HashMap<Name, Planned>,
    seen: HashSet<Name>,
}

/// What an operation will answer.
#[derive(Debug, Clone)]
struct Planned {
    status: StatusCode,
    mark: u8,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    yields: usize,
}

type Shared = Arc<Mutex<Model>>;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let settings = input.byte();
    runtime().block_on(async {
        let model = Shared::default();
        let layer = layer(settings);
        for _ in 0..MOST_ROUNDS {
            if input.is_empty() {
                break;
            }
            let requests = 1 + input.below(3);
            let sent: Vec<_> = (0..requests)
                .map(|_| send(&mut input, &layer, &model))
                .collect();
            for sent in sent {
                // The error of one whose client left.
                let _ = sent.await;
            }
        }
        assert!(layer.drain(PATIENCE).await, "an operation does not end");
        nothing_is_left(&model).await;
    });
});

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = || Builder::new_current_thread().enable_time().build();
    RUNTIME.get_or_init(|| runtime().expect("a runtime can be made"))
}

/// One store for all inputs, empty between them.
fn store() -> &'static Store {
    static STORE: OnceLock<Store> = OnceLock::new();
    STORE.get_or_init(|| Store::in_memory().expect("a new store opens"))
}

fn layer(settings: u8) -> IdempotencyLayer {
    let tenant = |request: &http::request::Parts| {
        let id = request
            .headers
            .get("x-tenant")
            .map_or(&b"t"[..], |id| id.as_bytes());
        Tenant::new(id).map_err(|_| Response::new(Full::new(Bytes::new())))
    };
    let layer = IdempotencyLayer::new(store().clone(), tenant)
        .required(settings & 1 == 0)
        .request_bytes(LIMIT)
        .response_bytes(LIMIT)
        .wait_for(Duration::from_millis(u64::from(settings >> 6)));
    match settings >> 1 & 3 {
        0 => layer,
        1 => layer.fingerprint(fingerprint::canonical_json),
        2 => layer.fingerprint(fingerprint::json_fields(["a", "/b/0"])),
        _ => layer.running_at_most(1),
    }
}

/// Sends a request in a task of its own, which may end before it is answered.
fn send(
    input: &mut Input<'_>,
    layer: &IdempotencyLayer,
    model: &Shared,
) -> tokio::task::JoinHandle<()> {
    let planned = planned(input);
    let request = request(input);
    let stays = match input.byte() {
        0..128 => None,
        polls => Some(usize::from(polls - 128)),
    };
    let (operation, model) = (operation(planned, model.clone()), model.clone());
    let asked = layer.layer(operation).oneshot(request);
    let task = tokio::spawn(async move {
        let answer = asked.await.unwrap_or_else(|never| match never {});
        check(answer, &model).await;
    });
    if let Some(yields) = stays {
        let client = task.abort_handle();
        tokio::spawn(async move {
            yield_times(yields).await;
            client.abort();
        });
    }
    task
}

async fn yield_times(times: usize) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

fn planned(input: &mut Input<'_>) -> Planned {
    let statuses = [201, 200, 204, 304, 500, 400, 503, 429, 404, 422];
    let choice = input.byte();
    Planned {
        status: StatusCode::from_u16(statuses[usize::from(choice % 16).min(9)]).expect("valid"),
        mark: choice >> 6,
        headers: if choice & 32 != 0 {
            headers(input)
        } else {
            Vec::new()
        },
        body: Bytes::from(vec![b'x'; usize::from(input.byte()) / 2]),
        yields: usize::from(choice >> 4 & 1) * 3,
    }
}

fn headers(input: &mut Input<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let names: [&[u8]; 12] = [
        b"link",
        b"connection",
        b"date",
        b"set-cookie",
        b"idempotency-replayed",
        b"content-type",
        b"access-control-allow-origin",
        b"x-a",
        b"x-tenant",
        b"idempotency-key",
        b"trailer",
        b"",
    ];
    let mut headers = Vec::new();
    for _ in 0..input.below(4) {
        let name = match input.pick(&names) {
            [] => string(input),
            name => name,
        };
        let value = string(input);
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.push((name, value));
        }
    }
    headers
}

fn string<'a>(input: &mut Input<'a>) -> &'a [u8] {
    let length = input.below(24);
    input.take(length)
}

/// Frames of a body; the last may be a failure.
struct Frames(VecDeque<Result<Bytes, std::io::Error>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(self.0.pop_front().map(|data| data.map(Frame::data)))
    }
}

fn request(input: &mut Input<'_>) -> Request<Frames> {
    let methods = [Method::POST, Method::PATCH, Method::GET, Method::HEAD];
    let paths = ["/orders", "/orders?a=1", "/", "*", "http://h/orders"];
    let keys: [&[u8]; 8] = [
        b"a",
        b"\"a\"",
        b"\"a\";b=1",
        b"b",
        b"\"b c\"",
        b"",
        b"a,b",
        b"\"",
    ];
    let mut request = Request::new(());
    *request.method_mut() = input.pick(&methods).clone();
    *request.uri_mut() = input.pick(&paths).parse().expect("valid");
    let tenant = HeaderValue::from_static(if input.byte() & 1 == 0 { "t" } else { "u" });
    request.headers_mut().insert("x-tenant", tenant);
    let key = match input.below(10) {
        known @ 0..8 => Some(keys[known]),
        8 => None,
        _ => Some(string(input)),
    };
    if let Some(Ok(key)) = key.map(HeaderValue::from_bytes) {
        request.headers_mut().insert("idempotency-key", key);
    }
    for (name, value) in headers(input) {
        request.headers_mut().append(name, value);
    }
    let mut frames: VecDeque<_> = (0..input.below(4))
        .map(|_| Ok(Bytes::copy_from_slice(string(input))))
        .collect();
    if frames.len() > 1 && input.byte() == 255 {
        frames.push_back(Err(std::io::Error::other("broken off")));
    }
    request.map(|()| Frames(frames))
}

/// The operation: told not to run again once its answer is stored, nor twice at once.
fn operation(
    planned: Planned,
    model: Shared,
) -> impl tower::Service<
    Request<Body>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    service_fn(move |request: Request<Body>| {
        let (planned, model) = (planned.clone(), model.clone());
        async move {
            let attempt = request.extensions().get::<Attempt>().cloned();
            if let Some(attempt) = attempt {
                let name = (attempt.tenant().to_vec(), attempt.key().to_vec());
                {
                    let mut model = known(&model);
                    model.seen.insert(name.clone());
                    assert!(
                        model.running.insert(name.clone()),
                        "{name:?} runs twice at once"
                    );
                    let before = model.stored.get(&name);
                    assert!(before.is_none(), "{name:?} runs again after {before:?}");
                }
                yield_times(planned.yields).await;
                let mut model = known(&model);
                model.running.remove(&name);
                if planned.is_stored() {
                    model.stored.insert(name, planned.clone());
                }
                return Ok(planned.answer());
            }
            // Without the layer's protection, what it answers passes through as it is.
            let mut answer = planned.answer();
            answer.headers_mut().remove("idempotency-replayed");
            Ok(answer)
        }
    })
}

fn known(model: &Shared) -> MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Planned {
    fn is_stored(&self) -> bool {
        match self.mark {
            1 => true,
            2 => false,
            _ => is_stored_by_default(self.status),
        }
    }

    fn answer(&self) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::new(self.body.clone()));
        *answer.status_mut() = self.status;
        for (name, value) in &self.headers {
            answer.headers_mut().append(name, value.clone());
        }
        match self.mark {
            1 => drop(answer.extensions_mut().insert(Stored)),
            2 => drop(answer.extensions_mut().insert(NotStored)),
            _ => {}
        }
        answer
    }
}

/// A replay is one of the answers that were stored, whole; no two first answers are for one key.
async fn check(answer: Response<Body>, model: &Shared) {
    let is_replayed = answer.headers().contains_key("idempotency-replayed");
    let status = answer.status();
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("no answer breaks off")
        .to_bytes();
    if is_replayed {
        let model = known(model);
        let same = |planned: &Planned| planned.status == status && planned.body == body;
        assert!(
            model.stored.values().any(same),
            "{status} {body:?} was never stored"
        );
        assert!(body.len() <= LIMIT);
    }
}

/// No lease is out, no key is in flight, and what was stored is done.
async fn nothing_is_left(model: &Shared) {
    let store = store();
    while store.stats().leases > 0 {
        tokio::task::yield_now().await;
    }
    let model = known(model);
    assert!(model.running.is_empty(), "{:?}", model.running);
    for name in &model.seen {
        let peeked = store.peek(&name.0, &name.1).expect("a valid name");
        let is_done = matches!(peeked, Some(firstclaim::Peek::Done(_)));
        assert_eq!(
            is_done,
            model.stored.contains_key(name),
            "{name:?}: {peeked:?}"
        );
        store.forget(&name.0, &name.1).expect("nobody holds it");
    }
    for unfinished in store.unfinished().expect("nothing is damaged") {
        let forgotten = store.forget(unfinished.tenant(), unfinished.key());
        assert!(forgotten.expect("nobody holds it"));
    }
}
