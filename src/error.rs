//! What can go wrong, by what the caller should do about it.

use std::io;
use std::sync::Arc;

/// The result of a call to the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and with it what to do next.
///
/// From a call about one key, every variant but [`Indeterminate`](Error::Indeterminate) means that
/// the call changed nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tenant or the key is empty or too long. Reject the request; a retry cannot help.
    #[error("invalid key: {0}")]
    InvalidKey(String),

    /// An option, a limit or a duration is out of its bounds, or two options contradict each other.
    #[error("invalid option: {0}")]
    InvalidOption(String),

    /// The key is known with another fingerprint: the client used one key for two requests.
    /// Answer 422; run nothing.
    #[error("the key is already in use for a request with another fingerprint")]
    FingerprintMismatch,

    /// The lease is no longer the current one on its key: it was released, replaced, or its
    /// record is gone. Stop; another attempt owns the key.
    #[error("the lease is not the current one on its key")]
    Fenced,

    /// This lease has already completed its operation, with other bytes. The first response stays.
    #[error("the operation is already completed with another response")]
    AlreadyCompleted,

    /// The key has a live holder, so it cannot be forgotten.
    /// Wait for the holder, or use `forget_held`.
    #[error("the key has a live holder")]
    Held,

    /// A response or recovery point is over its limit. The lease stays usable.
    #[error("{what} of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// What was too large: `"response"` or `"recovery point"`.
        what: &'static str,
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },

    /// A queue or a limit is full, or the wait for the queue ran out. Nothing was done; try later.
    #[error("the store is overloaded")]
    Overloaded,

    /// The disk is full. Nothing was done; replays go on, and writes resume when there is space.
    #[error("no space is left on the disk")]
    NoSpace,

    /// The change may or may not have been made durable: a write or sync failed, or the wait for
    /// one ran out. Do not guess: treat the operation as perhaps claimed or completed. Reopening
    /// the store settles it.
    #[error("the outcome is not known until the store is reopened")]
    Indeterminate,

    /// An earlier write failed, so nothing more can be written until the store is reopened.
    /// Replays go on.
    #[error("an earlier write failed: the store must be reopened before it can write again")]
    Poisoned,

    /// Stored bytes are damaged or missing. The key is not treated as vacant.
    #[error("damaged data in {place}: {what}")]
    Corrupt {
        /// The file, table or key where the damage is.
        place: String,
        /// What is wrong there.
        what: String,
    },

    /// The directory is in use by another store, or by a lease that is still out.
    #[error("the store's directory is in use")]
    Locked,

    /// The store was closed.
    #[error("the store is closed")]
    Closed,

    /// The directory holds a store of a format that this version does not know.
    #[error("the store has format {found}, this version knows up to {known}")]
    Format {
        /// The format number found.
        found: u32,
        /// The newest format number this version reads.
        known: u32,
    },

    /// The operating system reported an error. Nothing was done.
    #[error("input or output failed: {0}")]
    Io(#[source] Arc<io::Error>),
}

impl Error {
    pub(crate) fn corrupt(place: impl Into<String>, what: impl Into<String>) -> Self {
        Error::Corrupt {
            place: place.into(),
            what: what.into(),
        }
    }

    pub(crate) fn option(what: impl Into<String>) -> Self {
        Error::InvalidOption(what.into())
    }
}

impl From<io::Error> for Error {
    /// A full disk becomes [`Error::NoSpace`], anything else [`Error::Io`].
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Error::NoSpace,
            _ => Error::Io(Arc::new(error)),
        }
    }
}
