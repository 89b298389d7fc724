//! The store's calls for tasks.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{ClaimRequest, Ran, RunError, Store, StoreFuture, claim_of, resolved};
use crate::claim::{Claim, Lease, Peek};
use crate::engine::Request;
use crate::error::Result;
use crate::transition::{Command, Reply};

/// The same calls as futures, for tasks of any executor; there are none of `sweep`, `checkpoint`,
/// `verify`, `unfinished` and `close`, which work long on the disk: call them from a thread for
/// blocking work.
///
/// The store's threads commit, and a task does not wait in its poll for that. What a call looks up
/// before, it looks up in the poll: in memory, or by a short read of the base where the filters say
/// maybe; and where that cannot be told without the commit right, as of an expired key that may just be
/// taken over, after the commit that is under way.
impl Store {
    /// As [`claim`](Self::claim).
    ///
    /// **Cancel safety**: dropped before it is answered, the claim is withdrawn if it still waits in
    /// the queue. If it is being committed, or has been, the store releases the lease that it gives,
    /// or, should that not be possible, its holder is gone.
    ///
    /// # Errors
    /// As there.
    pub fn claim_async(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> StoreFuture<Result<Claim>> {
        self.request(tenant, key).claim_async()
    }

    /// As [`claim_or_wait`](Self::claim_or_wait).
    ///
    /// **Cancel safety**: as [`claim_async`](Self::claim_async); dropped while it waits for the
    /// attempt in flight, it gives its place up and has claimed nothing.
    ///
    /// # Errors
    /// As there.
    pub fn claim_or_wait_async(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> StoreFuture<Result<Claim>> {
        self.request(tenant, key).claim_or_wait_async(timeout)
    }

    /// As [`run`](Self::run). See [`ClaimRequest::run_async`].
    ///
    /// # Errors
    /// As there.
    pub fn run_async<F, O, B, E>(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        operation: F,
    ) -> StoreFuture<Result<Ran, RunError<E>>>
    where
        F: FnOnce(Arc<Lease>) -> O + Send + 'static,
        O: Future<Output = Result<B, E>> + Send + 'static,
        B: AsRef<[u8]>,
    {
        self.request(tenant, key).run_async(operation)
    }

    /// As [`peek`](Self::peek). It is answered at its first poll.
    ///
    /// # Errors
    /// As there.
    pub fn peek_async(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> StoreFuture<Result<Option<Peek>>> {
        let (store, key) = (self.clone(), self.name(tenant, key));
        StoreFuture::new(async move { store.peek_at(&key?) })
    }

    /// As [`forget`](Self::forget).
    ///
    /// **Cancel safety**: dropped once it is in the queue, it is carried out all the same.
    ///
    /// # Errors
    /// As there.
    pub fn forget_async(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> StoreFuture<Result<bool>> {
        self.forget_if_async(tenant, key, false)
    }

    /// As [`forget_held`](Self::forget_held).
    ///
    /// **Cancel safety**: as [`forget_async`](Self::forget_async).
    ///
    /// # Errors
    /// As there.
    pub fn forget_held_async(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> StoreFuture<Result<bool>> {
        self.forget_if_async(tenant, key, true)
    }

    /// As [`resolve`](Self::resolve).
    ///
    /// **Cancel safety**: as [`claim_async`](Self::claim_async).
    ///
    /// # Errors
    /// As there.
    pub fn resolve_async(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> StoreFuture<Result<Option<Claim>>> {
        let (handle, key) = (self.handle.clone(), self.name(tenant, key));
        StoreFuture::new(async move {
            let key = key?;
            let request = Request::new(key.clone(), handle.resolve_command());
            // Dropped here: withdrawn, or its lease released.
            let answer = handle.commit_async(request, None).await?;
            resolved(&handle, key, answer)
        })
    }

    fn forget_if_async(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        held: bool,
    ) -> StoreFuture<Result<bool>> {
        let (handle, key) = (self.handle.clone(), self.name(tenant, key));
        StoreFuture::new(async move {
            let request = Request::new(key?, Command::Forget { held });
            // Dropped here: carried out, once it is in the queue.
            let answer = handle.commit_async(request, None).await?;
            Ok(answer.reply == Reply::Changed)
        })
    }
}

impl ClaimRequest<'_> {
    /// As [`claim`](Self::claim).
    ///
    /// **Cancel safety**: as [`Store::claim_async`].
    ///
    /// # Errors
    /// As there.
    pub fn claim_async(self) -> StoreFuture<Result<Claim>> {
        let handle = self.store.handle.clone();
        let checked = self.checked();
        StoreFuture::new(async move {
            let (key, terms) = checked?;
            let answer = handle.claim_async(key.clone(), terms).await?;
            claim_of(&handle, key, answer)
        })
    }

    /// As [`claim_or_wait`](Self::claim_or_wait).
    ///
    /// **Cancel safety**: as [`Store::claim_or_wait_async`].
    ///
    /// # Errors
    /// As there.
    pub fn claim_or_wait_async(self, timeout: Duration) -> StoreFuture<Result<Claim>> {
        let handle = self.store.handle.clone();
        let checked = self.checked_to_wait(timeout);
        StoreFuture::new(async move {
            let (key, terms) = checked?;
            let answer = handle.claim_or_wait_async(&key, &terms, timeout).await?;
            claim_of(&handle, key, answer)
        })
    }
}
