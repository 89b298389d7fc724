//! New claims beside 100,000 live keys, on disk: firstclaim, and one redb write transaction per
//! claim. Interleaved round by round in one run, so that a slow moment of the machine hits both;
//! the medians over the rounds, and the median of the rounds' ratios.
//!
//! `cargo bench --bench beside_redb`; with `-- --test` one short round on a small store.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{claimed, new_key, rate, store_with};
use redb::{Database, ReadableTable, TableDefinition};

const CLAIMS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("claims");

struct Size {
    live_keys: u64,
    rounds: usize,
    round: Duration,
}

fn main() {
    let is_test = std::env::args().any(|arg| arg == "--test");
    let size = if is_test {
        Size {
            live_keys: 2_000,
            rounds: 1,
            round: Duration::from_millis(200),
        }
    } else {
        Size {
            live_keys: 100_000,
            rounds: 5,
            round: Duration::from_secs(2),
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let store = store_with(&directory.path().join("store"), size.live_keys);
    let redb = redb_with(&directory.path().join("claims.redb"), size.live_keys);

    println!(
        "new claims per second beside {} live keys, medians of {} rounds of {:?}",
        size.live_keys, size.rounds, size.round
    );
    println!(
        "{:>8} {:>14} {:>22} {:>8}",
        "threads", "firstclaim", "redb transaction each", "ratio"
    );
    for threads in [1, 8, 64] {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..size.rounds {
            // The lease is dropped, as by a holder that is gone: only the claim is measured.
            let our = rate(threads, size.round, || drop(claimed(&store, &new_key())));
            let their = rate(threads, size.round, || {
                claim_in(&redb, new_key().as_bytes())
            });
            ours.push(our);
            theirs.push(their);
            ratios.push(our / their);
        }
        println!(
            "{threads:>8} {:>14.0} {:>22.0} {:>8.1}",
            median(&mut ours),
            median(&mut theirs),
            median(&mut ratios)
        );
    }
}

fn redb_with(path: &std::path::Path, live: u64) -> Database {
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(CLAIMS).unwrap();
        for _ in 0..live {
            table
                .insert(new_key().as_bytes(), common::RESPONSE.as_slice())
                .unwrap();
        }
    }
    write.commit().unwrap();
    database
}

/// As a competent user of redb would: look and insert in one durable transaction.
fn claim_in(database: &Database, key: &[u8]) {
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(CLAIMS).unwrap();
        assert!(table.get(key).unwrap().is_none());
        table.insert(key, [0u8; 60].as_slice()).unwrap();
    }
    write.commit().unwrap();
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
