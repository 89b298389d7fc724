//! Where the key is, what it may be, and which requests need one.

use axum::http::{HeaderName, Method};

use crate::kit::{Server, is_replayed, problem};

async fn created() -> &'static str {
    "created"
}

#[tokio::test]
async fn a_request_without_a_key_is_refused_and_runs_nothing() {
    let server = Server::start(created).await;
    for method in [Method::POST, Method::PATCH] {
        let answer = server.request(method, "/op").send().await.unwrap();
        problem(answer, 400, "key-missing").await;
    }
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn where_no_key_is_required_a_request_without_one_is_unprotected() {
    let server = Server::with(|layer| layer.required(false), created).await;
    for _ in 0..2 {
        let answer = server.request(Method::POST, "/op").send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "created");
    }
    assert_eq!(server.calls(), 2);
    // One that is there must be right all the same.
    problem(server.send("a,b").await, 400, "key-invalid").await;
    server.send("k").await;
    assert!(is_replayed(&server.send("k").await));
    assert_eq!(server.calls(), 3);
}

#[tokio::test]
async fn other_methods_pass_through_and_the_list_is_settable() {
    let server = Server::start(created).await;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = server.request(method, "/op").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(server.calls(), 4);

    let server = Server::with(|layer| layer.methods([Method::PUT]), created).await;
    let answer = server.request(Method::PUT, "/op").send().await.unwrap();
    problem(answer, 400, "key-missing").await;
    let answer = server.request(Method::POST, "/op").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn the_header_has_another_name_if_set() {
    let name = HeaderName::from_static("x-operation");
    let server = Server::with(|layer| layer.key_header(name), created).await;
    problem(server.send("k").await, 400, "key-missing").await;
    for replayed in [false, true] {
        let request = server.request(Method::POST, "/op");
        let answer = request.header("x-operation", "k").send().await.unwrap();
        assert_eq!(is_replayed(&answer), replayed);
    }
}

#[tokio::test]
async fn both_forms_mean_the_same_key() {
    let server = Server::start(created).await;
    assert!(!is_replayed(&server.send("9f1c-42").await));
    for same in ["\"9f1c-42\"", "\"9f1c-42\";v=1", "9f1c-42"] {
        assert!(is_replayed(&server.send(same).await), "{same}");
    }
    assert!(!is_replayed(&server.send("9F1C-42").await));
    assert_eq!(server.calls(), 2);
}

/// As bytes, since clients do not send them.
#[tokio::test]
async fn what_is_no_key_is_400_and_runs_nothing() {
    let long = "k".repeat(256);
    let long_quoted = format!("\"{long}\"");
    let values: [&[u8]; 18] = [
        b"",
        b"   ",
        b"\"\"",
        b"a,b",
        b"a, a",
        b"\"a\", \"b\"",
        b"a;b=1",
        b"a b",
        b"a\\b",
        b"a\"",
        b"\"a",
        b"\"a\" b",
        b"\"a\\n\"",
        b"\"a\";;",
        b"caf\xc3\xa9",
        b"a\tb",
        long.as_bytes(),
        long_quoted.as_bytes(),
    ];
    let server = Server::start(created).await;
    for value in values {
        let key = [b"Idempotency-Key: ", value].concat();
        is_refused(&server, &key).await;
    }
    for repeated in [
        "Idempotency-Key: a\r\nIdempotency-Key: a",
        "Idempotency-Key: a\r\nidempotency-key: b",
        "Idempotency-Key: \"a\r\nIdempotency-Key: b\"",
    ] {
        is_refused(&server, repeated.as_bytes()).await;
    }
    assert_eq!(server.calls(), 0);
    assert!(server.store.unfinished().unwrap().is_empty());
}

async fn is_refused(server: &Server, header: &[u8]) {
    let head = b"POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n";
    let request = [head, header, b"\r\n\r\n"].concat();
    let answer = server.raw(request).await;
    let header = String::from_utf8_lossy(header);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{header}: {answer}");
    assert!(answer.contains("problem:key-invalid"), "{header}: {answer}");
}

#[tokio::test]
async fn the_longest_key_is_255_characters() {
    let server = Server::start(created).await;
    let longest = "k".repeat(255);
    assert!(!is_replayed(&server.send(&longest).await));
    assert!(is_replayed(&server.send(&format!("\"{longest}\"")).await));
}

#[tokio::test]
async fn tenants_are_apart_and_one_who_is_refused_is_answered_by_the_closure() {
    let server = Server::start(created).await;
    let by = |account: &str| server.post("k").header("x-account", account).send();
    assert!(!is_replayed(&by("a").await.unwrap()));
    assert!(!is_replayed(&by("b").await.unwrap()));
    assert!(is_replayed(&by("a").await.unwrap()));
    let refused = by("nobody").await.unwrap();
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.text().await.unwrap(), "who?");
    assert_eq!(server.calls(), 2);
}
