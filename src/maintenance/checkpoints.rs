//! Checkpoints: when a segment is full, and now and then.

use std::sync::Arc;
use std::time::Duration;

use super::{Chore, later};
use crate::engine::Engine;
use crate::error::Result;
use crate::sync::Instant;

pub(super) struct Checkpoints {
    engine: Arc<Engine>,
    every: Duration,
    next: Instant,
}

impl Checkpoints {
    pub(super) fn new(engine: Arc<Engine>, every: Duration) -> Self {
        Checkpoints {
            engine,
            every,
            next: later(Instant::now(), every),
        }
    }

    fn checkpoint(&mut self, now: Instant) -> Result<()> {
        if self.next <= now {
            self.engine.checkpoint()?;
            self.next = later(now, self.every);
        } else if self.engine.is_urgent() {
            self.engine.finish_checkpoint()?;
        }
        Ok(())
    }
}

impl Chore for Checkpoints {
    fn engine(&self) -> &Engine {
        &self.engine
    }

    /// One thing that fails does not keep the other from being done.
    fn work(&mut self, now: Instant) -> Result<()> {
        let checkpointed = self.checkpoint(now);
        // A base that was reopened may have tables that nobody has read.
        self.engine.ring_if_unverified();
        let prepared = self.engine.prepare_segment();
        checkpointed.and(prepared)
    }

    fn next(&self) -> Instant {
        self.next
    }

    fn wait(&self, wait: Duration) {
        self.engine.wait_to_checkpoint(wait);
    }
}
