//! The holder's side of a lease, which outlives the guard while a command of the lease is on its way.

use super::Holding;
use crate::bugs::{self, Bug};
use crate::engine::Answer;
use crate::error::{Error, Result};
use crate::record::State;
use crate::sync::Mutex;
use crate::time::Timestamp;
use crate::transition::Command;

/// What keeps the holder of a lease there. The guard shares it with the commands that were accepted
/// from it: should the guard go first, the holder stays until they are answered.
#[derive(Debug)]
pub(crate) struct LeaseHold {
    state: Mutex<Known>,
    /// Taken by `drop` alone.
    holding: Option<Holding>,
}

#[derive(Debug)]
struct Known {
    /// The last `complete` failed, so the operation did run.
    complete_failed: bool,
    /// The end of the lease as it was last seen while the lease was the current one.
    end: Timestamp,
}

impl LeaseHold {
    pub(crate) fn new(holding: Holding, end: Timestamp) -> Self {
        LeaseHold {
            state: Mutex::new(Known {
                complete_failed: false,
                end,
            }),
            holding: Some(holding),
        }
    }

    /// The end of the lease, as it is `now` if it is still the current one.
    pub(crate) fn end(&self, now: Option<Timestamp>) -> Timestamp {
        let mut known = self.state.lock();
        known.end = now.unwrap_or(known.end);
        known.end
    }

    /// Notes what became of a command of the lease.
    pub(crate) fn note(&self, command: &Command, answer: &Result<Answer>) {
        match (command, answer) {
            (Command::Complete { .. }, answer) => {
                self.note_complete(answer.as_ref().err());
            }
            (Command::Release { .. }, Ok(_)) => self.state.lock().complete_failed = false,
            (Command::Renew { .. }, Ok(answer)) => {
                let state = answer.record.as_ref().map(|record| &record.state);
                if let Some(State::InFlight { ends_at }) = state {
                    self.end(Some(*ends_at));
                }
            }
            _ => {}
        }
    }

    /// Whether the key stays held to the end of the lease if this goes now.
    pub(crate) fn outlives_guard(&mut self) -> bool {
        self.state.get_mut().complete_failed
    }

    /// Notes whether a `complete` failed.
    pub(crate) fn note_complete(&self, error: Option<&Error>) {
        // Refused for good: another attempt, or this one's first answer, has the key.
        let is_over = matches!(error, None | Some(Error::Fenced | Error::AlreadyCompleted));
        self.state.lock().complete_failed = !is_over;
    }
}

impl Drop for LeaseHold {
    fn drop(&mut self) {
        let known = self.state.get_mut();
        match self.holding.take() {
            Some(holding) if known.complete_failed && !bugs::is(Bug::FailedCompleteForgotten) => {
                holding.keep_until(known.end);
            }
            holding => drop(holding),
        }
    }
}
