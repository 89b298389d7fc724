//! The hand-off between callers and whoever commits, under loom: every interleaving of small
//! programs, with a stand-in for the engine that answers at once.

#![allow(missing_docs)] // for the project's own tests

mod stand_in;
mod tasks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use self::stand_in::StandIn;
use super::Queue;
use crate::engine::{Answer, Request};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::record::Takeover;
use crate::sync::checked::pass_all_deadlines;
use crate::sync::{JoinHandle, Ordering, ThreadBuilder};
use crate::time::Deadline;
use crate::transition::{Command, Reply, Terms};

const HOUR: Duration = Duration::from_secs(3600);

/// A program and how much of it is gone through.
pub struct Program {
    pub name: &'static str,
    run: fn(),
    /// None: every interleaving there is.
    pub preemptions: Option<usize>,
}

pub const PROGRAMS: [Program; 12] = [
    Program {
        name: "leads",
        run: a_caller_leads,
        preemptions: None,
    },
    Program {
        name: "waits",
        run: a_caller_waits,
        preemptions: None,
    },
    Program {
        name: "withdrawal",
        run: withdrawal,
        preemptions: None,
    },
    Program {
        name: "close",
        run: close_beside_a_call,
        preemptions: None,
    },
    Program {
        name: "sent",
        run: sent_and_closed,
        preemptions: None,
    },
    Program {
        name: "task",
        run: tasks::a_task_waits,
        preemptions: None,
    },
    Program {
        name: "task-leaves",
        run: tasks::a_task_leaves,
        preemptions: None,
    },
    Program {
        name: "task-room",
        run: tasks::a_task_waits_for_room,
        preemptions: Some(3),
    },
    Program {
        name: "two-callers",
        run: two_callers,
        preemptions: None,
    },
    Program {
        name: "two-who-wait",
        run: two_who_wait,
        preemptions: Some(4),
    },
    Program {
        name: "room-for-one",
        run: room_for_one,
        preemptions: Some(4),
    },
    Program {
        name: "withdrawal-beside-a-call",
        run: withdrawal_beside_a_call,
        preemptions: Some(3),
    },
];

impl Program {
    /// Runs the program through its interleavings, up to the first that fails, and counts them. True
    /// if none failed.
    pub fn check(&self) -> (usize, bool) {
        let executions = Arc::new(AtomicUsize::new(0));
        let mut model = loom::model::Builder::new();
        model.preemption_bound = self.preemptions;
        model.max_branches = 100_000;
        let (run, count) = (self.run, executions.clone());
        let checked = catch_unwind(AssertUnwindSafe(|| {
            model.check(move || {
                count.fetch_add(1, Ordering::SeqCst);
                run();
            });
        }));
        (executions.load(Ordering::SeqCst), checked.is_ok())
    }
}

/// A queue with its committer thread.
struct World {
    engine: Arc<StandIn>,
    queue: Arc<Queue>,
    committer: JoinHandle<()>,
}

impl World {
    fn new(has_room: bool, most_commands: usize) -> Self {
        let engine = StandIn::new(has_room);
        let queue = Arc::new(Queue::new(most_commands, 1 << 20));
        let (leader, leads) = (queue.clone(), engine.clone());
        let committer = start(move || leader.run(&*leads));
        World {
            engine,
            queue,
            committer,
        }
    }

    /// Claims on a thread of its own.
    fn claimer(&self, name: &'static str) -> JoinHandle<Result<Answer>> {
        let (queue, engine) = (self.queue.clone(), self.engine.clone());
        start(move || call(&queue, &engine, claim(name), never()))
    }

    fn call(&self, name: &str, deadline: Deadline) -> Result<Answer> {
        call(&self.queue, &self.engine, claim(name), deadline)
    }

    fn claims(&self, name: &str) -> usize {
        self.engine
            .count(&key(name), |command| matches!(command, Command::Claim(_)))
    }

    /// Closes the queue: the committer ends once all is carried out.
    fn close(self) -> Arc<StandIn> {
        self.queue.close();
        join(self.committer);
        assert_eq!(
            self.engine.count(&key("two leaders"), |_| true),
            0,
            "two leaders"
        );
        assert_eq!(self.queue.len(), 0, "closed, and commands are left");
        self.engine
    }
}

fn call(queue: &Queue, engine: &StandIn, request: Request, deadline: Deadline) -> Result<Answer> {
    let (answer, to_wake) = queue.call(engine, request, deadline);
    to_wake.wake();
    answer
}

fn start<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match ThreadBuilder::new().spawn(run) {
        Ok(thread) => thread,
        Err(error) => unreachable!("{error}"),
    }
}

fn join<T>(thread: JoinHandle<T>) -> T {
    match thread.join() {
        Ok(result) => result,
        Err(_) => unreachable!("loom ends at the first panic"),
    }
}

fn key(name: &str) -> RecordKey {
    match RecordKey::new(b"t", name.as_bytes(), 255) {
        Ok(key) => key,
        Err(error) => unreachable!("{error}"),
    }
}

fn claim(name: &str) -> Request {
    let terms = Terms {
        lease_for: HOUR,
        retain_for: HOUR,
        takeover: Takeover::Gone,
        fingerprint: None,
    };
    Request::new(key(name), Command::Claim(terms))
}

fn never() -> Deadline {
    Deadline::after(Duration::MAX)
}

fn assert_has_lease(answer: &Result<Answer>) {
    let reply = answer.as_ref().map(|answer| answer.reply);
    assert!(matches!(reply, Ok(Reply::Claimed)), "{reply:?}");
}

/// A caller who leads, beside the committer.
fn a_caller_leads() {
    one_caller(true);
}

/// A caller who leaves it to the committer.
fn a_caller_waits() {
    one_caller(false);
}

fn one_caller(has_room: bool) {
    let world = World::new(has_room, 1024);
    let answer = world.call("a", never());
    assert_has_lease(&answer);
    assert_eq!(world.claims("a"), 1);
    let engine = world.close();
    assert_eq!(engine.holders.guards(), 1);
}

/// A caller whose time is over at any moment.
fn withdrawal() {
    let world = World::new(false, 1024);
    let deadline = Deadline::after(HOUR);
    let clock = start(pass_all_deadlines);
    let answer = world.call("a", deadline);
    join(clock);
    assert_told_right(&answer, &world.close(), 0);
}

/// The same, beside a caller who leads or waits.
fn withdrawal_beside_a_call() {
    let world = World::new(true, 1024);
    let deadline = Deadline::after(HOUR);
    let other = world.claimer("b");
    let clock = start(pass_all_deadlines);
    let answer = world.call("a", deadline);
    join(clock);
    let others = join(other);
    assert_has_lease(&others);
    assert_eq!(world.claims("b"), 1);
    assert_told_right(&answer, &world.close(), 1);
}

/// What a caller with a deadline was told of its claim of `a` is what became of it; others have
/// `others` leases.
fn assert_told_right(answer: &Result<Answer>, engine: &StandIn, others: usize) {
    let claims = engine.count(&key("a"), |command| matches!(command, Command::Claim(_)));
    let is_release = |command: &Command| matches!(command, Command::Release { .. });
    let releases = engine.count(&key("a"), is_release);
    let guards = engine.holders.guards() - others;
    match answer {
        Ok(_) => {
            assert_has_lease(answer);
            assert_eq!((claims, releases, guards), (1, 0, 1));
        }
        // It did not happen.
        Err(Error::Overloaded) => assert_eq!((claims, releases, guards), (0, 0, 0)),
        // It did, and nobody has the lease.
        Err(Error::Indeterminate) => assert_eq!((claims, releases, guards), (1, 1, 0)),
        Err(other) => unreachable!("{other}"),
    }
}

/// A call beside `close`: it is carried out and answered, or refused and not carried out.
fn close_beside_a_call() {
    let world = World::new(true, 1024);
    let claimer = world.claimer("a");
    world.queue.close();
    let answer = join(claimer);
    let engine = world.close();
    let claims = engine.count(&key("a"), |_| true);
    match &answer {
        Err(Error::Closed) => assert_eq!(claims, 0),
        answer => {
            assert_has_lease(answer);
            assert_eq!(claims, 1);
        }
    }
}

/// What was sent is carried out before the committer ends, whoever leads.
fn sent_and_closed() {
    let world = World::new(true, 1024);
    let queue = world.queue.clone();
    let sender = start(move || queue.send(Request::new(key("sent"), Command::Expire)));
    let answer = world.call("a", never());
    assert_has_lease(&answer);
    let engine = world.close();
    let was_sent = join(sender);
    assert_eq!(engine.count(&key("sent"), |_| true), usize::from(was_sent));
}

/// Two callers, who lead or not, and the committer.
fn two_callers() {
    two_claims(World::new(true, 1024));
}

/// Two callers who leave it to the committer, in one batch or in two.
fn two_who_wait() {
    two_claims(World::new(false, 1024));
}

/// Two callers, and room for one command.
fn room_for_one() {
    two_claims(World::new(false, 1));
}

fn two_claims(world: World) {
    let other = world.claimer("b");
    let answer = world.call("a", never());
    let others = join(other);
    assert_has_lease(&answer);
    assert_has_lease(&others);
    assert_eq!((world.claims("a"), world.claims("b")), (1, 1));
    world.close();
}
