//! What must not grow unnoticed, counted rather than timed: what a batch costs the disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "kit/faults.rs"]
mod faults;
#[path = "kit/steps.rs"]
mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use faults::{Fate, FaultDisk, Op};
use firstclaim::internals::transition::Command;
use firstclaim::internals::{Disk, Engine, EngineOptions, Request};
use firstclaim::{Builder, Claim, Durability, ManualClock, Store};
use steps::{key, options, terms};

const BATCHES: u64 = 10;
const BATCH_CLAIMS: u64 = 64;

/// What the disk was asked for.
#[derive(Debug, Default)]
struct Counts {
    reads: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
}

/// What ten batches of 64 claims ask of the disk.
fn ten_batches(durability: Durability) -> [u64; 4] {
    let (disk, clock) = (FaultDisk::new(), ManualClock::new());
    let options = EngineOptions {
        durability,
        journal_bytes: 1 << 20,
        ..options(&clock)
    };
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let engine = Engine::open(dyn_disk, options).unwrap();
    let counts = Arc::new(Counts::default());
    let seen = counts.clone();
    disk.set(move |event, _| {
        let add = |counter: &AtomicU64, n| counter.fetch_add(n, Ordering::SeqCst);
        match event.op {
            Op::Read => add(&seen.reads, 1),
            Op::Write => add(&seen.writes, 1) + add(&seen.bytes, event.bytes as u64),
            Op::Sync => add(&seen.syncs, 1),
            op => panic!("{op:?}"),
        };
        Fate::Happens
    });
    for batch in 0..BATCHES {
        let claims: Vec<Request> = (0..BATCH_CLAIMS)
            .map(|n| {
                Request::new(
                    key(&format!("{batch:010}-{n:010}")),
                    Command::Claim(terms(Duration::from_secs(60))),
                )
            })
            .collect();
        assert!(engine.commit(&claims).iter().all(Result::is_ok));
    }
    disk.clear();
    [&counts.reads, &counts.writes, &counts.syncs, &counts.bytes]
        .map(|counter| counter.load(Ordering::SeqCst))
}

#[test]
fn a_batch_is_one_write_and_one_sync_and_reads_nothing() {
    let [reads, writes, syncs, bytes] = ten_batches(Durability::PowerLoss);
    assert_eq!([reads, writes, syncs], [0, BATCHES, BATCHES]);
    // A key of 23 bytes, a record of 42 bytes and what frames both.
    let per_claim = bytes / (BATCHES * BATCH_CLAIMS);
    assert!(per_claim <= 96, "{per_claim} bytes a claim");
}

#[test]
fn nothing_is_synced_for_a_batch_that_need_only_survive_a_kill() {
    let [reads, writes, syncs, _] = ten_batches(Durability::ProcessCrash);
    assert_eq!([reads, writes, syncs], [0, BATCHES, 0]);
}

/// A store that checkpoints after every `responses`, all of one retention.
fn checkpointed(checkpoints: &[&[Vec<u8>]]) -> Store {
    let clock = ManualClock::new();
    let builder = Builder::in_memory().clock(clock);
    let store = builder.open().unwrap();
    let mut keys = 0;
    for responses in checkpoints {
        for response in *responses {
            keys += 1;
            match store.claim("t", format!("{keys}")).unwrap() {
                Claim::Claimed(lease) => lease.complete(response).unwrap(),
                other => panic!("{other:?}"),
            }
        }
        store.checkpoint().unwrap();
    }
    store
}

#[test]
fn long_responses_make_no_more_tables_than_short_ones() {
    let tables = |response: Vec<u8>| {
        let checkpoint = vec![response; 20];
        let store = checkpointed(&[&checkpoint[..]; 10]);
        store.stats().generations
    };
    assert_eq!(tables(vec![7; 100_000]), tables(vec![7; 10]));
}

#[test]
fn a_table_takes_no_more_records_than_its_filter_is_made_for() {
    let (long, short) = (vec![7; 100_000], vec![7; 10]);
    let store = checkpointed(&[&[long][..], &vec![short; 3000][..]]);
    // Two bytes each.
    let stats = store.stats();
    assert!(stats.filter_bytes >= 2 * 3000, "{stats:?}");
}
