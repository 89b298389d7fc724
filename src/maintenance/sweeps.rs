//! Sweeps, and reading through what no one has since it was loaded.

use std::sync::Arc;
use std::time::Duration;

use super::{Chore, later};
use crate::engine::{Engine, Swept};
use crate::error::{Error, Result};
use crate::sync::{Instant, Ordering, sleep};

/// After dropping a generation, a sweep beside which keys are being claimed pauses for so many times what
/// that took,
const PAUSE_PER_WORK: u32 = 15;
/// at most for this.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

pub(super) struct Sweeps {
    engine: Arc<Engine>,
    every: Duration,
    next: Instant,
}

impl Sweeps {
    pub(super) fn new(engine: Arc<Engine>, every: Duration) -> Self {
        Sweeps {
            engine,
            every,
            next: later(Instant::now(), every),
        }
    }
}

impl Chore for Sweeps {
    fn due(&self, _: Instant) -> Option<Instant> {
        Some(self.next)
    }

    fn work(&mut self, now: Instant) -> Result<()> {
        paced_sweep(&self.engine, |pause| {
            self.engine.retry_checkpoint();
            self.engine.wait_to_verify(pause);
        })?;
        self.next = later(now, self.every);
        Ok(())
    }
}

/// Reading through what nobody has since it was loaded.
pub(super) struct Verifications(pub(super) Arc<Engine>);

impl Chore for Verifications {
    fn due(&self, now: Instant) -> Option<Instant> {
        self.0.is_unverified().then_some(now)
    }

    /// A table at a time, so that a sweep need not wait for all of them.
    fn work(&mut self, _: Instant) -> Result<()> {
        if !self.0.is_unverified() {
            return Ok(());
        }
        match self.0.verify_one() {
            // It is marked and noted; there is nobody here to tell.
            Err(Error::Corrupt { .. }) => Ok(()),
            verified => verified,
        }
    }
}

/// A sweep that pauses after each generation if anything was committed since the one before, so that
/// claims find the disk and the cores free for most of the time.
///
/// # Errors
/// As [`Engine::sweep_with`], and `Closed` once the engine is stopped.
fn paced_sweep(engine: &Engine, mut pause: impl FnMut(Duration)) -> Result<Swept> {
    let batches = || engine.counters().frames.load(Ordering::Relaxed);
    let mut begin = Instant::now();
    let mut before = batches();
    engine.sweep_with(|| {
        let is_busy = batches() != before;
        before = batches();
        let per_work = if is_busy { PAUSE_PER_WORK } else { 0 };
        pause((begin.elapsed() * per_work).min(LONGEST_PAUSE));
        begin = Instant::now();
        match engine.is_stopped() {
            true => Err(Error::Closed),
            false => Ok(()),
        }
    })
}

/// A sweep that a caller asked for.
///
/// # Errors
/// As [`Engine::sweep_with`], and `Closed` once the engine is stopped.
pub(crate) fn sweep_for_caller(engine: &Engine) -> Result<Swept> {
    paced_sweep(engine, sleep)
}

#[cfg(test)]
mod tests {
    use super::super::Duty;
    use super::*;
    use crate::engine::testing::{claim, engine, run};
    use crate::time::ManualClock;

    const HOUR: Duration = Duration::from_secs(3600);

    /// An engine with three tables of records that have all expired.
    fn engine_to_sweep() -> Arc<Engine> {
        let clock = ManualClock::new();
        let engine = engine(&clock);
        for hours in 1..=3 {
            run(&engine, &format!("{hours}"), hours * HOUR);
        }
        engine.checkpoint().unwrap();
        assert_eq!(engine.catalog().sizes().0, 3);
        clock.advance(24 * HOUR);
        Arc::new(engine)
    }

    #[test]
    fn a_sweep_pauses_after_each_table_beside_claims_but_not_for_long() {
        let engine = engine_to_sweep();
        let mut pauses = Vec::new();
        let swept = paced_sweep(&engine, |pause| {
            pauses.push(pause);
            drop(claim(&engine, &format!("{pause:?}"), HOUR));
        });
        assert_eq!((swept.unwrap().done, pauses.len()), (3, 3));
        // Nothing was committed before the first.
        let is_bounded = |pause: &Duration| !pause.is_zero() && *pause <= LONGEST_PAUSE;
        assert!(pauses[1..].iter().all(is_bounded), "{pauses:?}");
    }

    #[test]
    fn a_sweep_of_a_store_that_is_idle_does_not_pause() {
        let engine = engine_to_sweep();
        let mut pauses = Vec::new();
        paced_sweep(&engine, |pause| pauses.push(pause)).unwrap();
        assert_eq!(pauses, [Duration::ZERO; 3]);
        assert_eq!(engine.counters().sweeps.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_sweep_ends_when_the_engine_is_stopped() {
        let engine = engine_to_sweep();
        let swept = paced_sweep(&engine, |_| engine.stop());
        assert!(matches!(swept, Err(Error::Closed)), "{swept:?}");
        assert_eq!(engine.catalog().sizes().0, 2);
        assert_eq!(engine.counters().sweeps.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_sweep_that_is_due_is_made_and_the_next_is_due_later() {
        let engine = engine_to_sweep();
        let mut sweeps = Duty::of(Sweeps::new(engine.clone(), HOUR));
        let now = Instant::now();
        sweeps.work_if_due(now);
        assert_eq!(engine.catalog().sizes().0, 3);
        sweeps.work_if_due(later(now, 2 * HOUR));
        assert_eq!(engine.catalog().sizes().0, 0);
        assert!(sweeps.due(now) > Some(later(now, 2 * HOUR)));
    }
}
