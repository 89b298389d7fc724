//! The smallest executor: a thread that parks, and a task that is polled by hand.

#![allow(dead_code)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// No wait of a test is longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts how often it was woken, and wakes a thread.
pub struct Woken {
    count: AtomicUsize,
    thread: Thread,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, SeqCst);
        self.thread.unpark();
    }
}

/// A future that is polled by hand.
pub struct Task<F> {
    future: Pin<Box<F>>,
    woken: Arc<Woken>,
    /// How often it had been woken when it was polled last.
    seen: usize,
}

impl<F: Future> Task<F> {
    pub fn new(future: F) -> Self {
        Task {
            future: Box::pin(future),
            woken: Arc::new(Woken {
                count: AtomicUsize::new(0),
                thread: thread::current(),
            }),
            seen: 0,
        }
    }

    pub fn poll(&mut self) -> Poll<F::Output> {
        self.seen = self.woken.count.load(SeqCst);
        let waker = Waker::from(self.woken.clone());
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Waits until it is woken.
    pub fn wait(&self) {
        let until = Instant::now() + PATIENCE;
        while self.woken.count.load(SeqCst) == self.seen {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "a task that nobody wakes");
            thread::park_timeout(left);
        }
    }

    /// Polls it until it is ready, whenever it is woken.
    pub fn finish(mut self) -> F::Output {
        loop {
            match self.poll() {
                Poll::Ready(output) => return output,
                Poll::Pending => self.wait(),
            }
        }
    }

    /// Polls it so often, whenever it is woken; the output if that made it ready.
    pub fn poll_times(&mut self, times: usize) -> Option<F::Output> {
        for n in 0..times {
            if let Poll::Ready(output) = self.poll() {
                return Some(output);
            }
            if n + 1 < times {
                self.wait();
            }
        }
        None
    }
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    Task::new(future).finish()
}
