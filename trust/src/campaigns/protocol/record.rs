//! A record in a few bytes, and the store's own decision on it.
//!
//! The model keeps millions of states, so it keeps of a record what decisions depend on; the
//! decision itself is [`step`], on the real record that the few bytes stand for.

use std::time::Duration;

use firstclaim::internals::Timestamp;
use firstclaim::internals::record::{
    Fence, Holder, Interruption, Previous, Record, State, Takeover,
};
use firstclaim::internals::transition::{Command, Refusal, Reply, Terms, Write, step};

use super::fault::Fault;

/// A lease runs for one tick of the clock, and so long is a response kept.
const TICK: Duration = Duration::from_micros(1);

/// Which key; there are two.
pub type Key = usize;
pub const KEYS: usize = 2;

/// The record of a key, if there is one.
pub type Entry = Option<Brief>;

/// What decisions depend on in a record. Its policy is its key's, its response its fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Brief {
    pub fence: u8,
    pub attempt: u8,
    pub expires_at: u8,
    /// The end of the lease that was cut short, if one ever was.
    pub interrupted: Option<u8>,
    pub stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    InFlight { ends_at: u8 },
    Released,
    Done { response: u8 },
}

/// A lease, as its holder knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    pub key: Key,
    pub fence: u8,
}

/// A command on its way to whoever commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Claim(Key),
    Resolve(Key),
    Forget(Key),
    Complete(Lease),
    Renew(Lease),
    Release(Lease),
    /// By the sweep.
    Expire(Key),
}

/// What was decided: the entry to write, if any, and what is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub write: Option<Entry>,
    pub said: Result<Reply, Refusal>,
}

impl Call {
    pub fn key(self) -> Key {
        match self {
            Call::Claim(key) | Call::Resolve(key) | Call::Forget(key) | Call::Expire(key) => key,
            Call::Complete(lease) | Call::Renew(lease) | Call::Release(lease) => lease.key,
        }
    }

    /// The lease under which it is called.
    pub fn lease(self) -> Option<Lease> {
        match self {
            Call::Complete(lease) | Call::Renew(lease) | Call::Release(lease) => Some(lease),
            _ => None,
        }
    }

    /// Whether it may give a lease.
    pub fn asks(self) -> bool {
        matches!(self, Call::Claim(_) | Call::Resolve(_))
    }

    /// Whether it leaves its lease, once it is carried out, without a holder.
    pub fn ends_lease(self) -> bool {
        matches!(self, Call::Complete(_) | Call::Release(_))
    }

    fn command(self, policy: Takeover) -> Command {
        match self {
            Call::Claim(_) => Command::Claim(Terms {
                lease_for: TICK,
                retain_for: TICK,
                takeover: policy,
                fingerprint: None,
            }),
            Call::Resolve(_) => Command::Resolve { lease_for: TICK },
            Call::Forget(_) => Command::Forget { held: false },
            Call::Complete(lease) => Command::Complete {
                fence: fence(lease.fence),
                response: [lease.fence].into(),
                retain_for: None,
            },
            Call::Renew(lease) => Command::Renew {
                fence: fence(lease.fence),
                lease_for: TICK,
            },
            Call::Release(lease) => Command::Release {
                fence: fence(lease.fence),
            },
            Call::Expire(_) => Command::Expire,
        }
    }
}

/// The store's decision, unless that is what is broken.
pub fn decide(
    entry: Entry,
    policy: Takeover,
    holder: Holder,
    call: Call,
    now: u8,
    next_fence: u8,
    fault: Option<Fault>,
) -> Decision {
    let call = match (fault, call, entry) {
        (Some(Fault::FenceNotCompared), Call::Renew(lease), Some(brief)) => Call::Renew(Lease {
            fence: brief.fence,
            ..lease
        }),
        _ => call,
    };
    let mut decision = decide_well(entry, policy, holder, call, now, next_fence);
    if let (Call::Release(_), Some(Some(brief))) = (call, &mut decision.write) {
        match fault {
            Some(Fault::ReleaseHidesInterruption) => {
                brief.interrupted = None;
                brief.stage = Stage::Released;
            }
            Some(Fault::ReleaseFreesInterrupted) => brief.stage = Stage::Released,
            _ => {}
        }
    }
    decision
}

fn decide_well(
    entry: Entry,
    policy: Takeover,
    holder: Holder,
    call: Call,
    now: u8,
    next_fence: u8,
) -> Decision {
    let record = entry.map(|brief| brief.record(policy));
    let command = call.command(policy);
    let next_fence = fence(next_fence);
    match step(record.as_ref(), holder, &command, time(now), next_fence) {
        Err(refusal) => Decision {
            write: None,
            said: Err(refusal),
        },
        Ok(step) => Decision {
            write: match &step.write {
                Write::Keep => None,
                Write::Put(record) => Some(Some(Brief::of(record))),
                Write::Delete => Some(None),
            },
            said: Ok(step.reply),
        },
    }
}

impl Brief {
    fn of(record: &Record) -> Self {
        Brief {
            fence: small(record.fence.as_u64()),
            attempt: small(record.attempt.into()),
            expires_at: small(record.expires_at.as_micros()),
            interrupted: record.interrupted.map(|i| small(i.ends_at.as_micros())),
            stage: match &record.state {
                State::InFlight { ends_at } => Stage::InFlight {
                    ends_at: small(ends_at.as_micros()),
                },
                State::Released => Stage::Released,
                State::Done { response, .. } => Stage::Done {
                    response: response[0],
                },
            },
        }
    }

    fn record(self, policy: Takeover) -> Record {
        // No decision depends on when an attempt began or was completed.
        let since = time(0);
        Record {
            fence: fence(self.fence),
            attempt: self.attempt.into(),
            takeover: policy,
            retain_for: TICK,
            fingerprint: None,
            since,
            expires_at: time(self.expires_at),
            interrupted: self.interrupted.map(|ends_at| Interruption {
                since,
                ends_at: time(ends_at),
            }),
            recovery_point: None,
            state: match self.stage {
                Stage::InFlight { ends_at } => State::InFlight {
                    ends_at: time(ends_at),
                },
                Stage::Released => State::Released,
                Stage::Done { response } => State::Done {
                    completed_at: since,
                    response: [response].into(),
                },
            },
        }
    }

    /// Whether the key counts as vacant, by the rule of the record itself.
    pub fn is_expired(self, policy: Takeover, holder: Holder, now: u8) -> bool {
        self.record(policy).is_expired(holder, time(now))
    }

    pub fn previous(self, policy: Takeover) -> Previous {
        self.record(policy).previous()
    }

    pub fn is_in_flight(self) -> bool {
        matches!(self.stage, Stage::InFlight { .. })
    }

    pub fn is_done(self) -> bool {
        matches!(self.stage, Stage::Done { .. })
    }
}

fn fence(number: u8) -> Fence {
    Fence::from_u64(number.into())
}

fn time(tick: u8) -> Timestamp {
    Timestamp::from_micros(tick.into())
}

fn small(number: u64) -> u8 {
    u8::try_from(number).expect("the bounds of the model are small")
}
