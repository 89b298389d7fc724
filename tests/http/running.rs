//! What runs: detached, bounded, kept alive, awaited at shutdown.

use std::sync::Arc;
use std::time::Duration;

use firstclaim::{Attempt, IdempotencyLayer, Previous, Takeover};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::kit::{PATIENCE, Server, is_replayed, problem, until};

const REQUEST: &str =
    "POST /op HTTP/1.1\r\nHost: h\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n";

/// A server whose operation ends when it is let, and what lets it.
async fn held(set: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer) -> (Arc<Semaphore>, Server) {
    let gate = Arc::new(Semaphore::new(0));
    let own = gate.clone();
    let operation = async move || {
        own.acquire().await.unwrap().forget();
        "created"
    };
    (gate, Server::with(set, operation).await)
}

#[tokio::test]
async fn an_operation_outlives_its_clients_connection() {
    let (gate, server) = held(|layer| layer).await;
    let mut connection = server.connect().await;
    connection.write_all(REQUEST.as_bytes()).await.unwrap();
    until(|| server.calls() == 1).await;
    drop(connection);
    // Until the server has seen it go.
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Whoever comes now finds it running.
    let retry = tokio::spawn(server.post("k").send());
    until(|| server.store.stats().waiters == 1).await;
    gate.add_permits(1);
    let retry = retry.await.unwrap().unwrap();
    assert!(is_replayed(&retry));
    assert_eq!(retry.text().await.unwrap(), "created");
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_drain_waits_for_operations_without_a_client() {
    let (gate, server) = held(|layer| layer).await;
    assert!(server.layer.drain(PATIENCE).await, "nothing runs");
    let mut connection = server.connect().await;
    connection.write_all(REQUEST.as_bytes()).await.unwrap();
    until(|| server.calls() == 1).await;
    drop(connection);
    assert!(!server.layer.drain(Duration::from_millis(20)).await);
    let layer = server.layer.clone();
    let drained = tokio::spawn(async move { layer.drain(PATIENCE).await });
    tokio::task::yield_now().await;
    gate.add_permits(1);
    assert!(drained.await.unwrap());
    // Its answer is stored: nothing has to be waited for.
    server.store.close().unwrap();
    assert!(server.store.stats().leases == 0);
}

#[tokio::test]
async fn while_a_drain_waits_no_operation_starts() {
    let (gate, server) = held(|layer| layer).await;
    let first = tokio::spawn(server.post("k").send());
    until(|| server.calls() == 1).await;
    let layer = server.layer.clone();
    let drained = tokio::spawn(async move { layer.drain(PATIENCE).await });
    let mut refused = server.send("other").await;
    let mut keys = 0;
    while refused.status() != 503 {
        // It was there before the drain.
        keys += 1;
        gate.add_permits(1);
        refused = server.send(&format!("other{keys}")).await;
    }
    problem(refused, 503, "too-many-running").await;
    gate.add_permits(1);
    assert!(first.await.unwrap().unwrap().status().is_success());
    assert!(drained.await.unwrap());
}

#[tokio::test]
async fn their_number_is_bounded_and_over_it_the_key_is_released() {
    let (gate, server) = held(|layer| layer.running_at_most(2)).await;
    let running: Vec<_> = ["a", "b"]
        .map(|key| tokio::spawn(server.post(key).send()))
        .into();
    until(|| server.calls() == 2).await;
    let over = server.send("c").await;
    assert_eq!(over.headers()["retry-after"], "1");
    problem(over, 503, "too-many-running").await;
    let released = server.store.peek("acct_42", "c").unwrap();
    assert!(
        matches!(released, Some(firstclaim::Peek::Released)),
        "{released:?}"
    );
    gate.add_permits(3);
    for answer in running {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    // Answered means that there is room again.
    assert_eq!(server.send("c").await.status(), 200);
    assert!(is_replayed(&server.send("a").await));
    assert_eq!(server.calls(), 3);
}

fn short_leases(layer: IdempotencyLayer) -> IdempotencyLayer {
    let lease_for = Duration::from_secs(2);
    let layer = layer.takeover(Takeover::GoneOrExpired);
    layer.lease_for(lease_for).wait_for(PATIENCE)
}

#[tokio::test]
async fn an_operation_longer_than_its_lease_is_not_taken_over() {
    let (gate, server) = held(short_leases).await;
    let first = tokio::spawn(server.post("k").send());
    until(|| server.calls() == 1).await;
    // Waits for the lease's end, should that come.
    let duplicate = tokio::spawn(server.post("k").send());
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(server.calls(), 1);
    gate.add_permits(1);
    assert!(!is_replayed(&first.await.unwrap().unwrap()));
    assert!(is_replayed(&duplicate.await.unwrap().unwrap()));
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_lease_is_kept_alive_up_to_a_set_time() {
    let gate = Arc::new(Semaphore::new(0));
    let own = gate.clone();
    let operation = async move |attempt: Attempt| {
        if attempt.attempt() == 1 {
            own.acquire().await.unwrap().forget();
            return "too late";
        }
        assert_eq!(attempt.previous(), Previous::Interrupted);
        "in time"
    };
    let set = |layer| short_leases(layer).keep_alive_for(Duration::from_secs(1));
    let server = Server::with(set, operation).await;
    let first = tokio::spawn(server.post("k").send());
    until(|| server.calls() == 1).await;
    let second = server.send("k").await;
    assert_eq!(second.text().await.unwrap(), "in time");
    gate.add_permits(1);
    // Replaced, it may not give an answer that no retry would get.
    let first = first.await.unwrap().unwrap();
    problem(first, 503, "not-recorded").await;
    let retry = server.send("k").await;
    assert!(is_replayed(&retry));
    assert_eq!(retry.text().await.unwrap(), "in time");
}

/// A connection that sends a request, and is closed some time later, wherever that hits.
async fn sent_and_left(server: &Server, key: &str, after: Duration, whole: bool) {
    let mut connection = server.connect().await;
    let request = REQUEST.replace(": k\r", &format!(": {key}\r"));
    let sent = if whole {
        request.len()
    } else {
        request.len() - 1
    };
    let _ = connection.write_all(&request.as_bytes()[..sent]).await;
    tokio::time::sleep(after).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_at_random_moments_leave_nothing_behind() {
    let operation = async || {
        tokio::time::sleep(Duration::from_millis(3)).await;
        "created"
    };
    let server = Arc::new(Server::start(operation).await);
    let seed: u64 = std::env::var("FIRSTCLAIM_SEED").map_or(0x5eed, |seed| seed.parse().unwrap());
    println!("FIRSTCLAIM_SEED={seed}");
    let mut random = seed;
    let mut next = |below: u64| {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (random >> 33) % below
    };
    let keys = 40;
    for _ in 0..10 {
        let left: Vec<_> = (0..60)
            .map(|_| {
                let (key, after, whole) = (next(keys), next(6_000), next(10) > 0);
                let server = server.clone();
                tokio::spawn(async move {
                    let after = Duration::from_micros(after);
                    sent_and_left(&server, &format!("k{key}"), after, whole).await;
                })
            })
            .collect();
        for left in left {
            left.await.unwrap();
        }
    }
    assert!(server.layer.drain(PATIENCE).await);
    until(|| server.store.stats().leases == 0 && server.store.stats().waiters == 0).await;
    for key in 0..keys {
        assert_eq!(
            server.send(&format!("k{key}")).await.text().await.unwrap(),
            "created"
        );
    }
    // No key was left in flight, and none ran twice.
    assert!(server.store.unfinished().unwrap().is_empty());
    assert_eq!(server.calls() as u64, keys);
}
