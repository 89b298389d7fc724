//! Kills on a real disk: a child that claims and completes from several threads is killed with
//! SIGKILL at random moments, also while it opens, checkpoints, sweeps and closes. After each kill,
//! all that it reported is there, nothing is held twice, and fences go on rising.
//!
//! `cargo test` kills each kind of child 60 times. For longer, set the time in seconds:
//!
//! ```text
//! FIRSTCLAIM_KILL_SECONDS=600 cargo test --test kills -- --nocapture
//! ```

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may
#![allow(clippy::disallowed_methods)] // a thread reads the child's pipe

mod child;
mod inspection;
mod knowledge;
mod life;
mod line;
#[path = "../kit/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firstclaim::Durability;
use tempfile::TempDir;

use child::Orders;
use inspection::Inspection;
use knowledge::Knowledge;
use life::Life;
use line::Job;
use random::Random;

/// Kills of each kind of child, unless `FIRSTCLAIM_KILLS` says otherwise.
const KILLS: u32 = 60;
/// How many keys of earlier lives are looked at after a kill.
const SAMPLE: u64 = 300;
/// Which lives follow each other, by the job that the kill is aimed at. What comes before an
/// opening is not opened by the parent first, so that the child has something to recover, and the
/// second one has to recover from a recovery that was cut short.
const LIVES: [Option<Job>; 8] = [
    None,
    Some(Job::Open),
    Some(Job::Open),
    Some(Job::Checkpoint),
    Some(Job::Sweep),
    Some(Job::Close),
    Some(Job::Open),
    Some(Job::Checkpoint),
];

#[test]
fn nothing_reported_is_lost_to_a_kill_under_power_loss() {
    Campaign::new(Durability::PowerLoss).run();
}

#[test]
fn nothing_reported_is_lost_to_a_kill_under_process_crash() {
    Campaign::new(Durability::ProcessCrash).run();
}

/// Not a test, but what a child runs; nothing if no parent has started it.
#[test]
fn child() {
    if let Ok(orders) = std::env::var(child::ORDERS) {
        child::run(&Orders::from_variable(&orders));
    }
}

/// Many lives in one directory.
struct Campaign {
    dir: TempDir,
    durability: Durability,
    random: Random,
    knowledge: Knowledge,
    lives: u64,
    kills: u32,
    /// How many kills came while a job was running.
    interrupted: BTreeMap<Job, u32>,
    /// How long the latest opening took.
    opening: Duration,
}

impl Campaign {
    fn new(durability: Durability) -> Self {
        Campaign {
            dir: tempfile::tempdir().unwrap(),
            durability,
            random: Random::announced(),
            knowledge: Knowledge::default(),
            lives: 0,
            kills: 0,
            interrupted: BTreeMap::new(),
            opening: Duration::from_millis(20),
        }
    }

    fn run(mut self) {
        let until = Instant::now() + asked_for();
        let kills = std::env::var("FIRSTCLAIM_KILLS").ok();
        let kills = kills.and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
        while self.kills < kills || Instant::now() < until {
            for (index, job) in LIVES.into_iter().enumerate() {
                let life = self.live(job);
                assert!(
                    job == Some(Job::Open) || life.worked(),
                    "killed before it worked"
                );
                match LIVES[(index + 1) % LIVES.len()] {
                    Some(Job::Open) => self.inspect_a_copy(),
                    _ => self.inspect(),
                }
            }
        }
        println!(
            "{:?}: {} kills of {} lives",
            self.durability, self.kills, self.lives
        );
        println!(
            "jobs cut short: {:?}, keys: {}",
            self.interrupted,
            self.knowledge.keys.len()
        );
        for job in [Job::Open, Job::Checkpoint, Job::Sweep, Job::Close] {
            assert!(self.interrupted.contains_key(&job), "no kill hit {job:?}");
        }
        self.inspect_all();
    }

    /// One life, and what is learned from it.
    fn live(&mut self, job: Option<Job>) -> Life {
        self.lives += 1;
        let orders = Orders {
            dir: self.store_dir(),
            durability: self.durability,
            job,
            life: self.lives,
            seed: self.random.number(),
        };
        let floor = self.knowledge.highest_fence;
        let life = life::live(&orders, self.opening, &mut self.random);
        for line in &life.lines {
            self.knowledge.learn(line, floor);
        }
        self.kills += u32::from(life.killed);
        self.opening = life.opening.unwrap_or(self.opening);
        for job in &life.interrupted {
            *self.interrupted.entry(*job).or_default() += 1;
        }
        life
    }

    fn inspect(&mut self) {
        self.inspect_in(&self.store_dir());
        self.knowledge.touched.clear();
    }

    /// Looks at a copy of the files as the kill left them, and leaves them so. What is seen in the
    /// copy must be in the original too: the next recovery comes to the same.
    fn inspect_a_copy(&mut self) {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.store_dir()).into_iter().flatten() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        self.knowledge = self.inspect_in(copy.path());
    }

    /// Opens the store in `dir`, checks it, and works a little on it. Gives what was known before
    /// that work.
    fn inspect_in(&mut self, dir: &Path) -> Knowledge {
        let store = child::builder(dir, self.durability).open().unwrap();
        let inspection = Inspection::new(&store);
        inspection.check(&mut self.knowledge, SAMPLE, &mut self.random);
        let seen = self.knowledge.clone();
        inspection.go_on(&mut self.knowledge, self.lives, &mut self.random);
        if self.random.chance(10) {
            store.verify().unwrap();
        }
        store.close().unwrap();
        seen
    }

    /// Compares every key there ever was, and reads the whole store.
    fn inspect_all(&mut self) {
        let store = child::builder(&self.store_dir(), self.durability)
            .open()
            .unwrap();
        let inspection = Inspection::new(&store);
        inspection.check(&mut self.knowledge, u64::MAX, &mut self.random);
        store.verify().unwrap();
        store.close().unwrap();
    }

    fn store_dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }
}

/// The time that the environment asks for, beside the number of kills.
fn asked_for() -> Duration {
    match std::env::var("FIRSTCLAIM_KILL_SECONDS") {
        Ok(seconds) => Duration::from_secs(seconds.parse().expect("a number of seconds")),
        Err(_) => Duration::ZERO,
    }
}
