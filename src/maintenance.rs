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

use self::checkpoints::Checkpoints;
use self::sweeps::Sweeps;
use crate::committer::Queue;
use crate::engine::Engine;
use crate::error::Result;
use crate::sync::{AtomicBool, Instant, JoinHandle, Ordering, ThreadBuilder};

/// What failed is tried again after this long,
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// and ever more seldom, down to this.
const LAST_RETRY: Duration = Duration::from_secs(5);

/// How often to do what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    pub(crate) sweep_every: Duration,
    pub(crate) checkpoint_every: Duration,
}

/// What one of the threads does again and again.
trait Chore: Send + 'static {
    fn engine(&self) -> &Engine;
    /// Does what is due.
    fn work(&mut self, now: Instant) -> Result<()>;
    /// When something is due again, as long as nothing fails.
    fn next(&self) -> Instant;
    /// Waits until something may be due sooner, at most for `wait`.
    fn wait(&self, wait: Duration);
}

/// Starts the thread that checkpoints, until the engine is stopped.
pub(crate) fn start_checkpoints(
    engine: Arc<Engine>,
    rhythm: Rhythm,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>> {
    let checkpoints = Checkpoints::new(engine, rhythm.checkpoint_every);
    start("firstclaim-checkpoint", checkpoints, stop)
}

/// Starts the thread that sweeps and verifies, until the engine is stopped.
pub(crate) fn start_sweeps(
    engine: Arc<Engine>,
    rhythm: Rhythm,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>> {
    let sweeps = Sweeps::new(engine, rhythm.sweep_every);
    start("firstclaim-sweep", sweeps, stop)
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

fn start(name: &str, mut chore: impl Chore, stop: Arc<AtomicBool>) -> Result<JoinHandle<()>> {
    let thread = ThreadBuilder::new().name(name.to_owned());
    Ok(thread.spawn(move || run(&mut chore, &stop))?)
}

fn run(chore: &mut impl Chore, stop: &AtomicBool) {
    // While the last try failed: when to try again, and how long to wait after that.
    let mut retry = None::<(Instant, Duration)>;
    while !stop.load(Ordering::SeqCst) {
        let now = Instant::now();
        if retry.is_none_or(|(at, _)| at <= now) {
            // A panic here must not end the thread: claims wait for checkpoints.
            let done = catch_unwind(AssertUnwindSafe(|| chore.work(now)));
            retry = match done {
                Ok(Ok(())) => None,
                Ok(Err(_)) | Err(_) => Some(next_retry(retry)),
            };
            // What somebody waits for may have been removed.
            chore.engine().wake_waiters();
        }
        if !stop.load(Ordering::SeqCst) {
            let due = retry.map_or_else(|| chore.next(), |(at, _)| at);
            chore.wait(due.saturating_duration_since(Instant::now()));
        }
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
    use super::*;

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
}
