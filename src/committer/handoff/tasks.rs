//! Tasks beside the committer and beside callers that are threads.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::{HOUR, World, assert_has_lease, claim, join, never, start};
use crate::committer::{Queue, Ticket};
use crate::engine::Answer;
use crate::error::Result;
use crate::sync::Bell;
use crate::transition::Command;

/// Wakes the thread that polls.
#[derive(Default)]
struct Ringing(Bell);

impl Wake for Ringing {
    fn wake(self: Arc<Self>) {
        self.0.ring();
    }
}

/// Polls until there is an answer, whenever it is woken.
fn finish(mut ticket: Ticket, queue: &Queue) -> Result<Answer> {
    let ringing = Arc::new(Ringing::default());
    let waker = Waker::from(ringing.clone());
    loop {
        if let Poll::Ready(answer) = ticket.poll(queue, &Context::from_waker(&waker)) {
            return answer;
        }
        ringing.0.wait(HOUR);
    }
}

/// A task beside the committer.
pub(super) fn a_task_waits() {
    let world = World::new(true, 1024);
    let answer = finish(Ticket::new(claim("a"), None, never()), &world.queue);
    assert_has_lease(&answer);
    assert_eq!(world.claims("a"), 1);
    assert_eq!(world.close().holders.guards(), 1);
}

/// A task that leaves at any moment: nobody has its lease then.
pub(super) fn a_task_leaves() {
    let world = World::new(false, 1024);
    let mut ticket = Ticket::new(claim("a"), None, never());
    let waker = Waker::from(Arc::new(Ringing::default()));
    let polled = ticket.poll(&world.queue, &Context::from_waker(&waker));
    let has_lease = usize::from(polled.is_ready());
    ticket.abandon(&world.queue);
    let engine = world.close();
    let key = super::key("a");
    let claims = engine.count(&key, |command| matches!(command, Command::Claim(_)));
    let releases = engine.count(&key, |command| matches!(command, Command::Release { .. }));
    let guards = engine.holders.guards();
    assert_eq!(guards, has_lease);
    assert!(releases + has_lease <= claims, "{releases} of {claims}");
}

/// A task and a thread, and room for one command.
pub(super) fn a_task_waits_for_room() {
    let world = World::new(false, 1);
    let other = world.claimer("b");
    let queue = world.queue.clone();
    let task = start(move || finish(Ticket::new(claim("a"), None, never()), &queue));
    let (others, answer) = (join(other), join(task));
    assert_has_lease(&answer);
    assert_has_lease(&others);
    assert_eq!((world.claims("a"), world.claims("b")), (1, 1));
    world.close();
}
