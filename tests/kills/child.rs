//! The child: claims and completes from several threads, and reports, until it is killed.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use firstclaim::{Builder, Claim, Durability, Error, Lease, Limits, Store};

use crate::line::{Ending, Job, Line};
use crate::random::Random;

/// The environment variable that makes the test binary a child.
pub(crate) const ORDERS: &str = "FIRSTCLAIM_KILLS_CHILD";
pub(crate) const TENANT: &str = "kills";
/// A tenant whose records expire at once, for sweeps to remove.
pub(crate) const SHORT_LIVED: &str = "short";
const THREADS: usize = 4;
/// So many keys at a time are wanted by all threads.
const SHARED_KEYS: u64 = 12;

/// What the parent asks of a child.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) dir: PathBuf,
    pub(crate) durability: Durability,
    /// What else the child does, over and over, beside its work.
    pub(crate) job: Option<Job>,
    /// The number of this life, which is in the names of its keys.
    pub(crate) life: u64,
    pub(crate) seed: u64,
}

impl Orders {
    pub(crate) fn to_variable(&self) -> String {
        let Orders {
            dir,
            durability,
            job,
            life,
            seed,
        } = self;
        format!("{durability:?} {job:?} {life} {seed} {}", dir.display())
    }

    pub(crate) fn from_variable(text: &str) -> Self {
        let words: Vec<&str> = text.splitn(5, ' ').collect();
        let job = words[1]
            .strip_prefix("Some(")
            .and_then(|job| job.strip_suffix(')'));
        Orders {
            durability: match words[0] {
                "PowerLoss" => Durability::PowerLoss,
                _ => Durability::ProcessCrash,
            },
            job: job.map(|job| job.parse().unwrap()),
            life: words[2].parse().unwrap(),
            seed: words[3].parse().unwrap(),
            dir: words[4].into(),
        }
    }
}

/// A store with the smallest segments, so that checkpoints are frequent.
pub(crate) fn builder(dir: &Path, durability: Durability) -> Builder {
    Store::builder(dir)
        .durability(durability)
        .journal_bytes(64 * 1024)
        .retain_for(Duration::from_secs(7 * 24 * 60 * 60))
        .limits(Limits {
            response_bytes: 4096,
            recovery_point_bytes: 1024,
            ..Limits::default()
        })
}

/// What a holder completes with: everyone can tell it from the key and the fence.
pub(crate) fn response(key: &str, fence: u64) -> Vec<u8> {
    let mut random = Random::seeded(fence ^ key.len() as u64);
    let mut response = format!("{fence} {key} ").into_bytes();
    response.extend(random.bytes(0..600));
    response
}

/// The fence of who completed with `response`, having checked every byte of it.
pub(crate) fn fence_of(key: &str, bytes: &[u8]) -> u64 {
    let digits: String = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .map(|&byte| byte as char)
        .collect();
    let fence = digits
        .parse()
        .unwrap_or_else(|_| panic!("{key} has a foreign answer"));
    assert_eq!(bytes, response(key, fence), "{key} has a damaged answer");
    fence
}

/// What a holder saves as its recovery point.
pub(crate) fn point(key: &str, fence: u64) -> Vec<u8> {
    format!("half of {key} under {fence}").into_bytes()
}

/// Runs until killed, unless the job is to close: then until closed.
pub(crate) fn run(orders: &Orders) {
    abort_on_panic();
    let mut random = Random::seeded(orders.seed);
    Line::Begin(Job::Open).send();
    let store = builder(&orders.dir, orders.durability).open().unwrap();
    Line::End(Job::Open).send();
    let (held, claims) = (Mutex::new(Vec::new()), AtomicU64::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, held, claims) = (&store, &held, &claims);
            let mut random = random.fork();
            let worker = Worker {
                store,
                held,
                claims,
                life: orders.life,
                thread,
            };
            scope.spawn(move || {
                let error = worker.work(&mut random).unwrap_err();
                assert!(
                    matches!(error, Error::Closed),
                    "a closing store says {error}"
                );
            });
        }
        match orders.job {
            Some(Job::Checkpoint) => repeat(Job::Checkpoint, || store.checkpoint()),
            Some(Job::Sweep) => repeat(Job::Sweep, || store.sweep().map(|_| ())),
            Some(Job::Close) => {
                let first_claims = random.within(1..100);
                while claims.load(Ordering::Relaxed) < first_claims {
                    thread::sleep(Duration::from_millis(1));
                }
                Line::Begin(Job::Close).send();
                store.close().unwrap();
                Line::End(Job::Close).send();
            }
            Some(Job::Open) | None => {}
        }
    });
}

/// A child that fails must not look like one that was killed.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
}

fn repeat(job: Job, mut call: impl FnMut() -> firstclaim::Result<()>) {
    loop {
        Line::Begin(job).send();
        call().unwrap();
        Line::End(job).send();
        thread::sleep(Duration::from_millis(1));
    }
}

/// One thread of the child.
struct Worker<'a> {
    store: &'a Store,
    /// Leases that are held until the end.
    held: &'a Mutex<Vec<Lease>>,
    claims: &'a AtomicU64,
    life: u64,
    thread: usize,
}

impl Worker<'_> {
    /// Works until the store is closed, or for ever.
    fn work(&self, random: &mut Random) -> firstclaim::Result<()> {
        for number in 0.. {
            match random.within(0..100) {
                0..60 => self.own_key(number, random)?,
                60..85 => self.shared_key(random)?,
                _ => self.short_lived_key(random)?,
            }
        }
        Ok(())
    }

    /// A key that nobody else knows.
    fn own_key(&self, number: u64, random: &mut Random) -> firstclaim::Result<()> {
        let key = format!("life-{}-thread-{}-{number}", self.life, self.thread);
        let Claim::Claimed(lease) = self.store.claim(TENANT, &key)? else {
            panic!("{key} was vacant");
        };
        self.report_claim(&key, &lease);
        if random.chance(20) {
            lease.save_recovery_point(point(&key, lease.fence().as_u64()))?;
            Line::Saved(key.clone(), lease.fence().as_u64()).send();
        }
        match random.within(0..100) {
            0..70 => end(&key, lease, Ending::Complete),
            70..80 => end(&key, lease, Ending::Release),
            80..90 => end(&key, lease, Ending::Drop),
            _ => {
                self.held.lock().unwrap().push(lease);
                Ok(())
            }
        }
    }

    /// A key that all threads want, of this life and of a few others.
    fn shared_key(&self, random: &mut Random) -> firstclaim::Result<()> {
        let key = format!("shared-{}-{}", self.life / 5, random.within(0..SHARED_KEYS));
        match self.store.claim(TENANT, &key)? {
            Claim::Claimed(lease) => {
                self.report_claim(&key, &lease);
                match random.within(0..100) {
                    0..10 => end(&key, lease, Ending::Complete),
                    10..50 => end(&key, lease, Ending::Release),
                    _ => end(&key, lease, Ending::Drop),
                }
            }
            Claim::Done(response) => {
                let fence = fence_of(&key, response.bytes());
                Line::Replayed(key, fence).send();
                Ok(())
            }
            Claim::InFlight(_) => Ok(()),
        }
    }

    /// A key whose answer is kept for a moment only.
    fn short_lived_key(&self, random: &mut Random) -> firstclaim::Result<()> {
        let key = random.within(0..1_000).to_string();
        if let Claim::Claimed(lease) = self.store.claim(SHORT_LIVED, &key)? {
            Line::Fence(lease.fence().as_u64()).send();
            lease.complete_for(random.bytes(0..200), Duration::from_millis(1))?;
        }
        Ok(())
    }

    fn report_claim(&self, key: &str, lease: &Lease) {
        Line::Claimed(key.into(), lease.fence().as_u64(), lease.attempt()).send();
        self.claims.fetch_add(1, Ordering::Relaxed);
    }
}

fn end(key: &str, lease: Lease, how: Ending) -> firstclaim::Result<()> {
    let fence = lease.fence().as_u64();
    Line::Ending(key.into(), fence, how).send();
    match how {
        Ending::Complete => lease.complete(response(key, fence))?,
        Ending::Release => lease.release()?,
        Ending::Drop => drop(lease),
    }
    Line::Ended(key.into(), fence, how).send();
    Ok(())
}
