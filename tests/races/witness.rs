//! What all threads together saw of every key, checked while they race and once they are done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::SystemTime;

use firstclaim::{Claim, Error, InFlight, Lease, Previous};

/// The keys of one round.
pub(crate) struct Witness {
    keys: Vec<KeyWitness>,
    /// The highest fence that a claim had returned.
    highest: AtomicU64,
}

#[derive(Default)]
struct KeyWitness {
    /// The fence of the one who believes to hold the key, or 0.
    held: AtomicU64,
    /// Set once a `complete` has returned.
    completed: AtomicBool,
    attempts: Mutex<BTreeMap<u32, Attempt>>,
    /// Every answer that a claim gave.
    answers: Mutex<BTreeSet<Vec<u8>>>,
}

/// What a claim was answered with; answers of done keys are kept by the witness.
pub(crate) enum Seen {
    Lease(Lease),
    InFlight(InFlight),
    Done,
}

/// One lease, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) fence: u64,
    pub(crate) previous: Previous,
    pub(crate) ends_at: SystemTime,
    /// The bytes it completed with.
    pub(crate) answer: Option<Vec<u8>>,
    pub(crate) fenced: bool,
    pub(crate) dropped: bool,
    /// The store's clock soon after the claim.
    pub(crate) claimed_by: Option<SystemTime>,
}

impl Witness {
    pub(crate) fn new(keys: usize) -> Self {
        Witness {
            keys: (0..keys).map(|_| KeyWitness::default()).collect(),
            highest: AtomicU64::new(0),
        }
    }

    /// Claims `key` by `ask`, and checks the answer against what had returned before it was asked.
    pub(crate) fn claim(&self, key: usize, ask: impl FnOnce() -> Result<Claim, Error>) -> Seen {
        let witness = &self.keys[key];
        let highest_before = self.highest.load(SeqCst);
        let completed_before = witness.completed.load(SeqCst);
        let claim = ask().expect("a claim of a good key is answered");
        match claim {
            Claim::Done(response) => {
                witness
                    .answers
                    .lock()
                    .unwrap()
                    .insert(response.bytes().to_vec());
                Seen::Done
            }
            other if completed_before => panic!("key {key} was done, and then {other:?}"),
            Claim::InFlight(running) => Seen::InFlight(running),
            Claim::Claimed(lease) => {
                let fence = lease.fence().as_u64();
                assert!(
                    fence > highest_before,
                    "key {key} got fence {fence} after {highest_before} was out"
                );
                self.highest.fetch_max(fence, SeqCst);
                witness.note(&lease, key);
                Seen::Lease(lease)
            }
        }
    }

    /// The holder of `key` begins: nobody else may be between begin and end.
    pub(crate) fn begin(&self, key: usize, lease: &Lease) {
        let other = self.keys[key].held.swap(lease.fence().as_u64(), SeqCst);
        assert_eq!(
            other,
            0,
            "key {key} is held by {} and {other}",
            lease.fence()
        );
    }

    /// The holder of `key` is about to end its lease.
    pub(crate) fn end(&self, key: usize, lease: &Lease) {
        let held = self.keys[key].held.swap(0, SeqCst);
        assert_eq!(held, lease.fence().as_u64(), "key {key} changed hands");
    }

    /// Completes `key`; whether that was allowed, which it must be for an `exclusive` holder.
    pub(crate) fn complete(&self, key: usize, lease: &Lease, answer: &[u8]) -> bool {
        let result = lease.complete(answer);
        let witness = &self.keys[key];
        match result {
            Ok(()) => witness.completed.store(true, SeqCst),
            Err(Error::Fenced) => {}
            Err(error) => panic!("completing key {key}: {error}"),
        }
        self.update(key, lease, |attempt| {
            attempt.answer = result.is_ok().then(|| answer.to_vec());
            attempt.fenced = result.is_err();
        });
        result.is_ok()
    }

    pub(crate) fn update(&self, key: usize, lease: &Lease, change: impl FnOnce(&mut Attempt)) {
        let mut attempts = self.keys[key].attempts.lock().unwrap();
        change(attempts.get_mut(&lease.attempt()).unwrap());
    }

    pub(crate) fn is_completed(&self, key: usize) -> bool {
        self.keys[key].completed.load(SeqCst)
    }

    pub(crate) fn all_completed(&self) -> bool {
        (0..self.keys.len()).all(|key| self.is_completed(key))
    }

    /// Once all threads are done: checks the history of every key, and returns them.
    pub(crate) fn check(self) -> Vec<Vec<Attempt>> {
        self.keys
            .into_iter()
            .enumerate()
            .map(|(key, witness)| witness.check(key))
            .collect()
    }
}

impl KeyWitness {
    fn note(&self, lease: &Lease, key: usize) {
        let attempt = Attempt {
            fence: lease.fence().as_u64(),
            previous: lease.previous(),
            ends_at: lease.ends_at(),
            answer: None,
            fenced: false,
            dropped: false,
            claimed_by: None,
        };
        let earlier = self
            .attempts
            .lock()
            .unwrap()
            .insert(lease.attempt(), attempt);
        assert!(
            earlier.is_none(),
            "attempt {} on key {key} was given twice: {earlier:?}",
            lease.attempt()
        );
    }

    fn check(self, key: usize) -> Vec<Attempt> {
        let attempts = self.attempts.into_inner().unwrap();
        assert!(
            attempts.keys().copied().eq(1..=attempts.len() as u32),
            "key {key} had the attempts {:?}",
            attempts.keys()
        );
        let attempts: Vec<Attempt> = attempts.into_values().collect();
        assert!(
            attempts.is_sorted_by(|a, b| a.fence < b.fence),
            "the fences of key {key} do not rise: {attempts:?}"
        );
        let answers: Vec<_> = attempts.iter().filter_map(|a| a.answer.as_ref()).collect();
        assert_eq!(answers.len(), 1, "key {key} was completed by {answers:?}");
        assert!(
            attempts.last().is_some_and(|last| last.answer.is_some()),
            "key {key} was not completed by its last holder: {attempts:?}"
        );
        let seen = self.answers.into_inner().unwrap();
        assert!(
            seen.iter().all(|seen| seen == answers[0]),
            "key {key} was answered with {seen:?} and completed with {answers:?}"
        );
        attempts
    }
}
