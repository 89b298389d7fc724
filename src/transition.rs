//! The pure decision: what a command makes of a record. No clock, no I/O, no other copy of it.
//!
//! Whoever stores records (this crate's engine, a shared database) looks one up, calls [`step`],
//! and writes what it says.

use std::sync::Arc;
use std::time::Duration;

use crate::fingerprint::Fingerprint;
use crate::record::{Fence, Holder, Interruption, Record, State, Takeover};
use crate::time::Timestamp;

/// What is asked of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Ask for the lease, or the answer.
    Claim(Terms),
    /// Store the answer and end the lease.
    Complete {
        /// Of the lease.
        fence: Fence,
        /// The answer.
        response: Arc<[u8]>,
        /// How long to keep it, if not as the record says.
        retain_for: Option<Duration>,
    },
    /// Move the end of the lease to `lease_for` from now.
    Renew {
        /// Of the lease.
        fence: Fence,
        /// The new time to run.
        lease_for: Duration,
    },
    /// Keep bytes for the next attempt.
    Save {
        /// Of the lease.
        fence: Fence,
        /// The recovery point.
        point: Arc<[u8]>,
    },
    /// Give the lease back: this attempt did nothing.
    Release {
        /// Of the lease.
        fence: Fence,
    },
    /// Take over what nobody holds, whatever the policy.
    Resolve {
        /// How long the new lease runs.
        lease_for: Duration,
    },
    /// Make the key vacant.
    Forget {
        /// Also if it has a live holder.
        held: bool,
    },
    /// Make the key vacant if its record has expired.
    Expire,
}

/// The terms of a claim. Policy, retention and fingerprint count only if the claim makes the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// How long the lease runs.
    pub lease_for: Duration,
    /// How long the answer is kept.
    pub retain_for: Duration,
    /// When the key may be taken over.
    pub takeover: Takeover,
    /// What identifies the request; must equal the record's.
    pub fingerprint: Option<Fingerprint>,
}

/// What to write, and what to answer once it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The change to the record.
    pub write: Write,
    /// The answer, about the record as it stands after the change.
    pub reply: Reply,
}

/// The change to the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// None.
    Keep,
    /// This is the record now.
    Put(Record),
    /// There is no record now.
    Delete,
}

/// The answer to a command that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// A lease was given.
    Claimed,
    /// Another attempt is in flight, or, if `interrupted`, was cut short and awaits its end,
    /// `resolve` or `forget`.
    InFlight {
        /// The holder is gone.
        interrupted: bool,
    },
    /// The operation is done.
    Done,
    /// There is no record, and none was made.
    Vacant,
    /// The change was made, or had been made before.
    Changed,
}

/// Why a command was refused. Nothing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The key is used for another request.
    FingerprintMismatch,
    /// The fence is not the current one.
    Fenced,
    /// The same lease completed with another answer before.
    AlreadyCompleted,
    /// The key has a live holder.
    Held,
}

/// Decides what `command` makes of `record` at `now`.
///
/// `holder` tells whether the holder of the record's fence exists; it matters only in flight.
/// `next_fence` must be above every fence the store has given; it is used up if the record put
/// carries it.
///
/// # Errors
/// [`Refusal`] if the command is not allowed; nothing is to be written then.
pub fn step(
    record: Option<&Record>,
    holder: Holder,
    command: &Command,
    now: Timestamp,
    next_fence: Fence,
) -> Result<Step, Refusal> {
    let live = record.filter(|record| !record.is_expired(holder, now));
    match command {
        Command::Claim(terms) => claim(live, holder, terms, now, next_fence),
        Command::Complete {
            fence,
            response,
            retain_for,
        } => complete(live, *fence, response, *retain_for, now),
        Command::Renew { fence, lease_for } => renew(live, *fence, *lease_for, now),
        Command::Save { fence, point } => save(live, *fence, point),
        Command::Release { fence } => release(live, *fence, next_fence),
        Command::Resolve { lease_for } => resolve(live, holder, *lease_for, now, next_fence),
        Command::Forget { held } => forget(live, holder, *held),
        Command::Expire => Ok(match (record, live) {
            (Some(_), None) => written(Write::Delete, Reply::Changed),
            _ => kept(Reply::Vacant),
        }),
    }
}

fn claim(
    record: Option<&Record>,
    holder: Holder,
    terms: &Terms,
    now: Timestamp,
    next_fence: Fence,
) -> Result<Step, Refusal> {
    let Some(record) = record else {
        return Ok(put(first_lease(terms, now, next_fence), Reply::Claimed));
    };
    if record.fingerprint != terms.fingerprint {
        return Err(Refusal::FingerprintMismatch);
    }
    Ok(match &record.state {
        State::Done { .. } => kept(Reply::Done),
        State::InFlight { ends_at } if !may_take_over(record.takeover, holder, now >= *ends_at) => {
            kept(in_flight(holder))
        }
        State::InFlight { .. } | State::Released => put(
            next_lease(record, terms.lease_for, now, next_fence),
            Reply::Claimed,
        ),
    })
}

fn resolve(
    record: Option<&Record>,
    holder: Holder,
    lease_for: Duration,
    now: Timestamp,
    next_fence: Fence,
) -> Result<Step, Refusal> {
    let Some(record) = record else {
        return Ok(kept(Reply::Vacant));
    };
    Ok(match &record.state {
        State::Done { .. } => kept(Reply::Done),
        State::InFlight { .. } if holder == Holder::Alive => kept(in_flight(holder)),
        State::InFlight { .. } | State::Released => put(
            next_lease(record, lease_for, now, next_fence),
            Reply::Claimed,
        ),
    })
}

fn complete(
    record: Option<&Record>,
    fence: Fence,
    response: &Arc<[u8]>,
    retain_for: Option<Duration>,
    now: Timestamp,
) -> Result<Step, Refusal> {
    let record = current(record, fence)?;
    match &record.state {
        State::Done {
            response: first, ..
        } if first == response => Ok(kept(Reply::Changed)),
        State::Done { .. } => Err(Refusal::AlreadyCompleted),
        State::Released => Err(Refusal::Fenced),
        State::InFlight { .. } => {
            let done = Record {
                expires_at: now.after(retain_for.unwrap_or(record.retain_for)),
                recovery_point: None,
                state: State::Done {
                    completed_at: now,
                    response: response.clone(),
                },
                ..record.clone()
            };
            Ok(put(done, Reply::Changed))
        }
    }
}

fn renew(
    record: Option<&Record>,
    fence: Fence,
    lease_for: Duration,
    now: Timestamp,
) -> Result<Step, Refusal> {
    let record = held(record, fence)?;
    let ends_at = now.after(lease_for);
    let renewed = Record {
        expires_at: record.expires_at.max(ends_at.after(record.retain_for)),
        state: State::InFlight { ends_at },
        ..record.clone()
    };
    Ok(put(renewed, Reply::Changed))
}

fn save(record: Option<&Record>, fence: Fence, point: &Arc<[u8]>) -> Result<Step, Refusal> {
    let record = held(record, fence)?;
    let saved = Record {
        recovery_point: Some(point.clone()),
        ..record.clone()
    };
    Ok(put(saved, Reply::Changed))
}

/// Undoes the claim. A key that was interrupted before is interrupted again, under a fence that
/// nobody holds, so that the released lease is refused from here on.
fn release(record: Option<&Record>, fence: Fence, next_fence: Fence) -> Result<Step, Refusal> {
    let record = held(record, fence)?;
    let released = match record.interrupted {
        None => Record {
            state: State::Released,
            ..record.clone()
        },
        Some(interruption) => Record {
            fence: next_fence,
            since: interruption.since,
            state: State::InFlight {
                ends_at: interruption.ends_at,
            },
            ..record.clone()
        },
    };
    Ok(put(released, Reply::Changed))
}

fn forget(record: Option<&Record>, holder: Holder, held: bool) -> Result<Step, Refusal> {
    let Some(record) = record else {
        return Ok(kept(Reply::Vacant));
    };
    let in_flight = matches!(record.state, State::InFlight { .. });
    if in_flight && holder == Holder::Alive && !held {
        return Err(Refusal::Held);
    }
    Ok(written(Write::Delete, Reply::Changed))
}

/// Whether a claim may take over an attempt in flight; `over` tells that its lease has ended.
fn may_take_over(policy: Takeover, holder: Holder, over: bool) -> bool {
    match (policy, holder) {
        (Takeover::Gone | Takeover::GoneOrExpired, Holder::Gone) => true,
        (Takeover::GoneOrExpired, Holder::Alive) => over,
        (Takeover::Expired, _) => over,
        (Takeover::Gone, Holder::Alive) | (Takeover::Never, _) => false,
    }
}

fn first_lease(terms: &Terms, now: Timestamp, fence: Fence) -> Record {
    let ends_at = now.after(terms.lease_for);
    Record {
        fence,
        attempt: 1,
        takeover: terms.takeover,
        retain_for: terms.retain_for,
        fingerprint: terms.fingerprint,
        since: now,
        expires_at: ends_at.after(terms.retain_for),
        interrupted: None,
        recovery_point: None,
        state: State::InFlight { ends_at },
    }
}

/// A further lease on a record that is in flight or released. Taking over from one in flight marks
/// the record as interrupted for good.
fn next_lease(record: &Record, lease_for: Duration, now: Timestamp, fence: Fence) -> Record {
    let ends_at = now.after(lease_for);
    let interrupted = match record.state {
        State::InFlight { ends_at } => Some(Interruption {
            since: record.since,
            ends_at,
        }),
        _ => record.interrupted,
    };
    Record {
        fence,
        attempt: record.attempt.saturating_add(1),
        since: now,
        expires_at: record.expires_at.max(ends_at.after(record.retain_for)),
        interrupted,
        state: State::InFlight { ends_at },
        ..record.clone()
    }
}

/// The record, if `fence` is its current one.
fn current(record: Option<&Record>, fence: Fence) -> Result<&Record, Refusal> {
    record
        .filter(|record| record.fence == fence)
        .ok_or(Refusal::Fenced)
}

/// The record, if `fence` is its current one and it is in flight.
fn held(record: Option<&Record>, fence: Fence) -> Result<&Record, Refusal> {
    current(record, fence).and_then(|record| match record.state {
        State::InFlight { .. } => Ok(record),
        _ => Err(Refusal::Fenced),
    })
}

fn in_flight(holder: Holder) -> Reply {
    Reply::InFlight {
        interrupted: holder == Holder::Gone,
    }
}

fn put(record: Record, reply: Reply) -> Step {
    written(Write::Put(record), reply)
}

fn kept(reply: Reply) -> Step {
    written(Write::Keep, reply)
}

fn written(write: Write, reply: Reply) -> Step {
    Step { write, reply }
}
