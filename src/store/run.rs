//! Claim, run, complete: in one call.

use super::ClaimRequest;
use crate::claim::{Claim, InFlight, Lease, StoredResponse};
use crate::error::Error;
use crate::record::Takeover;

/// What became of an operation given to `run`.
#[derive(Debug)]
#[must_use]
pub enum Ran {
    /// It ran now, and this was stored.
    Executed(StoredResponse),
    /// It had run before; this is what was stored then.
    Replayed(StoredResponse),
    /// Another attempt is running it, or was cut short.
    InFlight(InFlight),
}

/// Why `run` has no response to give.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E> {
    /// The operation did not run: the claim failed.
    #[error("the operation did not run: {0}")]
    NotRun(#[source] Error),
    /// The operation ran and failed. Its lease was dropped, unless it released it.
    #[error("the operation failed")]
    Operation(E),
    /// The operation ran, but what it returned could not be stored. The key stays held to the end
    /// of its lease.
    #[error("the operation ran, but its response was not recorded: {error}")]
    NotRecorded {
        /// Why.
        #[source]
        error: Error,
        /// What it returned.
        bytes: Vec<u8>,
    },
}

impl ClaimRequest<'_> {
    /// Claims the key and, if that gives a lease, runs `operation` and completes with the bytes it
    /// returns. While it runs the lease is kept renewed if the record's policy lets a late holder
    /// be taken over.
    ///
    /// If `operation` returns an error or panics, the lease is dropped: the outcome is unknown. An
    /// operation that knows that it did nothing calls [`Lease::release`] before it returns its
    /// error.
    ///
    /// ```
    /// use firstclaim::{Ran, RunError, Store};
    ///
    /// let store = Store::in_memory()?;
    /// let charge = |_: &firstclaim::Lease| Ok::<_, std::io::Error>("charged");
    /// for _ in 0..2 {
    ///     match store.request("acct_42", "9f1c").run(charge) {
    ///         Ok(Ran::Executed(response) | Ran::Replayed(response)) => {
    ///             assert_eq!(response.bytes(), b"charged");
    ///         }
    ///         Ok(Ran::InFlight(_)) => { /* 409, Retry-After */ }
    ///         Err(RunError::NotRun(error)) => return Err(error),
    ///         Err(_) => { /* it ran, or may have */ }
    ///     }
    /// }
    /// # Ok::<(), firstclaim::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`RunError`] tells whether the operation ran.
    ///
    /// # Panics
    /// If `operation` does; nothing of the store's is left behind then but the interrupted key.
    pub fn run<B, E>(
        self,
        operation: impl FnOnce(&Lease) -> Result<B, E>,
    ) -> Result<Ran, RunError<E>>
    where
        B: AsRef<[u8]>,
    {
        let handle = self.store.handle.clone();
        let lease_for = self.lease_length();
        let lease = match self.claim().map_err(RunError::NotRun)? {
            Claim::Claimed(lease) => lease,
            Claim::InFlight(running) => return Ok(Ran::InFlight(running)),
            Claim::Done(response) => return Ok(Ran::Replayed(response)),
        };
        let _kept_renewed = may_be_taken_over_late(&lease)
            .then(|| handle.keep_renewed(lease.record_key(), lease.fence(), lease_for));
        let bytes = operation(&lease).map_err(RunError::Operation)?;
        let bytes = bytes.as_ref();
        match lease.finish(bytes, None) {
            Ok(response) => Ok(Ran::Executed(response)),
            Err(error) => Err(RunError::NotRecorded {
                error,
                bytes: bytes.to_vec(),
            }),
        }
    }
}

fn may_be_taken_over_late(lease: &Lease) -> bool {
    matches!(
        lease.record().takeover,
        Takeover::GoneOrExpired | Takeover::Expired
    )
}
