//! A store whose syncs a test holds back, so that it knows where a command is.

use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use firstclaim::{Builder, Claim, Lease, Limits, Result, Store};

use crate::faults::{Fate, FaultDisk, Op};

const PATIENCE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3600);

/// Where syncs of the journal wait while it is shut.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    is_shut: bool,
    fails: bool,
    waiting: usize,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }

    pub fn shut(&self) {
        self.state().is_shut = true;
    }

    pub fn is_shut(&self) -> bool {
        self.state().is_shut
    }

    pub fn open(&self) {
        self.state().is_shut = false;
        self.0.1.notify_all();
    }

    /// The syncs that wait, and those to come, fail.
    pub fn open_and_fail(&self) {
        self.state().fails = true;
        self.open();
    }

    /// Waits until a commit has come to its sync.
    pub fn until_reached(&self) {
        let waited = self
            .0
            .1
            .wait_timeout_while(self.state(), PATIENCE, |state| state.waiting == 0);
        assert!(!waited.unwrap().1.timed_out(), "nothing is committed");
    }

    fn pass(&self) -> Fate {
        let mut state = self.state();
        state.waiting += 1;
        self.0.1.notify_all();
        // A test that has failed opens it no more, and would wait for the store to close.
        let opened = self
            .0
            .1
            .wait_timeout_while(state, 2 * PATIENCE, |state| state.is_shut);
        state = opened.unwrap().0;
        state.waiting -= 1;
        match state.fails {
            true => Fate::Fails(ErrorKind::Other),
            false => Fate::Happens,
        }
    }
}

/// The lease that a claim is to give.
pub fn lease(claim: Result<Claim>) -> Lease {
    match claim.unwrap() {
        Claim::Claimed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

/// A store behind a gate, with options of the caller's.
pub fn gated(options: impl FnOnce(Builder) -> Builder) -> (Store, Gate, FaultDisk) {
    let (disk, gate) = (FaultDisk::new(), Gate::default());
    let passing = gate.clone();
    disk.set(
        move |event, _| match event.op == Op::Sync && event.file.starts_with("journal-0") {
            true => passing.pass(),
            false => Fate::Happens,
        },
    );
    let store = options(builder(&disk)).open().unwrap();
    (store, gate, disk)
}

pub fn builder(disk: &FaultDisk) -> Builder {
    let limits = Limits {
        response_bytes: 4096,
        recovery_point_bytes: 1024,
        queue_bytes: 64 * 1024,
        ..Limits::default()
    };
    Builder::on_disk(Arc::new(disk.clone()))
        .limits(limits)
        .journal_bytes(64 * 1024)
        .base_cache_bytes(1 << 20)
        .sweep_every(LONG)
        .checkpoint_every(LONG)
        .queue_wait(LONG)
}

/// Waits until `is_so`.
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
