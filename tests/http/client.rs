//! The client's layer: one key, kept over retries, until there is an answer for good.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use firstclaim::client::RetryLayer;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::kit::Server;

/// What a stand-in for a server answers, in turn; nothing for a connection that breaks.
type Answers = Arc<Mutex<VecDeque<Option<Response<()>>>>>;
/// The keys that it was sent, and when.
type Asked = Arc<Mutex<Vec<(String, Instant)>>>;

fn answer(status: u16, headers: &[(&str, &str)]) -> Option<Response<()>> {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    Some(answer.body(()).unwrap())
}

fn client(
    layer: RetryLayer,
    answers: impl IntoIterator<Item = Option<Response<()>>>,
) -> (
    impl Service<Request<Bytes>, Response = Response<()>, Error = &'static str, Future: Send> + Clone,
    Asked,
) {
    let answers: Answers = Arc::new(Mutex::new(answers.into_iter().collect()));
    let asked = Asked::default();
    let seen = asked.clone();
    let server = service_fn(move |request: Request<Bytes>| {
        let key = request.headers().get("idempotency-key");
        let key = key.map_or("", |key| key.to_str().unwrap()).to_owned();
        seen.lock().unwrap().push((key, Instant::now()));
        let answer = answers
            .lock()
            .unwrap()
            .pop_front()
            .expect("an answer is left");
        async move { answer.ok_or("the connection broke") }
    });
    (ServiceBuilder::new().layer(layer).service(server), asked)
}

fn order() -> Request<Bytes> {
    Request::post("/orders")
        .body(Bytes::from_static(b"order"))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_key_is_kept_over_all_tries() {
    let answers = [
        None,
        answer(503, &[]),
        answer(409, &[("retry-after", "1")]),
        answer(201, &[]),
    ];
    let (client, asked) = client(RetryLayer::new(), answers);
    let last = client.clone().oneshot(order()).await.unwrap();
    assert_eq!(last.status(), 201);
    let keys: Vec<String> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|(key, _)| key.clone())
        .collect();
    assert_eq!(keys.len(), 4);
    assert!(
        keys[0].starts_with('"') && keys[0].len() == 38,
        "{}",
        keys[0]
    );
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[tokio::test(start_paused = true)]
async fn every_operation_has_a_key_of_its_own_unless_it_brings_one() {
    let (client, asked) = client(RetryLayer::new(), (0..3).map(|_| answer(200, &[])));
    client.clone().oneshot(order()).await.unwrap();
    client.clone().oneshot(order()).await.unwrap();
    let mut own = order();
    own.headers_mut()
        .insert("idempotency-key", "mine".parse().unwrap());
    client.clone().oneshot(own).await.unwrap();
    let asked = asked.lock().unwrap();
    assert_ne!(asked[0].0, asked[1].0);
    assert_eq!(asked[2].0, "mine");
}

#[tokio::test(start_paused = true)]
async fn what_will_not_change_is_the_last_answer() {
    for last in [
        answer(400, &[]),
        answer(422, &[("retry-after", "1")]),
        answer(410, &[]),
        answer(409, &[]),
        answer(500, &[("idempotency-replayed", "true")]),
        answer(
            503,
            &[("idempotency-replayed", "true"), ("retry-after", "1")],
        ),
    ] {
        let status = last.as_ref().unwrap().status();
        let (client, asked) = client(RetryLayer::new(), [last]);
        assert_eq!(client.oneshot(order()).await.unwrap().status(), status);
        assert_eq!(asked.lock().unwrap().len(), 1, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_as_long_as_the_server_says() {
    let answers = [answer(503, &[("retry-after", "7")]), answer(201, &[])];
    let (client, asked) = client(RetryLayer::new(), answers);
    client.oneshot(order()).await.unwrap();
    let asked = asked.lock().unwrap();
    let waited = asked[1].1 - asked[0].1;
    // The timer's own step is a millisecond.
    assert!(waited >= Duration::from_secs(7), "{waited:?}");
    assert!(waited < Duration::from_millis(7_010), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn tries_end() {
    let layer = RetryLayer::new().tries(3);
    let (failing, asked) = client(layer.clone(), [None, None, None]);
    assert!(failing.oneshot(order()).await.is_err());
    assert_eq!(asked.lock().unwrap().len(), 3);
    let (busy, asked) = client(layer, (0..3).map(|_| answer(503, &[])));
    assert_eq!(busy.oneshot(order()).await.unwrap().status(), 503);
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn other_methods_pass_through() {
    let (client, asked) = client(RetryLayer::new(), [answer(503, &[])]);
    let get = Request::get("/orders").body(Bytes::new()).unwrap();
    assert_eq!(client.oneshot(get).await.unwrap().status(), 503);
    assert_eq!(asked.lock().unwrap()[0].0, "");
}

/// With a real client and the server's layer.
#[tokio::test]
async fn an_operation_that_is_refused_at_first_is_carried_out_once() {
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = keys.clone();
    let operation = async move |headers: HeaderMap, attempt: firstclaim::Attempt, body: Bytes| {
        seen.lock()
            .unwrap()
            .push(headers["idempotency-key"].clone());
        match attempt.attempt() {
            1 | 2 => (axum::http::StatusCode::SERVICE_UNAVAILABLE, body),
            _ => (axum::http::StatusCode::CREATED, body),
        }
    };
    let server = Server::start(operation).await;
    let http = reqwest::Client::new();
    let send = service_fn(move |request: Request<Bytes>| {
        let http = http.clone();
        async move {
            let response = http.execute(request.try_into()?).await?;
            Ok::<_, reqwest::Error>(Response::<reqwest::Body>::from(response))
        }
    });
    let layer = RetryLayer::new().first_wait(Duration::from_millis(10));
    let client = ServiceBuilder::new().layer(layer).service(send);
    let url = format!("http://{}/op", server.address);
    let order = Request::post(url)
        .body(Bytes::from_static(b"order"))
        .unwrap();
    let answer = client.oneshot(order).await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(server.calls(), 3);
    let keys = keys.lock().unwrap();
    assert!(keys.iter().all(|key| *key == keys[0]));
}
