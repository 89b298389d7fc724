//! The bytes of format 1, kept as files: what an earlier build wrote, this one reads, and what it
//! writes is byte for byte the same.
//!
//! `FIRSTCLAIM_BLESS=1 cargo test --test golden` writes the files anew. Do that only for a new
//! format, beside the old files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firstclaim::internals::record::{Fence, Interruption, Previous, Record, State, Takeover};
use firstclaim::internals::{Timestamp, decode_record, encode_record};
use firstclaim::{Builder, Claim, Fingerprint, Limits, ManualClock, Store};

const KEY: &[u8] = b"\x07acct_42order-9f1c";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn blessing() -> bool {
    std::env::var_os("FIRSTCLAIM_BLESS").is_some()
}

fn time(secs: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + secs * 1_000_000)
}

fn records() -> Vec<(&'static str, Record)> {
    let in_flight = Record {
        fence: Fence::from_u64(1_700_000_000_000_001),
        attempt: 1,
        takeover: Takeover::Gone,
        retain_for: Duration::from_secs(86_400),
        fingerprint: None,
        since: time(0),
        expires_at: time(86_460),
        interrupted: None,
        recovery_point: None,
        state: State::InFlight { ends_at: time(60) },
    };
    let interrupted = Record {
        fence: Fence::from_u64(1_700_000_000_000_002),
        attempt: 3,
        takeover: Takeover::Never,
        fingerprint: Some(Fingerprint::from([0xab; 32])),
        interrupted: Some(Interruption {
            since: time(5),
            ends_at: time(65),
        }),
        recovery_point: Some(b"reserved 7".as_slice().into()),
        ..in_flight.clone()
    };
    let released = Record {
        takeover: Takeover::GoneOrExpired,
        state: State::Released,
        ..in_flight.clone()
    };
    let done = Record {
        takeover: Takeover::Expired,
        recovery_point: None,
        state: State::Done {
            completed_at: time(2),
            response: b"{\"status\":201}".as_slice().into(),
        },
        ..interrupted.clone()
    };
    vec![
        ("record-in-flight-1.bin", in_flight),
        ("record-interrupted-1.bin", interrupted),
        ("record-released-1.bin", released),
        ("record-done-1.bin", done),
    ]
}

#[test]
fn records_of_version_1_read_and_write_the_same() {
    for (name, record) in records() {
        let path = golden().join(name);
        let mut bytes = Vec::new();
        encode_record(KEY, &record, &mut bytes);
        if blessing() {
            fs::write(&path, &bytes).unwrap();
        }
        let kept = fs::read(&path).unwrap();
        assert_eq!(decode_record(KEY, &kept).unwrap(), record, "{name}");
        assert_eq!(bytes, kept, "{name}");
    }
}

fn options(path: &Path) -> Builder {
    let limits = Limits {
        response_bytes: 1024,
        recovery_point_bytes: 256,
        ..Limits::default()
    };
    let long = Duration::from_secs(3600);
    Builder::new(path)
        .limits(limits)
        .journal_bytes(16 * 1024)
        .clock(ManualClock::new())
        .sweep_every(long)
        .checkpoint_every(long)
}

fn lease(store: &Store, key: &str) -> firstclaim::Lease {
    match store.claim("acct", key).unwrap() {
        Claim::Claimed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// A store with something of everything, part in the base and part in the journal, as a kill
/// leaves it.
fn make_store(path: &Path) {
    let _ = fs::remove_dir_all(path);
    let live = tempfile::tempdir().unwrap();
    let store = options(live.path()).open().unwrap();
    lease(&store, "base-done")
        .complete("from the base")
        .unwrap();
    lease(&store, "base-released").release().unwrap();
    let cut = lease(&store, "base-open");
    cut.save_recovery_point("half way").unwrap();
    drop(cut);
    lease(&store, "forgotten").complete("gone").unwrap();
    store.checkpoint().unwrap();
    store.forget("acct", "forgotten").unwrap();
    lease(&store, "journal-done")
        .complete("from the journal")
        .unwrap();
    drop(lease(&store, "journal-open"));
    fs::create_dir_all(path).unwrap();
    for entry in fs::read_dir(live.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_store_of_format_1_opens_with_everything() {
    let kept = golden().join("store-1");
    if blessing() {
        make_store(&kept);
    }
    let temp = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&kept).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), temp.path().join(entry.file_name())).unwrap();
    }
    let store = options(temp.path()).open().unwrap();
    let done = |key| match store.peek("acct", key).unwrap() {
        Some(firstclaim::Peek::Done(response)) => response.bytes().to_vec(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!(done("base-done"), b"from the base");
    assert_eq!(done("journal-done"), b"from the journal");
    assert!(store.peek("acct", "forgotten").unwrap().is_none());
    assert_eq!(store.unfinished().unwrap().len(), 3);
    let open = lease(&store, "base-open");
    assert_eq!(open.recovery_point(), Some(b"half way".as_slice()));
    assert_eq!(open.previous(), Previous::Interrupted);
    let released = lease(&store, "base-released");
    assert_eq!(
        (released.attempt(), released.previous()),
        (2, Previous::Released)
    );
    store.verify().unwrap();
}
