//! Writes the seeds of the targets that read bytes as choices: `cargo run --example seeds`, in
//! `fuzz/`. Each is one short story; libFuzzer grows the rest. (Those of `state_machine` were
//! written by hand.)

use std::fs;
use std::path::Path;
use std::time::Duration;

use firstclaim::Fingerprint;
use firstclaim::internals::record::{Fence, Interruption, Record, State, Takeover};
use firstclaim::internals::{RecordKey, Timestamp, encode_record};

fn main() {
    record_decode();
    key_order();
    journal_recovery();
    open_damaged_store();
    crash_schedule();
    http_request();
}

fn seed(target: &str, name: &str, bytes: &[u8]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    fs::create_dir_all(&directory).expect("the directory can be made");
    fs::write(directory.join(name), bytes).expect("the file can be written");
}

fn record_decode() {
    let at = Timestamp::from_micros;
    let plain = Record {
        fence: Fence::from_u64(7),
        attempt: 1,
        takeover: Takeover::Gone,
        retain_for: Duration::from_secs(86_400),
        fingerprint: None,
        since: at(1_000_000_000_000_000),
        expires_at: at(1_000_086_460_000_000),
        interrupted: None,
        recovery_point: None,
        state: State::InFlight {
            ends_at: at(1_000_000_060_000_000),
        },
    };
    let cut_short = Record {
        attempt: 3,
        takeover: Takeover::Never,
        fingerprint: Some(Fingerprint::from([7; 32])),
        interrupted: Some(Interruption {
            since: at(900),
            ends_at: at(70_000),
        }),
        recovery_point: Some(b"half way".as_slice().into()),
        ..plain.clone()
    };
    let released = Record {
        takeover: Takeover::Expired,
        state: State::Released,
        ..plain.clone()
    };
    let done = Record {
        takeover: Takeover::GoneOrExpired,
        state: State::Done {
            completed_at: at(1_000_000_000_500_000),
            response: b"charged".as_slice().into(),
        },
        ..cut_short.clone()
    };
    let records = [
        ("in-flight", plain),
        ("cut-short", cut_short),
        ("released", released),
        ("done", done),
    ];
    for (name, record) in records {
        let key = RecordKey::new(b"acct", b"9f1c", 255).expect("a valid name");
        let mut bytes = vec![key.as_bytes().len() as u8];
        bytes.extend_from_slice(key.as_bytes());
        encode_record(key.as_bytes(), &record, &mut bytes);
        seed("record_decode", name, &bytes);
    }
}

/// A name: what becomes of the key, tenant, key.
fn named(fate: u8, tenant: &[u8], key: &[u8]) -> Vec<u8> {
    let string = |s: &[u8]| [&[s.len() as u8], s].concat();
    [vec![fate], string(tenant), string(key)].concat()
}

fn key_order() {
    let alike = [
        named(0, b"a", b"bc"),
        named(1, b"ab", b"c"),
        named(2, b"abc", b"d"),
    ];
    seed("key_order", "names-that-concatenate-alike", &alike.concat());
    let nested = [
        named(0, b"\x01", b"\x01\x01"),
        named(3, b"\x01\x01", b"\x01"),
        named(2, b"\xff", b"\0"),
        named(1, b"\xff", b"\0\0"),
    ];
    seed("key_order", "prefixes-of-each-other", &nested.concat());
    let empty = [
        named(0, b"", b"k"),
        named(0, b"t", b""),
        named(0, b"t", b"k"),
    ];
    seed("key_order", "empty-parts", &empty.concat());
    // A tenant of 255 and one of 256 bytes, keys of 1024 and 1025.
    let long = [
        0, 128, 255, 0, b't', 128, 0, 4, b'k', 1, 128, 0, 1, b't', 128, 1, 4, b'k',
    ];
    seed("key_order", "lengths-at-the-limits", &long);
}

fn journal_recovery() {
    let seed = |name: &str, bytes: &[u8]| seed("journal_recovery", name, bytes);
    seed("unharmed", &[0]);
    // Store, then edits: kind, file, place (an offset in a used sector), what.
    seed("flip-in-a-frame", &[0, 0, 0, 1, 4, 80, 0, 0, 3]);
    seed("flip-in-the-first-header", &[1, 0, 0, 1, 0, 30, 0, 0, 3]);
    seed(
        "both-headers",
        &[1, 0, 0, 1, 0, 30, 0, 0, 3, 0, 0, 1, 1, 30, 0, 0, 3],
    );
    seed("cut-off", &[2, 0, 0, 0, 0, 40, 4]);
    seed("zeros-over-frames", &[2, 0, 0, 1, 3, 0, 0, 3, 0, 9]);
    seed(
        "frame-in-another-place",
        &[0, 0, 0, 1, 4, 0, 0, 6, 0, 1, 6, 0, 0, 16],
    );
    seed("segment-removed", &[1, 0, 1, 1, 0, 0, 0, 7, 3, 129]);
    seed(
        "segment-with-the-last-number",
        &[0, 0, 0, 1, 0, 0, 0, 7, 3, 160],
    );
    // Forged: kind, file or frame, which copy or field, value.
    seed("forged-run", &[1, 5, 0, 2, 4, 8]);
    seed("forged-salt", &[0, 5, 0, 0, 5, 8]);
    seed("forged-length", &[0, 5, 0, 2, 7, 224, 255, 255, 255, 255]);
    seed("forged-fence", &[0, 6, 3, 8, 160, 1]);
    seed("forged-time", &[0, 6, 3, 4, 160, 1]);
    seed("forged-count", &[0, 6, 3, 12, 1, 0]);
    seed(
        "forged-frame-length",
        &[0, 6, 3, 1, 255, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    );
    seed("forged-next-segment", &[0, 6, 3, 10, 98, 1]);
    seed(
        "raw",
        b"\x03\x07\x00\x00fcfr\x40\x00\x00\x00and anything else",
    );
}

fn open_damaged_store() {
    // Store, 1 to leave it sealed, then edits: 0 for the base, place (an offset in a used sector),
    // what; or 255 for any file, then which.
    let stories: [(&str, u8, &[u8]); 14] = [
        ("unharmed", 0, &[]),
        ("unharmed-large", 1, &[]),
        ("flip-in-the-first-page", 0, &[0, 1, 0, 9, 0, 0, 0]),
        ("root-choice", 1, &[0, 1, 0, 9, 0, 0, 0]),
        ("flip-in-used-sector-4", 1, &[0, 1, 4, 100, 0, 0, 5]),
        ("flip-in-used-sector-16", 1, &[0, 1, 16, 100, 0, 0, 5]),
        ("flip-in-used-sector-40", 1, &[0, 1, 40, 100, 0, 0, 5]),
        ("zeros", 1, &[0, 1, 30, 0, 0, 3, 0, 8]),
        ("ones", 1, &[0, 1, 12, 0, 0, 3, 255, 1]),
        ("cut-off", 0, &[0, 1, 20, 0, 0, 4]),
        ("longer", 0, &[0, 1, 0, 0, 0, 5, 64, 7]),
        ("page-over-page", 1, &[0, 1, 10, 0, 0, 6, 1, 30, 0, 0, 64]),
        ("base-removed", 0, &[0, 1, 0, 0, 0, 7, 2]),
        ("segment-flipped", 0, &[255, 1, 1, 0, 30, 0, 0, 3]),
    ];
    for (name, store, edits) in stories {
        for (sealed, suffix) in [(0, "-unsealed"), (1, "")] {
            let bytes = [&[store, sealed], edits].concat();
            seed("open_damaged_store", &format!("{name}{suffix}"), &bytes);
        }
    }
}

fn crash_schedule() {
    let seed = |name: &str, bytes: &[u8]| seed("crash_schedule", name, bytes);
    // Setting, then steps: what, on which key; from 128 on with a cut: operation, kill or what is
    // kept, and where recovery is cut again.
    seed(
        "claim-cut-at-its-write",
        &[0, 0, 0, 129, 0, 1, 100, 5, 5, 0],
    );
    seed("claim-cut-at-its-sync", &[0, 0, 0, 129, 1, 1, 40, 0]);
    seed("complete-killed", &[0, 0, 0, 0, 5, 129, 1, 0, 0]);
    seed(
        "checkpoint-cut",
        &[0, 0, 18, 8, 0, 0, 19, 129, 9, 1, 100, 1, 2, 70, 0],
    );
    seed(
        "recovery-cut",
        &[0, 0, 18, 11, 0, 3, 5, 129, 2, 1, 0, 75, 100, 3, 4],
    );
    seed(
        "process-crash",
        &[2, 0, 0, 0, 5, 0, 18, 4, 5, 129, 1, 1, 100, 9, 9, 80, 0],
    );
    let stops = [
        0, 1, 0, 3, 25, 0, 40, 0, 3, 11, 0, 25, 0, 100, 1, 1, 16, 0, 5, 130, 3, 1, 0,
    ];
    seed("stops-in-between", &stops);
    let sweep = [
        0, 0, 18, 3, 19, 0, 24, 127, 24, 127, 21, 129, 6, 1, 100, 3, 3, 66, 32,
    ];
    seed("sweep-cut", &sweep);
    seed("batch-torn", &[0, 1, 17, 129, 0, 1, 100, 7, 9, 0]);
}

/// A request: what it is, answer, method, path, tenant, key, headers, body, patience. See the target.
fn http_request() {
    let seed = |name: &str, bytes: &[u8]| seed("http_request", name, bytes);
    let plain: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1, 3, b'a', b'b', b'c', 0];
    let again = [plain, &[1], plain].concat();
    seed("created-and-replayed", &[&[0, 1], &*again].concat());
    let refused: &[u8] = &[6, 0, 0, 0, 0, 0, 0, 0, 0];
    seed(
        "refused-then-created",
        &[&[0, 1], refused, &[1, 0], &refused[1..]].concat(),
    );
    let other: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1, 2, b'a', b'b', 0];
    seed("mismatch", &[&[0, 1], plain, &[1], other].concat());
    seed("at-once", &[&[0, 3], plain, plain, plain].concat());
    let large: &[u8] = &[0, 200, 0, 0, 0, 0, 0, 0, 0];
    seed("not-replayable", &[&[0, 1], large, &[1], large].concat());
    let raw_key: &[u8] = &[0, 0, 0, 0, 0, 9, 5, b'"', b'a', b'"', b';', b'b', 0, 0, 0];
    seed("raw-key", &[&[0, 1], raw_key].concat());
    let broken: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 2, 3, b'a', b'b', b'c', 255, 0];
    seed("broken-off", &[&[0, 1], broken].concat());
    seed("nothing-required", &[&[1, 1], plain].concat());
}
