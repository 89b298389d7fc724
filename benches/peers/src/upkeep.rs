//! What happens beside the calls: sweeping, and opening after a kill.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use firstclaim::internals::transition::{Command, Terms};
use firstclaim::internals::{Engine, RecordKey, Request};
use firstclaim::{Builder, Claim, Durability, ManualClock, Store, Takeover};
use hdrhistogram::Histogram;

use crate::bars::Bar;
use crate::engines::firstclaim::{engine, fill, limits};
use crate::key::Key;
use crate::report::{median, print_bar};

const MILLION: u64 = 1_000_000;
const RETENTION: Duration = Duration::from_secs(3600);
const SMALL_RESPONSE: [u8; 20] = [b's'; 20];
/// Commands of one commit while filling.
const BATCH: u64 = 1000;
const CLIENTS: usize = 8;

/// Beside so many keys a store is opened after a kill.
const LIVE_KEYS: [u64; 2] = [10_000, 10 * MILLION];

/// What one round has shown.
#[derive(Debug, Clone, Copy)]
struct Round {
    swept_per_second: f64,
    longest_transaction_ms: f64,
    /// That of claims during a sweep to that without one.
    p99_ratio: f64,
    /// Of the records of that sweep.
    swept_beside_claims_per_second: f64,
    opening_s: [f64; LIVE_KEYS.len()],
}

/// Measures all, and prints each round, and the medians held against the bars.
pub fn measure(directory: &Path, rounds: usize) -> Result<()> {
    let _ = std::fs::remove_dir_all(directory);
    let stores = LIVE_KEYS.map(|live_keys| directory.join(live_keys.to_string()));
    for (store, live_keys) in stores.iter().zip(LIVE_KEYS) {
        fill(store, live_keys)?;
    }
    let mut all = Vec::new();
    for round in 1..=rounds {
        let (swept_per_second, longest_transaction_ms) = sweep_alone(&directory.join("alone"))?;
        let (p99_ratio, sweep_beside_s) = sweep_beside_claims(&directory.join("beside"))?;
        let mut measured = Round {
            swept_per_second,
            longest_transaction_ms,
            p99_ratio,
            swept_beside_claims_per_second: MILLION as f64 / sweep_beside_s,
            opening_s: [0.0; LIVE_KEYS.len()],
        };
        for ((store, opening_s), live_keys) in
            stores.iter().zip(&mut measured.opening_s).zip(LIVE_KEYS)
        {
            if live_keys < MILLION {
                // What earlier rounds have left would be most of it.
                std::fs::remove_dir_all(store)?;
                fill(store, live_keys)?;
            }
            let first = live_keys + (round as u64 - 1) * MILLION;
            *opening_s = open_after_kill(store, first)?;
        }
        println!("round {round} of {rounds}: {measured:.3?}");
        all.push(measured);
    }
    let [few, many] = [0, 1].map(|n| median(&all, |round: &Round| round.opening_s[n]));
    let sooner = |round: &Round| round.opening_s[1] - round.opening_s[0];
    for bar in [
        Bar {
            what: "sweep of a million expired small records: a second".into(),
            value: median(&all, |round| round.swept_per_second),
            bar: 1e6,
            at_least: true,
        },
        Bar {
            what: "the same beside claims by 8: a second".into(),
            value: median(&all, |round| round.swept_beside_claims_per_second),
            bar: 1e6,
            at_least: true,
        },
        at_most(
            "its longest table, read through and dropped: ms",
            median(&all, |round| round.longest_transaction_ms),
            100.0,
        ),
        at_most(
            "claims' p99 during a sweep, to that without",
            median(&all, |round| round.p99_ratio),
            2.0,
        ),
        at_most("opening after a kill, beside 10,000: s", few, 2.0),
        at_most("opening after a kill, beside 10 million: s", many, 2.3),
        at_most(
            "the same, longer than beside 10,000: s",
            median(&all, sooner),
            0.3,
        ),
    ] {
        print_bar(&bar);
    }
    Ok(std::fs::remove_dir_all(directory)?)
}

fn at_most(what: &str, value: f64, bar: f64) -> Bar {
    Bar {
        what: what.into(),
        value,
        bar,
        at_least: false,
    }
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

/// Records a second, and the milliseconds of the longest transaction.
fn sweep_alone(directory: &Path) -> Result<(f64, f64)> {
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
    let per_second = rows as f64 / begin.elapsed().as_secs_f64();
    engine.close()?;
    std::fs::remove_dir_all(directory)?;
    Ok((per_second, longest.as_secs_f64() * 1e3))
}

/// The 99th percentile of claims during the sweep of a million to that without, and the sweep's seconds.
fn sweep_beside_claims(directory: &Path) -> Result<(f64, f64)> {
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
    store.close()?;
    std::fs::remove_dir_all(directory)?;
    Ok((with / without, taken.as_secs_f64()))
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

/// Leaves a store with a full journal, of keys from that number on; gives the seconds from opening it to
/// the first claim's answer.
fn open_after_kill(directory: &Path, first: u64) -> Result<f64> {
    let clock = ManualClock::at(SystemTime::now());
    let engine = engine(directory, Durability::PowerLoss, &clock)?;
    // One segment frozen, and the next one full: nothing is in the base yet.
    let before = newest_segment(directory)?;
    let mut keys = 0;
    let more = |keys: &mut u64| {
        *keys += BATCH;
        run(&engine, first + *keys - BATCH..first + *keys)
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
    let taken = begin.elapsed();
    lease.release()?;
    store.close()?;
    Ok(taken.as_secs_f64())
}

/// The name of the newest segment: the last, in the order of names.
fn newest_segment(directory: &Path) -> Result<Option<String>> {
    let names = std::fs::read_dir(directory)?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with("journal-0")).max())
}
