//! Bodies: their limits, what breaks off, and answers that have none.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use firstclaim::{Builder, IdempotencyLayer, Limits};
use http_body::Frame;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use crate::kit::{Server, is_replayed, problem, read_all, until};

/// A body of these frames, and what comes through the channel after them.
struct Frames {
    first: std::vec::IntoIter<Frame<Bytes>>,
    rest: Option<mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>>,
}

impl Frames {
    fn of(frames: Vec<Frame<Bytes>>) -> Body {
        let first = frames.into_iter();
        Body::new(Frames { first, rest: None })
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if let Some(frame) = self.first.next() {
            return std::task::Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.rest {
            Some(rest) => rest.poll_recv(cx),
            None => std::task::Poll::Ready(None),
        }
    }
}

fn small(layer: IdempotencyLayer) -> IdempotencyLayer {
    layer.request_bytes(10).response_bytes(10)
}

#[tokio::test]
async fn a_request_over_the_limit_is_413_and_claims_nothing() {
    let server = Server::with(small, async |body: Bytes| body).await;
    let send = |body: &'static str| server.post("k").body(body).send();
    problem(send("12345678901").await.unwrap(), 413, "body-too-large").await;
    let chunked = "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n5\r\n78901\r\n0\r\n\r\n";
    let answer = server.raw(chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(server.calls(), 0);
    assert!(server.store.peek("acct_42", "k").unwrap().is_none());
    assert_eq!(
        send("1234567890").await.unwrap().text().await.unwrap(),
        "1234567890"
    );
}

#[tokio::test]
async fn the_default_limit_is_a_mebibyte() {
    let server = Server::start(async |body: Bytes| body.len().to_string()).await;
    let send = |bytes: usize| server.post("k").body(vec![7; bytes]).send();
    let over = send((1 << 20) + 1).await.unwrap();
    problem(over, 413, "body-too-large").await;
    let at = send(1 << 20).await.unwrap();
    assert_eq!(at.text().await.unwrap(), (1 << 20).to_string());
}

#[tokio::test]
async fn a_client_that_sends_far_too_much_still_sees_413() {
    let server = Server::start(async || "created").await;
    // As many clients do, it sends the whole before it reads anything.
    let head = "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: 3000000\r\n\r\n";
    let request = [head.as_bytes(), &[7; 3_000_000]].concat();
    let answer = server.raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // One that asks first is told at once, and sends nothing.
    let asks = "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: 100-continue\r\nIdempotency-Key: k\r\nContent-Length: 2000000\r\n\r\n";
    let answer = server.raw(asks).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_client_that_announces_too_much_and_sends_nothing_is_told_so() {
    let server = Server::start(async || "created").await;
    let head = "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: k\r\nContent-Length: 2000000\r\n\r\n";
    let answer = server.raw(head).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_request_that_breaks_off_claims_nothing() {
    let server = Server::start(async |body: Bytes| body).await;
    for head in [
        "Content-Length: 10\r\n\r\n12345",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n123",
    ] {
        let mut connection = server.connect().await;
        let request = format!(
            "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: k\r\n{head}"
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        connection.shutdown().await.unwrap();
        let answer = read_all(connection).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    // Broken chunks are seen while the connection is there to be answered.
    let broken = "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let answer = server.raw(broken).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(server.calls(), 0);
    assert!(server.store.peek("acct_42", "k").unwrap().is_none());
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_operation() {
    let operation = async |body: Body| {
        let mut body = Box::pin(body);
        let mut trailers = HeaderMap::new();
        let frame = async |body: &mut std::pin::Pin<Box<Body>>| {
            std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx)).await
        };
        while let Some(Ok(frame)) = frame(&mut body).await {
            trailers.extend(frame.into_trailers().unwrap_or_default());
        }
        trailers["checksum"].as_bytes().to_vec()
    };
    let server = Server::start(operation).await;
    let request = "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: k\r\nTrailer: checksum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nchecksum: 7\r\n\r\n";
    let answer = server.raw(request).await;
    assert!(answer.ends_with("\r\n\r\n7"), "{answer}");
}

#[tokio::test]
async fn an_answer_over_the_limit_streams_and_a_duplicate_gets_410() {
    let (send, receive) = mpsc::channel(1);
    let receive = std::sync::Arc::new(std::sync::Mutex::new(Some(receive)));
    let operation = async move || {
        let first = vec![Frame::data(Bytes::from_static(b"more than "))];
        let rest = receive.lock().unwrap().take();
        let first = first.into_iter();
        (StatusCode::CREATED, Body::new(Frames { first, rest })).into_response()
    };
    let server = Server::with(small, operation).await;
    send.send(Ok(Frame::data(Bytes::from_static(b"ten"))))
        .await
        .unwrap();
    let mut first = server.send("k").await;
    assert_eq!(first.status(), 201);
    assert!(!is_replayed(&first));
    assert_eq!(first.chunk().await.unwrap().unwrap(), "more than ten");

    // While it streams, the record says already that it cannot be replayed.
    let document = problem(server.send("k").await, 410, "not-replayable").await;
    assert!(document["detail"].as_str().unwrap().contains("201"));
    send.send(Ok(Frame::data(Bytes::from_static(b" bytes"))))
        .await
        .unwrap();
    drop(send);
    assert_eq!(first.chunk().await.unwrap().unwrap(), " bytes");
    assert!(first.chunk().await.unwrap().is_none());
    problem(server.send("k").await, 410, "not-replayable").await;
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn an_answer_at_the_limit_is_stored() {
    let server = Server::with(small, async || "1234567890").await;
    server.send("k").await;
    assert!(is_replayed(&server.send("k").await));
}

#[tokio::test]
async fn an_answer_that_the_store_has_no_room_for_is_sent_and_not_replayable() {
    let limits = Limits {
        response_bytes: 100,
        ..Limits::default()
    };
    for (bytes, fits) in [(30, true), (90, false)] {
        let store = Builder::in_memory().limits(limits).open().unwrap();
        let server = Server::on(store, |layer| layer, async move || "x".repeat(bytes)).await;
        assert_eq!(server.send("k").await.text().await.unwrap().len(), bytes);
        let again = server.send("k").await;
        if fits {
            assert!(is_replayed(&again));
        } else {
            problem(again, 410, "not-replayable").await;
        }
        assert_eq!(server.calls(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_so_for_the_client_and_is_not_replayable() {
    let operation = async || {
        let (send, rest) = mpsc::channel(1);
        let broken = std::io::Error::other("broken");
        send.send(Err(broken)).await.unwrap();
        let first = vec![Frame::data(Bytes::from_static(b"half"))].into_iter();
        Body::new(Frames {
            first,
            rest: Some(rest),
        })
        .into_response()
    };
    let server = Server::start(operation).await;
    // Before or after its head was sent.
    let first = server.post("k").send().await;
    assert!(match first {
        Ok(first) => first.text().await.is_err(),
        Err(_) => true,
    });
    problem(server.send("k").await, 410, "not-replayable").await;
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn an_answer_that_is_not_stored_streams() {
    let (send, receive) = mpsc::channel(1);
    let receive = std::sync::Arc::new(std::sync::Mutex::new(Some(receive)));
    let operation = async move || {
        let (first, rest) = (Vec::new().into_iter(), receive.lock().unwrap().take());
        (
            StatusCode::SERVICE_UNAVAILABLE,
            Body::new(Frames { first, rest }),
        )
            .into_response()
    };
    let server = Server::start(operation).await;
    let mut first = server.send("k").await;
    send.send(Ok(Frame::data(Bytes::from_static(b"later"))))
        .await
        .unwrap();
    assert_eq!(first.chunk().await.unwrap().unwrap(), "later");
}

const WITH_TRAILERS: &str = "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTE: trailers\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn trailers_are_sent_and_replayed() {
    let operation = async || -> Response {
        let mut trailers = HeaderMap::new();
        trailers.insert("checksum", "7".parse().unwrap());
        let frames = vec![
            Frame::data(Bytes::from_static(b"order")),
            Frame::trailers(trailers),
        ];
        ([("trailer", "checksum")], Frames::of(frames)).into_response()
    };
    let server = Server::start(operation).await;
    for replayed in [false, true] {
        let answer = server.raw(WITH_TRAILERS).await;
        assert!(
            answer.contains("transfer-encoding: chunked\r\n"),
            "{answer}"
        );
        assert!(answer.contains("trailer: checksum\r\n"), "{answer}");
        assert!(
            answer.ends_with("5\r\norder\r\n0\r\nchecksum: 7\r\n\r\n"),
            "{answer}"
        );
        assert_eq!(
            answer.contains("idempotency-replayed"),
            replayed,
            "{answer}"
        );
    }
}

#[tokio::test]
async fn head_is_answered_and_replayed_without_a_body_and_with_its_length() {
    let operation = async || ([("content-length", "5")], ()).into_response();
    let set = |layer: IdempotencyLayer| layer.methods([Method::HEAD]);
    let server = Server::with(set, operation).await;
    let request = "HEAD /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: k\r\n\r\n";
    for replayed in [false, true] {
        let answer = server.raw(request).await;
        assert!(answer.contains("content-length: 5\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(
            answer.contains("idempotency-replayed"),
            replayed,
            "{answer}"
        );
    }
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn answers_without_a_body_are_replayed_without_one() {
    for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
        let server = Server::start(async move || (status, [("etag", "\"7\"")])).await;
        let request = WITH_TRAILERS.replace("TE: trailers\r\n", "");
        for replayed in [false, true] {
            let answer = server.raw(&request).await;
            let line = format!("HTTP/1.1 {}", status.as_u16());
            assert!(answer.starts_with(&line), "{answer}");
            assert!(answer.ends_with("\r\n\r\n"), "{answer}");
            assert!(answer.contains("etag: \"7\"\r\n"), "{answer}");
            assert_eq!(
                answer.contains("idempotency-replayed"),
                replayed,
                "{answer}"
            );
        }
    }
}

#[tokio::test]
async fn a_replays_length_is_that_of_its_body() {
    let chunks = async || {
        let chunk = || Frame::data(Bytes::from_static(b"chunk"));
        Frames::of(vec![chunk(), chunk()]).into_response()
    };
    let server = Server::start(chunks).await;
    let request = WITH_TRAILERS.replace("TE: trailers\r\n", "");
    server.raw(&request).await;
    let answer = server.raw(&request).await;
    assert!(answer.contains("content-length: 10\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nchunkchunk"), "{answer}");
}

#[tokio::test]
async fn a_body_of_many_small_pieces_is_one_body() {
    let server = Server::start(async |body: Bytes| body).await;
    let pieces = "1\r\nx\r\n".repeat(5_000);
    let request = format!(
        "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: k\r\nTransfer-Encoding: chunked\r\n\r\n{pieces}0\r\n\r\n"
    );
    for _ in 0..2 {
        let answer = server.raw(&request).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{}", "x".repeat(5_000))));
    }
    assert_eq!(server.calls(), 1);
}

/// An operation may stream its answer for long; what it says before the limit is not sent early.
#[tokio::test]
async fn a_client_that_leaves_a_stream_does_not_free_the_key() {
    let (send, receive) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let receive = std::sync::Arc::new(std::sync::Mutex::new(Some(receive)));
    let operation = async move || {
        let first = vec![Frame::data(Bytes::from(vec![b'x'; 11]))].into_iter();
        let rest = receive.lock().unwrap().take();
        Body::new(Frames { first, rest }).into_response()
    };
    let server = Server::with(small, operation).await;
    let mut first = server.send("k").await;
    first.chunk().await.unwrap();
    drop(first);
    until(|| send.is_closed()).await;
    problem(server.send("k").await, 410, "not-replayable").await;
}
