//! Claim, run, complete: in one call.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{ClaimRequest, Handle, StoreFuture};
use crate::claim::{Claim, InFlight, Lease, StoredResponse};
use crate::error::Error;
use crate::maintenance::KeptRenewed;
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
        let lease = match to_run(self.claim().map_err(RunError::NotRun)?) {
            Ok(lease) => lease,
            Err(ran) => return Ok(ran),
        };
        let _kept_renewed = keep_renewed(&handle, &lease, lease_for);
        let bytes = operation(&lease).map_err(RunError::Operation)?;
        let bytes = bytes.as_ref();
        executed(lease.finish(bytes, None), bytes)
    }

    /// As [`run`](Self::run), with an operation that is async. It may use the lease across its awaits,
    /// and must let go of it before it ends.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use firstclaim::{Lease, Ran, Store};
    ///
    /// # async fn charge(_: String) -> Result<String, std::io::Error> { Ok("charged".to_owned()) }
    /// # async fn pay(store: &Store) -> Result<(), Box<dyn std::error::Error>> {
    /// let ran = store.run_async("acct_42", "9f1c", async |lease: Arc<Lease>| {
    ///     charge(format!("attempt {}", lease.attempt())).await
    /// });
    /// if let Ran::Executed(response) | Ran::Replayed(response) = ran.await? {
    ///     assert_eq!(response.bytes(), b"charged");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// **Cancel safety**: dropped before the claim is answered, as [`claim_async`](Self::claim_async).
    /// Dropped while the operation runs, the operation is dropped too, and the lease: the outcome is
    /// unknown. Dropped after that, the response is stored if its completion was accepted, which it is
    /// once there was room in the queue.
    ///
    /// # Errors
    /// [`RunError`] tells whether the operation ran.
    ///
    /// # Panics
    /// If `operation` does; nothing of the store's is left behind then but the interrupted key.
    pub fn run_async<F, O, B, E>(self, operation: F) -> StoreFuture<Result<Ran, RunError<E>>>
    where
        F: FnOnce(Arc<Lease>) -> O + Send + 'static,
        O: Future<Output = Result<B, E>> + Send + 'static,
        B: AsRef<[u8]>,
    {
        let handle = self.store.handle.clone();
        let lease_for = self.lease_length();
        let claim = self.claim_async();
        StoreFuture::new(async move {
            // Dropped here: withdrawn, or its lease released.
            let lease = match to_run(claim.await.map_err(RunError::NotRun)?) {
                Ok(lease) => Arc::new(lease),
                Err(ran) => return Ok(ran),
            };
            let _kept_renewed = keep_renewed(&handle, &lease, lease_for);
            // Dropped here, or at an error: the lease goes, and the outcome is unknown.
            let returned = operation(lease.clone()).await;
            let bytes = returned.map(|b| b.as_ref().to_vec());
            let bytes = bytes.map_err(RunError::Operation)?;
            // Dropped here: completed, if that was accepted.
            executed(lease.finish_async(&bytes, None).await, &bytes)
        })
    }
}

/// The lease under which to run, or what there is instead of running.
fn to_run(claim: Claim) -> Result<Lease, Ran> {
    match claim {
        Claim::Claimed(lease) => Ok(lease),
        Claim::InFlight(running) => Err(Ran::InFlight(running)),
        Claim::Done(response) => Err(Ran::Replayed(response)),
    }
}

fn executed<E>(finished: Result<StoredResponse, Error>, bytes: &[u8]) -> Result<Ran, RunError<E>> {
    match finished {
        Ok(response) => Ok(Ran::Executed(response)),
        Err(error) => Err(RunError::NotRecorded {
            error,
            bytes: bytes.to_vec(),
        }),
    }
}

/// Keeps the lease renewed if a late holder may be taken over.
fn keep_renewed(handle: &Handle, lease: &Lease, lease_for: Duration) -> Option<KeptRenewed> {
    may_be_taken_over_late(lease)
        .then(|| handle.keep_renewed(lease.record_key(), lease.fence(), lease_for))
}

fn may_be_taken_over_late(lease: &Lease) -> bool {
    matches!(
        lease.record().takeover,
        Takeover::GoneOrExpired | Takeover::Expired
    )
}
