//! Tasks where there is no room, or no time.

use std::time::Duration;

use firstclaim::{Builder, Claim, Error};

use crate::executor::{Task, block_on};
use crate::gate::{gated, lease, until};

const SOON: Duration = Duration::from_millis(500);

fn room_for_one(builder: Builder) -> Builder {
    builder.queue_commands(1)
}

#[test]
fn tasks_wait_for_room_and_no_more_of_them_than_commands() {
    let (store, gate, _) = gated(room_for_one);
    gate.shut();
    let mut tasks: Vec<_> = ["committed", "queued", "in line"]
        .map(|key| Task::new(store.claim_async("t", key)))
        .into();
    for (n, task) in tasks.iter_mut().enumerate() {
        assert!(task.poll().is_pending());
        if n == 0 {
            gate.until_reached();
        }
    }
    // As many stand in line as there is room for commands.
    let mut one_more = Task::new(store.claim_async("t", "one more"));
    assert!(matches!(
        one_more.poll(),
        std::task::Poll::Ready(Err(Error::Overloaded))
    ));
    assert_eq!(store.stats().queued, 1);
    gate.open();
    for task in tasks {
        assert!(matches!(task.finish(), Ok(Claim::Claimed(_))));
    }
}

#[test]
fn a_task_that_leaves_the_line_makes_room_in_it() {
    let (store, gate, _) = gated(room_for_one);
    gate.shut();
    let mut committed = Task::new(store.claim_async("t", "committed"));
    assert!(committed.poll().is_pending());
    gate.until_reached();
    let mut queued = Task::new(store.claim_async("t", "queued"));
    assert!(queued.poll().is_pending());
    for _ in 0..3 {
        let mut in_line = Task::new(store.claim_async("t", "k"));
        assert!(in_line.poll().is_pending());
    }
    gate.open();
    assert!(committed.finish().is_ok() && queued.finish().is_ok());
    assert!(store.peek("t", "k").unwrap().is_none());
}

#[test]
fn a_task_whose_time_is_over_is_told_what_became_of_its_command() {
    let (store, gate, _) = gated(|builder| room_for_one(builder).queue_wait(SOON));
    let held = lease(store.claim("t", "held"));
    gate.shut();
    let mut committed = Task::new(store.claim_async("t", "committed"));
    assert!(committed.poll().is_pending());
    gate.until_reached();
    let mut queued = Task::new(held.complete_async("done"));
    assert!(queued.poll().is_pending());
    let in_line = Task::new(store.claim_async("t", "in line"));
    assert!(matches!(in_line.finish(), Err(Error::Overloaded)));
    assert!(matches!(queued.finish(), Err(Error::Overloaded)));
    assert!(matches!(committed.finish(), Err(Error::Indeterminate)));
    gate.open();
    // What was withdrawn did not happen, and what was not known of is given back.
    until("the lease is given back", || store.stats().leases == 1);
    assert!(store.peek("t", "in line").unwrap().is_none());
    held.complete("other").unwrap();
}

#[test]
fn a_key_stays_held_if_its_completion_is_dropped_in_line() {
    let (store, gate, _) = gated(room_for_one);
    let held = lease(store.claim("t", "held"));
    gate.shut();
    let mut others: Vec<_> = ["committed", "queued"]
        .map(|key| Task::new(store.claim_async("t", key)))
        .into();
    assert!(others[0].poll().is_pending());
    gate.until_reached();
    assert!(others[1].poll().is_pending());
    let mut in_line = Task::new(held.complete_async("done"));
    assert!(in_line.poll().is_pending());
    // As at the end of a timeout, with `?` behind it.
    drop((in_line, held));
    gate.open();
    for task in others {
        assert!(task.finish().is_ok());
    }
    let again = store.claim("t", "held").unwrap();
    assert!(matches!(&again, Claim::InFlight(running) if !running.is_interrupted()));
}

#[test]
fn tasks_are_answered_after_each_other_without_end() {
    let (store, _, _) = gated(room_for_one);
    for n in 0..100 {
        let claim = block_on(store.claim_async("t", format!("{n}"))).unwrap();
        assert!(matches!(claim, Claim::Claimed(_)));
    }
}
