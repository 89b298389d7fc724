//! What happens beside the calls: sweeping, and opening after a kill.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use firstclaim::internals::transition::{Command, Terms};
use firstclaim::internals::{Engine, RecordKey, Request};
use firstclaim::{Builder, Claim, Durability, ManualClock, Store, Takeover};
use hdrhistogram::Histogram;

use crate::engines::firstclaim::{engine, fill, limits};
use crate::key::Key;

const MILLION: u64 = 1_000_000;
const RETENTION: Duration = Duration::from_secs(3600);
const SMALL_RESPONSE: [u8; 20] = [b's'; 20];
/// Commands of one commit while filling.
const BATCH: u64 = 1000;
const CLIENTS: usize = 8;

/// Measures all, and prints each as it is there.
pub fn measure(directory: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(directory);
    sweep_alone(&directory.join("alone"))?;
    sweep_beside_claims(&directory.join("beside"))?;
    for live_keys in [10_000, 10 * MILLION] {
        open_after_kill(&directory.join(live_keys.to_string()), live_keys)?;
    }
    Ok(std::fs::remove_dir_all(directory)?)
}

/// Claims and completes `numbers`.
fn run(engine: &Engine, numbers: std::ops::Range<u64>) -> Result<()> {
    let terms = Terms {
        lease_for: Duration::from_secs(60),
        retain_for: RETENTION,
        takeover: Takeover::Gone,
        fingerprint: None,
    };
    let request = |n| {
        let Key { tenant, key } = Key::live(n);
        let key = RecordKey::new(tenant.as_bytes(), key.as_bytes(), 255)?;
        Ok(Request::new(key, Command::Claim(terms.clone())))
    };
    let claims = numbers.map(request).collect::<Result<Vec<_>>>()?;
    let mut completions = Vec::with_capacity(claims.len());
    for (claim, answer) in claims.iter().zip(engine.commit(&claims)) {
        let complete = Command::Complete {
            fence: answer?.record.context("a new key is claimed")?.fence,
            response: SMALL_RESPONSE.as_slice().into(),
            retain_for: None,
        };
        completions.push(Request::new(claim.key.clone(), complete));
    }
    for answer in engine.commit(&completions) {
        answer?;
    }
    Ok(())
}

/// A million small done records in the base, which all expire within an hour.
fn million(engine: &Engine) -> Result<()> {
    for first in (0..MILLION).step_by(BATCH as usize) {
        run(engine, first..first + BATCH)?;
    }
    Ok(engine.checkpoint()?)
}

fn sweep_alone(directory: &Path) -> Result<()> {
    let clock = ManualClock::at(SystemTime::now());
    let engine = engine(directory, Durability::PowerLoss, &clock)?;
    million(&engine)?;
    clock.advance(2 * RETENTION);
    let (begin, mut longest, mut rows) = (Instant::now(), Duration::ZERO, 0);
    loop {
        let one = Instant::now();
        let Some(swept) = engine.sweep_one()? else {
            break;
        };
        longest = longest.max(one.elapsed());
        rows += swept;
    }
    let taken = begin.elapsed();
    println!(
        "sweep of {rows} expired small records: {:.0} a second (bar: 1,000,000), longest transaction {longest:.1?} (bar: 100 ms)",
        rows as f64 / taken.as_secs_f64(),
    );
    Ok(engine.close()?)
}

fn sweep_beside_claims(directory: &Path) -> Result<()> {
    let clock = ManualClock::at(SystemTime::now());
    let engine = engine(directory, Durability::PowerLoss, &clock)?;
    million(&engine)?;
    engine.close()?;
    let store = Builder::new(directory)
        .limits(limits())
        .clock(clock.clone())
        .sweep_every(24 * RETENTION)
        .open()?;
    store.verify()?;
    let (without, ()) = claims_during(&store, || {
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    })?;
    clock.advance(2 * RETENTION);
    // The sweep alone: it would begin with a checkpoint of all these claims.
    store.checkpoint()?;
    let (with, taken) = claims_during(&store, || {
        let begin = Instant::now();
        while store.sweep()?.done > 0 {}
        Ok(begin.elapsed())
    })?;
    println!(
        "claims by {CLIENTS} during the sweep of a million, {taken:.1?}: p99 {:.0} µs, {:.2} times that without (bar: 2)",
        with / 1000.0,
        with / without
    );
    Ok(store.close()?)
}

/// The 99th percentile of claims while `meanwhile` runs.
fn claims_during<T>(store: &Store, meanwhile: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = || -> Result<Histogram<u64>> {
            let mut latencies = Histogram::new(3)?;
            while !over.load(Ordering::Relaxed) {
                let Key { tenant, key } = Key::fresh();
                let begin = Instant::now();
                // They do not expire with what is swept.
                let request = store.request(tenant, key).retain_for(24 * RETENTION);
                match request.claim()? {
                    Claim::Claimed(_) => latencies.record(begin.elapsed().as_nanos() as u64)?,
                    other => bail!("{other:?}"),
                }
            }
            Ok(latencies)
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let result = meanwhile();
        over.store(true, Ordering::Relaxed);
        let mut all = Histogram::<u64>::new(3)?;
        for client in clients {
            all.add(client.join().map_err(|_| anyhow::anyhow!("panicked"))??)?;
        }
        Ok((all.value_at_quantile(0.99) as f64, result?))
    })
}

/// Opens a store that was left with a full journal, and claims.
fn open_after_kill(directory: &Path, live_keys: u64) -> Result<()> {
    fill(directory, live_keys)?;
    let clock = ManualClock::at(SystemTime::now());
    let engine = engine(directory, Durability::PowerLoss, &clock)?;
    // One segment frozen, and the next one full: nothing is in the base yet.
    let before = newest_segment(directory)?;
    let mut keys = 0;
    let more = |keys: &mut u64| {
        *keys += BATCH;
        run(&engine, live_keys + *keys - BATCH..live_keys + *keys)
    };
    while newest_segment(directory)? == before {
        more(&mut keys)?;
    }
    for _ in 0..keys / BATCH - 1 {
        more(&mut keys)?;
    }
    // As a kill leaves it: the engine has no threads and writes nothing when it is dropped.
    drop(engine);
    let begin = Instant::now();
    let store = Builder::new(directory).open()?;
    let Key { tenant, key } = Key::fresh();
    let Claim::Claimed(lease) = store.claim(tenant, key)? else {
        bail!("a new key is claimed");
    };
    println!(
        "opening after a kill with {keys} records in the journal, beside {live_keys} keys, until the first claim is answered: {:.3} s (bars: 2 s; 0.3 s more beside 10 million than beside 10,000)",
        begin.elapsed().as_secs_f64()
    );
    lease.release()?;
    Ok(store.close()?)
}

/// The name of the newest segment: the last, in the order of names.
fn newest_segment(directory: &Path) -> Result<Option<String>> {
    let names = std::fs::read_dir(directory)?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with("journal-0")).max())
}
