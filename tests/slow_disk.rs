//! A disk that takes its time over what nothing has read for long: checkpoints do not wait for it, since
//! claims wait for them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // tests start threads

#[path = "kit/faults.rs"]
mod faults;
#[path = "kit/steps.rs"]
mod steps;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use faults::{Fate, FaultDisk, Op};
use firstclaim::internals::{Disk, Engine, EngineOptions};
use firstclaim::{Builder, Claim, Limits, ManualClock, Store};

const HOUR: Duration = Duration::from_secs(3600);
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a thread that reads the base waits.
#[derive(Default)]
struct Gate {
    /// How many wait, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    /// A gate for all readings of the base by threads of that name.
    fn before(disk: &FaultDisk, thread_name: &'static str) -> Arc<Self> {
        let gate = Arc::new(Gate::default());
        let at_gate = gate.clone();
        disk.set(move |event, _| {
            let is_base = event.op == Op::Read && event.file == "base.redb";
            if is_base && thread::current().name() == Some(thread_name) {
                at_gate.pass();
            }
            Fate::Happens
        });
        gate
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn wait_until_someone_waits(&self) {
        let state = self.state.lock().unwrap();
        let waits = self
            .changed
            .wait_timeout_while(state, PATIENCE, |(waiting, _)| *waiting == 0);
        assert!(!waits.unwrap().1.timed_out(), "nobody has read the base");
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

/// Opened also if a test fails: else whoever waits there would keep it from ending.
struct OpenedAtTheEnd(Arc<Gate>);

impl Drop for OpenedAtTheEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// The same for a thread that goes on until it is told to stop.
struct SetAtTheEnd<'s>(&'s AtomicBool);

impl Drop for SetAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Nothing that was read stays in memory.
fn uncached(clock: &ManualClock) -> EngineOptions {
    EngineOptions {
        base_cache_bytes: 0,
        ..steps::options(clock)
    }
}

#[test]
fn a_checkpoint_does_not_wait_for_a_sweep_that_reads() {
    let (disk, clock) = (FaultDisk::new(), ManualClock::new());
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let engine = Arc::new(Engine::open(shared, uncached(&clock)).unwrap());
    for n in 0..100 {
        steps::run(&engine, &format!("old {n}"), HOUR, &[7; 1000]);
    }
    engine.checkpoint().unwrap();
    clock.advance(24 * HOUR);
    steps::run(&engine, "new", HOUR, b"answer");

    let gate = OpenedAtTheEnd(Gate::before(&disk, "sweeper"));
    let sweeper = thread::Builder::new().name("sweeper".to_owned()).spawn({
        let engine = engine.clone();
        move || engine.sweep().unwrap()
    });
    gate.0.wait_until_someone_waits();
    let (done, checkpointed) = mpsc::channel();
    let checkpoint = thread::spawn({
        let engine = engine.clone();
        move || done.send(engine.checkpoint())
    });
    let checkpointed = checkpointed.recv_timeout(PATIENCE);
    gate.0.open();
    checkpointed.expect("it waits for the sweep").unwrap();
    checkpoint.join().unwrap().unwrap();
    assert_eq!(sweeper.unwrap().join().unwrap().done, 100);
    assert_eq!(steps::response(&engine, "new").unwrap(), b"answer");
}

#[test]
fn a_spare_segment_is_not_made_under_the_one_that_is_taken() {
    let (disk, clock) = (FaultDisk::new(), ManualClock::new());
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let engine = steps::open(&shared, &clock).unwrap();
    engine.prepare_segment().unwrap();
    // Time for another spare to be begun between taking this one and giving it its new name, and
    // to be written only after that.
    disk.set(|event, _| {
        if event.file == "journal-spare" {
            match event.op {
                Op::Rename => thread::sleep(Duration::from_millis(40)),
                Op::Write => thread::sleep(Duration::from_millis(60)),
                _ => {}
            }
        }
        Fate::Happens
    });
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = SetAtTheEnd(&stop);
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                engine.prepare_segment().unwrap();
                thread::yield_now();
            }
        });
        steps::run(&engine, "before", HOUR, b"b");
        engine.checkpoint().unwrap();
        for n in 0..10 {
            steps::run(&engine, &format!("after {n}"), HOUR, b"a");
        }
        thread::sleep(Duration::from_millis(200));
    });
    let killed: Arc<dyn Disk> = Arc::new(disk.content().snapshot());
    let engine = steps::open(&killed, &clock).unwrap();
    for n in 0..10 {
        let found = steps::response(&engine, &format!("after {n}"));
        assert_eq!(found.as_deref(), Some(&b"a"[..]));
    }
}

#[test]
fn checkpoints_go_on_while_a_store_is_read_through_after_its_opening() {
    let (disk, clock) = (FaultDisk::new(), ManualClock::new());
    let limits = Limits {
        response_bytes: 4096,
        recovery_point_bytes: 1024,
        ..Limits::default()
    };
    let builder = || {
        Builder::on_disk(Arc::new(disk.clone()))
            .clock(clock.clone())
            .limits(limits)
            .journal_bytes(64 * 1024)
            .base_cache_bytes(1 << 20)
            .sweep_every(HOUR)
            .checkpoint_every(HOUR)
    };
    let store = builder().open().unwrap();
    // More than the cache takes.
    run(&store, "before", 300, 4000);
    store.close().unwrap();

    let gate = OpenedAtTheEnd(Gate::before(&disk, "firstclaim-sweep"));
    let store = builder().open().unwrap();
    // Dropped before the store, which waits for its threads.
    let gate = gate;
    gate.0.wait_until_someone_waits();
    // More, and less than makes who commits wait for the checkpoint.
    run(&store, "after", 70, 100);
    let checkpoints = || store.stats().checkpoints;
    let begin = std::time::Instant::now();
    while checkpoints() == 0 && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(5));
    }
    let found = (checkpoints(), store.stats().unverified > 0);
    gate.0.open();
    assert_eq!(found, (1, true));
}

fn run(store: &Store, prefix: &str, keys: usize, response_bytes: usize) {
    for n in 0..keys {
        match store.claim("t", format!("{prefix} {n}")).unwrap() {
            Claim::Claimed(lease) => lease.complete(vec![7; response_bytes]).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}
