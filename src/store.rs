//! The store as its users hold it.

mod async_calls;
mod future;
mod handle;
mod request;
mod run;
mod stats;
mod tenant;
mod unfinished;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use self::future::StoreFuture;
pub(crate) use self::handle::Handle;
pub use self::request::ClaimRequest;
pub use self::run::{Ran, RunError};
pub use self::stats::Stats;
pub use self::tenant::TenantView;
pub use self::unfinished::{Unfinished, UnfinishedState};

use crate::builder::Builder;
use crate::claim::{Claim, InFlight, Lease, Peek, StoredResponse};
use crate::engine::disk::{DirectoryLock, Disk};
use crate::engine::{Answer, EngineOptions, Swept, Verified};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::maintenance;
use crate::transition::{Command, Reply};

/// An idempotency store: says of every (tenant, key) whether the caller runs the operation,
/// another does, or it has run.
///
/// Cheap to clone; clones share the store. It is closed by [`close`](Store::close), or when the
/// last handle is dropped; a lease is a handle too.
///
/// After a restart, what the process left unfinished can be settled against the outside system:
///
/// ```
/// use firstclaim::{Builder, Claim, Store, Takeover, UnfinishedState};
///
/// # fn receipt_of(key: &[u8]) -> Option<String> { Some("charged".to_owned()) }
/// let store = Builder::in_memory().takeover(Takeover::Never).open()?;
/// drop(store.claim("acct_42", "9f1c")?); // as a kill would: nobody knows whether it charged
///
/// for open in store.unfinished()? {
///     assert_eq!(open.state(), UnfinishedState::Interrupted);
///     if let Some(Claim::Claimed(lease)) = store.resolve(open.tenant(), open.key())? {
///         match receipt_of(lease.key()) {
///             Some(receipt) => lease.complete(receipt)?,
///             None => lease.release()?, // it did not happen
///         }
///     }
/// }
/// assert!(matches!(store.claim("acct_42", "9f1c")?, Claim::Done(_)));
/// # Ok::<(), firstclaim::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

impl Store {
    /// Opens the store in the directory at `path` with default options, making it if it is missing.
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder(path).open()
    }

    /// Options for the store in the directory at `path`.
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::new(path)
    }

    /// A store in memory with default options, gone with its last handle: for tests. For one with
    /// other options, see [`Builder::in_memory`].
    ///
    /// # Errors
    /// `Io` if its threads cannot be started.
    pub fn in_memory() -> Result<Self> {
        Builder::in_memory().open()
    }

    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        lock: Box<dyn DirectoryLock>,
        options: EngineOptions,
        builder: Builder,
    ) -> Result<Self> {
        let handle = Arc::new(Handle::start(disk, lock, options, builder)?);
        Ok(Store { handle })
    }

    /// Claims `key` of `tenant` on the store's default terms.
    ///
    /// # Errors
    /// `InvalidKey` for an empty or overlong name; `FingerprintMismatch` if the record has a
    /// fingerprint; `Corrupt` if the record is damaged or may be among lost ones; `Overloaded`,
    /// `NoSpace`, `Indeterminate`, `Poisoned`, `Closed`, `Io`.
    pub fn claim(&self, tenant: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Claim> {
        self.request(tenant, key).claim()
    }

    /// Claims `key` of `tenant` on the store's default terms and, if it is in flight, waits for that
    /// attempt to end. See [`ClaimRequest::claim_or_wait`].
    ///
    /// # Errors
    /// As there.
    pub fn claim_or_wait(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        timeout: Duration,
    ) -> Result<Claim> {
        self.request(tenant, key).claim_or_wait(timeout)
    }

    /// A claim on other terms than the store's defaults.
    pub fn request(&self, tenant: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> ClaimRequest<'_> {
        ClaimRequest::new(self, self.name(tenant, key))
    }

    /// The store as one tenant sees it.
    pub fn tenant(&self, tenant: impl AsRef<[u8]>) -> TenantView {
        TenantView::new(self.clone(), tenant.as_ref())
    }

    /// Claims a key and, if that gives a lease, runs `operation` and completes with what it
    /// returns. See [`ClaimRequest::run`].
    ///
    /// # Errors
    /// As [`ClaimRequest::run`].
    pub fn run<B, E>(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        operation: impl FnOnce(&Lease) -> Result<B, E>,
    ) -> Result<Ran, RunError<E>>
    where
        B: AsRef<[u8]>,
    {
        self.request(tenant, key).run(operation)
    }

    /// What is known of a key; nothing if it is vacant. Changes nothing.
    ///
    /// # Errors
    /// `Poisoned` if a write failed whose outcome decides whether the key is vacant; `InvalidKey`,
    /// `Corrupt`, `Closed`, `Io`.
    pub fn peek(&self, tenant: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Option<Peek>> {
        self.peek_at(&self.name(tenant, key)?)
    }

    /// Makes a key vacant, unless its operation has a live holder; tells whether there was a
    /// record.
    ///
    /// # Errors
    /// `Held` if there is a live holder; `InvalidKey`, `Corrupt`, `Overloaded`, `NoSpace`,
    /// `Indeterminate`, `Poisoned`, `Closed`, `Io`.
    pub fn forget(&self, tenant: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<bool> {
        self.forget_if(tenant, key, false)
    }

    /// Makes a key vacant even if it has a live holder, who is refused from here on, or if its
    /// record is damaged.
    ///
    /// # Errors
    /// `InvalidKey`, `Overloaded`, `NoSpace`, `Indeterminate`, `Poisoned`, `Closed`, `Io`.
    pub fn forget_held(&self, tenant: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<bool> {
        self.forget_if(tenant, key, true)
    }

    /// Takes over a key that is interrupted or released, whatever its policy, to find out what
    /// its last attempt did and to complete or release it. Nothing if the key is vacant; the
    /// answer of a claim if it has a live holder or is done.
    ///
    /// # Errors
    /// As [`claim`](Store::claim).
    pub fn resolve(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Claim>> {
        let key = self.name(tenant, key)?;
        let answer = self
            .handle
            .call(key.clone(), self.handle.resolve_command())?;
        resolved(&self.handle, key, answer)
    }

    /// Every key that is in flight, interrupted or released, by tenant and key. At most
    /// [`Limits::unfinished`](crate::Limits::unfinished), 1 million by default.
    ///
    /// # Errors
    /// `Corrupt` if one of them is damaged; `Poisoned` if a write failed whose outcome decides
    /// whether one is still unfinished; `Closed`, `Io`.
    pub fn unfinished(&self) -> Result<Vec<Unfinished>> {
        self.handle.unfinished(&[])
    }

    /// Removes from the disk what has expired, a table of records at a time with pauses between, so
    /// that claims go on. Runs by itself in the background too; expiry itself does not wait for it.
    ///
    /// # Errors
    /// `NoSpace`, `Indeterminate`, `Poisoned`, `Closed`, `Io`.
    pub fn sweep(&self) -> Result<Swept> {
        let swept = self.handle.enter().and_then(|open| {
            // First, so that what expired in memory goes too; but on a full disk it may need the space
            // that the sweep frees.
            let checkpointed = open.engine().checkpoint();
            let swept = maintenance::sweep_for_caller(open.engine())?;
            checkpointed.map(|()| swept)
        });
        self.handle.wake_waiters();
        swept
    }

    /// Writes what is new into the base. Runs by itself in the background too.
    ///
    /// # Errors
    /// `NoSpace`, `Poisoned`, `Closed`, `Io`.
    pub fn checkpoint(&self) -> Result<()> {
        self.handle.enter()?.engine().checkpoint()
    }

    /// Reads the whole base through and checks every record and count. Runs by itself in the
    /// background once after each opening.
    ///
    /// # Errors
    /// `Corrupt`, naming the first damage, if anything is damaged; `Closed`, `Io`.
    pub fn verify(&self) -> Result<Verified> {
        self.handle.enter()?.engine().verify()
    }

    /// Counts and sizes, for a dashboard.
    pub fn stats(&self) -> Stats {
        self.handle.stats()
    }

    /// Carries out what waits, checkpoints, stops the threads and gives the directory back, as
    /// soon as no lease is out. Later calls fail with `Closed`, and so do claims that wait for an
    /// attempt in flight; closing again is `Ok`, and waits until the store is closed, unless it is a
    /// waker on a thread of the store's that does so.
    ///
    /// # Errors
    /// `Poisoned`, `NoSpace` or `Io` if the checkpoint failed. The store is closed all the same,
    /// and nothing acknowledged is lost: the next opening reads the journal.
    pub fn close(&self) -> Result<()> {
        self.handle.close()
    }

    /// The limits.
    #[cfg(feature = "http")]
    pub(crate) fn limits(&self) -> &crate::builder::Limits {
        self.handle.limits()
    }

    /// How long a lease runs unless the claim says otherwise.
    #[cfg(feature = "http")]
    pub(crate) fn lease_for(&self) -> std::time::Duration {
        self.handle.options().lease_for
    }

    fn forget_if(
        &self,
        tenant: impl AsRef<[u8]>,
        key: impl AsRef<[u8]>,
        held: bool,
    ) -> Result<bool> {
        let key = self.name(tenant, key)?;
        let answer = self.handle.call(key, Command::Forget { held })?;
        Ok(answer.reply == Reply::Changed)
    }

    fn name(&self, tenant: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<RecordKey> {
        let limit = self.handle.limits().key_bytes;
        RecordKey::new(tenant.as_ref(), key.as_ref(), limit)
    }

    fn peek_at(&self, key: &RecordKey) -> Result<Option<Peek>> {
        let open = self.handle.enter()?;
        let seen = open.engine().peek(key)?;
        Ok(seen.map(|(record, holder)| Peek::of(record, holder)))
    }
}

/// The answer to a `resolve` as users see it.
fn resolved(handle: &Arc<Handle>, key: RecordKey, answer: Answer) -> Result<Option<Claim>> {
    match answer.reply {
        Reply::Vacant => Ok(None),
        _ => claim_of(handle, key, answer).map(Some),
    }
}

/// The answer to a claim as users see it.
fn claim_of(handle: &Arc<Handle>, key: RecordKey, answer: Answer) -> Result<Claim> {
    let record = answer.record.ok_or(Error::Indeterminate)?;
    match (answer.reply, answer.holding) {
        (Reply::Claimed, Some(holding)) => Ok(Claim::Claimed(Lease::new(
            handle.clone(),
            key,
            record,
            holding,
        ))),
        (Reply::InFlight { interrupted }, _) => {
            Ok(Claim::InFlight(InFlight::of(&record, interrupted)))
        }
        _ => StoredResponse::of(record)
            .map(Claim::Done)
            .ok_or(Error::Indeterminate),
    }
}
