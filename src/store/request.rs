//! A claim on terms of its own.

use std::time::Duration;

use super::Store;
use crate::claim::Claim;
use crate::error::Result;
use crate::fingerprint::Fingerprint;
use crate::key::RecordKey;
use crate::record::Takeover;
use crate::time::check_duration;
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
        let key = self.key?;
        check_duration("lease_for", self.terms.lease_for)?;
        check_duration("retain_for", self.terms.retain_for)?;
        let answer = self.store.handle.claim(key.clone(), self.terms)?;
        self.store.claim_of(key, answer)
    }

    /// How long a lease of this claim runs.
    pub(super) fn lease_length(&self) -> Duration {
        self.terms.lease_for
    }
}
