//! Stores damaged by hand: torn, truncated, bit-flipped, foreign and missing segments and bases.
//! What is damaged is an error that names the place, or a key that is `Corrupt`; never vacant.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod base_file;
mod rows;
mod segments;
#[path = "../kit/steps.rs"]
mod steps;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firstclaim::{Builder, Claim, Error, Limits, Store};

const LONG: Duration = Duration::from_secs(3600);
const FRAMES: u64 = 8192;

fn options(path: &Path) -> Builder {
    let limits = Limits {
        response_bytes: 4096,
        recovery_point_bytes: 1024,
        ..Limits::default()
    };
    Builder::new(path)
        .limits(limits)
        .journal_bytes(128 * 1024)
        .sweep_every(LONG)
        .checkpoint_every(LONG)
}

fn fill(store: &Store, prefix: &str, count: usize) {
    for n in 0..count {
        match store.claim("t", format!("{prefix}{n}")).unwrap() {
            Claim::Claimed(lease) => lease.complete(format!("response {n}")).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

/// A directory as a kill leaves it: 10 keys in the base, 5 more in the journal.
fn killed(temp: &Path) -> PathBuf {
    let (live, copy) = (temp.join("live"), temp.join("killed"));
    let store = options(&live).open().unwrap();
    fill(&store, "base", 10);
    store.checkpoint().unwrap();
    fill(&store, "journal", 5);
    copy_directory(&live, &copy);
    copy
}

/// A directory as `close` leaves it: 300 keys, all in the base.
fn closed(temp: &Path) -> PathBuf {
    let path = temp.join("closed");
    let store = options(&path).open().unwrap();
    fill(&store, "base", 300);
    store.close().unwrap();
    path
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The segment that holds frames.
fn live_segment(path: &Path) -> PathBuf {
    let mut segments: Vec<PathBuf> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|p| {
            p.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("journal-0")
        })
        .filter(|p| !frames(p).is_empty())
        .collect();
    segments.sort();
    segments.pop().unwrap()
}

/// The offsets of the frames in a segment, by their magic.
fn frames(segment: &Path) -> Vec<u64> {
    let bytes = fs::read(segment).unwrap();
    (FRAMES..bytes.len() as u64)
        .step_by(512)
        .filter(|at| bytes[*at as usize..].starts_with(b"fcfr"))
        .collect()
}

fn flip(file: &Path, at: u64) {
    let handle = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    handle.read_exact_at(&mut byte, at).unwrap();
    handle.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn truncate(file: &Path, len: u64) {
    let handle = fs::OpenOptions::new().write(true).open(file).unwrap();
    handle.set_len(len).unwrap();
}

fn corrupt_place(path: &Path) -> String {
    match options(path).open() {
        Err(Error::Corrupt { place, .. }) => place,
        other => panic!("{other:?}"),
    }
}

fn assert_done(store: &Store, key: &str, response: &str) {
    match store.claim("t", key) {
        Ok(Claim::Done(r)) => assert_eq!(r.bytes(), response.as_bytes()),
        other => panic!("{key}: {other:?}"),
    }
}
