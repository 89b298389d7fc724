//! Checkpoints, when a segment is full and now and then, and the segment after.

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
}

impl Chore for Checkpoints {
    fn due(&self, now: Instant) -> Option<Instant> {
        match self.engine.is_urgent() {
            true => Some(now),
            false => Some(self.next),
        }
    }

    fn work(&mut self, now: Instant) -> Result<()> {
        if self.next <= now {
            self.engine.checkpoint()?;
            self.next = later(now, self.every);
            return Ok(());
        }
        self.engine.finish_checkpoint()
    }
}

/// The next segment, made ahead of its need.
pub(super) struct Spare(pub(super) Arc<Engine>);

impl Chore for Spare {
    fn due(&self, _: Instant) -> Option<Instant> {
        None
    }

    fn work(&mut self, _: Instant) -> Result<()> {
        self.0.prepare_segment()
    }
}
