//! The right to run an operation.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::StoredResponse;
use crate::bugs::{self, Bug};
use crate::engine::holders::Holding;
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::record::{Fence, Previous, Record, State};
use crate::store::Handle;
use crate::sync::Mutex;
use crate::time::{Timestamp, check_duration};
use crate::transition::Command;

/// The right to run an operation, until it is completed, released or dropped.
///
/// Dropping a lease without completing or releasing it says that the outcome is unknown: the
/// holder is gone at once, without I/O, and what may happen next is up to the record's
/// [`Takeover`](crate::Takeover). A lease that is dropped after a `complete` that failed stays
/// held to its end, because the operation did run.
///
/// ```
/// use firstclaim::{Claim, Store};
///
/// let store = Store::in_memory()?;
/// let Claim::Claimed(lease) = store.claim("acct_42", "9f1c")? else { panic!() };
/// lease.complete("created order 7")?;
///
/// let Claim::Done(response) = store.claim("acct_42", "9f1c")? else { panic!() };
/// assert_eq!(response.bytes(), b"created order 7");
/// # Ok::<(), firstclaim::Error>(())
/// ```
pub struct Lease {
    /// The record as the claim made it.
    record: Arc<Record>,
    key: RecordKey,
    hold: Mutex<Hold>,
    // Last: the store may close when it goes, and the holder must be gone by then.
    handle: Arc<Handle>,
}

/// The holder's side of a lease.
struct Hold {
    /// Taken by `drop` alone.
    holding: Option<Holding>,
    /// The last `complete` failed, so the operation did run.
    complete_failed: bool,
    /// The end of the lease as it was last seen while the lease was the current one.
    end: Timestamp,
}

impl Lease {
    pub(crate) fn new(
        handle: Arc<Handle>,
        key: RecordKey,
        record: Arc<Record>,
        holding: Holding,
    ) -> Self {
        let end = match record.state {
            State::InFlight { ends_at } => ends_at,
            _ => record.since,
        };
        Lease {
            record,
            key,
            hold: Mutex::new(Hold {
                holding: Some(holding),
                complete_failed: false,
                end,
            }),
            handle,
        }
    }

    /// The tenant.
    pub fn tenant(&self) -> &[u8] {
        self.key.tenant()
    }

    /// The key within its tenant.
    pub fn key(&self) -> &[u8] {
        self.key.key()
    }

    /// The fencing token: above every token the store gave before.
    pub fn fence(&self) -> Fence {
        self.record.fence
    }

    /// 1 for the first lease on a key, one more for each further one.
    pub fn attempt(&self) -> u32 {
        self.record.attempt
    }

    /// How the attempts before this one ended. After [`Previous::Interrupted`], find out what the
    /// earlier attempt did before running the operation again.
    pub fn previous(&self) -> Previous {
        self.record.previous()
    }

    /// The bytes that an earlier attempt saved last.
    pub fn recovery_point(&self) -> Option<&[u8]> {
        self.record.recovery_point.as_deref()
    }

    /// When the lease ends, by the latest renewal. What follows from that is up to the record's
    /// [`Takeover`](crate::Takeover).
    pub fn ends_at(&self) -> SystemTime {
        self.end().into()
    }

    /// Saves bytes for the next attempt, should this one be cut short; they replace what was saved
    /// before.
    ///
    /// # Errors
    /// `TooLarge` over the limit, 64 KiB by default; `Fenced` if the lease is no longer the current
    /// one; `Overloaded`, `NoSpace`, `Indeterminate`, `Poisoned`, `Closed`, `Io`.
    pub fn save_recovery_point(&self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let bytes = bytes.as_ref();
        let limit = self.handle.limits().recovery_point_bytes;
        check_size("recovery point", bytes, limit)?;
        self.carry_out(Command::Save {
            fence: self.fence(),
            point: bytes.into(),
        })
        .map(drop)
    }

    /// Moves the end of the lease to `lease_for` from now.
    ///
    /// # Errors
    /// `InvalidOption` unless it is 1 ms to 366 days; `Fenced` if the lease is no longer the
    /// current one; `Overloaded`, `NoSpace`, `Indeterminate`, `Poisoned`, `Closed`, `Io`.
    pub fn renew(&self, lease_for: Duration) -> Result<()> {
        self.carry_out(Command::Renew {
            fence: self.fence(),
            lease_for: check_duration("lease_for", lease_for)?,
        })?;
        self.end();
        Ok(())
    }

    /// Stores the response, for as long as the record says, and ends the lease. A holder past its
    /// lease's end may still complete as long as nobody replaced it.
    ///
    /// May be tried again after an error; with the same bytes as before it is `Ok`.
    ///
    /// # Errors
    /// `TooLarge` over the limit, 1 MiB by default: the lease stays usable, for a shorter response;
    /// `AlreadyCompleted` if this lease has completed with other bytes; `Fenced` if the lease is no
    /// longer the current one; `Overloaded`, `NoSpace`, `Indeterminate`, `Poisoned`, `Closed`, `Io`.
    pub fn complete(&self, response: impl AsRef<[u8]>) -> Result<()> {
        self.finish(response.as_ref(), None).map(drop)
    }

    /// As [`complete`](Self::complete), keeping the response for `retain_for` from now.
    ///
    /// # Errors
    /// As `complete`; `InvalidOption` unless `retain_for` is 1 ms to 366 days.
    pub fn complete_for(&self, response: impl AsRef<[u8]>, retain_for: Duration) -> Result<()> {
        self.finish(response.as_ref(), Some(retain_for)).map(drop)
    }

    /// As [`complete`](Self::complete), with `response` as JSON.
    ///
    /// # Errors
    /// As `complete`; `Io` if `response` cannot be written as JSON.
    #[cfg(feature = "json")]
    pub fn complete_json<T: serde::Serialize + ?Sized>(&self, response: &T) -> Result<()> {
        let bytes = serde_json::to_vec(response).map_err(std::io::Error::from);
        let bytes = bytes.inspect_err(|_| self.note_complete(false))?;
        self.complete(bytes)
    }

    /// Gives the lease back, saying that this attempt did nothing: the claim is undone. A key that
    /// was never interrupted can be claimed again at once under every policy; one that was goes
    /// back to that state.
    ///
    /// # Errors
    /// `Fenced` if the lease is no longer the current one; `Overloaded`, `NoSpace`,
    /// `Indeterminate`, `Poisoned`, `Closed`, `Io`.
    pub fn release(&self) -> Result<()> {
        self.carry_out(Command::Release {
            fence: self.fence(),
        })?;
        self.hold.lock().complete_failed = false;
        Ok(())
    }

    /// Completes, and gives the record as it is then.
    pub(crate) fn finish(
        &self,
        response: &[u8],
        retain_for: Option<Duration>,
    ) -> Result<StoredResponse> {
        let finished = self.try_finish(response, retain_for);
        // Refused for good: another attempt, or this one's first answer, has the key.
        let is_over = matches!(finished, Err(Error::Fenced | Error::AlreadyCompleted));
        self.note_complete(finished.is_ok() || is_over);
        finished
    }

    fn try_finish(&self, response: &[u8], retain_for: Option<Duration>) -> Result<StoredResponse> {
        check_size("response", response, self.handle.limits().response_bytes)?;
        let retain_for = retain_for
            .map(|d| check_duration("retain_for", d))
            .transpose()?;
        let record = self.carry_out(Command::Complete {
            fence: self.fence(),
            response: response.into(),
            retain_for,
        })?;
        record
            .and_then(StoredResponse::of)
            .ok_or(Error::Indeterminate)
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn record_key(&self) -> &RecordKey {
        &self.key
    }

    fn carry_out(&self, command: Command) -> Result<Option<Arc<Record>>> {
        Ok(self.handle.call(self.key.clone(), command)?.record)
    }

    fn note_complete(&self, done: bool) {
        self.hold.lock().complete_failed = !done;
    }

    /// The end of the lease; the store may have renewed it too.
    fn end(&self) -> Timestamp {
        let now = self.handle.lease_end(&self.key, self.fence());
        let mut hold = self.hold.lock();
        hold.end = now.unwrap_or(hold.end);
        hold.end
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let end = self.end();
        let hold = self.hold.get_mut();
        match hold.holding.take() {
            Some(holding) if hold.complete_failed && !bugs::is(Bug::FailedCompleteForgotten) => {
                holding.keep_until(end);
            }
            holding => drop(holding),
        }
        self.handle.note_lease_dropped();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("key", &self.key)
            .field("fence", &self.fence())
            .field("attempt", &self.attempt())
            .field("previous", &self.previous())
            .finish_non_exhaustive()
    }
}

fn check_size(what: &'static str, bytes: &[u8], limit: usize) -> Result<()> {
    if bytes.len() <= limit {
        return Ok(());
    }
    Err(Error::TooLarge {
        what,
        bytes: bytes.len(),
        limit,
    })
}
