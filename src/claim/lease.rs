//! The right to run an operation.

mod async_calls;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::StoredResponse;
use crate::engine::Answer;
use crate::engine::holders::{Holding, LeaseHold};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::record::{Fence, Previous, Record, State};
use crate::store::Handle;
use crate::time::{Timestamp, check_duration};
use crate::transition::Command;

/// The right to run an operation, until it is completed, released or dropped.
///
/// Dropping a lease without completing or releasing it says that the outcome is unknown: the
/// holder is gone at once, without I/O, and what may happen next is up to the record's
/// [`Takeover`](crate::Takeover). A lease that is dropped after a `complete` that failed stays
/// held to its end, because the operation did run. The future of an async call has a share in the
/// lease, and what such a call has put into the queue keeps the holder there until it is carried out.
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
    share: Share,
}

/// A share in a lease: its guard has one, and so has every future of its calls. When the last one goes,
/// and nothing that was accepted is on its way, the holder is gone.
#[derive(Debug, Clone)]
struct Share {
    /// Taken by `drop` alone.
    hold: Option<Arc<LeaseHold>>,
    // Last: the store may close when it goes, and the holder must be gone by then.
    handle: Arc<Handle>,
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
            share: Share {
                hold: Some(Arc::new(LeaseHold::new(holding, end))),
                handle,
            },
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
        self.carry_out(self.save_command(bytes)?).map(drop)
    }

    /// Moves the end of the lease to `lease_for` from now.
    ///
    /// # Errors
    /// `InvalidOption` unless it is 1 ms to 366 days; `Fenced` if the lease is no longer the
    /// current one; `Overloaded`, `NoSpace`, `Indeterminate`, `Poisoned`, `Closed`, `Io`.
    pub fn renew(&self, lease_for: Duration) -> Result<()> {
        self.carry_out(self.renew_command(lease_for)?).map(drop)
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
        let bytes = json_of(response).inspect_err(|e| self.note_complete(Some(e)))?;
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
        self.carry_out(self.release_command()).map(drop)
    }

    /// Completes, and gives the record as it is then.
    pub(crate) fn finish(
        &self,
        response: &[u8],
        retain_for: Option<Duration>,
    ) -> Result<StoredResponse> {
        let finished = self
            .complete_command(response, retain_for)
            .and_then(|complete| self.carry_out(complete))
            .and_then(response_of);
        self.note_complete(finished.as_ref().err());
        finished
    }

    fn complete_command(&self, response: &[u8], retain_for: Option<Duration>) -> Result<Command> {
        let limit = self.share.handle.limits().response_bytes;
        check_size("response", response, limit)?;
        Ok(Command::Complete {
            fence: self.fence(),
            response: response.into(),
            retain_for: retain_for
                .map(|d| check_duration("retain_for", d))
                .transpose()?,
        })
    }

    fn save_command(&self, bytes: &[u8]) -> Result<Command> {
        let limit = self.share.handle.limits().recovery_point_bytes;
        check_size("recovery point", bytes, limit)?;
        Ok(Command::Save {
            fence: self.fence(),
            point: bytes.into(),
        })
    }

    fn renew_command(&self, lease_for: Duration) -> Result<Command> {
        Ok(Command::Renew {
            fence: self.fence(),
            lease_for: check_duration("lease_for", lease_for)?,
        })
    }

    fn release_command(&self) -> Command {
        Command::Release {
            fence: self.fence(),
        }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn record_key(&self) -> &RecordKey {
        &self.key
    }

    fn carry_out(&self, command: Command) -> Result<Option<Arc<Record>>> {
        let answer = self.share.handle.call(self.key.clone(), command.clone());
        self.share.note(&command, &answer);
        Ok(answer?.record)
    }

    fn note_complete(&self, error: Option<&Error>) {
        self.share.note_complete(error);
    }

    /// The end of the lease; the store may have renewed it too.
    fn end(&self) -> Timestamp {
        let now = self.share.handle.lease_end(&self.key, self.fence());
        self.share.end(now)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.share.may_stay_held() {
            // Known for the last time, should the key stay held to it.
            self.end();
        }
    }
}

impl Share {
    /// What a command that is accepted keeps, should the lease be dropped before it is carried out.
    fn hold(&self) -> Option<Arc<LeaseHold>> {
        self.hold.clone()
    }

    /// Notes what became of a command of the lease.
    fn note(&self, command: &Command, answer: &Result<Answer>) {
        if let Some(hold) = &self.hold {
            hold.note(command, answer);
        }
    }

    fn note_complete(&self, error: Option<&Error>) {
        if let Some(hold) = &self.hold {
            hold.note_complete(error);
        }
    }

    /// Whether the key may stay held without this share: others have one, or a `complete` failed.
    fn may_stay_held(&mut self) -> bool {
        let hold = self.hold.as_mut().map(Arc::get_mut);
        hold.is_some_and(|alone| alone.is_none_or(LeaseHold::outlives_guard))
    }

    /// The end of the lease, given what it is now if it is still the current one.
    fn end(&self, now: Option<Timestamp>) -> Timestamp {
        self.hold
            .as_ref()
            .map_or_else(Timestamp::default, |hold| hold.end(now))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        drop(self.hold.take());
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

/// The response of a completion.
fn response_of(record: Option<Arc<Record>>) -> Result<StoredResponse> {
    record
        .and_then(StoredResponse::of)
        .ok_or(Error::Indeterminate)
}

#[cfg(feature = "json")]
fn json_of<T: serde::Serialize + ?Sized>(response: &T) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(response).map_err(std::io::Error::from)?)
}
