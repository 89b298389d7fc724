//! What the queue commits to in place of the engine.

use std::sync::{Arc, Mutex, PoisonError};

use super::key;
use crate::committer::Commit;
use crate::engine::holders::Holders;
use crate::engine::{Answer, Request};
use crate::error::Result;
use crate::key::RecordKey;
use crate::record::{Fence, Holder};
use crate::sync::{AtomicBool, Ordering};
use crate::time::Timestamp;
use crate::transition::{Command, Reply, Write, step};

/// Answers every claim with a lease, and notes what it was asked to commit.
pub(super) struct StandIn {
    /// Whether a caller may lead.
    has_room: bool,
    pub(super) holders: Arc<Holders>,
    committing: AtomicBool,
    committed: Mutex<Vec<Request>>,
}

impl StandIn {
    pub(super) fn new(has_room: bool) -> Arc<Self> {
        Arc::new(StandIn {
            has_room,
            holders: Arc::default(),
            committing: AtomicBool::new(false),
            committed: Mutex::default(),
        })
    }

    /// How often commands on the key were committed that satisfy `which`.
    pub(super) fn count(&self, key: &RecordKey, which: impl Fn(&Command) -> bool) -> usize {
        let committed = self
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let of_key = committed.iter().filter(|request| request.key == *key);
        of_key.filter(|request| which(&request.command)).count()
    }

    fn answer(&self, number: u64, request: &Request) -> Result<Answer> {
        let fence = Fence::from_u64(number);
        let Command::Claim(_) = &request.command else {
            return Ok(Answer {
                reply: Reply::Changed,
                record: None,
                holding: None,
            });
        };
        let now = Timestamp::from_micros(1);
        let decided = step(None, Holder::Gone, &request.command, now, fence);
        let record = match decided.map(|step| step.write) {
            Ok(Write::Put(record)) => record,
            other => unreachable!("a claim of a vacant key: {other:?}"),
        };
        Ok(Answer {
            reply: Reply::Claimed,
            record: Some(Arc::new(record)),
            holding: Some(self.holders.register(fence)),
        })
    }
}

impl Commit for StandIn {
    fn has_room(&self) -> bool {
        self.has_room
    }

    fn make_room(&self) {}

    fn wake_waiters(&self) {}

    fn commit(&self, requests: &[&Request]) -> Vec<Result<Answer>> {
        let before = self.committing.swap(true, Ordering::SeqCst);
        let first = {
            let mut committed = self
                .committed
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let first = committed.len() as u64 + 1;
            committed.extend(requests.iter().copied().cloned());
            // Beyond `lead`, which would take it for a commit that failed.
            if before {
                committed.push(two_leaders());
            }
            first
        };
        let answers = (first..).zip(requests);
        let answers = answers.map(|(number, request)| self.answer(number, request));
        let answers = answers.collect();
        self.committing.store(false, Ordering::SeqCst);
        answers
    }
}

/// What is noted if two commit at once.
pub(super) fn two_leaders() -> Request {
    Request::new(key("two leaders"), Command::Expire)
}
