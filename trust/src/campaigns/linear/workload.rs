//! What the threads of a run do: calls of the public API on a few hot keys.

mod notes;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firstclaim::internals::record::{Fence, Takeover};
use firstclaim::internals::transition::{Command, Terms};
use firstclaim::{Error, Fingerprint, Lease, Store};

pub use self::notes::peeked;
use super::history::{Asked, Seen, What};
use super::witness::{Event, Witness, locked};
use crate::random::Random;

pub const TENANT: &str = "t";
/// A body of so many bytes is over the limit.
pub const BODY_LIMIT: usize = 512;
/// Of a key; the oldest is dropped when there are more.
const MOST_LEASES: usize = 3;
/// So many calls a thread still makes when the disk is dead.
const CALLS_AFTER_DEATH: usize = 3;

/// A run of a store, from its opening to its end.
pub struct Run {
    pub store: Store,
    pub witness: Arc<Witness>,
    /// The unit of every duration and step of the clock, so that they often meet exactly.
    pub unit: Duration,
    /// The leases that are out, by key. Threads share them.
    pub leases: Vec<Mutex<Vec<Arc<Lease>>>>,
    /// The disk has failed for good.
    pub dead: Arc<AtomicBool>,
    pub closing: AtomicBool,
    /// How many calls are still to be made.
    pub left: AtomicI64,
    /// The thread that makes the last call closes the store.
    pub ends_closed: bool,
}

/// What one thread saw.
#[derive(Debug, Default)]
pub struct Report {
    pub events: Vec<Event>,
    pub calls: u64,
    /// An answer that no history can explain.
    pub wrong: Option<String>,
}

/// One thread of a run.
pub struct Worker {
    run: Arc<Run>,
    random: Random,
    report: Report,
    bodies: u64,
    name: u64,
}

impl Worker {
    pub fn new(run: Arc<Run>, name: u64, seed: u64) -> Self {
        Worker {
            run,
            random: Random::new(seed),
            report: Report::default(),
            bodies: 0,
            name,
        }
    }

    pub fn work(mut self) -> Report {
        let mut after_death = 0;
        while after_death < CALLS_AFTER_DEATH && self.report.wrong.is_none() {
            let left = self.run.left.fetch_sub(1, Ordering::SeqCst);
            if left <= 0 || self.run.closing.load(Ordering::SeqCst) {
                if left == 0 && self.run.ends_closed {
                    self.close();
                }
                break;
            }
            after_death += usize::from(self.run.dead.load(Ordering::SeqCst));
            self.report.calls += 1;
            self.call();
        }
        self.report
    }

    fn call(&mut self) {
        // The first key is as busy as all others together.
        let keys = self.run.leases.len() as u64;
        let key = match self.random.chance(2) {
            true => 0,
            false => self.random.below(keys) as usize,
        };
        match self.random.below(100) {
            0..=23 => self.claim(key),
            24..=43 => self.peek(key),
            44..=47 => self.list(),
            48..=51 => self.resolve(key),
            52..=55 => self.forget(key, false),
            56 => self.forget(key, true),
            57 => self.checkpoint(),
            58 => self.sweep(),
            59..=62 => {
                let steps = *self.random.pick(&[1, 1, 1, 3]);
                self.run.witness.advance(self.run.unit * steps);
            }
            _ => self.use_lease(key),
        }
    }

    fn claim(&mut self, key: usize) {
        let print = match self.random.below(12) {
            0 => Some(2),
            1 => None,
            _ => key.is_multiple_of(2).then_some(1),
        };
        let terms = Terms {
            lease_for: self.duration(3),
            retain_for: self.duration(4),
            takeover: *self.random.pick(&[
                Takeover::Gone,
                Takeover::GoneOrExpired,
                Takeover::Expired,
                Takeover::Never,
            ]),
            fingerprint: print.map(|n| Fingerprint::from([n; 32])),
        };
        let name = name_of(key);
        let mut request = self.run.store.request(TENANT, &name);
        if let Some(fingerprint) = terms.fingerprint {
            request = request.fingerprint(fingerprint);
        }
        let request = request
            .lease_for(terms.lease_for)
            .retain_for(terms.retain_for)
            .takeover(terms.takeover);
        let call = self.run.witness.moment();
        let answer = request.claim();
        let asked = Asked::Command(Command::Claim(terms));
        self.note_claim(key, call, asked, answer.map(Some));
    }

    fn resolve(&mut self, key: usize) {
        let lease_for = default_lease(self.run.unit);
        let call = self.run.witness.moment();
        let answer = self.run.store.resolve(TENANT, name_of(key));
        let asked = Asked::Command(Command::Resolve { lease_for });
        self.note_claim(key, call, asked, answer);
    }

    fn peek(&mut self, key: usize) {
        let call = self.run.witness.moment();
        let answer = self.run.store.peek(TENANT, name_of(key));
        self.note(
            key,
            call,
            Asked::Peek,
            answer.map(|peek| peeked(peek.as_ref())),
        );
    }

    /// One call that says something of every key.
    fn list(&mut self) {
        let call = self.run.witness.moment();
        let answer = self.run.store.unfinished();
        let ret = self.run.witness.moment();
        for key in 0..self.run.leases.len() {
            let answer = answer.clone().map(|list| {
                let name = name_of(key);
                let listed = list.iter().find(|u| u.key() == name.as_bytes());
                listed.map_or(Seen::Vacant, |unfinished| Seen::Listed {
                    state: unfinished.state(),
                    since: unfinished.since().into(),
                    attempt: unfinished.attempt(),
                    fence: unfinished.fence(),
                    point: unfinished.recovery_point().map(<[u8]>::to_vec),
                })
            });
            self.note_between(key, call, ret, Asked::Unfinished, answer);
        }
    }

    fn forget(&mut self, key: usize, held: bool) {
        let call = self.run.witness.moment();
        let answer = match held {
            true => self.run.store.forget_held(TENANT, name_of(key)),
            false => self.run.store.forget(TENANT, name_of(key)),
        };
        let answer = answer.map(|found| match found {
            true => Seen::Changed,
            false => Seen::Vacant,
        });
        self.note(key, call, Asked::Command(Command::Forget { held }), answer);
    }

    fn checkpoint(&mut self) {
        let call = self.run.witness.moment();
        let done = self.run.store.checkpoint();
        self.note_checkpoint(call, done);
    }

    /// A sweep checkpoints too.
    fn sweep(&mut self) {
        let call = self.run.witness.moment();
        let done = self.run.store.sweep();
        self.note_checkpoint(call, done.map(drop));
    }

    fn use_lease(&mut self, key: usize) {
        let mut leases = locked(&self.run.leases[key]);
        if leases.is_empty() {
            drop(leases);
            return self.claim(key);
        }
        // Mostly the newest: the others have been replaced.
        let last = leases.len() - 1;
        let at = match self.random.chance(4) {
            true => self.random.below(leases.len() as u64) as usize,
            false => last,
        };
        if self.random.chance(5) {
            let lease = leases.remove(at);
            drop(leases);
            return self.let_go(key, lease);
        }
        let lease = leases[at].clone();
        drop(leases);
        let fence = lease.fence();
        match self.random.below(10) {
            0..=3 => self.complete(key, &lease, fence),
            4 | 5 => {
                let lease_for = self.duration(3);
                let call = self.run.witness.moment();
                let answer = lease.renew(lease_for);
                let command = Command::Renew { fence, lease_for };
                self.note_change(key, call, command, answer);
            }
            6 | 7 => {
                let point = self.body();
                let call = self.run.witness.moment();
                let answer = lease.save_recovery_point(&point);
                let point = point.into_bytes().into();
                self.note_change(key, call, Command::Save { fence, point }, answer);
            }
            _ => {
                let call = self.run.witness.moment();
                let answer = lease.release();
                self.note_change(key, call, Command::Release { fence }, answer);
            }
        }
        self.let_go(key, lease);
    }

    fn complete(&mut self, key: usize, lease: &Lease, fence: Fence) {
        if self.random.chance(8) {
            let call = self.run.witness.moment();
            let answer = lease.complete([0; BODY_LIMIT + 1]);
            if !matches!(answer, Err(Error::TooLarge { .. })) {
                self.wrong(format!("an overlong response was answered {answer:?}"));
            }
            let ret = self.run.witness.moment();
            return self.event(key, call, ret, What::CompleteFailed(fence));
        }
        // Sometimes as another thread may have.
        let body = match self.random.chance(3) {
            true => "same".to_owned(),
            false => self.body(),
        };
        let retain_for = self.random.chance(3).then(|| self.duration(4));
        let call = self.run.witness.moment();
        let answer = match retain_for {
            Some(retain_for) => lease.complete_for(&body, retain_for),
            None => lease.complete(&body),
        };
        if !matches!(
            answer,
            Ok(()) | Err(Error::Fenced | Error::AlreadyCompleted)
        ) {
            let ret = self.run.witness.moment();
            self.event(key, call, ret, What::CompleteFailed(fence));
        }
        let command = Command::Complete {
            fence,
            response: body.into_bytes().into(),
            retain_for,
        };
        self.note_change(key, call, command, answer);
    }

    /// Lets go of a lease; the last one to do so drops it.
    fn let_go(&mut self, key: usize, lease: Arc<Lease>) {
        let Some(lease) = Arc::into_inner(lease) else {
            return;
        };
        let fence = lease.fence();
        let call = self.run.witness.moment();
        drop(lease);
        let ret = self.run.witness.moment();
        self.event(key, call, ret, What::Drop(fence));
    }

    fn close(&mut self) {
        self.run.closing.store(true, Ordering::SeqCst);
        if let Err(error) = self.run.store.close() {
            self.is_excused(&error);
        }
    }

    fn duration(&mut self, most: u64) -> Duration {
        self.run.unit * (1 + self.random.below(most) as u32)
    }

    fn body(&mut self) -> String {
        self.bodies += 1;
        let length = *self.random.pick(&[0, 0, 0, 40, 300]);
        format!("{}.{}{}", self.name, self.bodies, "-".repeat(length))
    }
}

pub fn name_of(key: usize) -> String {
    format!("k{key}")
}

/// The lease that the store gives unless told otherwise.
pub fn default_lease(unit: Duration) -> Duration {
    unit * 2
}
