//! Stores and crowds for the benchmarks.

#![allow(dead_code)]

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use firstclaim::{Builder, Claim, Durability, Lease, Limits, Store};

/// A response as a payment service would store it.
pub const RESPONSE: [u8; 200] = [b'r'; 200];

/// Numbers for keys that were never used before.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A key that no other call returns: random to look at, as clients make them.
pub fn new_key() -> String {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:016x}-{n:015x}", mixed ^ (mixed >> 29))
}

/// A store at `path` with `live` done keys in its base, which expire over the coming day.
pub fn store_with(path: &Path, live: u64) -> Store {
    let filling = Builder::new(path)
        .durability(Durability::ProcessCrash)
        .open()
        .unwrap();
    crowd(8, live, |n| {
        let left = Duration::from_secs(3600 + (n * 7919) % 82_800);
        claimed(&filling, &new_key())
            .complete_for(RESPONSE, left)
            .unwrap();
    });
    filling.close().unwrap();
    // Benchmarks of claims alone leave millions of them unfinished.
    let limits = Limits {
        unfinished: 100_000_000,
        unfinished_bytes: 16 << 30,
        ..Limits::default()
    };
    let store = Builder::new(path).limits(limits).open().unwrap();
    store.verify().unwrap();
    store
}

/// Claims a new key.
pub fn claimed(store: &Store, key: &str) -> Lease {
    match store.claim("acct_42", key).unwrap() {
        Claim::Claimed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// Calls `work` with 0 to `count`, from `threads` threads at once; the time from their common
/// start to the last one's end.
pub fn crowd(threads: u64, count: u64, work: impl Fn(u64) + Sync) -> Duration {
    let next = AtomicU64::new(0);
    let start = Barrier::new(threads as usize + 1);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= count {
                            break;
                        }
                        work(n);
                    }
                })
            })
            .collect();
        start.wait();
        let begin = Instant::now();
        for thread in all {
            thread.join().unwrap();
        }
        begin.elapsed()
    })
}
