//! A kill at every single operation that changes the disk, in the work, in the checkpoint and
//! again in the recovery, whole and with the last write torn. What was acknowledged is there, and
//! what was not is there whole or not at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "kit/faults.rs"]
mod faults;
#[path = "kit/steps.rs"]
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use faults::FaultDisk;
use firstclaim::ManualClock;
use firstclaim::internals::record::State;
use firstclaim::internals::transition::Command;
use firstclaim::internals::{Engine, MemoryDisk};
use steps::{claim, commit, complete, key, open, response};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// What the work was told of each key, and the highest fence it was given.
#[derive(Debug, Clone, Default)]
struct Told {
    keys: BTreeMap<String, Known>,
    fence: u64,
}

#[derive(Debug, Clone, PartialEq)]
enum Known {
    Claimed(u64),
    Done(Vec<u8>),
    Released,
    Forgotten,
    /// A call on it failed, so it may be as before or as the call would have left it.
    Unsure(Box<Known>, Box<Known>),
}

/// Does its work until an error, noting what it was told.
fn work(engine: &Engine, told: &mut Told) -> Option<()> {
    for n in 0..14 {
        let name = format!("k{n}");
        let answer = claim(engine, &name, HOUR);
        let Ok(answer) = answer else {
            let perhaps = Known::Unsure(Box::new(Known::Forgotten), Box::new(Known::Claimed(0)));
            told.keys.insert(name, perhaps);
            return None;
        };
        let fence = answer.record.as_ref().unwrap().fence;
        assert!(fence.as_u64() > told.fence);
        told.fence = fence.as_u64();
        told.keys.insert(name.clone(), Known::Claimed(told.fence));
        let (command, after) = match n % 4 {
            0 => (Command::Release { fence }, Known::Released),
            1 => (Command::Forget { held: true }, Known::Forgotten),
            2 => continue,
            _ => {
                let body = vec![n as u8; 900];
                let complete = Command::Complete {
                    fence,
                    response: body.clone().into(),
                    retain_for: None,
                };
                (complete, Known::Done(body))
            }
        };
        let before = told.keys[&name].clone();
        let done = commit(engine, &name, command).is_ok();
        let known = if done {
            after
        } else {
            Known::Unsure(Box::new(before), Box::new(after))
        };
        told.keys.insert(name, known);
        if !done {
            return None;
        }
        if n % 5 == 4 {
            engine.checkpoint().ok()?;
        }
    }
    engine.close().ok()
}

fn is(engine: &Engine, name: &str, known: &Known) -> bool {
    let seen = engine.peek(&key(name)).unwrap();
    let state = seen.as_ref().map(|(record, _)| &record.state);
    match known {
        Known::Forgotten => seen.is_none(),
        Known::Released => matches!(state, Some(State::Released)),
        Known::Done(body) => response(engine, name).as_ref() == Some(body),
        Known::Claimed(fence) => {
            matches!(state, Some(State::InFlight { .. }))
                && (*fence == 0 || seen.unwrap().0.fence.as_u64() == *fence)
        }
        Known::Unsure(before, after) => is(engine, name, before) || is(engine, name, after),
    }
}

fn check(content: MemoryDisk, clock: &ManualClock, told: &Told, at: &str) {
    let disk = Arc::new(content);
    let engine = open(&(disk.clone() as _), clock)
        .unwrap_or_else(|error| panic!("{at}: does not open: {error}"));
    for (name, known) in &told.keys {
        assert!(
            is(&engine, name, known),
            "{at}: {name} is {:?}, not {known:?}",
            engine.peek(&key(name))
        );
    }
    let fresh = claim(&engine, "fresh", HOUR).unwrap().record.unwrap().fence;
    assert!(fresh.as_u64() > told.fence, "{at}: fence {fresh} again");
    complete(&engine, "fresh", fresh, b"f").unwrap();
    engine.checkpoint().unwrap();
    engine
        .verify()
        .unwrap_or_else(|error| panic!("{at}: {error}"));
}

/// Runs the work on a copy of `content` that dies at the `n`th change. None once it lives.
fn killed_in_work(
    content: &MemoryDisk,
    clock: &ManualClock,
    n: u64,
    torn: bool,
) -> Option<(MemoryDisk, Told)> {
    let disk = FaultDisk::over(content.snapshot());
    disk.die_at(n, torn);
    let mut told = Told::default();
    let lived = match open(&(Arc::new(disk.clone()) as _), clock) {
        Ok(engine) => work(&engine, &mut told).is_some(),
        Err(_) => false,
    };
    (!lived).then(|| (disk.content().snapshot(), told))
}

#[test]
fn a_kill_at_any_change_of_the_disk_loses_nothing_acknowledged() {
    let clock = ManualClock::new();
    let mut points = 0;
    for torn in [false, true] {
        for n in 0.. {
            let Some((content, told)) = killed_in_work(&MemoryDisk::new(), &clock, n, torn) else {
                break;
            };
            points += 1;
            check(content, &clock, &told, &format!("change {n}, torn {torn}"));
        }
    }
    println!("{points} kills in the work");
    assert!(points > 300, "only {points} points");
}

#[test]
fn a_kill_at_any_change_in_recovery_loses_nothing_either() {
    let clock = ManualClock::new();
    let mut points = 0;
    // From kills spread over the work, so that some come in mid-checkpoint.
    for first in (20..).step_by(37) {
        let Some((content, told)) = killed_in_work(&MemoryDisk::new(), &clock, first, true) else {
            break;
        };
        for n in 0.. {
            let disk = FaultDisk::over(content.snapshot());
            disk.die_at(n, n % 2 == 0);
            if open(&(Arc::new(disk.clone()) as _), &clock).is_ok() {
                break;
            }
            points += 1;
            let at = format!("change {first}, then {n} in recovery");
            check(disk.content().snapshot(), &clock, &told, &at);
        }
    }
    println!("{points} kills in recovery");
    assert!(points > 100, "only {points} points");
}
