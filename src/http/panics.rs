//! A future whose panic is a result.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The future panicked.
#[derive(Debug)]
pub(super) struct Panicked;

/// Runs `future`; its panic ends it, and nothing else.
pub(super) fn caught<F: Future>(future: F) -> impl Future<Output = Result<F::Output, Panicked>> {
    Caught(Some(Box::pin(future)))
}

struct Caught<F>(Option<Pin<Box<F>>>);

impl<F: Future> Future for Caught<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = &mut self.0 else {
            return Poll::Ready(Err(Panicked));
        };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(payload) => {
                // What is left of it, and what it panicked with, may panic as well.
                let left = self.0.take();
                let _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
                let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
                Poll::Ready(Err(Panicked))
            }
        }
    }
}
