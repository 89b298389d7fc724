//! Driving an engine step by step: short names for its commands.

#![allow(dead_code)]

use std::sync::Arc;
use std::time::Duration;

use firstclaim::internals::record::{Fence, Takeover};
use firstclaim::internals::transition::{Command, Reply, Terms};
use firstclaim::internals::{Answer, Disk, Engine, EngineOptions, RecordKey, Request};
use firstclaim::{Durability, Limits, ManualClock, Result};

/// Small enough that a few dozen changes fill it.
pub const SEGMENT_BYTES: u64 = 32 * 1024;

/// Options with small segments and bodies.
pub fn options(clock: &ManualClock) -> EngineOptions {
    EngineOptions {
        durability: Durability::PowerLoss,
        limits: Limits {
            response_bytes: 4096,
            recovery_point_bytes: 1024,
            ..Limits::default()
        },
        journal_bytes: SEGMENT_BYTES,
        base_cache_bytes: 1 << 20,
        transaction_records: 100,
        hash_seed: Some(1),
        clock: Arc::new(clock.clone()),
    }
}

/// Opens an engine with those options.
pub fn open(disk: &Arc<dyn Disk>, clock: &ManualClock) -> Result<Engine> {
    Engine::open(disk.clone(), options(clock))
}

pub fn key(name: &str) -> RecordKey {
    RecordKey::new(b"t", name.as_bytes(), 255).unwrap()
}

pub fn terms(retain_for: Duration) -> Terms {
    Terms {
        lease_for: Duration::from_secs(60),
        retain_for,
        takeover: Takeover::Gone,
        fingerprint: None,
    }
}

/// Carries out one command.
pub fn commit(engine: &Engine, name: &str, command: Command) -> Result<Answer> {
    engine.commit(&[Request::new(key(name), command)]).remove(0)
}

pub fn claim(engine: &Engine, name: &str, retain_for: Duration) -> Result<Answer> {
    commit(engine, name, Command::Claim(terms(retain_for)))
}

pub fn complete(engine: &Engine, name: &str, fence: Fence, response: &[u8]) -> Result<Answer> {
    let command = Command::Complete {
        fence,
        response: response.into(),
        retain_for: None,
    };
    commit(engine, name, command)
}

/// Claims and completes a vacant key.
pub fn run(engine: &Engine, name: &str, retain_for: Duration, response: &[u8]) -> Fence {
    let answer = claim(engine, name, retain_for).unwrap();
    assert_eq!(answer.reply, Reply::Claimed, "{name}");
    let fence = answer.record.as_ref().unwrap().fence;
    complete(engine, name, fence, response).unwrap();
    fence
}

/// The response of a key, none if it is vacant or unfinished.
pub fn response(engine: &Engine, name: &str) -> Option<Vec<u8>> {
    let seen = engine.peek(&key(name)).unwrap();
    seen.and_then(|(record, _)| record.response().map(<[u8]>::to_vec))
}

/// Fills the journal with other keys until a checkpoint has happened by itself.
pub fn turn_segments(engine: &Engine, prefix: &str, count: usize, retain_for: Duration) {
    for n in 0..count {
        run(engine, &format!("{prefix}{n}"), retain_for, &[7; 1500]);
    }
}
