//! The threads that look after an open store: one checkpoints, sweeps and verifies, one keeps
//! deadlines.

mod deadlines;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::deadlines::{Alarm, Deadlines, KeptRenewed};

use crate::committer::Queue;
use crate::engine::{Engine, Swept};
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, Instant, JoinHandle, Ordering, ThreadBuilder, sleep};

/// After a failure, upkeep is tried again after this long,
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// and ever more seldom, down to this.
const LAST_RETRY: Duration = Duration::from_secs(5);
/// After dropping a generation, a sweep beside which keys are being claimed pauses for so many times what
/// that took,
const PAUSE_PER_WORK: u32 = 15;
/// at most for this.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How often to do what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    pub(crate) sweep_every: Duration,
    pub(crate) checkpoint_every: Duration,
}

/// Starts the thread that checkpoints, sweeps and verifies, until the engine is stopped.
pub(crate) fn start_upkeep(
    engine: Arc<Engine>,
    rhythm: Rhythm,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>> {
    let thread = ThreadBuilder::new().name("firstclaim-upkeep".to_owned());
    Ok(thread.spawn(move || Upkeep::new(engine, rhythm).run(&stop))?)
}

struct Upkeep {
    engine: Arc<Engine>,
    rhythm: Rhythm,
    next_sweep: Instant,
    next_checkpoint: Instant,
    /// Set while the last try failed: when to try again, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
}

impl Upkeep {
    fn new(engine: Arc<Engine>, rhythm: Rhythm) -> Self {
        let now = Instant::now();
        Upkeep {
            engine,
            next_sweep: later(now, rhythm.sweep_every),
            next_checkpoint: later(now, rhythm.checkpoint_every),
            rhythm,
            retry: None,
        }
    }

    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let now = Instant::now();
            if self.retry.is_none_or(|(at, _)| at <= now) {
                // A panic here must not end the thread: claims wait for checkpoints.
                let done = catch_unwind(AssertUnwindSafe(|| self.work(now)));
                self.note(matches!(done, Ok(Ok(()))));
                // A sweep may have removed what somebody waits for.
                self.engine.wake_waiters();
            }
            if !stop.load(Ordering::SeqCst) {
                self.engine.wait_for_work(self.sleep());
            }
        }
    }

    /// Does what is due. One thing that fails does not keep the others from being done: a sweep may
    /// free the space that a checkpoint lacks.
    fn work(&mut self, now: Instant) -> Result<()> {
        let checkpointed = self.checkpoint(now);
        let swept = self.sweep(now);
        let prepared = self.engine.prepare_segment();
        let verified = self.verify();
        checkpointed.and(swept).and(prepared).and(verified)
    }

    fn checkpoint(&mut self, now: Instant) -> Result<()> {
        if self.next_checkpoint <= now {
            self.engine.checkpoint()?;
            self.next_checkpoint = later(now, self.rhythm.checkpoint_every);
        } else if self.engine.is_urgent() {
            self.engine.finish_checkpoint()?;
        }
        Ok(())
    }

    /// Checkpoints do not wait until a long sweep is over: they are made in its pauses. Should one fail,
    /// the sweep goes on, which may be the cure; unless the next one is made, it is tried again after.
    fn sweep(&mut self, now: Instant) -> Result<()> {
        if self.next_sweep > now {
            return Ok(());
        }
        let engine = self.engine.clone();
        let mut meanwhile = Ok(());
        paced_sweep(&engine, |pause| {
            engine.wait_for_work(pause);
            let checkpointed = self.checkpoint(Instant::now());
            meanwhile = checkpointed.and(engine.prepare_segment());
        })?;
        self.next_sweep = later(now, self.rhythm.sweep_every);
        meanwhile
    }

    /// A table at a time, so that a checkpoint need not wait for all of them.
    fn verify(&self) -> Result<()> {
        if !self.engine.is_unverified() {
            return Ok(());
        }
        match self.engine.verify_one() {
            // It is marked and noted; there is nobody here to tell.
            Err(Error::Corrupt { .. }) => Ok(()),
            verified => verified,
        }
    }

    fn note(&mut self, done: bool) {
        self.retry = (!done).then(|| {
            let wait = self.retry.map_or(FIRST_RETRY, |(_, wait)| wait * 2);
            let wait = wait.min(LAST_RETRY);
            (later(Instant::now(), wait), wait)
        });
    }

    fn sleep(&self) -> Duration {
        if self.retry.is_none() && self.engine.is_unverified() {
            return Duration::ZERO;
        }
        let due = match self.retry {
            Some((at, _)) => at,
            None => self.next_sweep.min(self.next_checkpoint),
        };
        due.saturating_duration_since(Instant::now())
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

/// `wait` after `now`, or as late as the clock can name.
fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait)
        .unwrap_or_else(|| now + Duration::from_secs(366 * 24 * 60 * 60))
}

/// Starts the thread that keeps deadlines.
pub(crate) fn start_deadlines(
    deadlines: Arc<Deadlines>,
    queue: Arc<Queue>,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>> {
    let thread = ThreadBuilder::new().name("firstclaim-deadline".to_owned());
    Ok(thread.spawn(move || deadlines.run(&queue, &stop))?)
}

#[cfg(test)]
mod tests {
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

    /// Upkeep that is to sweep, and to checkpoint whenever it can.
    fn upkeep(engine: &Arc<Engine>) -> Upkeep {
        let rhythm = Rhythm {
            sweep_every: HOUR,
            checkpoint_every: Duration::ZERO,
        };
        let mut upkeep = Upkeep::new(engine.clone(), rhythm);
        upkeep.next_sweep = Instant::now();
        upkeep
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
    fn checkpoints_are_made_in_the_pauses_of_a_sweep() {
        let engine = engine_to_sweep();
        let _claimed = claim(&engine, "new", HOUR);
        assert_eq!(engine.memory_sizes().0, 1);
        upkeep(&engine).sweep(Instant::now()).unwrap();
        assert_eq!(engine.memory_sizes().0, 0);
    }

    #[test]
    fn a_checkpoint_that_fails_in_a_pause_is_told_and_the_sweep_goes_on() {
        let engine = engine_to_sweep();
        engine.poison("so that checkpoints fail");
        let swept = upkeep(&engine).sweep(Instant::now());
        assert!(matches!(swept, Err(Error::Poisoned)), "{swept:?}");
        assert_eq!(engine.catalog().sizes().0, 0);
    }
}
