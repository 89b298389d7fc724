//! Duplicates of what is running.

use std::sync::Arc;
use std::time::Duration;

use firstclaim::{Builder, Claim, Fingerprint, IdempotencyLayer, Takeover};
use tokio::sync::Semaphore;

use crate::kit::{PATIENCE, Server, is_replayed, problem, until};

fn no_wait(layer: IdempotencyLayer) -> IdempotencyLayer {
    layer.wait_for(Duration::ZERO)
}

/// A server whose operation ends when it is let, and what lets it.
macro_rules! held_server {
    ($set:expr) => {{
        let gate = Arc::new(Semaphore::new(0));
        let own = gate.clone();
        let operation = async move || {
            own.acquire().await.unwrap().forget();
            "created"
        };
        (gate, Server::with($set, operation).await)
    }};
}

#[tokio::test]
async fn a_duplicate_waits_and_gets_the_first_ones_answer() {
    let (gate, server) = held_server!(|layer| layer);
    let first = tokio::spawn(server.post("k").send());
    until(|| server.calls() == 1).await;
    let duplicates: Vec<_> = (0..3)
        .map(|_| tokio::spawn(server.post("k").send()))
        .collect();
    until(|| server.store.stats().waiters == 3).await;
    gate.add_permits(1);
    let first = first.await.unwrap().unwrap();
    assert!(!is_replayed(&first));
    for duplicate in duplicates {
        let duplicate = duplicate.await.unwrap().unwrap();
        assert!(is_replayed(&duplicate));
        assert_eq!(duplicate.text().await.unwrap(), "created");
    }
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_duplicate_that_waited_in_vain_gets_409_and_retry_after() {
    let (gate, server) = held_server!(no_wait);
    let first = tokio::spawn(server.post("k").send());
    until(|| server.calls() == 1).await;
    let duplicate = server.send("k").await;
    assert_eq!(duplicate.headers()["retry-after"], "1");
    problem(duplicate, 409, "in-flight").await;
    gate.add_permits(1);
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    assert!(is_replayed(&server.send("k").await));
}

#[tokio::test]
async fn sixty_four_connections_racing_on_one_key_run_it_once() {
    let operation = async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        "created"
    };
    let server = Server::with(|layer| layer.wait_for(PATIENCE), operation).await;
    for round in 0..5 {
        let key = format!("k{round}");
        let raw = format!(
            "POST /op HTTP/1.1\r\nHost: h\r\nConnection: close\r\nIdempotency-Key: {key}\r\nContent-Length: 4\r\n\r\norde"
        );
        // All connected, and all but sent.
        let mut connections = Vec::new();
        for _ in 0..64 {
            let mut connection = server.connect().await;
            use tokio::io::AsyncWriteExt;
            connection
                .write_all(&raw.as_bytes()[..raw.len() - 1])
                .await
                .unwrap();
            connections.push(connection);
        }
        let answers: Vec<_> = connections
            .into_iter()
            .map(|mut connection| {
                tokio::spawn(async move {
                    use tokio::io::AsyncWriteExt;
                    connection.write_all(b"e").await.unwrap();
                    crate::kit::read_all(connection).await
                })
            })
            .collect();
        let mut first = 0;
        for answer in answers {
            let answer = answer.await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.ends_with("created"), "{answer}");
            first += usize::from(!answer.contains("idempotency-replayed: true"));
        }
        assert_eq!(first, 1);
        assert_eq!(server.calls(), round + 1);
    }
}

#[tokio::test]
async fn a_key_that_was_cut_short_under_never_is_409_of_another_kind() {
    let store = Builder::in_memory()
        .takeover(Takeover::Never)
        .open()
        .unwrap();
    let fingerprint = Fingerprint::from([7; 32]);
    let set = |layer: IdempotencyLayer| layer.fingerprint(move |_, _| fingerprint);
    let server = Server::on(store, set, async || "created").await;
    let request = server
        .store
        .request("acct_42", "k")
        .fingerprint(fingerprint);
    drop(request.claim().unwrap());
    let answer = server.send("k").await;
    assert!(!answer.headers().contains_key("retry-after"));
    problem(answer, 409, "interrupted").await;
    assert_eq!(server.calls(), 0);

    // Until somebody decides.
    let Some(Claim::Claimed(lease)) = server.store.resolve("acct_42", "k").unwrap() else {
        panic!("there is something to resolve");
    };
    lease.release().unwrap();
    drop(lease);
    let answer = server.send("k").await;
    // A release does not hide the interruption, so `Never` still holds it back.
    problem(answer, 409, "interrupted").await;
    assert!(server.store.forget("acct_42", "k").unwrap());
    assert_eq!(server.send("k").await.status(), 200);
}

#[tokio::test]
async fn one_cut_short_that_will_be_free_at_its_leases_end_is_worth_a_retry() {
    let store = Builder::in_memory()
        .takeover(Takeover::Expired)
        .open()
        .unwrap();
    let fingerprint = Fingerprint::from([7; 32]);
    let set = |layer: IdempotencyLayer| no_wait(layer).fingerprint(move |_, _| fingerprint);
    let server = Server::on(store, set, async || "created").await;
    let request = server
        .store
        .request("acct_42", "k")
        .fingerprint(fingerprint);
    drop(request.claim().unwrap());
    let answer = server.send("k").await;
    assert!(answer.headers().contains_key("retry-after"));
    problem(answer, 409, "in-flight").await;
}

#[tokio::test]
async fn when_the_first_is_released_one_that_waits_runs_it() {
    let gate = Arc::new(Semaphore::new(0));
    let own = gate.clone();
    let operation = async move |attempt: firstclaim::Attempt| {
        own.acquire().await.unwrap().forget();
        match attempt.attempt() {
            1 => axum::http::StatusCode::TOO_MANY_REQUESTS,
            _ => axum::http::StatusCode::CREATED,
        }
    };
    let server = Server::start(operation).await;
    let first = tokio::spawn(server.post("k").send());
    until(|| server.calls() == 1).await;
    let waiting: Vec<_> = (0..4)
        .map(|_| tokio::spawn(server.post("k").send()))
        .collect();
    until(|| server.store.stats().waiters == 4).await;
    gate.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap().status(), 429);
    let mut replayed = 0;
    for duplicate in waiting {
        let duplicate = duplicate.await.unwrap().unwrap();
        assert_eq!(duplicate.status(), 201);
        replayed += usize::from(is_replayed(&duplicate));
    }
    assert_eq!(replayed, 3);
    assert_eq!(server.calls(), 2);
}
