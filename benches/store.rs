//! What each call costs, for the developer who changes it. On disk, beside 100,000 live keys.
//!
//! `cargo bench --bench store`; comparisons with other stores are made elsewhere, interleaved.

#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(missing_docs)] // what `criterion_group!` makes

mod common;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{RESPONSE, claimed, crowd, new_key, store_with};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use firstclaim::{Builder, Claim, Durability, ManualClock, Store};

/// The directory and the store that most benchmarks share.
fn shared() -> &'static (tempfile::TempDir, Store) {
    static SHARED: OnceLock<(tempfile::TempDir, Store)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let live = if is_test() { 1_000 } else { 100_000 };
        let directory = tempfile::tempdir().unwrap();
        let store = store_with(&directory.path().join("store"), live);
        (directory, store)
    })
}

fn is_test() -> bool {
    std::env::args().any(|arg| arg == "--test")
}

fn claims(criterion: &mut Criterion) {
    let store = &shared().1;
    let mut group = criterion.benchmark_group("claim_new");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(1));
    for threads in [1, 8, 64] {
        group.bench_function(format!("{threads}_threads"), |bencher| {
            bencher
                .iter_custom(|count| crowd(threads, count, |_| drop(claimed(store, &new_key()))));
        });
        group.bench_function(format!("cycle_{threads}_threads"), |bencher| {
            bencher.iter_custom(|count| {
                crowd(threads, count, |_| {
                    claimed(store, &new_key()).complete(RESPONSE).unwrap();
                })
            });
        });
    }
    group.finish();
}

fn complete(criterion: &mut Criterion) {
    let store = &shared().1;
    let mut group = criterion.benchmark_group("complete");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(5));
    group.bench_function("1_thread", |bencher| {
        bencher.iter_batched(
            || claimed(store, &new_key()),
            |lease| lease.complete(RESPONSE).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn answers(criterion: &mut Criterion) {
    let store = &shared().1;
    let mut group = criterion.benchmark_group("answer");
    let (overlay, running) = (new_key(), new_key());
    claimed(store, &overlay).complete(RESPONSE).unwrap();
    let _lease = claimed(store, &running);
    let base: Vec<String> = (0..1_000)
        .map(|_| {
            let key = new_key();
            claimed(store, &key)
                .complete_for(RESPONSE, Duration::from_secs(7_200))
                .unwrap();
            key
        })
        .collect();
    group.bench_function("in_flight", |bencher| {
        bencher.iter(|| {
            assert!(matches!(
                store.claim("acct_42", &running),
                Ok(Claim::InFlight(_))
            ))
        });
    });
    group.bench_function("replay_from_overlay", |bencher| {
        bencher.iter(|| {
            assert!(matches!(
                store.claim("acct_42", &overlay),
                Ok(Claim::Done(_))
            ))
        });
    });
    store.checkpoint().unwrap();
    let mut next = 0;
    group.bench_function("replay_from_base", |bencher| {
        bencher.iter(|| {
            next = (next + 1) % base.len();
            assert!(matches!(
                store.claim("acct_42", &base[next]),
                Ok(Claim::Done(_))
            ));
        });
    });
    group.finish();
}

fn sweep(criterion: &mut Criterion) {
    let records = if is_test() { 500 } else { 50_000 };
    let mut group = criterion.benchmark_group("sweep");
    group.sample_size(10);
    group.throughput(Throughput::Elements(records));
    group.bench_function("expired_records", |bencher| {
        bencher.iter_custom(|count| {
            (0..count)
                .map(|_| {
                    let directory = tempfile::tempdir().unwrap();
                    let clock = ManualClock::new();
                    let store = Builder::new(directory.path())
                        .durability(Durability::ProcessCrash)
                        .clock(clock.clone())
                        .open()
                        .unwrap();
                    crowd(8, records, |_| {
                        claimed(&store, &new_key())
                            .complete_for("small", Duration::from_secs(60))
                            .unwrap();
                    });
                    store.checkpoint().unwrap();
                    clock.advance(Duration::from_secs(3_600));
                    let begin = Instant::now();
                    assert_eq!(store.sweep().unwrap().done, records);
                    begin.elapsed()
                })
                .sum()
        });
    });
    group.finish();
}

fn opening(criterion: &mut Criterion) {
    let cycles = if is_test() { 500 } else { 20_000 };
    // As a kill leaves it: a journal with all of them, nothing of it in the base.
    let live = tempfile::tempdir().unwrap();
    let store = Builder::new(live.path())
        .durability(Durability::ProcessCrash)
        .checkpoint_every(Duration::from_secs(3_600))
        .open()
        .unwrap();
    crowd(8, cycles, |_| {
        claimed(&store, &new_key()).complete(RESPONSE).unwrap()
    });
    let mut group = criterion.benchmark_group("open");
    group.sample_size(10);
    group.bench_function("with_a_full_journal", |bencher| {
        bencher.iter_batched(
            || {
                let copy = tempfile::tempdir().unwrap();
                for entry in std::fs::read_dir(live.path()).unwrap() {
                    let entry = entry.unwrap();
                    std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
                }
                copy
            },
            |copy| {
                let store = Store::open(copy.path()).unwrap();
                (store, copy)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, claims, complete, answers, sweep, opening);
criterion_main!(benches);
