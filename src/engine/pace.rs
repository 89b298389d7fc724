//! How the store's own work goes on beside callers.
//!
//! A scheduler takes a core away only after some milliseconds, and for as long all callers that it gave
//! to that core would wait. So whoever works through many records or pages lets others run after every
//! few of them; after more, the further the work falls behind, since in the end callers wait for it.

use std::cell::Cell;
use std::thread::yield_now;

/// Others run after so many steps, if there is time,
const SHORTEST_TURN: usize = 16;
/// and at the latest after so many, unless the work should be over.
const LONGEST_TURN: usize = 512;
/// To read or write a page takes about as long as so many steps.
const STEPS_PER_PAGE: usize = 2;

thread_local! {
    /// Of work on this thread that reads and writes pages.
    static PAGES: Cell<Option<Pages>> = const { Cell::new(None) };
}

/// Others run after `turn` pages, of which there have been `since`.
#[derive(Debug, Clone, Copy)]
struct Pages {
    turn: usize,
    since: usize,
}

/// The pace of a piece of work.
pub(crate) struct Pace<'d> {
    steps: usize,
    done: Cell<usize>,
    turn: Cell<usize>,
    since_others_ran: Cell<usize>,
    /// How much of the work is to be done by now: from 0, when there is time for others, to 1.
    due: &'d dyn Fn() -> f64,
}

impl<'d> Pace<'d> {
    /// Of work in so many steps.
    pub(crate) fn of(steps: usize, due: &'d dyn Fn() -> f64) -> Self {
        Pace {
            steps: steps.max(1),
            done: Cell::new(0),
            turn: Cell::new(SHORTEST_TURN),
            since_others_ran: Cell::new(0),
            due,
        }
    }

    /// Of work for which callers wait.
    pub(crate) fn hurried() -> Self {
        Self::of(1, &|| f64::INFINITY)
    }

    /// After so many more steps: lets others run if it is their turn.
    pub(crate) fn step(&self, steps: usize) {
        if self.is_over_after(steps) {
            yield_now();
        }
    }

    fn is_over_after(&self, steps: usize) -> bool {
        self.done.set(self.done.get() + steps);
        let since = self.since_others_ran.get() + steps;
        if since < self.turn.get() {
            self.since_others_ran.set(since);
            return false;
        }
        self.since_others_ran.set(0);
        let due = (self.due)();
        let is_ahead = self.done.get() as f64 / self.steps as f64 >= due;
        let turn = self.turn.get();
        let turn = if is_ahead { turn / 2 } else { turn * 2 };
        self.turn.set(turn.clamp(SHORTEST_TURN, LONGEST_TURN));
        is_ahead || due < 1.0
    }

    /// Does what reads and writes pages: others run after every few, as many as the pace is now or at
    /// the last turn of steps.
    pub(crate) fn with_pages<T>(&self, work: impl FnOnce() -> T) -> T {
        let _reset = Reset;
        let turn = self.turn.get() / STEPS_PER_PAGE;
        PAGES.set(((self.due)() < 1.0).then_some(Pages { turn, since: 0 }));
        work()
    }
}

/// After each page read or written.
pub(crate) fn after_page() {
    if is_over_after_page() {
        yield_now();
    }
}

/// Whether this thread does work that lets others run, and so is not to stand in their way.
#[cfg_attr(firstclaim_shuttle, allow(dead_code))] // then the base is a stand-in
pub(crate) fn is_paced() -> bool {
    PAGES.get().is_some()
}

fn is_over_after_page() -> bool {
    let Some(Pages { turn, since }) = PAGES.get() else {
        return false;
    };
    let is_over = since + 1 >= turn;
    let since = if is_over { 0 } else { since + 1 };
    PAGES.set(Some(Pages { turn, since }));
    is_over
}

/// A piece of work leaves nothing behind, by a panic neither.
struct Reset;

impl Drop for Reset {
    fn drop(&mut self) {
        PAGES.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// After which of so many single steps others run.
    fn turns(pace: &Pace<'_>, steps: usize) -> Vec<usize> {
        (1..=steps).filter(|_| pace.is_over_after(1)).collect()
    }

    fn pages(count: usize) -> usize {
        (0..count).filter(|_| is_over_after_page()).count()
    }

    #[test]
    fn work_that_is_ahead_lets_others_run_after_every_few_steps() {
        let pace = Pace::of(100, &|| 0.0);
        let every_16: Vec<_> = (16..=1024).step_by(16).collect();
        assert_eq!(turns(&pace, 1024), every_16);
    }

    #[test]
    fn work_that_is_behind_takes_longer_turns_up_to_a_bound_and_shorter_ones_when_it_has_caught_up()
    {
        let due = Cell::new(0.9);
        let of_due = || due.get();
        let pace = Pace::of(1_000_000, &of_due);
        let behind = turns(&pace, 3000);
        assert_eq!(behind[..5], [16, 48, 112, 240, 496]);
        assert!(
            behind[5..]
                .windows(2)
                .all(|two| two[1] - two[0] == LONGEST_TURN)
        );
        due.set(0.0);
        let caught_up = turns(&pace, 3000);
        assert!(
            caught_up
                .windows(2)
                .rev()
                .take(20)
                .all(|two| two[1] - two[0] == SHORTEST_TURN)
        );
    }

    #[test]
    fn work_that_should_be_over_lets_nobody_run() {
        let late = Pace::of(1_000_000, &|| 1.0);
        assert!(turns(&late, 3000).is_empty());
        assert!(turns(&Pace::hurried(), 3000).is_empty());
        assert_eq!(late.with_pages(|| pages(1000)), 0);
    }

    #[test]
    fn pages_count_only_while_paced_work_reads_and_writes_them() {
        assert_eq!(pages(1000), 0);
        let pace = Pace::of(100, &|| 0.0);
        assert_eq!(pace.with_pages(|| pages(80)), 10);
        assert!(pace.with_pages(is_paced) && !is_paced());
        assert!(!Pace::hurried().with_pages(is_paced));
        assert_eq!(pages(1000), 0);
        let panics = || pace.with_pages(|| panic!("on purpose"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert_eq!(pages(1000), 0);
    }
}
