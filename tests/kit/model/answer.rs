//! What the store is asked and what it answers, in a form that compares.

use std::time::SystemTime;

use firstclaim::Previous;

use super::Name;

/// What a call answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Claimed {
        attempt: u32,
        previous: Previous,
        point: Option<Vec<u8>>,
        ends_at: SystemTime,
    },
    InFlight {
        since: SystemTime,
        attempt: u32,
        interrupted: bool,
    },
    /// Only `peek` tells.
    Released,
    Done {
        bytes: Vec<u8>,
        completed_at: SystemTime,
        expires_at: SystemTime,
    },
    Vacant,
    Changed,
    /// The operation that `run` ran failed.
    Failed,
    Refused(Refused),
}

/// The errors that a sound store on a sound disk may answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    FingerprintMismatch,
    Fenced,
    AlreadyCompleted,
    Held,
    TooLarge,
    Closed,
    Locked,
}

/// A row of `unfinished`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: Name,
    pub standing: Standing,
    pub since: SystemTime,
    pub attempt: u32,
    pub point: Option<Vec<u8>>,
    /// None if the record goes by a fence that was never given with a lease.
    pub fence: Option<u64>,
}

/// How a row of `unfinished` stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    InFlight,
    Interrupted,
    Released,
}
