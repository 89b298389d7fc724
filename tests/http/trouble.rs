//! A disk that fails while an operation runs.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use firstclaim::{Builder, Error, IdempotencyLayer};
use tokio::sync::Semaphore;

use crate::faults::{Fate, FaultDisk, Op};
use crate::kit::{Server, is_replayed, problem, until};

/// A server on a disk that can be made to fail, whose operation ends when it is let.
async fn held(status: StatusCode) -> (FaultDisk, Arc<Semaphore>, Server) {
    let disk = FaultDisk::new();
    let store = Builder::on_disk(Arc::new(disk.clone())).open().unwrap();
    let gate = Arc::new(Semaphore::new(1));
    let own = gate.clone();
    let operation = async move || {
        own.acquire().await.unwrap().forget();
        (status, "the operation's answer")
    };
    let set = |layer: IdempotencyLayer| {
        layer
            .wait_for(Duration::ZERO)
            .problems(|problem, mut response| {
                let poisoned =
                    matches!(problem.error, Some(Error::Poisoned | Error::Indeterminate));
                response
                    .headers_mut()
                    .insert("x-poisoned", u64::from(poisoned).into());
                response
            })
    };
    let server = Server::on(store, set, operation).await;
    (disk, gate, server)
}

fn no_more_syncs(disk: &FaultDisk) {
    disk.fail(ErrorKind::Other, |event| event.op == Op::Sync);
}

#[tokio::test]
async fn an_answer_that_cannot_be_stored_is_not_given_and_its_key_stays_held() {
    let (disk, gate, server) = held(StatusCode::CREATED).await;
    assert_eq!(server.send("before").await.status(), 201);
    let running = tokio::spawn(server.post("k").send());
    until(|| server.calls() == 2).await;
    no_more_syncs(&disk);
    gate.add_permits(1);
    let answer = running.await.unwrap().unwrap();
    assert_eq!(answer.headers()["x-poisoned"], "1");
    let document = problem(answer, 503, "not-recorded").await;
    assert!(!document.to_string().contains("operation's answer"));

    // It ran, so a retry does not run it again.
    gate.add_permits(1);
    let retry = server.send("k").await;
    assert!(
        [409, 503].contains(&retry.status().as_u16()),
        "{}",
        retry.status()
    );
    // What was stored before is replayed, what is new is refused.
    assert!(is_replayed(&server.send("before").await));
    problem(server.send("new").await, 503, "store-unavailable").await;
    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn if_the_release_cannot_be_written_the_answer_is_503() {
    let (disk, gate, server) = held(StatusCode::TOO_MANY_REQUESTS).await;
    gate.acquire().await.unwrap().forget();
    let running = tokio::spawn(server.post("k").send());
    until(|| server.calls() == 1).await;
    no_more_syncs(&disk);
    gate.add_permits(1);
    let answer = running.await.unwrap().unwrap();
    problem(answer, 503, "store-unavailable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_stored_at_another_try_if_the_disk_is_slow_for_a_while() {
    let disk = FaultDisk::new();
    let store = Builder::on_disk(Arc::new(disk.clone())).queue_wait(Duration::from_millis(50));
    let gate = Arc::new(Semaphore::new(0));
    let own = gate.clone();
    let operation = async move || {
        own.acquire().await.unwrap().forget();
        StatusCode::CREATED
    };
    let server = Server::on(store.open().unwrap(), |layer| layer, operation).await;
    let running = tokio::spawn(server.post("k").send());
    until(|| server.calls() == 1).await;
    let slow = Arc::new(AtomicBool::new(true));
    let held = slow.clone();
    disk.set(move |event, _| {
        while event.op == Op::Sync && held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Fate::Happens
    });
    gate.add_permits(1);
    // The first try is over by then.
    tokio::time::sleep(Duration::from_millis(150)).await;
    slow.store(false, Ordering::SeqCst);
    assert_eq!(running.await.unwrap().unwrap().status(), 201);
    assert!(is_replayed(&server.send("k").await));
    assert_eq!(server.calls(), 1);
}
