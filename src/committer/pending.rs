//! A command on its way through the queue, and how its caller waits for the answer.

use std::sync::Arc;
use std::task::{Poll, Waker};

use super::batch_end::BatchEnd;
use crate::bugs::{self, Bug};
use crate::engine::holders::{Holding, LeaseHold};
use crate::engine::{Answer, Request};
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::time::Deadline;
use crate::transition::{Command, Reply};

/// What a command counts against the limit on bytes, besides its own.
const COMMAND_BYTES: usize = 256;

/// A command on its way, and the slot for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) bytes: usize,
    /// Whether a task waits for the answer, not a thread.
    pub(super) is_task: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    slot: Slot,
    /// The task's.
    waker: Option<Waker>,
    /// Keeps the holder of the lease there until the command is answered.
    hold: Option<Arc<LeaseHold>>,
}

#[derive(Debug)]
pub(super) enum Slot {
    /// In the queue; the caller may still withdraw it.
    Queued,
    /// Being committed.
    Taken,
    /// Committed or refused; the caller has not seen it yet.
    Answered(Result<Answer>),
    /// The caller has its answer, has withdrawn, or waits no longer.
    Left,
    /// There never was a caller who waits, or there is none any more and the command is carried out
    /// all the same.
    Sent,
}

#[derive(Debug)]
pub(super) struct Undelivered {
    pub(super) request: Request,
    /// Until the release is durable the key stays held: nobody ran anything under this lease.
    /// Should the release fail, the holder is gone.
    _holding: Holding,
}

impl Pending {
    pub(super) fn new(request: Request, slot: Slot) -> Arc<Self> {
        Self::with(request, slot, false, None)
    }

    /// A task's command, and what it must keep held.
    pub(super) fn of_task(request: Request, hold: Option<Arc<LeaseHold>>) -> Arc<Self> {
        Self::with(request, Slot::Queued, true, hold)
    }

    fn with(
        request: Request,
        slot: Slot,
        is_task: bool,
        hold: Option<Arc<LeaseHold>>,
    ) -> Arc<Self> {
        let body = match &request.command {
            Command::Complete { response, .. } => response.len(),
            Command::Save { point, .. } => point.len(),
            _ => 0,
        };
        Arc::new(Pending {
            bytes: COMMAND_BYTES + request.key.as_bytes().len() + body,
            request,
            is_task,
            state: Mutex::new(State {
                slot,
                waker: None,
                hold,
            }),
        })
    }

    /// Takes the command to be committed; false if it was withdrawn.
    pub(super) fn take(&self) -> bool {
        let mut state = self.state.lock();
        match state.slot {
            Slot::Queued => {
                state.slot = Slot::Taken;
                true
            }
            Slot::Sent => true,
            Slot::Left if bugs::is(Bug::WithdrawalIgnored) => true,
            Slot::Left | Slot::Taken | Slot::Answered(..) => false,
        }
    }

    /// Leaves the answer for the caller, who is still to be woken. If nobody waits for it and it is a
    /// lease, that comes back.
    pub(super) fn answer(&self, answer: Result<Answer>) -> Option<Undelivered> {
        let mut state = self.state.lock();
        let hold = state.hold.take();
        if let Some(hold) = &hold {
            hold.note(&self.request.command, &answer);
        }
        let undelivered = match state.slot {
            Slot::Taken => {
                state.slot = Slot::Answered(answer);
                None
            }
            _ => self.undelivered(answer),
        };
        drop(state);
        drop(hold);
        undelivered
    }

    /// The release of the lease in an answer that nobody waits for, if there is one.
    fn undelivered(&self, answer: Result<Answer>) -> Option<Undelivered> {
        let answer = answer.ok().filter(|a| a.reply == Reply::Claimed)?;
        if bugs::is(Bug::UndeliveredLeaseHeld) {
            std::mem::forget(answer);
            return None;
        }
        let release = Command::Release {
            fence: answer.record?.fence,
        };
        Some(Undelivered {
            request: Request::new(self.request.key.clone(), release),
            _holding: answer.holding?,
        })
    }

    /// The task's waker, if it waits.
    pub(super) fn take_waker(&self) -> Option<Waker> {
        self.state.lock().waker.take()
    }

    /// The answer, once the batch has been committed that the command went into.
    pub(super) fn wait(&self, end: &BatchEnd, deadline: Deadline) -> Result<Answer> {
        end.give_way();
        loop {
            if let Some(answer) = self.state.lock().leave(deadline) {
                return answer;
            }
            end.wait(deadline);
        }
    }

    /// The answer, if it is there or the time is over; else `waker` will be woken.
    pub(super) fn poll(&self, deadline: Deadline, waker: &Waker) -> Poll<Result<Answer>> {
        // Cloned and dropped where the mutex is not held: it is the user's code.
        let waker = waker.clone();
        let mut state = self.state.lock();
        // What is being committed keeps what it holds until that is over.
        let is_taken = matches!(state.slot, Slot::Taken);
        let (polled, before) = match state.leave(deadline) {
            Some(answer) => (Poll::Ready(answer), state.waker.take()),
            None => (Poll::Pending, state.waker.replace(waker)),
        };
        let hold = match polled {
            Poll::Ready(_) if !is_taken => state.hold.take(),
            _ => None,
        };
        drop(state);
        drop((before, hold));
        polled
    }

    /// Ends the task's wait. What asks for a lease is withdrawn, and a lease that was given comes back;
    /// anything else is carried out all the same.
    pub(super) fn abandon(&self) -> Option<Undelivered> {
        let mut state = self.state.lock();
        let waker = state.waker.take();
        let was = match state.slot {
            Slot::Queued | Slot::Taken if !self.asks_for_lease() => {
                std::mem::replace(&mut state.slot, Slot::Sent)
            }
            _ => std::mem::replace(&mut state.slot, Slot::Left),
        };
        drop(state);
        drop(waker);
        match was {
            Slot::Answered(answer) => self.undelivered(answer),
            _ => None,
        }
    }

    fn asks_for_lease(&self) -> bool {
        let command = &self.request.command;
        let asks = matches!(command, Command::Claim(_) | Command::Resolve { .. });
        asks || bugs::is(Bug::CompletionDroppedWithFuture)
    }
}

impl State {
    /// The answer, if it is there or the time is over: then the caller leaves.
    fn leave(&mut self, deadline: Deadline) -> Option<Result<Answer>> {
        let left = match self.slot {
            Slot::Answered(_) => Error::Indeterminate,
            Slot::Queued if deadline.has_passed() => Error::Overloaded,
            Slot::Taken if deadline.has_passed() => Error::Indeterminate,
            _ => return None,
        };
        Some(match std::mem::replace(&mut self.slot, Slot::Left) {
            Slot::Answered(answer) => answer,
            _ => Err(left),
        })
    }
}
