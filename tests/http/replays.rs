//! What a retry gets: the first answer again, as far as it is the operation's.

use axum::body::Body;
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use firstclaim::Store;

use crate::kit::{Server, is_replayed};

/// What is of the moment, or of the connection, beside what is of the operation.
const HEADERS: [(&str, &str); 16] = [
    ("location", "/orders/7"),
    ("link", "<a>"),
    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("x-b", "1"),
    ("link", "<b>"),
    ("set-cookie", "session=1"),
    ("access-control-allow-origin", "*"),
    ("access-control-expose-headers", "x-b"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("connection", "x-hop, keep-alive"),
    ("x-hop", "1"),
    ("upgrade", "websocket"),
    ("x-a", "2"),
    ("etag", "\"7\""),
    ("content-type", "text/x-order"),
];

async fn order() -> Response {
    let mut response = Response::builder().status(StatusCode::CREATED);
    for (name, value) in HEADERS {
        response = response.header(name, value);
    }
    response.body(Body::from("order 7")).unwrap()
}

fn lines(response: &reqwest::Response) -> Vec<String> {
    let lines = response.headers().iter();
    lines
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_replay_has_status_headers_in_order_with_duplicates_and_body() {
    let server = Server::start(order).await;
    let first = server.send("k").await;
    assert_eq!(first.status(), 201);
    assert!(!is_replayed(&first));
    for header in ["set-cookie", "access-control-allow-origin", "x-hop"] {
        assert!(
            first.headers().contains_key(header),
            "the first has {header}"
        );
    }
    assert_eq!(first.text().await.unwrap(), "order 7");

    let replay = server.send("k").await;
    assert_eq!(replay.status(), 201);
    assert!(is_replayed(&replay));
    let mut lines = lines(&replay);
    let date = lines.pop().unwrap();
    assert!(
        date.starts_with("date: ") && !date.contains("1994"),
        "{date}"
    );
    let expected = [
        "location: /orders/7",
        "link: <a>",
        "link: <b>",
        "x-b: 1",
        "x-a: 2",
        "etag: \"7\"",
        "content-type: text/x-order",
        "idempotency-replayed: true",
        "content-length: 7",
    ];
    lines.sort();
    let mut sorted = expected.map(str::to_owned);
    sorted.sort();
    assert_eq!(lines, sorted);
    assert_eq!(replay.text().await.unwrap(), "order 7");
    assert_eq!(server.calls(), 1);
}

/// As they are on the wire: a client's map of headers may have an order of its own.
#[tokio::test]
async fn headers_keep_their_order_on_the_wire() {
    let server = Server::start(order).await;
    server.send("k").await;
    let request = "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n";
    let answer = server.raw(request).await;
    let places = [
        "location: ",
        "link: <a>",
        "link: <b>",
        "x-b: ",
        "x-a: ",
        "etag: ",
    ];
    let places = places.map(|header| answer.find(header).expect(header));
    assert_eq!(places.iter().filter(|at| **at > 0).count(), places.len());
    // HTTP's map keeps a name's values together, at the place of the first.
    assert!(places.is_sorted(), "{answer}");
    assert!(answer.contains("\r\ncontent-length: 7\r\n"), "{answer}");
}

#[tokio::test]
async fn the_list_of_headers_that_are_not_stored_is_settable() {
    let server = Server::with(|layer| layer.headers_not_stored(["x-*", "Etag"]), order).await;
    server.send("k").await;
    let replay = server.send("k").await;
    for kept in ["set-cookie", "access-control-allow-origin", "location"] {
        assert!(replay.headers().contains_key(kept), "{kept}");
    }
    for gone in ["x-a", "x-b", "etag", "x-hop", "upgrade", "keep-alive"] {
        assert!(!replay.headers().contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn the_mark_of_a_replay_has_another_name_if_set_and_no_first_answer_has_it() {
    let name = HeaderName::from_static("x-again");
    let marked = async || [("x-again", "true"), ("idempotency-replayed", "true")];
    let server = Server::with(|layer| layer.replayed_header(name), marked).await;
    let first = server.send("k").await;
    assert!(!first.headers().contains_key("x-again"));
    assert!(first.headers().contains_key("idempotency-replayed"));
    let replay = server.send("k").await;
    assert_eq!(replay.headers()["x-again"], "true");

    let server = Server::start(marked).await;
    assert!(!is_replayed(&server.send("k").await));
    let replay = server.send("k").await;
    assert!(is_replayed(&replay));
    assert_eq!(
        replay
            .headers()
            .get_all("idempotency-replayed")
            .iter()
            .count(),
        1
    );
}

#[tokio::test]
async fn a_replay_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    {
        let server = Server::on(Store::open(&path).unwrap(), |layer| layer, order).await;
        server.send("k").await;
        server.store.close().unwrap();
    }
    let server = Server::on(Store::open(&path).unwrap(), |layer| layer, order).await;
    let replay = server.send("k").await;
    assert!(is_replayed(&replay));
    assert_eq!(replay.headers()["location"], "/orders/7");
    assert_eq!(replay.text().await.unwrap(), "order 7");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn bytes_that_are_no_text_come_back_as_they_were() {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let sent = bytes.clone();
    let server = Server::start(async move || sent).await;
    for _ in 0..2 {
        assert_eq!(server.send("k").await.bytes().await.unwrap(), bytes);
    }
    assert_eq!(server.calls(), 1);
}
