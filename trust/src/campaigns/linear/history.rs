//! What was asked of one key and what was answered, with the moments between which it happened.

use std::fmt;

use firstclaim::UnfinishedState;
use firstclaim::internals::Timestamp;
use firstclaim::internals::record::{Fence, Previous};
use firstclaim::internals::transition::{Command, Refusal};

/// One operation on a key.
#[derive(Debug, Clone)]
pub struct Op {
    /// It took effect after this moment,
    pub call: u64,
    /// and before this one,
    pub ret: u64,
    /// at one of these times of the clock, ascending.
    pub times: Vec<Timestamp>,
    pub what: What,
    /// Its outcome was not established: it may also have had no effect. If it had one, then at any
    /// moment from its call to the end of its run.
    pub is_optional: bool,
    /// In a run whose end may take back what was not checkpointed.
    pub is_at_risk: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Ask(Asked, Seen),
    /// The lease's guard was dropped.
    Drop(Fence),
    /// A `complete` under this fence failed: its holder is kept if the guard is dropped.
    CompleteFailed(Fence),
    /// A checkpoint: what came before it on this key is in the base.
    Checkpoint,
    /// The run ended, by a kill, a power cut or a closing: every holder is gone.
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Command(Command),
    Peek,
    /// The key's place in the list of unfinished ones.
    Unfinished,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Lease {
        fence: Fence,
        attempt: u32,
        previous: Previous,
        point: Option<Vec<u8>>,
        ends_at: Timestamp,
    },
    InFlight {
        since: Timestamp,
        attempt: u32,
        interrupted: bool,
    },
    Done {
        bytes: Vec<u8>,
        completed_at: Timestamp,
        expires_at: Timestamp,
    },
    Listed {
        state: UnfinishedState,
        since: Timestamp,
        attempt: u32,
        fence: Fence,
        point: Option<Vec<u8>>,
    },
    Released,
    /// There is no record; of the list: none that is unfinished.
    Vacant,
    Changed,
    Refused(Refusal),
    /// The outcome was not established.
    Unknown,
}

impl Op {
    /// Whether this operation was over before `other` began.
    pub fn is_before(&self, other: &Op) -> bool {
        !self.is_optional && self.ret < other.call
    }
}

/// One line for a reader: the moments, the seconds of the clock, what was asked, what was answered.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ret = match self.is_optional {
            true => "…".to_owned(),
            false => self.ret.to_string(),
        };
        write!(f, "[{}, {ret}] ", self.call)?;
        let times: Vec<String> = self.times.iter().map(|time| secs(*time)).collect();
        write!(f, "at {}: ", times.join(" or "))?;
        match &self.what {
            What::Ask(asked, seen) => write!(f, "{asked} -> {seen}"),
            What::Drop(fence) => write!(f, "drop {}", short(*fence)),
            What::CompleteFailed(fence) => write!(f, "complete {} failed", short(*fence)),
            What::Checkpoint => write!(f, "checkpoint"),
            What::End if self.is_at_risk => write!(f, "END, the latest may be lost"),
            What::End => write!(f, "END"),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command = match self {
            Asked::Peek => return write!(f, "peek"),
            Asked::Unfinished => return write!(f, "unfinished"),
            Asked::Command(command) => command,
        };
        match command {
            Command::Claim(terms) => {
                let (lease, retain) = (terms.lease_for.as_secs(), terms.retain_for.as_secs());
                write!(
                    f,
                    "claim(lease {lease}, retain {retain}, {:?}",
                    terms.takeover
                )?;
                match terms.fingerprint {
                    Some(fingerprint) => write!(f, ", print {})", fingerprint.as_bytes()[0]),
                    None => write!(f, ")"),
                }
            }
            Command::Complete {
                fence,
                response,
                retain_for,
            } => {
                let response = String::from_utf8_lossy(response);
                write!(f, "complete {} {response}", short(*fence))?;
                match retain_for {
                    Some(retain_for) => write!(f, " for {}", retain_for.as_secs()),
                    None => Ok(()),
                }
            }
            Command::Renew { fence, lease_for } => {
                write!(f, "renew {} for {}", short(*fence), lease_for.as_secs())
            }
            Command::Save { fence, point } => {
                write!(
                    f,
                    "save {} {}",
                    short(*fence),
                    String::from_utf8_lossy(point)
                )
            }
            Command::Release { fence } => write!(f, "release {}", short(*fence)),
            Command::Resolve { lease_for } => write!(f, "resolve(lease {})", lease_for.as_secs()),
            Command::Forget { held: false } => write!(f, "forget"),
            Command::Forget { held: true } => write!(f, "forget_held"),
            Command::Expire => write!(f, "expire"),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let point = |point: &Option<Vec<u8>>| match point {
            Some(point) => format!(", point {}", String::from_utf8_lossy(point)),
            None => String::new(),
        };
        match self {
            Seen::Lease {
                fence,
                attempt,
                previous,
                point: saved,
                ends_at,
            } => write!(
                f,
                "LEASE {}, attempt {attempt}, {previous:?}, ends {}{}",
                short(*fence),
                secs(*ends_at),
                point(saved)
            ),
            Seen::InFlight {
                since,
                attempt,
                interrupted,
            } => {
                let how = if *interrupted {
                    "interrupted"
                } else {
                    "in flight"
                };
                write!(f, "{how}, attempt {attempt}, since {}", secs(*since))
            }
            Seen::Done {
                bytes,
                completed_at,
                expires_at,
            } => write!(
                f,
                "DONE {}, at {}, until {}",
                String::from_utf8_lossy(bytes),
                secs(*completed_at),
                secs(*expires_at)
            ),
            Seen::Listed {
                state,
                since,
                attempt,
                fence,
                point: saved,
            } => write!(
                f,
                "{state:?} {}, attempt {attempt}, since {}{}",
                short(*fence),
                secs(*since),
                point(saved)
            ),
            Seen::Released => write!(f, "released"),
            Seen::Vacant => write!(f, "nothing"),
            Seen::Changed => write!(f, "ok"),
            Seen::Refused(refusal) => write!(f, "{refusal:?}"),
            Seen::Unknown => write!(f, "outcome unknown"),
        }
    }
}

/// The last digits, enough to tell the fences of one history apart.
fn short(fence: Fence) -> String {
    format!("f{}", fence.as_u64() % 1_000_000_000)
}

/// Seconds since the clock's beginning.
fn secs(time: Timestamp) -> String {
    (time.as_micros() / 1_000_000)
        .saturating_sub(1_000_000_000)
        .to_string()
}
