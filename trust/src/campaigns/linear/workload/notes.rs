//! What the answers of the store say, as events of a history.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use firstclaim::internals::Timestamp;
use firstclaim::internals::transition::{Command, Refusal};
use firstclaim::{Claim, Error, Peek, StoredResponse};

use super::super::history::{Asked, Seen, What};
use super::super::witness::{Event, locked};
use super::{MOST_LEASES, Worker};

impl Worker {
    pub(super) fn note_claim(
        &mut self,
        key: usize,
        call: u64,
        asked: Asked,
        answer: Result<Option<Claim>, Error>,
    ) {
        let mut lease = None;
        let answer = answer.map(|claim| match claim {
            Some(Claim::Claimed(given)) => {
                let seen = Seen::Lease {
                    fence: given.fence(),
                    attempt: given.attempt(),
                    previous: given.previous(),
                    point: given.recovery_point().map(<[u8]>::to_vec),
                    ends_at: given.ends_at().into(),
                };
                lease = Some(Arc::new(given));
                seen
            }
            Some(Claim::InFlight(running)) => Seen::InFlight {
                since: running.since().into(),
                attempt: running.attempt(),
                interrupted: running.is_interrupted(),
            },
            Some(Claim::Done(response)) => done(&response),
            None => Seen::Vacant,
        });
        self.note(key, call, asked, answer);
        if let Some(lease) = lease {
            let mut leases = locked(&self.run.leases[key]);
            leases.push(lease);
            let oldest = (leases.len() > MOST_LEASES).then(|| leases.remove(0));
            drop(leases);
            oldest.into_iter().for_each(|lease| self.let_go(key, lease));
        }
    }

    pub(super) fn note_checkpoint(&mut self, call: u64, done: Result<(), Error>) {
        let ret = self.run.witness.moment();
        match done {
            Ok(()) => {
                for key in 0..self.run.leases.len() {
                    self.event(key, call, ret, What::Checkpoint);
                }
            }
            // What a sweep committed may have happened; it shows in no answer.
            Err(error) => {
                self.is_excused(&error);
            }
        }
    }

    pub(super) fn note_change(
        &mut self,
        key: usize,
        call: u64,
        command: Command,
        answer: Result<(), Error>,
    ) {
        let answer = answer.map(|()| Seen::Changed);
        self.note(key, call, Asked::Command(command), answer);
    }

    pub(super) fn note(
        &mut self,
        key: usize,
        call: u64,
        asked: Asked,
        answer: Result<Seen, Error>,
    ) {
        let ret = self.run.witness.moment();
        self.note_between(key, call, ret, asked, answer);
    }

    pub(super) fn note_between(
        &mut self,
        key: usize,
        call: u64,
        ret: u64,
        asked: Asked,
        answer: Result<Seen, Error>,
    ) {
        let seen = match answer {
            Ok(seen) => seen,
            Err(Error::Fenced) => Seen::Refused(Refusal::Fenced),
            Err(Error::AlreadyCompleted) => Seen::Refused(Refusal::AlreadyCompleted),
            Err(Error::FingerprintMismatch) => Seen::Refused(Refusal::FingerprintMismatch),
            Err(Error::Held) => Seen::Refused(Refusal::Held),
            Err(error) => {
                // Every error but this one says that nothing was changed.
                if self.is_excused(&error) && matches!(error, Error::Indeterminate) {
                    let what = What::Ask(asked, Seen::Unknown);
                    self.report.events.push(Event {
                        key,
                        call,
                        ret: u64::MAX,
                        what,
                        is_optional: true,
                    });
                }
                return;
            }
        };
        self.event(key, call, ret, What::Ask(asked, seen));
    }

    pub(super) fn event(&mut self, key: usize, call: u64, ret: u64, what: What) {
        self.report.events.push(Event {
            key,
            call,
            ret,
            what,
            is_optional: false,
        });
    }

    /// Whether the store could not help an error: its disk is dead, or it is being closed.
    pub(super) fn is_excused(&mut self, error: &Error) -> bool {
        let is_dead = self.run.dead.load(Ordering::SeqCst);
        let excused = match error {
            Error::Indeterminate | Error::Poisoned | Error::Io(_) => is_dead,
            Error::Closed => self.run.closing.load(Ordering::SeqCst),
            _ => false,
        };
        if !excused {
            self.wrong(format!("a call failed on a sound disk: {error}"));
        }
        excused
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.report.wrong.get_or_insert(what);
    }
}

pub fn peeked(peek: Option<&Peek>) -> Seen {
    match peek {
        None => Seen::Vacant,
        Some(Peek::InFlight(running)) => Seen::InFlight {
            since: running.since().into(),
            attempt: running.attempt(),
            interrupted: running.is_interrupted(),
        },
        Some(Peek::Done(response)) => done(response),
        Some(_) => Seen::Released,
    }
}

fn done(response: &StoredResponse) -> Seen {
    Seen::Done {
        bytes: response.bytes().to_vec(),
        completed_at: Timestamp::from(response.completed_at()),
        expires_at: Timestamp::from(response.expires_at()),
    }
}
