//! Mixed traffic for a while, and then: nothing is left of it. In a program of its own, since it
//! counts the whole process's file descriptors. `FIRSTCLAIM_SOAK_SECONDS` says for how long.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::result_large_err)]

#[path = "http/kit.rs"]
#[allow(dead_code)]
mod kit;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use firstclaim::{Attempt, IdempotencyLayer, Store};
use kit::{PATIENCE, Server, until};
use tokio::io::AsyncWriteExt;

const CLIENTS: u64 = 16;

/// How often each key's operation came to an answer that is stored.
type Carried = Arc<Mutex<HashMap<String, u32>>>;

/// What a key's operation does, by the key's number.
async fn operation(attempt: Attempt, carried: Carried) -> Response {
    let key = String::from_utf8(attempt.key().to_vec()).unwrap();
    let number: u64 = key.strip_prefix('k').unwrap().parse().unwrap();
    tokio::time::sleep(Duration::from_millis(number % 7)).await;
    if number.is_multiple_of(5) && attempt.attempt() < 3 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    *carried.lock().unwrap().entry(key).or_default() += 1;
    match number % 11 {
        0 => panic!("a bug of the operation's"),
        1 => "x".repeat(10_000).into_response(),
        2 => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => (StatusCode::CREATED, [("location", "/here")]).into_response(),
    }
}

/// One client's number, and the next of a sequence of its own.
fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    *state >> 33
}

async fn ask(server: &Server, newest: &AtomicU64, state: &mut u64) {
    let number = match random(state) % 4 {
        0 => newest.fetch_add(1, Ordering::Relaxed),
        _ => newest
            .load(Ordering::Relaxed)
            .saturating_sub(random(state) % 40),
    };
    let key = format!("k{number}");
    match random(state) % 20 {
        0 => drop(server.post("a,b").send().await.unwrap()),
        1 => drop(server.post(&key).body("other").send().await.unwrap()),
        2 => drop(server.post(&key).body(vec![0; 3_000]).send().await),
        3 | 4 => {
            let mut connection = server.connect().await;
            let request = format!(
                "POST /op HTTP/1.1\r\nHost: h\r\nIdempotency-Key: {key}\r\nContent-Length: 0\r\n\r\n"
            );
            connection.write_all(request.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_micros(random(state) % 9_000)).await;
        }
        _ => {
            let answer = server.send(&key).await;
            let status = answer.status().as_u16();
            let _ = answer.bytes().await;
            assert!(
                [201, 200, 500, 503, 409, 410, 422].contains(&status),
                "{status}"
            );
        }
    }
}

#[cfg(target_os = "linux")]
fn file_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[cfg(not(target_os = "linux"))]
fn file_descriptors() -> usize {
    0
}

fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mixed_traffic_leaves_nothing_behind_and_runs_nothing_twice() {
    let seconds = std::env::var("FIRSTCLAIM_SOAK_SECONDS").map_or(10, |s| s.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let carried = Carried::default();
    let own = carried.clone();
    let set = |layer: IdempotencyLayer| {
        let layer = layer.request_bytes(2_000).response_bytes(5_000);
        layer
            .running_at_most(12)
            .wait_for(Duration::from_millis(50))
    };
    let counted = async move |attempt| operation(attempt, own).await;
    let server = Arc::new(Server::on(store, set, counted).await);
    let (tasks_before, files_before) = (tasks(), file_descriptors());
    let newest = Arc::new(AtomicU64::new(50));
    let end = Instant::now() + Duration::from_secs(seconds);
    let asked = Arc::new(AtomicU64::new(0));
    // The panics of operations would be most of what is printed.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.to_string().contains("a bug of the operation's") {
            hook(panic);
        }
    }));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (server, newest, asked) = (server.clone(), newest.clone(), asked.clone());
            tokio::spawn(async move {
                let mut state = client;
                while Instant::now() < end {
                    ask(&server, &newest, &mut state).await;
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let mut server = Arc::try_unwrap(server).ok().unwrap();
    server.hang_up();
    assert!(server.layer.drain(PATIENCE).await);
    let store = server.store.clone();
    until(|| store.stats().leases == 0 && store.stats().waiters == 0).await;
    until(|| store.stats().queued == 0).await;
    until(|| tasks() <= tasks_before).await;
    until(|| file_descriptors() <= files_before).await;
    for unfinished in store.unfinished().unwrap() {
        assert_eq!(unfinished.state(), firstclaim::UnfinishedState::Released);
    }
    let carried = carried.lock().unwrap();
    let twice: Vec<_> = carried.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    println!(
        "{} requests, {} keys carried out",
        asked.load(Ordering::Relaxed),
        carried.len()
    );
    assert!(carried.len() > 50);
}
