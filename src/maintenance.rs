//! The threads that look after an open store: one checkpoints, one sweeps and verifies, one keeps
//! deadlines. Claims wait for checkpoints in the end, and a sweep or a verification reads from the disk what
//! nothing has read for long: so those are apart.

mod checkpoints;
mod deadlines;
mod sweeps;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::deadlines::{Alarm, Deadlines, KeptRenewed};
pub(crate) use self::sweeps::sweep_for_caller;

use self::checkpoints::{Checkpoints, Spare};
use self::sweeps::{Sweeps, Verifications};
use crate::committer::Queue;
use crate::engine::Engine;
use crate::error::Result;
use crate::sync::{AtomicBool, Instant, JoinHandle, Ordering, ThreadBuilder};

/// What failed is tried again after this long,
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// and ever more seldom, down to this.
const LAST_RETRY: Duration = Duration::from_secs(5);
/// A thread that nothing is due for looks again after this long.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How often to do what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    pub(crate) sweep_every: Duration,
    pub(crate) checkpoint_every: Duration,
}

/// What one of the threads does again and again.
trait Chore: Send {
    /// When it is due, as long as it does not fail; whenever its thread is awake if there is no time.
    fn due(&self, now: Instant) -> Option<Instant>;
    /// Does it.
    fn work(&mut self, now: Instant) -> Result<()>;
}

/// A chore and its last failure: one that fails does not hold up the others of its thread.
struct Duty {
    chore: Box<dyn Chore>,
    /// While the last try failed: when to try again, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
}

/// Starts the thread that checkpoints, until the engine is stopped.
pub(crate) fn start_checkpoints(
    engine: Arc<Engine>,
    rhythm: Rhythm,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>> {
    let duties = [
        Duty::of(Checkpoints::new(engine.clone(), rhythm.checkpoint_every)),
        Duty::of(Spare(engine.clone())),
    ];
    start(
        "firstclaim-checkpoint",
        engine,
        duties,
        stop,
        |engine, wait| {
            engine.wait_to_checkpoint(wait);
        },
    )
}

/// Starts the thread that sweeps and verifies, until the engine is stopped.
pub(crate) fn start_sweeps(
    engine: Arc<Engine>,
    rhythm: Rhythm,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>> {
    let duties = [
        Duty::of(Sweeps::new(engine.clone(), rhythm.sweep_every)),
        Duty::of(Verifications(engine.clone())),
    ];
    start("firstclaim-sweep", engine, duties, stop, |engine, wait| {
        engine.wait_to_verify(wait);
    })
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

/// Starts a thread that does what is due, and in between waits until something may be due sooner.
fn start(
    name: &str,
    engine: Arc<Engine>,
    mut duties: [Duty; 2],
    stop: Arc<AtomicBool>,
    wait: fn(&Engine, Duration),
) -> Result<JoinHandle<()>> {
    let thread = ThreadBuilder::new().name(name.to_owned());
    Ok(thread.spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            let next = do_due(&mut duties);
            // What somebody waits for may have been removed.
            engine.wake_waiters();
            if !stop.load(Ordering::SeqCst) {
                wait(&engine, next.saturating_duration_since(Instant::now()));
            }
        }
    })?)
}

/// Does what is due, and tells when something will be.
fn do_due(duties: &mut [Duty]) -> Instant {
    let now = Instant::now();
    for duty in duties.iter_mut() {
        duty.work_if_due(now);
    }
    let now = Instant::now();
    let next = duties.iter().filter_map(|duty| duty.due(now)).min();
    next.unwrap_or_else(|| later(now, LONGEST_SLEEP))
}

impl Duty {
    fn of(chore: impl Chore + 'static) -> Self {
        Duty {
            chore: Box::new(chore),
            retry: None,
        }
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        match self.retry {
            Some((at, _)) => Some(at),
            None => self.chore.due(now),
        }
    }

    fn work_if_due(&mut self, now: Instant) {
        if self.due(now).is_some_and(|at| at > now) {
            return;
        }
        // A panic here must not end the thread: claims wait for checkpoints.
        let done = catch_unwind(AssertUnwindSafe(|| self.chore.work(now)));
        self.retry = match done {
            Ok(Ok(())) => None,
            Ok(Err(_)) | Err(_) => Some(next_retry(self.retry)),
        };
    }
}

fn next_retry(before: Option<(Instant, Duration)>) -> (Instant, Duration) {
    let wait = before.map_or(FIRST_RETRY, |(_, wait)| wait * 2);
    let wait = wait.min(LAST_RETRY);
    (later(Instant::now(), wait), wait)
}

/// `wait` after `now`, or as late as the clock can name.
fn later(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait)
        .unwrap_or_else(|| now + Duration::from_secs(366 * 24 * 60 * 60))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::error::Error;

    #[test]
    fn what_fails_is_tried_again_ever_more_seldom_down_to_a_bound() {
        let mut retry = None;
        let waits = (0..8).map(|_| {
            retry = Some(next_retry(retry));
            retry.unwrap().1.as_millis()
        });
        let waits: Vec<_> = waits.collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    struct Counted {
        works: Arc<AtomicUsize>,
        outcome: fn() -> Result<()>,
    }

    impl Chore for Counted {
        fn due(&self, _: Instant) -> Option<Instant> {
            None
        }

        fn work(&mut self, _: Instant) -> Result<()> {
            self.works.fetch_add(1, Ordering::SeqCst);
            (self.outcome)()
        }
    }

    #[test]
    fn what_fails_or_panics_does_not_hold_up_what_does_not() {
        let works: [Arc<AtomicUsize>; 3] = Default::default();
        let outcomes: [fn() -> Result<()>; 3] =
            [|| Err(Error::NoSpace), || panic!("on purpose"), || Ok(())];
        let counted = works.iter().cloned().zip(outcomes);
        let duties = counted.map(|(works, outcome)| Duty::of(Counted { works, outcome }));
        let mut duties: Vec<_> = duties.collect();
        let begin = Instant::now();
        for _ in 0..5 {
            let next = do_due(&mut duties);
            assert!(
                next <= later(begin, LAST_RETRY),
                "the others are tried again"
            );
        }
        let times = works.map(|works| works.load(Ordering::SeqCst));
        assert_eq!(times[2], 5);
        assert!(times[0] < 5 && times[1] < 5, "{times:?}");
    }
}
