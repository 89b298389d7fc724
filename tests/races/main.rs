//! Races on a real disk: 64 threads on 200 keys at once.
//!
//! `Witness` holds what is checked in every one of them: one lease an attempt, attempts without
//! gaps, fences that rise, one completion, and its exact bytes for everyone who comes late.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

#[path = "../kit/random.rs"]
mod random;
mod witness;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use firstclaim::{
    Builder, Claim, Clock, Lease, Limits, ManualClock, Peek, Previous, Store, Takeover,
    UnfinishedState,
};
use tempfile::TempDir;

use random::Random;
use witness::{Attempt, Seen, Witness};

const THREADS: usize = 64;
const KEYS: usize = 200;
const ROUNDS: usize = 5;
const POLICIES: [Takeover; 4] = [
    Takeover::Never,
    Takeover::Gone,
    Takeover::GoneOrExpired,
    Takeover::Expired,
];

#[test]
fn one_of_all_who_come_at_once_has_the_lease() {
    let (_dir, builder) = on_disk();
    let store = builder.open().unwrap();
    let mut random = Random::announced();
    for round in 0..ROUNDS {
        race_to_complete(&store, round, &mut random);
    }
}

#[test]
fn a_lease_that_ends_unfinished_gives_one_next_attempt() {
    let (_dir, builder) = on_disk();
    let store = builder.open().unwrap();
    let mut random = Random::announced();
    for round in 0..ROUNDS {
        race_through_attempts(&store, round, &mut random);
    }
}

#[test]
fn races_are_the_same_beside_checkpoints_and_sweeps() {
    let (_dir, builder) = on_disk();
    let clock = ManualClock::new();
    // The clock moves on by hours meanwhile, and a thread may have to wait for its turn.
    let store = builder
        .clock(clock.clone())
        .lease_for(Duration::from_secs(24 * 60 * 60))
        .retain_for(Duration::from_secs(300 * 24 * 60 * 60))
        .open()
        .unwrap();
    let mut random = Random::announced();
    beside_maintenance(&store, &clock, Duration::from_secs(3), || {
        for round in 0..ROUNDS {
            race_to_complete(&store, 2 * round, &mut random);
            race_through_attempts(&store, 2 * round + 1, &mut random);
        }
    });
    store.verify().unwrap();
}

#[test]
fn a_lease_that_is_over_goes_to_one_other_and_its_holder_is_fenced() {
    let (_dir, builder) = on_disk();
    let clock = ManualClock::new();
    let store = builder.clock(clock.clone()).open().unwrap();
    let mut random = Random::announced();
    for round in 0..2 {
        race_against_the_clock(&store, &clock, round, &mut random);
    }
}

#[test]
fn leases_that_end_beside_checkpoints_and_sweeps() {
    let (_dir, builder) = on_disk();
    let clock = ManualClock::new();
    let store = builder
        .clock(clock.clone())
        .retain_for(Duration::from_secs(300 * 24 * 60 * 60))
        .open()
        .unwrap();
    let mut random = Random::announced();
    beside_maintenance(&store, &clock, Duration::ZERO, || {
        race_against_the_clock(&store, &clock, 0, &mut random);
    });
    store.verify().unwrap();
}

/// Everybody goes once over all keys; who has a lease completes it. Nobody is ever gone, and nobody
/// may believe so, not even at the moment of a completion.
fn race_to_complete(store: &Store, round: usize, random: &mut Random) {
    let policy = POLICIES[round % POLICIES.len()];
    let witness = Witness::new(KEYS);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                assert_none_is_interrupted(store);
            }
        });
        let _over = SetOnDrop(&over);
        at_once(random, |thread, random| {
            for key in shuffled_keys(random) {
                let request = store.request("race", name(round, key)).takeover(policy);
                match witness.claim(key, || request.claim()) {
                    Seen::Lease(lease) => {
                        assert_eq!((lease.attempt(), lease.previous()), (1, Previous::None));
                        witness.begin(key, &lease);
                        thread::sleep(random.micros(0..400));
                        witness.end(key, &lease);
                        let answer = answer(thread, &lease, random);
                        assert!(witness.complete(key, &lease, &answer));
                    }
                    Seen::InFlight(running) => assert!(!running.is_interrupted(), "{key}"),
                    Seen::Done => {}
                }
            }
        });
    });
    assert_answered(store, round, witness.check());
}

fn assert_none_is_interrupted(store: &Store) {
    for record in store.tenant("race").unfinished().unwrap() {
        assert_eq!(record.state(), UnfinishedState::InFlight, "{record:?}");
        if let Some(Peek::InFlight(running)) = store.peek("race", record.key()).unwrap() {
            assert!(!running.is_interrupted(), "{record:?}");
        }
    }
}

/// Everybody goes over all keys until they are done; who has a lease drops it, releases it or
/// completes it, as is laid down for that attempt on that key.
fn race_through_attempts(store: &Store, round: usize, random: &mut Random) {
    let witness = Witness::new(KEYS);
    at_once(random, |thread, random| {
        while !witness.all_completed() {
            for key in shuffled_keys(random) {
                if witness.is_completed(key) && random.chance(90) {
                    continue;
                }
                let name = name(round, key);
                let Seen::Lease(lease) = witness.claim(key, || store.claim("race", &name)) else {
                    continue;
                };
                witness.begin(key, &lease);
                assert_eq!(lease.previous(), previous_of(key, lease.attempt()));
                thread::sleep(random.micros(0..100));
                witness.end(key, &lease);
                match ending_of(key, lease.attempt()) {
                    Ending::Complete => {
                        let answer = answer(thread, &lease, random);
                        assert!(witness.complete(key, &lease, &answer));
                    }
                    Ending::Release => lease.release().unwrap(),
                    Ending::Drop => drop(lease),
                }
            }
        }
    });
    assert_answered(store, round, witness.check());
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Complete,
    Release,
    Drop,
}

fn ending_of(key: usize, attempt: u32) -> Ending {
    let attempt = attempt as usize;
    if attempt == 2 + key % 4 {
        Ending::Complete
    } else if (key / 4 + attempt).is_multiple_of(3) {
        Ending::Release
    } else {
        Ending::Drop
    }
}

fn previous_of(key: usize, attempt: u32) -> Previous {
    let mut before = (1..attempt).map(|attempt| ending_of(key, attempt));
    match attempt {
        1 => Previous::None,
        _ if before.any(|ending| ending == Ending::Drop) => Previous::Interrupted,
        _ => Previous::Released,
    }
}

/// Leases of ten seconds on a clock that runs far ahead of its holders, who complete late or drop.
fn race_against_the_clock(store: &Store, clock: &ManualClock, round: usize, random: &mut Random) {
    let witness = Witness::new(KEYS);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                clock.advance(Duration::from_millis(100));
                thread::sleep(Duration::from_micros(500));
            }
        });
        let _over = SetOnDrop(&over);
        at_once(random, |thread, random| {
            while !witness.all_completed() {
                for key in shuffled_keys(random) {
                    if witness.is_completed(key) && random.chance(90) {
                        continue;
                    }
                    let name = name(round, key);
                    let request = store
                        .request("race", &name)
                        .lease_for(Duration::from_secs(10))
                        .takeover(policy_of(key));
                    let Seen::Lease(lease) = witness.claim(key, || request.claim()) else {
                        continue;
                    };
                    let now = clock.now();
                    witness.update(key, &lease, |attempt| attempt.claimed_by = Some(now));
                    hold_too_long(&witness, key, lease, clock, thread, random);
                }
            }
        });
    });
    let histories = witness.check();
    for (key, attempts) in histories.iter().enumerate() {
        for (attempt, next) in attempts.iter().zip(&attempts[1..]) {
            let at_once = attempt.dropped && policy_of(key) == Takeover::GoneOrExpired;
            assert!(
                at_once || next.claimed_by.unwrap() >= attempt.ends_at,
                "key {key} was taken over before its lease was over: {attempts:?}"
            );
            assert_eq!(next.previous, Previous::Interrupted);
        }
    }
    let fenced = histories
        .iter()
        .flatten()
        .filter(|attempt| attempt.fenced)
        .count();
    assert!(fenced > 0, "nobody was ever late: this raced nothing");
    assert_answered(store, round, histories);
}

fn hold_too_long(
    witness: &Witness,
    key: usize,
    lease: Lease,
    clock: &ManualClock,
    thread: usize,
    random: &mut Random,
) {
    // Attempts are few, so that the race ends: the fifth and later ones are in time.
    if lease.attempt() < 5 {
        if random.chance(25) {
            witness.update(key, &lease, |attempt| attempt.dropped = true);
            return;
        }
        let late = lease.ends_at() + random.micros(0..3_000_000);
        while clock.now() < late {
            thread::sleep(Duration::from_micros(500));
        }
    }
    let answer = answer(thread, &lease, random);
    witness.complete(key, &lease, &answer);
}

fn policy_of(key: usize) -> Takeover {
    if key.is_multiple_of(2) {
        Takeover::Expired
    } else {
        Takeover::GoneOrExpired
    }
}

/// Runs `race` while other threads write records of two minutes, move the clock, checkpoint and
/// sweep, so that segments and generations turn over all the time.
fn beside_maintenance(store: &Store, clock: &ManualClock, tick: Duration, race: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let running = || !over.load(SeqCst);
    thread::scope(|scope| {
        scope.spawn(|| {
            while running() {
                store.checkpoint().unwrap();
                thread::sleep(Duration::from_millis(1));
            }
        });
        scope.spawn(|| {
            while running() {
                let _ = store.sweep().unwrap();
                thread::sleep(Duration::from_millis(5));
            }
        });
        scope.spawn(|| {
            for key in 0_u32.. {
                let claim = store.claim("short", (key % 500).to_be_bytes()).unwrap();
                if let Claim::Claimed(lease) = claim {
                    lease
                        .complete_for([7; 64], Duration::from_secs(120))
                        .unwrap();
                }
                clock.advance(tick);
                if !running() {
                    break;
                }
            }
        });
        let _over = SetOnDrop(&over);
        race();
    });
}

/// Ends the threads beside a race, also when the race panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Runs `work` on all threads at once, with the thread's number and a generator of its own.
fn at_once(random: &mut Random, work: impl Fn(usize, &mut Random) + Sync) {
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let mut random = random.fork();
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(thread, &mut random);
            });
        }
    });
}

/// After the race: every key still has the bytes of the one who completed it.
fn assert_answered(store: &Store, round: usize, histories: Vec<Vec<Attempt>>) {
    assert_eq!(histories.len(), KEYS);
    for (key, attempts) in histories.iter().enumerate() {
        let answer = attempts.last().unwrap().answer.as_deref();
        match store.claim("race", name(round, key)).unwrap() {
            Claim::Done(response) => assert_eq!(Some(response.bytes()), answer),
            other => panic!("key {key} was done, and then {other:?}"),
        }
    }
}

fn on_disk() -> (TempDir, Builder) {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        response_bytes: 4096,
        recovery_point_bytes: 1024,
        ..Limits::default()
    };
    let builder = Store::builder(dir.path().join("store"))
        .journal_bytes(64 * 1024)
        .limits(limits);
    (dir, builder)
}

fn name(round: usize, key: usize) -> String {
    format!("round-{round}-key-{key}")
}

fn shuffled_keys(random: &mut Random) -> Vec<usize> {
    let mut keys: Vec<usize> = (0..KEYS).collect();
    random.shuffle(&mut keys);
    keys
}

/// Bytes that no other attempt completes with, of up to a kilobyte.
fn answer(thread: usize, lease: &Lease, random: &mut Random) -> Vec<u8> {
    let mut answer = format!("thread {thread}, fence {}: ", lease.fence()).into_bytes();
    answer.extend(random.bytes(0..1_000));
    answer
}
