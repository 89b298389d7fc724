//! The thread that groups commits, and the queue in front of it.
//!
//! Whoever holds the queue's `leading` mark takes all that waits and commits it as one batch;
//! meanwhile the next batch gathers. A caller that finds nobody leading and nothing waiting leads
//! by itself, which saves it two thread switches; what gathered meanwhile goes to the thread.

mod batch_end;
#[cfg(firstclaim_loom)]
pub mod handoff;
mod line;
mod pending;
mod ticket;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

pub(crate) use self::ticket::{Ticket, ToWake};

use self::batch_end::BatchEnd;
use self::line::Line;
use self::pending::{Pending, Slot, Undelivered};
use crate::bugs::{self, Bug};
use crate::engine::{Answer, Engine, Request};
use crate::error::{Error, Result};
use crate::sync::{Condvar, JoinHandle, Mutex, MutexGuard, ThreadBuilder};
use crate::time::Deadline;

/// What the queue commits to: the engine, or a stand-in under a model checker.
pub(crate) trait Commit {
    /// See [`Engine::has_room`].
    fn has_room(&self) -> bool;
    /// See [`Engine::make_room`].
    fn make_room(&self);
    /// See [`Engine::commit`].
    fn commit(&self, requests: &[&Request]) -> Vec<Result<Answer>>;
    /// See [`Engine::wake_waiters`].
    fn wake_waiters(&self);
}

impl Commit for Engine {
    fn has_room(&self) -> bool {
        self.has_room()
    }

    fn make_room(&self) {
        self.make_room();
    }

    fn commit(&self, requests: &[&Request]) -> Vec<Result<Answer>> {
        self.commit_each(requests)
    }

    fn wake_waiters(&self) {
        self.wake_waiters();
    }
}

/// Starts the thread that commits what waits in `queue`, until the queue is closed and empty.
pub(crate) fn start(engine: Arc<Engine>, queue: Arc<Queue>) -> Result<JoinHandle<()>> {
    let thread = ThreadBuilder::new().name("firstclaim-commit".to_owned());
    Ok(thread.spawn(move || queue.run(&*engine))?)
}

/// Commands waiting to be committed.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Something waits and nobody leads, or the queue is closing.
    work: Condvar,
    /// There is room again, or the queue is closing.
    room: Condvar,
    max_commands: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    next: Batch,
    /// Tasks that wait for room.
    line: Line,
    /// Someone is committing.
    leading: bool,
    closing: bool,
}

/// What goes into one commit.
#[derive(Debug, Default)]
struct Batch {
    commands: Vec<Arc<Pending>>,
    bytes: usize,
    /// Leases whose callers had stopped waiting: to be released.
    undelivered: Vec<Undelivered>,
    /// Of its commit.
    end: Arc<BatchEnd>,
}

impl Queue {
    pub(crate) fn new(max_commands: usize, max_bytes: usize) -> Self {
        Queue {
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            max_commands,
            max_bytes,
        }
    }

    /// Commits one command and waits for the answer. The caller wakes the tasks that come with it once
    /// it holds nothing.
    ///
    /// # Errors
    /// The command's own; `Overloaded` if it was still waiting at the deadline, and is withdrawn;
    /// `Indeterminate` if its commit had begun; `Closed`.
    pub(crate) fn call(
        &self,
        engine: &impl Commit,
        request: Request,
        deadline: Deadline,
    ) -> (Result<Answer>, ToWake) {
        let pending = Pending::new(request, Slot::Queued);
        let (end, leads) = match self.enqueue(engine, &pending, deadline) {
            Ok(enqueued) => enqueued,
            Err(error) => return (Err(error), ToWake::default()),
        };
        let to_wake = match leads {
            true => self.lead(engine),
            false => ToWake::default(),
        };
        (pending.wait(&end, deadline), to_wake)
    }

    /// Queues a command whose answer nobody waits for; false if there is no room or the queue is
    /// closing.
    pub(crate) fn send(&self, request: Request) -> bool {
        let mut state = self.state.lock();
        let pending = Pending::new(request, Slot::Sent);
        if state.closing || !self.has_room(&state, pending.bytes) {
            return false;
        }
        state.next.push(pending);
        self.work.notify_one();
        true
    }

    /// Refuses new commands from here on; those that wait are still carried out.
    pub(crate) fn close(&self) {
        let line = {
            let mut state = self.state.lock();
            state.closing = true;
            state.line.take(usize::MAX)
        };
        self.work.notify_all();
        self.room.notify_all();
        wake_each(line);
    }

    /// How many commands wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().next.commands.len()
    }

    /// The committer thread: leads whenever something waits and nobody else does, until the queue
    /// is closed and empty.
    pub(crate) fn run(&self, engine: &impl Commit) {
        loop {
            {
                let mut state = self.state.lock();
                while state.leading || (state.next.is_empty() && !state.closing) {
                    self.work.wait(&mut state);
                }
                if state.next.is_empty() {
                    return;
                }
                state.leading = true;
            }
            self.lead(engine).wake();
            engine.wake_waiters();
        }
    }

    /// Puts a command into the queue, waiting for room. Gives the end of the batch that it is in, and
    /// whether the caller is to lead: it was alone, and the commit need not wait for a checkpoint first.
    fn enqueue(
        &self,
        engine: &impl Commit,
        pending: &Arc<Pending>,
        deadline: Deadline,
    ) -> Result<(Arc<BatchEnd>, bool)> {
        let mut state = self.state.lock();
        while !state.closing && !self.has_room(&state, pending.bytes) {
            if deadline.has_passed() {
                return Err(Error::Overloaded);
            }
            self.room.wait_for(&mut state, deadline.left());
        }
        if state.closing {
            return Err(Error::Closed);
        }
        let leads = !state.leading && state.next.is_empty() && engine.has_room();
        let end = state.next.push(pending.clone());
        if leads {
            state.leading = true;
        } else if !state.leading {
            self.work.notify_one();
        }
        Ok((end, leads))
    }

    fn has_room(&self, state: &State, bytes: usize) -> bool {
        let next = &state.next;
        next.commands.len() < self.max_commands && next.bytes + bytes <= self.max_bytes
    }

    /// Commits what waits; the caller has set `leading`.
    fn lead(&self, engine: &impl Commit) -> ToWake {
        // While this waits for a checkpoint, commands can still be withdrawn.
        let _ = catch_unwind(AssertUnwindSafe(|| engine.make_room()));
        let batch = std::mem::take(&mut self.state.lock().next);
        self.room.notify_all();
        let Batch {
            mut commands,
            undelivered,
            end,
            ..
        } = batch;
        commands.retain(|pending| pending.take());
        let answers = {
            let releases = undelivered.iter().map(|undelivered| &undelivered.request);
            let requests: Vec<&Request> = releases
                .chain(commands.iter().map(|pending| &pending.request))
                .collect();
            let committed = catch_unwind(AssertUnwindSafe(|| engine.commit(&requests)));
            committed.unwrap_or_else(|_| {
                // What was written is unknown, so nothing may be guessed; the engine is poisoned.
                requests.iter().map(|_| Err(Error::Indeterminate)).collect()
            })
        };
        let answers = answers.into_iter().skip(undelivered.len());
        drop(undelivered);
        let answered = commands.iter().zip(answers);
        let left: Vec<Undelivered> = answered
            .filter_map(|(pending, answer)| pending.answer(answer))
            .collect();
        let line = {
            // The next batch need not wait until this one's callers are awake.
            let mut state = self.state.lock();
            state.next.undelivered.extend(left);
            state.leading = false;
            self.hand_over(&state);
            let room = self.max_commands.saturating_sub(state.next.commands.len());
            state.line.take(room)
        };
        end.announce();
        commands.retain(|pending| pending.is_task);
        ToWake {
            answered: commands,
            line,
        }
    }

    fn hand_over(&self, state: &MutexGuard<'_, State>) {
        let waits = !state.next.is_empty() && !bugs::is(Bug::HandOverUnnoticed);
        if waits || state.closing {
            self.work.notify_one();
        }
    }
}

fn wake_each(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(crate::sync::wake);
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.undelivered.is_empty()
    }

    /// Adds a command. Gives the end that its caller waits for.
    fn push(&mut self, pending: Arc<Pending>) -> Arc<BatchEnd> {
        self.bytes += pending.bytes;
        self.commands.push(pending);
        self.end.clone()
    }
}
