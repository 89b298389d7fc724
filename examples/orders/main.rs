//! A service that creates orders, each once, however often it is asked and whenever it is killed.
//!
//! ```text
//! cargo run --release --example orders --features axum -- --dir DIR --port PORT
//! ```
//!
//! | file | idea |
//! |---|---|
//! | `routes.rs` | **the part to read**: the layer, and the operation behind it |
//! | `account.rs` | whose orders: the bearer token, hashed |
//! | `ledger.rs` | the orders, in a file of their own |
//!
//! `POST /orders` creates one: `{"product_id":42,"quantity":1}`, with `?work_ms=` milliseconds of
//! work. `GET /orders` lists the caller's own. Both take `Authorization: Bearer TOKEN`; any token is
//! an account. Port 0 picks a free one. SIGTERM ends it in order.

mod account;
mod ledger;
mod routes;

use std::error::Error;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use firstclaim::Store;
use tokio::net::TcpListener;

use ledger::Ledger;

/// How long to wait, once told to end, for connections and operations.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one that is ending may still have the directory.
const OTHERS_PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match options(std::env::args().skip(1)) {
        Some((dir, port)) => serve(&dir, port).await,
        None => Err("usage: orders --dir DIR --port PORT".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orders: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Option<(PathBuf, u16)> {
    let (mut dir, mut port) = (None, None);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match &*name {
            "--dir" => dir = Some(PathBuf::from(value)),
            "--port" => port = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    Some((dir?, port?))
}

pub(crate) async fn serve(dir: &Path, port: u16) -> Result<(), Box<dyn Error>> {
    let end = end_is_asked_for()?;
    std::fs::create_dir_all(dir)?;
    let store = Store::builder(dir.join("keys.fc"));
    let store = store.wait_for_lock(OTHERS_PATIENCE).open()?;
    let ledger = Ledger::open(&dir.join("orders.jsonl"))?;
    let (routes, layer) = routes::routes(store.clone(), ledger);

    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let told = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let patience_is_over = {
        let told = told(stopped.clone());
        async move {
            told.await;
            tokio::time::sleep(PATIENCE).await;
        }
    };
    tokio::spawn(async move {
        end.await;
        let _ = stop.send(true);
    });
    let server = axum::serve(listener, routes).with_graceful_shutdown(told(stopped));
    tokio::select! {
        served = async move { server.await } => served?,
        () = patience_is_over => eprintln!("orders: some connections did not end"),
    }
    // Orders whose clients have gone.
    if !layer.drain(PATIENCE).await {
        eprintln!("orders: some orders are still being worked on");
    }
    tokio::task::spawn_blocking(move || store.close()).await??;
    Ok(())
}

#[cfg(unix)]
fn end_is_asked_for() -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn end_is_asked_for() -> std::io::Result<impl Future<Output = ()> + Send> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
