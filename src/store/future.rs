//! The future of an async call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The future of an async call of the store.
///
/// It owns what it needs, so that it can be spawned on any executor; the store needs none of its own.
/// Nothing happens before it is first polled, and after that the store's threads do the work and wake
/// the task. Each call's docs say what becomes of it if its future is dropped half way.
///
/// While it exists it is a handle of the store, and one of a lease has a share in that lease. If it is
/// the last handle, dropping it closes the store, which waits for the disk.
///
/// Wakers are called by the store's threads, by callers that commit for others, and by whoever drops
/// what others wait for. They must not wait for the store.
///
/// # Panics
/// If it is polled again after it was ready.
#[must_use = "futures do nothing unless awaited"]
pub struct StoreFuture<T>(Pin<Box<dyn Future<Output = T> + Send>>);

impl<T> StoreFuture<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        StoreFuture(Box::pin(future))
    }
}

impl<T> Future for StoreFuture<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<T> {
        self.0.as_mut().poll(task)
    }
}

impl<T> fmt::Debug for StoreFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreFuture")
    }
}
