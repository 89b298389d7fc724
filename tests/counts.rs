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
use steps::{key, options, response, run, terms, turn_segments};

const HOUR: Duration = Duration::from_secs(3600);

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

/// How often an opening reads the base of a killed store, with so many keys in its journal, beside so
/// many records in an open generation.
fn base_reads_at_opening(keys: usize, records: usize) -> u64 {
    let clock = ManualClock::new();
    let disk = FaultDisk::new();
    let open = || {
        let options = EngineOptions {
            // Each read is the disk's.
            base_cache_bytes: 0,
            ..options(&clock)
        };
        Engine::open(Arc::new(disk.clone()), options).unwrap()
    };
    let engine = open();
    turn_segments(&engine, "z", records, HOUR);
    engine.checkpoint().unwrap();
    for n in 0..keys {
        // Into another generation.
        run(&engine, &format!("new{n}"), 24 * 20 * HOUR, b"new");
    }
    drop(engine);
    let reads = Arc::new(AtomicU64::new(0));
    let seen = reads.clone();
    disk.set(move |event, _| {
        if event.op == Op::Read && event.file.starts_with("base") {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        Fate::Happens
    });
    let engine = open();
    assert_eq!(response(&engine, "z7").unwrap(), [7; 1500]);
    reads.load(Ordering::SeqCst)
}

#[test]
fn an_opening_does_not_look_for_the_keys_of_the_journal_in_every_table() {
    let reads = base_reads_at_opening(60, 1000) - base_reads_at_opening(0, 1000);
    assert!(reads < 45, "{reads} reads for 60 keys");
}

/// The writes to the base while old keys are looked for, more than the cache holds.
fn base_writes_while_reading(checkpoints: usize) -> (u64, u64) {
    let (disk, clock) = (FaultDisk::new(), ManualClock::new());
    let options = EngineOptions {
        base_cache_bytes: 128 << 10,
        ..options(&clock)
    };
    let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
    for n in 0..checkpoints {
        turn_segments(&engine, &format!("{n}-"), 50, HOUR);
        engine.checkpoint().unwrap();
    }
    let counts = Arc::new(Counts::default());
    let seen = counts.clone();
    disk.set(move |event, _| {
        match event.op {
            Op::Read => seen.reads.fetch_add(1, Ordering::SeqCst),
            _ => seen.writes.fetch_add(1, Ordering::SeqCst),
        };
        Fate::Happens
    });
    for n in 0..checkpoints {
        for m in 0..50 {
            assert!(response(&engine, &format!("{n}-{m}")).is_some());
        }
    }
    let [reads, writes] =
        [&counts.reads, &counts.writes].map(|counter| counter.load(Ordering::SeqCst));
    (reads, writes)
}

#[test]
fn readers_who_fill_the_cache_write_nothing() {
    let (reads, writes) = base_writes_while_reading(10);
    assert!(reads > 100, "{reads}: the cache holds all of it");
    assert_eq!(writes, 0);
}

#[test]
fn new_claims_do_not_read_the_base() {
    let checkpoint = vec![vec![7; 200]; 300];
    let store = checkpointed(&[&checkpoint[..]; 10]);
    assert!(store.stats().generations >= 5, "{:?}", store.stats());
    let before = store.stats().base_reads;
    for n in 0..5000 {
        let claim = store.claim("t", format!("new {n}")).unwrap();
        assert!(matches!(claim, Claim::Claimed(_)));
    }
    // Those that a filter lets pass: one of some thousand in each.
    let reads = store.stats().base_reads - before;
    assert!(reads <= 50, "{reads}");
}

#[test]
fn a_claim_in_a_batch_allocates_little() {
    let clock = ManualClock::new();
    let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
    let engine = Engine::open(disk, options(&clock)).unwrap();
    let claims: Vec<Request> = (0..BATCH_CLAIMS)
        .map(|n| Request::new(key(&format!("{n:020}")), Command::Claim(terms(HOUR))))
        .collect();
    let counted = allocation_counter::measure(|| {
        assert!(engine.commit(&claims).iter().all(Result::is_ok));
    });
    // A record, an entry of a table and what grows with both.
    assert!(counted.count_total <= 3 * BATCH_CLAIMS, "{counted:?}");
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
    // 20 bits each.
    let stats = store.stats();
    assert!(stats.filter_bytes >= 3000 * 20 / 8, "{stats:?}");
}

#[test]
fn a_claim_and_its_completion_allocate_little() {
    let store = Builder::in_memory().open().unwrap();
    let names: Vec<String> = (0..BATCH_CLAIMS).map(|n| format!("{n:020}")).collect();
    let counted = allocation_counter::measure(|| {
        for name in &names {
            match store.claim("t", name).unwrap() {
                Claim::Claimed(lease) => lease.complete("done").unwrap(),
                other => panic!("{other:?}"),
            }
        }
    });
    // Two frames, and what tables grow by.
    assert!(counted.count_total <= 26 * BATCH_CLAIMS, "{counted:?}");
}
