//! One measurement: a work by so many clients for so long, on an open store.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::engines::{Client, Peer, RESPONSE, Seen, Tasks};
use crate::key::Key;
use crate::usage::{Usage, peak_rss_bytes, reset_peak_rss};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A claim of a new key.
    Claim,
    /// A claim of a new key, and its completion with a 200-byte response.
    Cycle,
    /// A claim of a key that is done.
    Replay,
    /// A claim of a key that was done a moment ago.
    ReplayRecent,
    /// A claim of a key that is in flight.
    InFlight,
}

impl Work {
    pub fn name(self) -> &'static str {
        match self {
            Work::Claim => "claim",
            Work::Cycle => "cycle",
            Work::Replay => "replay",
            Work::ReplayRecent => "replay_recent",
            Work::InFlight => "in_flight",
        }
    }
}

/// An engine, and how many keys it was filled with.
#[derive(Debug, Clone)]
pub struct Filled {
    pub engine: String,
    pub live_keys: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cell {
    pub work: Work,
    pub clients: usize,
    /// For how long it is measured, after a tenth of that to warm up.
    pub seconds: f64,
    /// How long what is written in the meantime is kept.
    pub retain_seconds: f64,
}

/// From so many seconds on, a measurement goes over checkpoints and sweeps.
const SUSTAINED_SECONDS: f64 = 60.0;

impl Cell {
    pub fn is_sustained(self) -> bool {
        self.seconds >= SUSTAINED_SECONDS
    }
}

impl Row {
    pub fn is_sustained(&self) -> bool {
        self.seconds >= SUSTAINED_SECONDS
    }
}

/// What one round of a cell has shown of one engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub engine: String,
    pub work: String,
    pub clients: usize,
    pub live_keys: u64,
    pub seconds: f64,
    pub ops_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// Given to write calls; of a server, its sockets included.
    pub bytes_per_op: f64,
    /// Written by the block device.
    pub device_bytes_per_op: f64,
    pub cpu_us_per_op: f64,
    pub peak_rss_bytes: u64,
    /// The most keys stored at a time, where the engine can tell; else 0.
    pub most_stored_keys: u64,
    pub round: usize,
}

const WARMING: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Keys that are made for [`Work::InFlight`] and [`Work::ReplayRecent`].
const ASKED_KEYS: usize = 1000;

/// Measures a cell.
pub fn run(filled: &Filled, peer: &dyn Peer, cell: Cell, round: usize) -> Result<Row> {
    let asked: Vec<Key> = match cell.work {
        Work::InFlight | Work::ReplayRecent => (0..ASKED_KEYS).map(|_| Key::fresh()).collect(),
        _ => Vec::new(),
    };
    let mut holder = peer.client()?;
    for key in &asked {
        holder.claim(key, retention(cell))?;
        if cell.work == Work::ReplayRecent {
            holder.complete(key, &RESPONSE, retention(cell))?;
        }
    }
    let shared = Shared {
        filled,
        cell,
        asked,
        phase: Arc::new(AtomicU8::new(WARMING)),
        start: Barrier::new(cell.clients + 1),
    };
    let row = measure(peer, &shared, round);
    drop(holder);
    peer.tidy(cell)?;
    row
}

/// How long a cell's keys are kept: they outlive it, unless they are to be swept meanwhile.
fn retention(cell: Cell) -> Duration {
    Duration::from_secs_f64(cell.retain_seconds)
}

struct Shared<'f> {
    filled: &'f Filled,
    cell: Cell,
    asked: Vec<Key>,
    phase: Arc<AtomicU8>,
    start: Barrier,
}

fn measure(peer: &dyn Peer, shared: &Shared<'_>, round: usize) -> Result<Row> {
    let cell = shared.cell;
    let server = peer.server();
    reset_peak_rss(&server);
    let (latencies, spent) = match peer.tasks() {
        Some(tasks) => as_tasks(peer, &tasks, shared)?,
        None => as_threads(peer, shared)?,
    };
    let ops = latencies.len().max(1) as f64;
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Row {
        engine: shared.filled.engine.clone(),
        work: cell.work.name().to_owned(),
        clients: cell.clients,
        live_keys: shared.filled.live_keys,
        seconds: cell.seconds,
        ops_per_s: latencies.len() as f64 / spent.elapsed.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        bytes_per_op: spent.usage.written_bytes as f64 / ops,
        device_bytes_per_op: spent.usage.device_bytes as f64 / ops,
        cpu_us_per_op: spent.usage.cpu_us as f64 / ops,
        peak_rss_bytes: peak_rss_bytes(&server),
        most_stored_keys: spent.most_stored_keys,
        round,
    })
}

/// What a measurement took.
struct Spent {
    elapsed: Duration,
    usage: Usage,
    most_stored_keys: u64,
}

fn as_threads(peer: &dyn Peer, shared: &Shared<'_>) -> Result<(Histogram<u64>, Spent)> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..shared.cell.clients)
            .map(|_| scope.spawn(|| client(peer, shared)))
            .collect();
        shared.start.wait();
        // Its connections are there now.
        let spent = go_through_phases(peer, shared);
        let mut all = histogram()?;
        for client in clients {
            let latencies = client.join().map_err(|_| anyhow!("a client panicked"))??;
            all.add(latencies)?;
        }
        Ok((all, spent))
    })
}

fn as_tasks(
    peer: &dyn Peer,
    tasks: &Arc<dyn Tasks>,
    shared: &Shared<'_>,
) -> Result<(Histogram<u64>, Spent)> {
    let runtime = tokio::runtime::Runtime::new()?;
    let all = Arc::new(Mutex::new(histogram()?));
    let clients: Vec<_> = (0..shared.cell.clients)
        .map(|_| {
            let (tasks, phase, all) = (tasks.clone(), shared.phase.clone(), all.clone());
            runtime.spawn(task(tasks, shared.cell, phase, all))
        })
        .collect();
    let spent = go_through_phases(peer, shared);
    for client in clients {
        runtime.block_on(client)??;
    }
    let all = all.lock().clone();
    Ok((all, spent))
}

async fn task(
    tasks: Arc<dyn Tasks>,
    cell: Cell,
    phase: Arc<AtomicU8>,
    all: Arc<Mutex<Histogram<u64>>>,
) -> Result<()> {
    loop {
        let now = phase.load(Ordering::Relaxed);
        if now == OVER {
            return Ok(());
        }
        let begin = Instant::now();
        tasks.work(cell.work, Key::fresh(), retention(cell)).await?;
        if now == MEASURED {
            all.lock().record(begin.elapsed().as_nanos() as u64)?;
        }
    }
}

fn go_through_phases(peer: &dyn Peer, shared: &Shared<'_>) -> Spent {
    let (server, seconds) = (peer.server(), shared.cell.seconds);
    thread::sleep(Duration::from_secs_f64(seconds / 10.0));
    let (begin, before) = (Instant::now(), Usage::of_self_and(&server));
    shared.phase.store(MEASURED, Ordering::SeqCst);
    let mut most_stored_keys = 0;
    loop {
        let left = Duration::from_secs_f64(seconds).saturating_sub(begin.elapsed());
        if left.is_zero() {
            break;
        }
        thread::sleep(left.min(SAMPLE_EVERY));
        most_stored_keys = most_stored_keys.max(peer.stored_keys().unwrap_or(0));
    }
    shared.phase.store(OVER, Ordering::SeqCst);
    Spent {
        elapsed: begin.elapsed(),
        usage: Usage::of_self_and(&server).since(before),
        most_stored_keys,
    }
}

/// Nanoseconds, to two digits: every client has one, and they count as memory.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(2)?)
}

fn client(peer: &dyn Peer, shared: &Shared<'_>) -> Result<Histogram<u64>> {
    let opened = peer.client();
    shared.start.wait();
    let mut client = opened?;
    let mut latencies = histogram()?;
    let mut key = next_key(shared);
    loop {
        let phase = shared.phase.load(Ordering::Relaxed);
        if phase == OVER {
            return Ok(latencies);
        }
        let begin = Instant::now();
        work(&mut *client, shared.cell, &key)?;
        let taken = begin.elapsed();
        if phase == MEASURED {
            latencies.record(taken.as_nanos() as u64)?;
        }
        client.abandon();
        key = next_key(shared);
    }
}

fn next_key(shared: &Shared<'_>) -> Key {
    match shared.cell.work {
        Work::Claim | Work::Cycle => Key::fresh(),
        // Those that came last: they will be there for the longest.
        Work::Replay => {
            let live = shared.filled.live_keys;
            Key::live(fastrand::u64(live - live.div_ceil(2)..live))
        }
        Work::InFlight | Work::ReplayRecent => {
            shared.asked[fastrand::usize(..shared.asked.len())].clone()
        }
    }
}

fn work(client: &mut dyn Client, cell: Cell, key: &Key) -> Result<()> {
    let retain_for = retention(cell);
    match cell.work {
        Work::Claim => client.claim(key, retain_for),
        Work::Cycle => {
            client.claim(key, retain_for)?;
            client.complete(key, &RESPONSE, retain_for)
        }
        Work::Replay | Work::ReplayRecent => {
            let seen = client.ask(key).context("a key that is done")?;
            ensure!(matches!(seen, Seen::Done { bytes: 200 }), "{seen:?}");
            Ok(())
        }
        Work::InFlight => {
            let seen = client.ask(key)?;
            ensure!(seen == Seen::InFlight, "{seen:?}");
            Ok(())
        }
    }
}
