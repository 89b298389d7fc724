//! firstclaim, by its public interface; filled through its engine, under a clock that makes a day go
//! by.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use firstclaim::internals::transition::{Command, Terms};
use firstclaim::internals::{Directory, Engine, EngineOptions, RecordKey, Request};
use firstclaim::{
    Builder, Claim, ClaimRequest, Durability, Lease, Limits, ManualClock, Store, Takeover,
};

use super::{BoxFuture, Client, DAY, Peer, RESPONSE, Seen, Tasks};
use crate::cell::{Cell, Work};
use crate::key::Key;

/// How many keys are claimed at once while filling.
const FILL_BATCH: u64 = 1000;

pub struct Embedded {
    directory: PathBuf,
    durability: Durability,
    store: Store,
    has_tasks: bool,
}

impl Embedded {
    pub fn open(directory: &Path, durability: Durability) -> Result<Self> {
        Ok(Embedded {
            directory: directory.to_owned(),
            durability,
            store: store(directory, durability)?,
            has_tasks: false,
        })
    }

    /// The same with tasks as clients.
    pub fn with_tasks(self) -> Self {
        Embedded {
            has_tasks: true,
            ..self
        }
    }
}

/// The engine of a store, without its threads, as `store` would have it.
pub fn engine(directory: &Path, durability: Durability, clock: &ManualClock) -> Result<Engine> {
    let options = EngineOptions {
        durability,
        limits: limits(),
        journal_bytes: 16 << 20,
        base_cache_bytes: 64 << 20,
        transaction_records: 8_192,
        hash_seed: None,
        clock: Arc::new(clock.clone()),
    };
    Ok(Engine::open(Arc::new(Directory::at(directory)?), options)?)
}

pub fn limits() -> Limits {
    // Claims that nobody completes pile up until the measurement is over.
    Limits {
        unfinished: 100_000_000,
        unfinished_bytes: 16 << 30,
        ..Limits::default()
    }
}

fn store(directory: &Path, durability: Durability) -> Result<Store> {
    Ok(Builder::new(directory)
        .durability(durability)
        .limits(limits())
        .sweep_every(Duration::from_secs(5))
        .open()?)
}

impl Peer for Embedded {
    fn client(&self) -> Result<Box<dyn Client + '_>> {
        Ok(Box::new(Session {
            store: &self.store,
            leases: Vec::new(),
        }))
    }

    fn tasks(&self) -> Option<Arc<dyn Tasks>> {
        self.has_tasks.then(|| Arc::new(self.store.clone()) as _)
    }

    fn fill(&mut self, keys: u64) -> Result<()> {
        self.store.close()?;
        // By another process: what filling leaves in the allocator is not the store's memory.
        let filled = std::process::Command::new(std::env::current_exe()?)
            .arg("--fill")
            .arg("--dir")
            .arg(&self.directory)
            .arg("--live")
            .arg(keys.to_string())
            .status()?;
        if !filled.success() {
            bail!("filling failed: {filled}");
        }
        self.store = store(&self.directory, self.durability)?;
        // What the store does once after an opening is not to be measured with what it does always.
        while self.store.stats().unverified > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn stored_keys(&self) -> Option<u64> {
        let stats = self.store.stats();
        Some(stats.base_records + stats.overlay_records as u64)
    }

    /// After a sustained measurement that is left to the store: it sweeps by itself, and a sweep by this
    /// thread would leave one more of the allocator's arenas with what it used once.
    fn tidy(&self, cell: Cell) -> Result<()> {
        if cell.is_sustained() {
            return Ok(());
        }
        while self.store.sweep()?.unfinished > 0 || self.store.stats().unfinished > 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

impl Tasks for Store {
    fn work(&self, work: Work, key: Key, retain_for: Duration) -> BoxFuture<'static, Result<()>> {
        let claim = claim_request(self, &key, retain_for).claim_async();
        Box::pin(async move {
            let lease = match claim.await? {
                Claim::Claimed(lease) => lease,
                other => bail!("{key:?} is {other:?}"),
            };
            match work {
                Work::Claim => Ok(()),
                Work::Cycle => Ok(lease.complete_async(RESPONSE).await?),
                other => bail!("tasks do not {}", other.name()),
            }
        })
    }
}

fn claim_request<'s>(store: &'s Store, key: &Key, retain_for: Duration) -> ClaimRequest<'s> {
    let request = store.request(&key.tenant, &key.key);
    request
        .lease_for(Duration::from_secs(1))
        .retain_for(retain_for)
}

/// Claims and completes keys at the pace of one day.
pub fn fill(directory: &Path, keys: u64) -> Result<()> {
    let clock = ManualClock::at(SystemTime::now() - DAY + Duration::from_secs(60));
    let engine = engine(directory, Durability::ProcessCrash, &clock)?;
    let terms = Terms {
        lease_for: Duration::from_secs(60),
        retain_for: DAY,
        takeover: Takeover::Gone,
        fingerprint: None,
    };
    for first in (0..keys).step_by(FILL_BATCH as usize) {
        let numbers = first..keys.min(first + FILL_BATCH);
        let claims: Vec<Request> = numbers
            .map(|n| {
                let Key { tenant, key } = Key::live(n);
                Ok(Request::new(
                    RecordKey::new(tenant.as_bytes(), key.as_bytes(), 255)?,
                    Command::Claim(terms.clone()),
                ))
            })
            .collect::<firstclaim::Result<_>>()?;
        let claimed = engine.commit(&claims);
        let mut completions = Vec::with_capacity(claims.len());
        for (request, answer) in claims.iter().zip(claimed) {
            let record = answer?.record.context("a new key is claimed")?;
            completions.push(Request::new(
                request.key.clone(),
                Command::Complete {
                    fence: record.fence,
                    response: RESPONSE.as_slice().into(),
                    retain_for: None,
                },
            ));
        }
        engine
            .commit(&completions)
            .into_iter()
            .try_for_each(|done| done.map(drop))?;
        let share = DAY.as_secs_f64() * FILL_BATCH as f64 / keys as f64;
        clock.advance(Duration::from_secs_f64(share).min(DAY / 10));
    }
    Ok(engine.close()?)
}

struct Session<'s> {
    store: &'s Store,
    leases: Vec<Lease>,
}

impl Client for Session<'_> {
    fn claim(&mut self, key: &Key, retain_for: Duration) -> Result<()> {
        match claim_request(self.store, key, retain_for).claim()? {
            Claim::Claimed(lease) => self.leases.push(lease),
            other => bail!("{key:?} is {other:?}"),
        }
        Ok(())
    }

    fn complete(&mut self, _: &Key, response: &[u8], _: Duration) -> Result<()> {
        let lease = self.leases.pop().context("nothing claimed")?;
        Ok(lease.complete(response)?)
    }

    fn abandon(&mut self) {
        self.leases.clear();
    }

    fn ask(&mut self, key: &Key) -> Result<Seen> {
        Ok(match self.store.claim(&key.tenant, &key.key)? {
            Claim::Done(response) => Seen::Done {
                bytes: response.bytes().len(),
            },
            Claim::InFlight(_) => Seen::InFlight,
            Claim::Claimed(_) => bail!("{key:?} is vacant"),
        })
    }
}
