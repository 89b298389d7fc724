//! What the words in the tables' cells mean, down to every field of the record written.

use std::sync::Arc;

use firstclaim::internals::Timestamp;
use firstclaim::internals::record::{Interruption, Record, State};
use firstclaim::internals::transition::{Command, Refusal, Reply, Step, Terms, Write};

use crate::rows::{BEGAN, CALL, CUT, Case, History, LEASE_ENDS, NEXT};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Claimed: the first attempt, on the terms of the call.
    First,
    /// Claimed: one attempt more, marked as interrupted.
    TakenOver,
    /// Claimed: one attempt more, with no new interruption.
    Again,
    /// In flight, with a live holder.
    InFlight,
    /// In flight, the holder gone.
    Interrupted,
    /// Done: the answer as it stands.
    Answered,
    /// Done now.
    Completed,
    /// Renewed, saved or released.
    DoneSo,
    /// Done before; nothing to write.
    Unchanged,
    /// Forgotten: the key is vacant from here on.
    Forgotten,
    /// Expired, and removed.
    Removed,
    /// No record to answer for, and none made.
    Nothing,
    Mismatch,
    Fenced,
    AlreadyCompleted,
    Held,
}

impl Outcome {
    /// The step that this outcome is, for this case of a cell.
    pub fn spelled_out(self, case: &Case, command: &Command) -> Result<Step, Refusal> {
        match self {
            Outcome::First => put(first_record(case, command), Reply::Claimed),
            Outcome::TakenOver => {
                let cut_now = Interruption {
                    since: BEGAN,
                    ends_at: LEASE_ENDS,
                };
                put(next_record(case, Some(cut_now)), Reply::Claimed)
            }
            Outcome::Again => put(next_record(case, cut_before(case)), Reply::Claimed),
            Outcome::InFlight => keep(Reply::InFlight { interrupted: false }),
            Outcome::Interrupted => keep(Reply::InFlight { interrupted: true }),
            Outcome::Answered => keep(Reply::Done),
            Outcome::Completed => put(completed_record(case, command), Reply::Changed),
            Outcome::DoneSo => put(changed_record(case, command), Reply::Changed),
            Outcome::Unchanged => keep(Reply::Changed),
            Outcome::Forgotten | Outcome::Removed => write(Write::Delete, Reply::Changed),
            Outcome::Nothing => keep(Reply::Vacant),
            Outcome::Mismatch => Err(Refusal::FingerprintMismatch),
            Outcome::Fenced => Err(Refusal::Fenced),
            Outcome::AlreadyCompleted => Err(Refusal::AlreadyCompleted),
            Outcome::Held => Err(Refusal::Held),
        }
    }
}

/// The record of a first attempt: everything in it comes from the call.
fn first_record(case: &Case, command: &Command) -> Record {
    let Command::Claim(Terms {
        takeover,
        fingerprint,
        ..
    }) = command
    else {
        panic!("only a claim makes a record");
    };
    let ends_at = case.now.after(CALL.lease_for);
    Record {
        fence: NEXT,
        attempt: 1,
        takeover: *takeover,
        retain_for: CALL.retain_for,
        fingerprint: *fingerprint,
        since: case.now,
        expires_at: ends_at.after(CALL.retain_for),
        interrupted: None,
        recovery_point: None,
        state: State::InFlight { ends_at },
    }
}

/// The record of a further attempt: a fence, an attempt and a lease more; policy, retention,
/// fingerprint and recovery point are the record's.
fn next_record(case: &Case, interrupted: Option<Interruption>) -> Record {
    let ends_at = case.now.after(CALL.lease_for);
    let attempt = match case.history {
        History::Fresh => 2,
        History::ReleasedOnce => 3,
        History::CutShort => 4,
    };
    Record {
        fence: NEXT,
        attempt,
        since: case.now,
        expires_at: not_nearer(case, ends_at),
        interrupted,
        state: State::InFlight { ends_at },
        ..case.record().clone()
    }
}

/// Done now; kept for as long as the record's first claim said, unless the completion says.
fn completed_record(case: &Case, command: &Command) -> Record {
    let Command::Complete {
        response,
        retain_for,
        ..
    } = command
    else {
        panic!("only completion completes");
    };
    let record = case.record();
    Record {
        expires_at: case.now.after(retain_for.unwrap_or(record.retain_for)),
        recovery_point: None,
        state: State::Done {
            completed_at: case.now,
            response: response.clone(),
        },
        ..record.clone()
    }
}

fn changed_record(case: &Case, command: &Command) -> Record {
    let record = case.record().clone();
    match command {
        Command::Renew { .. } => {
            let ends_at = case.now.after(CALL.lease_for);
            Record {
                expires_at: not_nearer(case, ends_at),
                state: State::InFlight { ends_at },
                ..record
            }
        }
        Command::Save { point, .. } => Record {
            recovery_point: Some(Arc::clone(point)),
            ..record
        },
        Command::Release { .. } => match cut_before(case) {
            None => Record {
                state: State::Released,
                ..record
            },
            Some(cut) => Record {
                fence: NEXT, // held by nobody
                since: cut.since,
                state: State::InFlight {
                    ends_at: cut.ends_at,
                },
                ..record
            },
        },
        other => panic!("{other:?} changes nothing of a lease"),
    }
}

/// The interruption in the record's history.
fn cut_before(case: &Case) -> Option<Interruption> {
    (case.history == History::CutShort).then_some(CUT)
}

/// An unfinished record expires at its lease's end plus its retention, never nearer than it did.
fn not_nearer(case: &Case, ends_at: Timestamp) -> Timestamp {
    let record = case.record();
    record.expires_at.max(ends_at.after(record.retain_for))
}

fn put(record: Record, reply: Reply) -> Result<Step, Refusal> {
    write(Write::Put(record), reply)
}

fn keep(reply: Reply) -> Result<Step, Refusal> {
    write(Write::Keep, reply)
}

fn write(write: Write, reply: Reply) -> Result<Step, Refusal> {
    Ok(Step { write, reply })
}
