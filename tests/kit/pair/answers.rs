//! The store's answers in the model's words.

use std::fmt::Debug;

use firstclaim::{
    Claim, Error, InFlight, Lease, Peek, Ran, RunError, StoredResponse, Unfinished, UnfinishedState,
};

use super::super::model::{Answer, Refused, Row, Standing};

/// The answer to a claim or to `resolve`, and the lease if there is one.
pub fn of_claim(claim: Result<Option<Claim>, Error>) -> (Answer, Option<Lease>) {
    match claim {
        Ok(Some(Claim::Claimed(lease))) => (claimed(&lease), Some(lease)),
        Ok(Some(Claim::InFlight(running))) => (in_flight(&running), None),
        Ok(Some(Claim::Done(response))) => (done(&response), None),
        Ok(None) => (Answer::Vacant, None),
        Err(error) => (refused(&error), None),
    }
}

pub fn of_peek(peek: Result<Option<Peek>, Error>) -> Answer {
    match peek {
        Ok(None) => Answer::Vacant,
        Ok(Some(Peek::Released)) => Answer::Released,
        Ok(Some(Peek::InFlight(running))) => in_flight(&running),
        Ok(Some(Peek::Done(response))) => done(&response),
        Ok(Some(other)) => panic!("the store shows {other:?}"),
        Err(error) => refused(&error),
    }
}

pub fn of_run<E: Debug>(ran: Result<Ran, RunError<E>>) -> Answer {
    match ran {
        Ok(Ran::Executed(response) | Ran::Replayed(response)) => done(&response),
        Ok(Ran::InFlight(running)) => in_flight(&running),
        Err(RunError::NotRun(error)) => refused(&error),
        Err(RunError::Operation(_)) => Answer::Failed,
        Err(other) => panic!("nothing here keeps an answer from being recorded: {other:?}"),
    }
}

pub fn of_change(changed: Result<(), Error>) -> Answer {
    match changed {
        Ok(()) => Answer::Changed,
        Err(error) => refused(&error),
    }
}

pub fn of_forget(forgotten: Result<bool, Error>) -> Answer {
    match forgotten {
        Ok(true) => Answer::Changed,
        Ok(false) => Answer::Vacant,
        Err(error) => refused(&error),
    }
}

/// The rows in the order of the names. Where the model expects a fence that was never given with a
/// lease, any will do.
pub fn of_unfinished(rows: &[Unfinished], expected: &[Row]) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.iter().map(row).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    for (row, expected) in rows.iter_mut().zip(expected) {
        row.fence = row.fence.filter(|_| expected.fence.is_some());
    }
    rows
}

fn row(unfinished: &Unfinished) -> Row {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Row {
        name: (text(unfinished.tenant()), text(unfinished.key())),
        standing: match unfinished.state() {
            UnfinishedState::InFlight => Standing::InFlight,
            UnfinishedState::Interrupted => Standing::Interrupted,
            UnfinishedState::Released => Standing::Released,
        },
        since: unfinished.since(),
        attempt: unfinished.attempt(),
        point: unfinished.recovery_point().map(<[u8]>::to_vec),
        fence: Some(unfinished.fence().as_u64()),
    }
}

fn claimed(lease: &Lease) -> Answer {
    Answer::Claimed {
        attempt: lease.attempt(),
        previous: lease.previous(),
        point: lease.recovery_point().map(<[u8]>::to_vec),
        ends_at: lease.ends_at(),
    }
}

fn in_flight(running: &InFlight) -> Answer {
    Answer::InFlight {
        since: running.since(),
        attempt: running.attempt(),
        interrupted: running.is_interrupted(),
    }
}

fn done(response: &StoredResponse) -> Answer {
    Answer::Done {
        bytes: response.bytes().to_vec(),
        completed_at: response.completed_at(),
        expires_at: response.expires_at(),
    }
}

/// # Panics
/// On an error that a sound store on a sound disk has no reason to answer with.
fn refused(error: &Error) -> Answer {
    Answer::Refused(match error {
        Error::FingerprintMismatch => Refused::FingerprintMismatch,
        Error::Fenced => Refused::Fenced,
        Error::AlreadyCompleted => Refused::AlreadyCompleted,
        Error::Held => Refused::Held,
        Error::TooLarge { .. } => Refused::TooLarge,
        Error::Closed => Refused::Closed,
        Error::Locked => Refused::Locked,
        other => panic!("the store answered {other:?}"),
    })
}
