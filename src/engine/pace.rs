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
        self.done.set(self.done.get() + steps);
        let since = self.since_others_ran.get() + steps;
        if since < self.turn.get() {
            self.since_others_ran.set(since);
            return;
        }
        self.since_others_ran.set(0);
        let due = (self.due)();
        let is_ahead = self.done.get() as f64 / self.steps as f64 >= due;
        let turn = self.turn.get();
        let turn = if is_ahead { turn / 2 } else { turn * 2 };
        self.turn.set(turn.clamp(SHORTEST_TURN, LONGEST_TURN));
        if is_ahead || due < 1.0 {
            yield_now();
        }
    }

    /// Does what reads and writes pages: others run after every few, as many as the pace is now.
    pub(crate) fn with_pages<T>(&self, work: impl FnOnce() -> T) -> T {
        let _reset = Reset;
        let turn = self.turn.get() / STEPS_PER_PAGE;
        PAGES.set(((self.due)() < 1.0).then_some(Pages { turn, since: 0 }));
        work()
    }
}

/// After each page read or written.
pub(crate) fn after_page() {
    let Some(Pages { turn, since }) = PAGES.get() else {
        return;
    };
    let is_over = since + 1 >= turn;
    let since = if is_over { 0 } else { since + 1 };
    PAGES.set(Some(Pages { turn, since }));
    if is_over {
        yield_now();
    }
}

/// A piece of work leaves nothing behind, by a panic neither.
struct Reset;

impl Drop for Reset {
    fn drop(&mut self) {
        PAGES.set(None);
    }
}
