//! A real, small file system is filled, and the store resumes without being reopened when there is
//! space. On a tmpfs of its own, for which the campaign must be allowed to mount one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use firstclaim::{Claim, Error, Limits, Store};

use super::{Effort, Report};
use crate::random::Random;

const FILLS: u64 = 50;
const SIZE_BYTES: u64 = 6 << 20;

/// Fills it as often as CI asks for.
pub fn run(effort: Effort) -> Report {
    let mut report = Report::default();
    let Some(mount) = Mount::new() else {
        report
            .notes
            .push("not run: no tmpfs can be mounted here".to_owned());
        return report;
    };
    let mut random = Random::new(effort.seed);
    for fill in 0..FILLS {
        report.cases += 1;
        if let Err(what) = fill_once(&mount.0.join(format!("store{fill}")), &mut random) {
            report.violate(format!("fill {fill}: {what}; seed {}", effort.seed));
        }
    }
    report
}

/// A tmpfs, until dropped.
struct Mount(PathBuf);

impl Mount {
    fn new() -> Option<Self> {
        let path = std::env::temp_dir().join(format!("firstclaim-fills-{}", std::process::id()));
        fs::create_dir_all(&path).ok()?;
        let size = format!("size={SIZE_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path);
        let mounted = mount.output().is_ok_and(|done| done.status.success());
        if !mounted {
            let _ = fs::remove_dir(&path);
        }
        mounted.then_some(Mount(path))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
        let _ = fs::remove_dir(&self.0);
    }
}

fn open(path: &Path) -> Result<Store, Error> {
    let limits = Limits {
        response_bytes: 8192,
        recovery_point_bytes: 1024,
        ..Limits::default()
    };
    Store::builder(path)
        .limits(limits)
        .journal_bytes(256 * 1024)
        .open()
}

fn fill_once(path: &Path, random: &mut Random) -> Result<(), String> {
    let text = |error: Error| error.to_string();
    let store = open(path).map_err(text)?;
    let ballast = path.with_extension("ballast");
    let room = SIZE_BYTES / 2 + random.below(SIZE_BYTES / 3);
    fs::write(&ballast, vec![1; room as usize]).map_err(|error| error.to_string())?;
    let mut done = 0;
    let full = loop {
        match work(&store, done) {
            Ok(()) => done += 1,
            Err(error) => break error,
        }
        if done > 10_000 {
            return Err("it never got full".to_owned());
        }
    };
    if !matches!(full, Error::NoSpace | Error::Overloaded) {
        return Err(format!("full, but {full}"));
    }
    check(&store, done).map_err(|what| format!("while full: {what}"))?;
    fs::remove_file(&ballast).map_err(|error| error.to_string())?;
    let resumed = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        store.peek("t", "resumed").is_ok_and(|peek| peek.is_some())
            || matches!(store.claim("t", "resumed"), Ok(Claim::Claimed(_)))
    });
    if !resumed {
        return Err(format!("it did not resume: {:?}", store.stats()));
    }
    check(&store, done).map_err(|what| format!("with space again: {what}"))?;
    drop(store);
    let store = open(path).map_err(text)?;
    check(&store, done).map_err(|what| format!("reopened: {what}"))?;
    drop(store);
    fs::remove_dir_all(path).map_err(|error| error.to_string())
}

fn work(store: &Store, n: u64) -> Result<(), Error> {
    match store.claim("t", format!("k{n}"))? {
        Claim::Claimed(lease) => lease.complete(vec![n as u8; 4000]),
        _ => Ok(()),
    }
}

/// Everything acknowledged is answered.
fn check(store: &Store, done: u64) -> Result<(), String> {
    for n in 0..done {
        match store.claim("t", format!("k{n}")) {
            Ok(Claim::Done(r)) if r.bytes() == vec![n as u8; 4000] => {}
            other => return Err(format!("k{n}: {other:?}")),
        }
    }
    Ok(())
}
