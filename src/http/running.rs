//! How many operations run, and waiting until none does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most that a bound may be.
const MOST: usize = 65_536;

/// The bound on the operations that run at a time. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Running {
    slots: Arc<Semaphore>,
    all: u32,
}

/// The right to run an operation, until it is dropped.
#[derive(Debug)]
pub(super) struct Slot(#[allow(dead_code)] OwnedSemaphorePermit);

impl Running {
    /// 1 to 65,536; others are brought to the nearest.
    pub(super) fn at_most(operations: usize) -> Self {
        let all = operations.clamp(1, MOST);
        Running {
            slots: Arc::new(Semaphore::new(all)),
            all: all as u32,
        }
    }

    /// None if as many run as may, or a drain waits.
    pub(super) fn slot(&self) -> Option<Slot> {
        self.slots.clone().try_acquire_owned().ok().map(Slot)
    }

    /// Waits until none runs; whether that came to be.
    pub(super) async fn drain(&self, timeout: Duration) -> bool {
        let all = self.slots.acquire_many(self.all);
        tokio::time::timeout(timeout, all).await.is_ok()
    }
}
