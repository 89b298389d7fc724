//! What the programs share.

mod disk;

use std::sync::Arc;
use std::time::Duration;

use firstclaim::internals::record::Record;
use firstclaim::internals::transition::{Command, Reply, Terms};
use firstclaim::internals::{Answer, Disk, Engine, EngineOptions, RecordKey, Request};
use firstclaim::{
    Builder, Claim, Clock, Durability, Error, Lease, Limits, ManualClock, Peek, Store, Takeover,
};

pub use disk::{Fault, ModelDisk};

pub const SECOND: Duration = Duration::from_secs(1);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);
/// No wait of a caller ends by itself.
pub const FOR_EVER: Duration = Duration::from_secs(366 * 24 * 3600);

/// Small: a schedule makes every file anew.
const SEGMENT_BYTES: u64 = 16 * 1024;

fn limits() -> Limits {
    Limits {
        response_bytes: 1024,
        recovery_point_bytes: 1024,
        queue_bytes: 64 * 1024,
        ..Limits::default()
    }
}

/// Options of a store on that disk, whose callers wait for ever.
pub fn builder(disk: &ModelDisk, clock: &ManualClock) -> Builder {
    Builder::on_disk(disk.as_disk())
        .clock(clock.clone())
        .limits(limits())
        .journal_bytes(SEGMENT_BYTES)
        .queue_wait(FOR_EVER)
        .checkpoint_every(Duration::from_millis(1))
        .sweep_every(Duration::from_millis(1))
}

/// An open store with its disk and clock.
pub struct World {
    pub disk: ModelDisk,
    pub clock: ManualClock,
    pub store: Store,
}

impl World {
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub fn with(options: impl FnOnce(Builder) -> Builder) -> Self {
        let (disk, clock) = (ModelDisk::default(), ManualClock::new());
        let store = options(builder(&disk, &clock)).open().expect("a new store");
        World { disk, clock, store }
    }

    /// Closes the store; the directory must be free then, for no lease is out.
    pub fn close(self) {
        self.store.close().expect("closes");
        assert!(
            !self.disk.is_taken(),
            "closed, and the directory is still in use"
        );
    }
}

/// A thread of a program, not yet begun.
pub type Thread<T> = Box<dyn FnOnce() -> T + Send>;

pub fn thread<T>(run: impl FnOnce() -> T + Send + 'static) -> Thread<T> {
    Box::new(run)
}

/// Runs all at once, and gives what they return.
pub fn at_once<T: Send + 'static>(threads: impl IntoIterator<Item = Thread<T>>) -> Vec<T> {
    let threads: Vec<_> = threads
        .into_iter()
        .map(|thread| shuttle::thread::spawn(thread))
        .collect();
    threads
        .into_iter()
        .map(|thread| thread.join().expect("no thread panics"))
        .collect()
}

/// The lease, if the claim gave one.
pub fn lease(claim: Claim) -> Option<Lease> {
    match claim {
        Claim::Claimed(lease) => Some(lease),
        _ => None,
    }
}

pub fn done(peek: Option<Peek>) -> Option<Vec<u8>> {
    let Some(Peek::Done(response)) = peek else {
        return None;
    };
    Some(response.bytes().to_vec())
}

/// The engine alone, for programs that checkpoint and sweep by themselves.
pub fn engine(disk: Arc<dyn Disk>, clock: &ManualClock) -> Engine {
    let options = EngineOptions {
        durability: Durability::PowerLoss,
        limits: limits(),
        journal_bytes: SEGMENT_BYTES,
        base_cache_bytes: 1 << 20,
        transaction_records: 2,
        hash_seed: Some(1),
        clock: Arc::new(clock.clone()) as Arc<dyn Clock>,
    };
    Engine::open(disk, options).expect("opens")
}

pub fn key(name: &str) -> RecordKey {
    RecordKey::new(b"tenant", name.as_bytes(), 255).expect("a name")
}

pub fn commit(engine: &Engine, name: &str, command: Command) -> Result<Answer, Error> {
    engine
        .commit(&[Request::new(key(name), command)])
        .pop()
        .expect("an answer")
}

pub fn claim(retain_for: Duration) -> Command {
    Command::Claim(Terms {
        lease_for: HOUR,
        retain_for,
        takeover: Takeover::Gone,
        fingerprint: None,
    })
}

/// Claims and completes, on the engine.
pub fn run(engine: &Engine, name: &str, retain_for: Duration) {
    let claimed = commit(engine, name, claim(retain_for)).expect("claims");
    assert_eq!(claimed.reply, Reply::Claimed, "{name}");
    let fence = claimed.record.expect("a record").fence;
    let complete = Command::Complete {
        fence,
        response: Arc::from(name.as_bytes()),
        retain_for: None,
    };
    commit(engine, name, complete).expect("completes");
}

/// What the engine shows of a key.
pub fn shown(engine: &Engine, name: &str) -> Option<Arc<Record>> {
    let seen = engine.peek(&key(name)).expect("readable");
    seen.map(|(record, _)| record)
}

/// Every key that was acknowledged is done, with its own name as the response.
pub fn assert_all_done(store: &Store, acknowledged: Vec<Option<&'static str>>) {
    for key in acknowledged.into_iter().flatten() {
        let shown = done(store.peek("t", key).expect("readable"));
        let expected = Some(key.as_bytes());
        assert_eq!(shown.as_deref(), expected, "acknowledged, and lost");
    }
}
