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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::task::Waker;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    /// Panics, and again when what is left of it is dropped.
    struct PanicsTwice(#[allow(dead_code)] PanicsWhenDropped);

    impl Future for PanicsTwice {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            panic!("polled")
        }
    }

    fn polled<F: Future>(future: F) -> Poll<Result<F::Output, Panicked>> {
        let mut caught = std::pin::pin!(caught(future));
        caught
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_panic_is_a_result_whatever_it_leaves_behind() {
        let ended = polled(PanicsTwice(PanicsWhenDropped));
        assert!(matches!(ended, Poll::Ready(Err(Panicked))));
        let carried = async { std::panic::panic_any(PanicsWhenDropped) };
        let ended: Poll<Result<(), Panicked>> = polled(carried);
        assert!(matches!(ended, Poll::Ready(Err(Panicked))));
    }

    #[test]
    fn what_does_not_panic_is_as_it_was() {
        assert!(matches!(polled(async { 7 }), Poll::Ready(Ok(7))));
        assert!(polled(pending::<()>()).is_pending());
    }
}
