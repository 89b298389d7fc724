//! What a claim answers: a lease, a key in flight, or the response.

mod lease;
mod response;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::lease::Lease;
pub use self::response::StoredResponse;

use crate::record::{Holder, Record, State, Takeover};
use crate::time::Timestamp;

/// How long a client should wait before it asks again about a key in flight.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The answer to a claim.
#[derive(Debug)]
#[must_use = "a claim that is dropped gives its lease up"]
pub enum Claim {
    /// The caller runs the operation.
    Claimed(Lease),
    /// Another attempt runs it, or was cut short and awaits its end or a decision.
    InFlight(InFlight),
    /// It has run, and this is the answer.
    Done(StoredResponse),
}

/// A key whose operation is running, or was cut short and may not be taken over yet.
#[derive(Debug, Clone)]
pub struct InFlight {
    since: Timestamp,
    attempt: u32,
    interrupted: bool,
    takeover: Takeover,
}

impl InFlight {
    pub(crate) fn of(record: &Record, interrupted: bool) -> Self {
        InFlight {
            since: record.since,
            attempt: record.attempt,
            interrupted,
            takeover: record.takeover,
        }
    }

    /// When the attempt began.
    pub fn since(&self) -> SystemTime {
        self.since.into()
    }

    /// Its number.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How long a client should wait before it asks again: about a second. Not the rest of the
    /// lease, since most operations end long before theirs does.
    pub fn retry_after(&self) -> Duration {
        RETRY_AFTER
    }

    /// Whether the holder is gone, so that nobody runs the operation now. Under
    /// [`Takeover::Never`](crate::Takeover::Never) it stays so until `resolve` or `forget`.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Whether nothing but [`resolve`](crate::Store::resolve) or `forget` will change this, so that
    /// to ask again cannot help: the attempt was cut short under
    /// [`Takeover::Never`](crate::Takeover::Never).
    pub fn waits_for_a_decision(&self) -> bool {
        self.interrupted && self.takeover == Takeover::Never
    }
}

/// What [`Store::peek`](crate::Store::peek) sees.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Peek {
    /// An attempt is running or was cut short.
    InFlight(InFlight),
    /// The last attempt was released; the next claim gets a lease.
    Released,
    /// The operation is done.
    Done(StoredResponse),
}

impl Peek {
    pub(crate) fn of(record: Arc<Record>, holder: Holder) -> Self {
        match &record.state {
            State::InFlight { .. } => Peek::InFlight(InFlight::of(&record, holder == Holder::Gone)),
            State::Released => Peek::Released,
            State::Done { .. } => StoredResponse::of(record).map_or(Peek::Released, Peek::Done),
        }
    }

    /// The response, if the operation is done.
    pub fn response(&self) -> Option<&StoredResponse> {
        match self {
            Peek::Done(response) => Some(response),
            _ => None,
        }
    }
}
