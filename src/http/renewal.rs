//! Keeping a lease alive while its operation runs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::layer::Settings;
use crate::claim::Lease;
use crate::error::Error;
use crate::time::MIN_DURATION;

/// How many times a lease is renewed in its length.
const RENEWALS_PER_LEASE: u32 = 3;

/// Ends the renewing of a lease when dropped.
pub(super) struct KeptAlive(AbortHandle);

impl KeptAlive {
    /// Renews `lease` until this is dropped, for as long as the settings say. In a task of its own:
    /// an operation that does not yield must not lose its lease.
    pub(super) fn start(runtime: &Handle, lease: &Arc<Lease>, settings: &Settings) -> Self {
        let lease_for = settings.lease_for;
        let lease_for = lease_for.unwrap_or_else(|| settings.store.lease_for());
        let renewing = renew(Arc::downgrade(lease), lease_for, settings.keep_alive_for);
        KeptAlive(runtime.spawn(renewing).abort_handle())
    }
}

impl Drop for KeptAlive {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn renew(lease: Weak<Lease>, lease_for: Duration, at_most: Duration) {
    let pause = (lease_for / RENEWALS_PER_LEASE).max(MIN_DURATION);
    let mut passed = pause;
    while passed < at_most {
        tokio::time::sleep(pause).await;
        let Some(lease) = lease.upgrade() else { return };
        let renewed = lease.renew_async(lease_for);
        drop(lease);
        // After any other failure the next renewal may go well.
        if let Err(Error::Fenced | Error::Closed) = renewed.await {
            return;
        }
        passed = passed.saturating_add(pause);
    }
}
