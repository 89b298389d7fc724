//! A command whose caller is a task: it waits by being woken, and never commits by itself, since a sync
//! would hold up its executor.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::pending::{Pending, Undelivered};
use super::{Queue, wake_each};
use crate::engine::holders::LeaseHold;
use crate::engine::{Answer, Request};
use crate::error::{Error, Result};
use crate::time::Deadline;

/// A task's command, and how far it is.
#[derive(Debug)]
pub(crate) struct Ticket {
    pending: Arc<Pending>,
    deadline: Deadline,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not in the queue; with the place in the line for it, once the task stands there.
    Outside(Option<u64>),
    /// In the queue, or being committed.
    Inside,
    /// Answered.
    Over,
}

impl Ticket {
    /// A command that is to be in the queue by `deadline` and answered by then. If it is one of a
    /// lease, that is held until it is answered.
    pub(crate) fn new(request: Request, hold: Option<Arc<LeaseHold>>, deadline: Deadline) -> Self {
        Ticket {
            pending: Pending::of_task(request, hold),
            deadline,
            stage: Stage::Outside(None),
        }
    }

    /// The answer, once it is there; else the task is woken when something has changed, but for the
    /// deadline, of which the caller must wake it.
    pub(crate) fn poll(&mut self, queue: &Queue, task: &Context<'_>) -> Poll<Result<Answer>> {
        let polled = match self.stage {
            Stage::Outside(_) => match self.poll_room(queue, task.waker()) {
                Poll::Ready(Ok(())) => {
                    self.stage = Stage::Inside;
                    self.pending.poll(self.deadline, task.waker())
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            },
            Stage::Inside => self.pending.poll(self.deadline, task.waker()),
            Stage::Over => Poll::Ready(Err(Error::Indeterminate)),
        };
        if polled.is_ready() {
            self.leave_line(queue);
            self.stage = Stage::Over;
        }
        polled
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    fn poll_room(&mut self, queue: &Queue, waker: &Waker) -> Poll<Result<()>> {
        let Stage::Outside(place) = &mut self.stage else {
            return Poll::Ready(Ok(()));
        };
        // Cloned and dropped where no mutex is held: it is the user's code.
        let waker = waker.clone();
        let mut state = queue.state.lock();
        if state.closing {
            return Poll::Ready(Err(Error::Closed));
        }
        // No task passes those who stand in line. Threads do: they are woken as soon as there is room.
        let may_enter = place.is_some() || state.line.is_empty();
        if may_enter && queue.has_room(&state, self.pending.bytes) {
            let stood = place.take().and_then(|place| state.line.leave(place));
            state.next.push(self.pending.clone());
            if !state.leading {
                queue.work.notify_one();
            }
            drop(state);
            drop(stood);
            return Poll::Ready(Ok(()));
        }
        if self.deadline.has_passed() {
            return Poll::Ready(Err(Error::Overloaded));
        }
        if !state.line.takes(*place, queue.max_commands) {
            return Poll::Ready(Err(Error::Overloaded));
        }
        let before = state.line.stand(place, waker);
        drop(state);
        drop(before);
        Poll::Pending
    }

    fn leave_line(&self, queue: &Queue) {
        if let Stage::Outside(Some(place)) = self.stage {
            let waker = queue.state.lock().line.leave(place);
            drop(waker);
        }
    }

    /// Ends the wait: the future is dropped. A claim is withdrawn, or its lease given back; a command
    /// of a lease, once it is in the queue, is carried out.
    pub(crate) fn abandon(&mut self, queue: &Queue) {
        self.leave_line(queue);
        if self.stage == Stage::Inside
            && let Some(undelivered) = self.pending.abandon()
        {
            queue.give_back(undelivered);
        }
        self.stage = Stage::Over;
    }
}

impl Queue {
    /// Has a lease released that nobody knows of. If the queue is closing, its holder is gone.
    fn give_back(&self, undelivered: Undelivered) {
        let mut state = self.state.lock();
        if state.closing {
            drop(state);
            drop(undelivered);
            return;
        }
        state.next.undelivered.push(undelivered);
        if !state.leading {
            self.work.notify_one();
        }
    }
}

/// The tasks that a commit has answered or made room for: to be woken by whoever led, once that holds
/// nothing, since a waker is the user's code.
#[derive(Debug, Default)]
#[must_use = "tasks wait to be woken"]
pub(crate) struct ToWake {
    pub(super) answered: Vec<Arc<Pending>>,
    pub(super) line: Vec<Waker>,
}

impl ToWake {
    pub(crate) fn wake(self) {
        let answered = self.answered.iter().filter_map(|task| task.take_waker());
        wake_each(answered);
        wake_each(self.line);
    }
}
