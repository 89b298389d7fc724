//! A call of a task: one command on its way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Handle;
use crate::committer::Ticket;
use crate::engine::holders::LeaseHold;
use crate::engine::{Answer, Request, Tried};
use crate::error::Result;
use crate::key::RecordKey;
use crate::maintenance::Alarm;
use crate::time::Deadline;
use crate::transition::{Command, Terms};

impl Handle {
    /// As [`commit`](Self::commit), for a task. Its deadline begins now.
    pub(crate) fn commit_async(
        self: &Arc<Self>,
        request: Request,
        hold: Option<Arc<LeaseHold>>,
    ) -> Call {
        let deadline = Deadline::after(self.options.queue_wait);
        Call {
            ticket: Ticket::new(request, hold, deadline),
            alarm: Alarm::new(&self.deadlines),
            handle: self.clone(),
        }
    }

    /// As [`claim`](Self::claim), for a task: the look before the queue is made at once.
    pub(crate) async fn claim_async(
        self: &Arc<Self>,
        key: RecordKey,
        terms: Terms,
    ) -> Result<Answer> {
        let vacancy = match self.enter()?.engine().try_claim(&key, &terms)? {
            Tried::Answered(answer) => return Ok(answer),
            Tried::MustWrite(vacancy) => vacancy,
        };
        let request = Request::new(key, Command::Claim(terms)).seen_vacant(vacancy);
        // Dropped here, the claim is withdrawn, or its lease released.
        self.commit_async(request, None).await
    }
}

/// A command that waits for room in the queue and then for its answer.
///
/// Dropped before it is in the queue, it did nothing. After that a claim is withdrawn, or its lease is
/// released, and any other command is carried out.
#[derive(Debug)]
pub(crate) struct Call {
    ticket: Ticket,
    alarm: Alarm,
    handle: Arc<Handle>,
}

impl Future for Call {
    type Output = Result<Answer>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let call = self.get_mut();
        let polled = call.ticket.poll(&call.handle.queue, task);
        if polled.is_pending() {
            call.alarm.set(call.ticket.deadline(), task);
        }
        polled
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.ticket.abandon(&self.handle.queue);
        // If that was a lease, and the store is closed.
        self.handle.note_lease_dropped();
    }
}
