//! A command on its way through the queue, and how its caller waits for the answer.

use std::sync::Arc;
use std::thread::yield_now;

use crate::bugs::{self, Bug};
use crate::engine::holders::Holding;
use crate::engine::{Answer, Request};
use crate::error::{Error, Result};
use crate::sync::{Condvar, Mutex};
use crate::time::Deadline;
use crate::transition::{Command, Reply};

/// Where there are more callers than cores, the answer is often there by the time the others have had
/// their turn; a thread that has parked costs a wake-up and a switch more.
const YIELDS_BEFORE_PARKING: usize = if cfg!(any(firstclaim_shuttle, firstclaim_loom)) {
    1
} else {
    16
};

/// What a command counts against the limit on bytes, besides its own.
const COMMAND_BYTES: usize = 256;

/// A command on its way, and the slot for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) bytes: usize,
    slot: Mutex<Slot>,
    answered: Condvar,
}

#[derive(Debug)]
pub(super) enum Slot {
    /// In the queue; the caller may still withdraw it.
    Queued,
    /// Being committed.
    Taken,
    /// Committed or refused; the caller has not seen it yet. It is to wake those others.
    Answered(Result<Answer>, Vec<Arc<Pending>>),
    /// The caller has its answer, has withdrawn, or waits no longer.
    Left,
    /// There never was a caller who waits.
    Sent,
}

#[derive(Debug)]
pub(super) struct Undelivered {
    pub(super) request: Request,
    /// Until the release is durable the key stays held: nobody ran anything under this lease.
    /// Should the release fail, the holder is gone.
    _holding: Holding,
}

/// Wakes those whose answers are there. To wake a thread costs more than all the rest, so that whoever
/// is woken first wakes half of the others: the work is shared, and the last one has its answer after
/// few wakings one after the other.
pub(super) fn wake(mut group: Vec<Arc<Pending>>) {
    while !group.is_empty() {
        let mut half = group.split_off(group.len() / 2);
        let first = half.swap_remove(0);
        group.extend(first.wake(half));
    }
}

impl Pending {
    pub(super) fn new(request: Request, slot: Slot) -> Arc<Self> {
        let body = match &request.command {
            Command::Complete { response, .. } => response.len(),
            Command::Save { point, .. } => point.len(),
            _ => 0,
        };
        Arc::new(Pending {
            bytes: COMMAND_BYTES + request.key.as_bytes().len() + body,
            request,
            slot: Mutex::new(slot),
            answered: Condvar::new(),
        })
    }

    /// Takes the command to be committed; false if it was withdrawn.
    pub(super) fn take(&self) -> bool {
        let mut slot = self.slot.lock();
        match *slot {
            Slot::Queued => {
                *slot = Slot::Taken;
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
        let mut slot = self.slot.lock();
        if matches!(*slot, Slot::Taken) {
            *slot = Slot::Answered(answer, Vec::new());
            return None;
        }
        drop(slot);
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

    /// Wakes the caller, who is to wake `others`; they come back if it has its answer already.
    fn wake(&self, others: Vec<Arc<Pending>>) -> Vec<Arc<Pending>> {
        match &mut *self.slot.lock() {
            Slot::Answered(_, to_wake) => {
                *to_wake = others;
                self.answered.notify_one();
                Vec::new()
            }
            _ => others,
        }
    }

    /// The answer, and whom to wake.
    pub(super) fn wait(&self, deadline: Deadline) -> (Result<Answer>, Vec<Arc<Pending>>) {
        for _ in 0..YIELDS_BEFORE_PARKING {
            if matches!(*self.slot.lock(), Slot::Answered(..)) {
                break;
            }
            yield_now();
        }
        let mut slot = self.slot.lock();
        loop {
            match *slot {
                Slot::Answered(..) => {
                    return match std::mem::replace(&mut *slot, Slot::Left) {
                        Slot::Answered(answer, others) => (answer, others),
                        _ => (Err(Error::Indeterminate), Vec::new()),
                    };
                }
                Slot::Queued if deadline.has_passed() => {
                    *slot = Slot::Left;
                    return (Err(Error::Overloaded), Vec::new());
                }
                Slot::Taken if deadline.has_passed() => {
                    *slot = Slot::Left;
                    return (Err(Error::Indeterminate), Vec::new());
                }
                _ => {
                    self.answered.wait_for(&mut slot, deadline.left());
                }
            }
        }
    }
}
