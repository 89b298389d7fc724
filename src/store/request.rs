//! A claim on terms of its own.

use std::time::Duration;

use super::{Store, claim_of};
use crate::claim::Claim;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::Takeover;
use crate::time::{check_duration, check_wait};
use crate::transition::Terms;

/// A claim to be made. Policy, retention and fingerprint become the record's if this claim makes
/// it; on a record that exists, its own count, and the fingerprint must be equal.
///
/// ```
/// use std::time::Duration;
/// use firstclaim::{Claim, Fingerprint, Store, Takeover};
///
/// let store = Store::in_memory()?;
/// let claim = store
///     .request("acct_42", "9f1c")
///     .fingerprint(Fingerprint::of(["POST", "/payments", "{\"amount\":500}"]))
///     .lease_for(Duration::from_secs(30))
///     .retain_for(Duration::from_secs(7 * 24 * 60 * 60))
///     .takeover(Takeover::Never)
///     .claim()?;
/// assert!(matches!(claim, Claim::Claimed(_)));
/// # Ok::<(), firstclaim::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is claimed before `claim` or `run`"]
pub struct ClaimRequest<'s> {
    pub(super) store: &'s Store,
    /// Told by `claim`, so that the steps before need no `?`.
    key: Result<RecordKey>,
    terms: Terms,
}

impl<'s> ClaimRequest<'s> {
    pub(super) fn new(store: &'s Store, key: Result<RecordKey>) -> Self {
        let options = store.handle.options();
        ClaimRequest {
            key,
            terms: Terms {
                lease_for: options.lease_for,
                retain_for: options.retain_for,
                takeover: options.takeover,
                fingerprint: None,
            },
            store,
        }
    }

    /// What identifies the request's content. Compared first, in every state of the key.
    pub fn fingerprint(mut self, fingerprint: impl Into<Fingerprint>) -> Self {
        self.terms.fingerprint = Some(fingerprint.into());
        self
    }

    /// How long the lease runs, 1 ms to 366 days.
    pub fn lease_for(mut self, lease_for: Duration) -> Self {
        self.terms.lease_for = lease_for;
        self
    }

    /// How long the response is kept from its completion, 1 ms to 366 days.
    pub fn retain_for(mut self, retain_for: Duration) -> Self {
        self.terms.retain_for = retain_for;
        self
    }

    /// When the key may be taken over.
    pub fn takeover(mut self, takeover: Takeover) -> Self {
        self.terms.takeover = takeover;
        self
    }

    /// Claims the key.
    ///
    /// # Errors
    /// As [`Store::claim`]; `InvalidOption` if a duration is out of its bounds;
    /// `FingerprintMismatch` if the key is in use for another request.
    pub fn claim(self) -> Result<Claim> {
        let store = self.store;
        let (key, terms) = self.checked()?;
        let answer = store.handle.claim(key.clone(), terms)?;
        claim_of(&store.handle, key, answer)
    }

    /// Claims the key and, if it is in flight, waits until that attempt is completed, released or
    /// forgotten, its holder goes, or the record's policy lets the claim take over; for `timeout` at
    /// most, zero to 366 days. A duplicate gets the first one's response the moment it is durable.
    ///
    /// It parks; nothing polls. Of those who wait for one key, one has the lease once it is free, and
    /// the others go on waiting for that.
    ///
    /// The answer is [`InFlight`](crate::InFlight) once the time is over; at once where waiting is
    /// over a limit, [`Limits::waiters`](crate::Limits::waiters) in all or
    /// [`Limits::waiters_per_key`](crate::Limits::waiters_per_key), or where there is nobody to wait
    /// for: an attempt that was cut short under [`Takeover::Never`]. The ends of leases are waited for
    /// in real time: a [`ManualClock`](crate::ManualClock) that is moved wakes nobody. `timeout` bounds
    /// the waiting for others; each claim that is made meanwhile may wait for its commit besides, as
    /// [`claim`](Self::claim) does, and fail as that does.
    ///
    /// ```
    /// use std::time::Duration;
    /// use firstclaim::{Claim, Store};
    ///
    /// let store = Store::in_memory()?;
    /// let Claim::Claimed(lease) = store.claim("acct_42", "9f1c")? else { panic!() };
    /// let duplicate = std::thread::spawn({
    ///     let store = store.clone();
    ///     move || store.claim_or_wait("acct_42", "9f1c", Duration::from_secs(5))
    /// });
    /// lease.complete("charged")?;
    /// let Claim::Done(response) = duplicate.join().unwrap()? else { panic!() };
    /// assert_eq!(response.bytes(), b"charged");
    /// # Ok::<(), firstclaim::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`claim`](Self::claim); `InvalidOption` if `timeout` is over 366 days; `Closed` if the store
    /// is closed meanwhile.
    pub fn claim_or_wait(self, timeout: Duration) -> Result<Claim> {
        let store = self.store;
        let (key, terms) = self.checked_to_wait(timeout)?;
        let answer = store.handle.claim_or_wait(&key, &terms, timeout)?;
        claim_of(&store.handle, key, answer)
    }

    /// What is to be claimed, if all of it is within its bounds.
    pub(super) fn checked(self) -> Result<(RecordKey, Terms)> {
        let key = self.key?;
        check_duration("lease_for", self.terms.lease_for)?;
        check_duration("retain_for", self.terms.retain_for)?;
        Ok((key, self.terms))
    }

    /// The same, with a time to wait.
    pub(super) fn checked_to_wait(self, timeout: Duration) -> Result<(RecordKey, Terms)> {
        check_wait("timeout", timeout)?;
        self.checked()
    }

    /// How long a lease of this claim runs.
    pub(super) fn lease_length(&self) -> Duration {
        self.terms.lease_for
    }
}
