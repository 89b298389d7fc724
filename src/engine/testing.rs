//! An engine in memory, for unit tests.

use std::sync::Arc;
use std::time::Duration;

use super::disk::memory::MemoryDisk;
use super::{Answer, Engine, EngineOptions, Request};
use crate::key::RecordKey;
use crate::record::Takeover;
use crate::time::ManualClock;
use crate::transition::{Command, Terms};
use crate::{Durability, Limits};

/// A new engine on a disk of its own.
pub(crate) fn engine(clock: &ManualClock) -> Engine {
    Engine::open(Arc::new(MemoryDisk::new()), options(clock)).unwrap()
}

pub(crate) fn options(clock: &ManualClock) -> EngineOptions {
    EngineOptions {
        durability: Durability::PowerLoss,
        limits: Limits::default(),
        journal_bytes: 4 << 20,
        base_cache_bytes: 1 << 20,
        transaction_records: 100,
        hash_seed: Some(1),
        clock: Arc::new(clock.clone()),
    }
}

pub(crate) fn key(name: &str) -> RecordKey {
    RecordKey::new(b"t", name.as_bytes(), 255).unwrap()
}

/// Claims a vacant key.
pub(crate) fn claim(engine: &Engine, name: &str, retain_for: Duration) -> Answer {
    let claim = Command::Claim(Terms {
        lease_for: Duration::from_secs(1),
        retain_for,
        takeover: Takeover::Gone,
        fingerprint: None,
    });
    commit(engine, name, claim)
}

/// Claims and completes a vacant key.
pub(crate) fn run(engine: &Engine, name: &str, retain_for: Duration) {
    let claimed = claim(engine, name, retain_for);
    let complete = Command::Complete {
        fence: claimed.record.unwrap().fence,
        response: name.as_bytes().into(),
        retain_for: None,
    };
    commit(engine, name, complete);
}

fn commit(engine: &Engine, name: &str, command: Command) -> Answer {
    let request = Request::new(key(name), command);
    engine.commit(&[request]).remove(0).unwrap()
}
