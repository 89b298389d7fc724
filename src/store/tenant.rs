//! The store as one tenant sees it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{ClaimRequest, Ran, RunError, Store, StoreFuture, Unfinished};
use crate::claim::{Claim, Lease, Peek};
use crate::error::Result;
use crate::key::{check_tenant, tenant_prefix};

/// A view of the store that knows its tenant, so that no call can name another.
///
/// ```
/// use firstclaim::{Claim, Store};
///
/// let store = Store::in_memory()?;
/// let account = store.tenant("acct_42");
/// assert!(matches!(account.claim("9f1c")?, Claim::Claimed(_)));
/// # Ok::<(), firstclaim::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TenantView {
    store: Store,
    tenant: Box<[u8]>,
}

impl TenantView {
    pub(super) fn new(store: Store, tenant: &[u8]) -> Self {
        TenantView {
            store,
            tenant: tenant.into(),
        }
    }

    /// The tenant.
    pub fn tenant(&self) -> &[u8] {
        &self.tenant
    }

    /// As [`Store::claim`].
    ///
    /// # Errors
    /// As there.
    pub fn claim(&self, key: impl AsRef<[u8]>) -> Result<Claim> {
        self.store.claim(&self.tenant, key)
    }

    /// As [`Store::request`].
    pub fn request(&self, key: impl AsRef<[u8]>) -> ClaimRequest<'_> {
        self.store.request(&self.tenant, key)
    }

    /// As [`Store::run`].
    ///
    /// # Errors
    /// As there.
    pub fn run<B, E>(
        &self,
        key: impl AsRef<[u8]>,
        operation: impl FnOnce(&Lease) -> Result<B, E>,
    ) -> Result<Ran, RunError<E>>
    where
        B: AsRef<[u8]>,
    {
        self.store.run(&self.tenant, key, operation)
    }

    /// As [`Store::peek`].
    ///
    /// # Errors
    /// As there.
    pub fn peek(&self, key: impl AsRef<[u8]>) -> Result<Option<Peek>> {
        self.store.peek(&self.tenant, key)
    }

    /// As [`Store::forget`].
    ///
    /// # Errors
    /// As there.
    pub fn forget(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.store.forget(&self.tenant, key)
    }

    /// As [`Store::forget_held`].
    ///
    /// # Errors
    /// As there.
    pub fn forget_held(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.store.forget_held(&self.tenant, key)
    }

    /// As [`Store::resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&self, key: impl AsRef<[u8]>) -> Result<Option<Claim>> {
        self.store.resolve(&self.tenant, key)
    }

    /// As [`Store::claim_or_wait`].
    ///
    /// # Errors
    /// As there.
    pub fn claim_or_wait(&self, key: impl AsRef<[u8]>, timeout: Duration) -> Result<Claim> {
        self.store.claim_or_wait(&self.tenant, key, timeout)
    }

    /// As [`Store::claim_or_wait_async`].
    ///
    /// # Errors
    /// As there.
    pub fn claim_or_wait_async(
        &self,
        key: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> StoreFuture<Result<Claim>> {
        self.store.claim_or_wait_async(&self.tenant, key, timeout)
    }

    /// As [`Store::claim_async`].
    ///
    /// # Errors
    /// As there.
    pub fn claim_async(&self, key: impl AsRef<[u8]>) -> StoreFuture<Result<Claim>> {
        self.store.claim_async(&self.tenant, key)
    }

    /// As [`Store::run_async`].
    ///
    /// # Errors
    /// As there.
    pub fn run_async<F, O, B, E>(
        &self,
        key: impl AsRef<[u8]>,
        operation: F,
    ) -> StoreFuture<Result<Ran, RunError<E>>>
    where
        F: FnOnce(Arc<Lease>) -> O + Send + 'static,
        O: Future<Output = Result<B, E>> + Send + 'static,
        B: AsRef<[u8]>,
    {
        self.store.run_async(&self.tenant, key, operation)
    }

    /// As [`Store::peek_async`].
    ///
    /// # Errors
    /// As there.
    pub fn peek_async(&self, key: impl AsRef<[u8]>) -> StoreFuture<Result<Option<Peek>>> {
        self.store.peek_async(&self.tenant, key)
    }

    /// As [`Store::forget_async`].
    ///
    /// # Errors
    /// As there.
    pub fn forget_async(&self, key: impl AsRef<[u8]>) -> StoreFuture<Result<bool>> {
        self.store.forget_async(&self.tenant, key)
    }

    /// As [`Store::forget_held_async`].
    ///
    /// # Errors
    /// As there.
    pub fn forget_held_async(&self, key: impl AsRef<[u8]>) -> StoreFuture<Result<bool>> {
        self.store.forget_held_async(&self.tenant, key)
    }

    /// As [`Store::resolve_async`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve_async(&self, key: impl AsRef<[u8]>) -> StoreFuture<Result<Option<Claim>>> {
        self.store.resolve_async(&self.tenant, key)
    }

    /// This tenant's keys that are in flight, interrupted or released.
    ///
    /// # Errors
    /// `InvalidKey` if the tenant is not 1 to 255 bytes; as [`Store::unfinished`].
    pub fn unfinished(&self) -> Result<Vec<Unfinished>> {
        check_tenant(&self.tenant)?;
        self.store.handle.unfinished(&tenant_prefix(&self.tenant))
    }
}
