//! What the store knows of one (tenant, key).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bugs::{self, Bug};
use crate::fingerprint::Fingerprint;
use crate::time::Timestamp;

/// A fencing token: given with every lease, strictly greater than every one the store gave before.
///
/// Pass it along to the systems that an operation touches, so that they can refuse a holder that
/// was replaced. After Kleppmann, *How to do distributed locking* (2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

impl Fence {
    /// The token with this number; the store makes tokens, tests and decoders need to name them.
    pub const fn from_u64(number: u64) -> Self {
        Fence(number)
    }

    /// The token's number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl From<Fence> for u64 {
    fn from(fence: Fence) -> u64 {
        fence.0
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// When a new lease may be given on a key whose earlier attempt did not finish.
///
/// The policy is stored by the claim that makes the record, and that record's policy decides.
///
/// ```
/// use firstclaim::{Claim, Previous, Store, Takeover};
///
/// let store = Store::in_memory()?;
/// drop(store.claim("acct", "default")?);
/// drop(store.request("acct", "careful").takeover(Takeover::Never).claim()?);
///
/// let again = store.claim("acct", "default")?;
/// assert!(matches!(again, Claim::Claimed(lease) if lease.previous() == Previous::Interrupted));
/// let again = store.claim("acct", "careful")?;
/// assert!(matches!(again, Claim::InFlight(running) if running.is_interrupted()));
/// # Ok::<(), firstclaim::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Takeover {
    /// As soon as the holder is gone; never from a live one, however late.
    #[default]
    Gone,
    /// As soon as the holder is gone, or when the lease is over.
    GoneOrExpired,
    /// When the lease is over, whether the holder is gone or not.
    Expired,
    /// Never: an attempt that was cut short stays in flight, interrupted, and does not expire,
    /// until `resolve` or `forget`.
    Never,
}

/// How the earlier attempts on a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Previous {
    /// There was none.
    None,
    /// The one before was released: it did nothing.
    Released,
    /// One was cut short, at some time in this record's life: what it did is unknown.
    Interrupted,
}

/// Whether the holder of a lease still exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The guard is out.
    Alive,
    /// The guard was dropped, or its process ended.
    Gone,
}

/// A record: the state of a key and the terms its first claim set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The token of the latest lease; of the latest change, once that lease was released.
    pub fence: Fence,
    /// The number of leases given so far.
    pub attempt: u32,
    /// Of the claim that made the record.
    pub takeover: Takeover,
    /// How long a response is kept, of the claim that made the record.
    pub retain_for: Duration,
    /// Of the claim that made the record.
    pub fingerprint: Option<Fingerprint>,
    /// When the latest attempt began.
    pub since: Timestamp,
    /// When the record expires, if it does: see [`Record::is_expired`].
    pub expires_at: Timestamp,
    /// The latest attempt that was cut short, if one ever was.
    pub interrupted: Option<Interruption>,
    /// The bytes a holder saved last; empty of meaning once done.
    pub recovery_point: Option<Arc<[u8]>>,
    /// In flight, released or done.
    pub state: State,
}

/// An attempt that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interruption {
    /// When it began.
    pub since: Timestamp,
    /// When its lease ended or would have ended.
    pub ends_at: Timestamp,
}

/// Where the latest attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Running, or cut short: the holder table knows which.
    InFlight {
        /// The end of the lease.
        ends_at: Timestamp,
    },
    /// Given back without having done anything.
    Released,
    /// Completed.
    Done {
        /// When.
        completed_at: Timestamp,
        /// The answer.
        response: Arc<[u8]>,
    },
}

impl Record {
    /// Whether the record counts as vacant at `now`.
    ///
    /// A live holder keeps its record, and so does `Never` for one that was cut short.
    pub fn is_expired(&self, holder: Holder, now: Timestamp) -> bool {
        match (&self.state, self.takeover, holder) {
            (State::InFlight { .. }, _, Holder::Alive) => false,
            (State::InFlight { .. }, Takeover::Never, Holder::Gone) => false,
            _ if bugs::is(Bug::ExpiryOffByOne) => now > self.expires_at,
            _ => now >= self.expires_at,
        }
    }

    /// How the attempts before the latest ended.
    pub fn previous(&self) -> Previous {
        match (self.interrupted, self.attempt) {
            (Some(_), _) => Previous::Interrupted,
            (None, 0 | 1) => Previous::None,
            (None, _) => Previous::Released,
        }
    }

    /// The response, if the operation is done.
    pub fn response(&self) -> Option<&[u8]> {
        match &self.state {
            State::Done { response, .. } => Some(response),
            _ => None,
        }
    }

    /// Whether the operation is in flight or was released: the records kept in `unfinished`.
    pub fn is_unfinished(&self) -> bool {
        !matches!(self.state, State::Done { .. })
    }
}
