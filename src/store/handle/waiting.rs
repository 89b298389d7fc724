//! A claim that waits for the attempt in flight to end. How it waits, as a thread or as a task, is all
//! that its two forms differ in.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Handle;
use crate::bugs::{self, Bug};
use crate::engine::Answer;
use crate::engine::holders::{MostWaiters, Place};
use crate::error::Result;
use crate::key::RecordKey;
use crate::maintenance::Alarm;
use crate::record::{Record, State, Takeover};
use crate::time::{Deadline, MIN_DURATION};
use crate::transition::{Reply, Terms};

/// A claim that waits, between its looks at the key.
struct Waiting<'h> {
    handle: &'h Arc<Handle>,
    over: Deadline,
    place: Option<Place>,
}

/// What a claim that waits does next.
enum Next {
    /// It is answered.
    Answered(Answer),
    /// It has a place now, so that no change is missed from here on, and looks at the key again.
    LookAgain,
    /// It waits until it is woken, at most until then, and looks again.
    Park(Deadline),
}

impl<'h> Waiting<'h> {
    fn new(handle: &'h Arc<Handle>, timeout: Duration) -> Self {
        Waiting {
            handle,
            over: Deadline::after(timeout),
            place: None,
        }
    }

    fn next(&mut self, answer: Answer) -> Next {
        let Some((record, wait)) = self.worth_waiting(&answer) else {
            return Next::Answered(answer);
        };
        if self.over.has_passed() {
            return Next::Answered(answer);
        }
        let until = wait.map_or(self.over, |wait| {
            self.over.earlier(Deadline::after(wait.max(MIN_DURATION)))
        });
        let has_place = |place: &Place| place.fence() == record.fence && !place.is_woken();
        if self.place.as_ref().is_some_and(has_place) {
            return Next::Park(until);
        }
        // First, so that it does not count twice.
        self.place = None;
        let limits = self.handle.limits();
        let most = MostWaiters {
            in_all: limits.waiters,
            per_fence: limits.waiters_per_key,
        };
        self.place = Place::take(self.handle.engine.holders(), record.fence, most);
        match self.place {
            None => Next::Answered(answer),
            Some(_) if bugs::is(Bug::WaiterLooksNoMore) => Next::Park(until),
            Some(_) => Next::LookAgain,
        }
    }

    /// The attempt in flight, if it will end or be taken over by itself, and how long it is until a claim
    /// may take it over though nothing happens.
    fn worth_waiting<'a>(&self, answer: &'a Answer) -> Option<(&'a Record, Option<Duration>)> {
        let Reply::InFlight { interrupted } = answer.reply else {
            return None;
        };
        let record = answer.record.as_deref()?;
        let State::InFlight { ends_at } = record.state else {
            return None;
        };
        if interrupted && record.takeover != Takeover::Expired {
            return None;
        }
        let engine = &self.handle.engine;
        let by_policy = match record.takeover {
            Takeover::GoneOrExpired | Takeover::Expired => Some(ends_at),
            Takeover::Gone | Takeover::Never => None,
        };
        let kept = engine.holders().kept_until(record.fence);
        let end = by_policy.into_iter().chain(kept).min();
        Some((record, end.map(|end| engine.time_until(end))))
    }

    fn park(&self, until: Deadline) {
        if let Some(place) = &self.place {
            place.wait(until);
        }
    }

    /// As `park`, for a task. Dropped here, it gives its place up, and has claimed nothing.
    async fn parked(&self, until: Deadline) {
        let mut alarm = Alarm::new(&self.handle.deadlines);
        poll_fn(|task| self.poll_parked(until, &mut alarm, task)).await;
    }

    fn poll_parked(&self, until: Deadline, alarm: &mut Alarm, task: &Context<'_>) -> Poll<()> {
        let is_woken = self.place.as_ref().is_none_or(|p| p.poll(task).is_ready());
        if is_woken || until.has_passed() {
            return Poll::Ready(());
        }
        alarm.set(until, task);
        Poll::Pending
    }
}

impl Handle {
    /// Claims a key, and again whenever the attempt in flight ends or changes, until the answer is
    /// another or the time is over.
    pub(crate) fn claim_or_wait(
        self: &Arc<Self>,
        key: &RecordKey,
        terms: &Terms,
        timeout: Duration,
    ) -> Result<Answer> {
        let mut waiting = Waiting::new(self, timeout);
        loop {
            let answer = self.claim(key.clone(), terms.clone())?;
            match waiting.next(answer) {
                Next::Answered(answer) => return Ok(answer),
                Next::LookAgain => {}
                Next::Park(until) => waiting.park(until),
            }
        }
    }

    /// As [`claim_or_wait`](Self::claim_or_wait), for a task.
    pub(crate) async fn claim_or_wait_async(
        self: &Arc<Self>,
        key: &RecordKey,
        terms: &Terms,
        timeout: Duration,
    ) -> Result<Answer> {
        let mut waiting = Waiting::new(self, timeout);
        loop {
            // Dropped here, the claim is withdrawn, or its lease released.
            let answer = self.claim_async(key.clone(), terms.clone()).await?;
            match waiting.next(answer) {
                Next::Answered(answer) => return Ok(answer),
                Next::LookAgain => {}
                // Dropped here, nothing is claimed.
                Next::Park(until) => waiting.parked(until).await,
            }
        }
    }
}
