//! Webhooks: every event applied once, however often it is delivered.
//!
//! ```text
//! cargo run --release --example webhook -- [--quick]
//! ```
//!
//! A provider delivers each event until it is acknowledged, at times twice at once, at times again
//! after the acknowledgement. The receiver runs the operation behind the event's id with `run`,
//! acknowledges only what is done, and keeps the answers for seven days, longer than the provider
//! goes on trying.

use std::collections::BTreeMap;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, io, thread};

use firstclaim::{Fingerprint, Lease, Previous, Ran, RunError, Store};

const SEVEN_DAYS: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const TENANT: &str = "billing-provider";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let quick = env::args().any(|argument| argument == "--quick");
    let events = if quick { 200 } else { 2_000 };
    let dir = TemporaryDir::create()?;
    let store = Store::builder(&dir.0).retain_for(SEVEN_DAYS).open()?;

    let receiver = Receiver::new(store);
    let deliveries = deliver_all(&receiver, events);
    receiver.store.close()?;
    let once = receiver.ledger.print_summary(events, deliveries);
    Ok(if once {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// An event as the provider sends it.
struct Delivery {
    event: u32,
    body: String,
}

/// The status line of the answer; the provider tries again after anything but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok200,
    Conflict409,
    Unprocessable422,
    Error500,
}

/// The service that receives webhooks.
struct Receiver {
    store: Store,
    ledger: Ledger,
}

impl Receiver {
    fn new(store: Store) -> Self {
        Receiver {
            store,
            ledger: Ledger::default(),
        }
    }

    /// One delivery: acknowledged only when its event has been applied and recorded.
    fn receive(&self, delivery: &Delivery) -> Status {
        let ran = self
            .store
            .request(TENANT, format!("evt_{}", delivery.event))
            .fingerprint(Fingerprint::of([&delivery.body]))
            .run(|lease| self.ledger.apply(lease, delivery));
        match ran {
            Ok(Ran::Executed(_) | Ran::Replayed(_)) => Status::Ok200,
            Ok(Ran::InFlight(_)) => Status::Conflict409,
            // One id with two contents: a fault of the sender that no retry mends.
            Err(RunError::NotRun(firstclaim::Error::FingerprintMismatch)) => {
                Status::Unprocessable422
            }
            // Applied or not, it is not recorded as done: the provider has to come again.
            Err(RunError::NotRun(_) | RunError::Operation(_) | RunError::NotRecorded { .. }) => {
                Status::Error500
            }
        }
    }
}

/// The receiver's own data, and how often each event changed it.
#[derive(Default)]
struct Ledger {
    applied: Mutex<BTreeMap<u32, u32>>,
    calls: AtomicU32,
    found_applied: AtomicU32,
}

impl Ledger {
    /// The operation behind an event. It fails before its effect at times, and after it at times.
    fn apply(&self, lease: &Lease, delivery: &Delivery) -> Result<String, Box<dyn Error>> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_micros(200));
        if call % 7 == 3 {
            // Nothing was done: say so, and the next delivery starts clean.
            lease.release()?;
            return Err("the ledger was busy".into());
        }
        let mut applied = self.applied.lock().map_err(|_| "a thread panicked")?;
        // An earlier attempt was cut short, so its effect may be there: look before doing it again.
        if lease.previous() == Previous::Interrupted && applied.contains_key(&delivery.event) {
            self.found_applied.fetch_add(1, Ordering::Relaxed);
        } else {
            *applied.entry(delivery.event).or_default() += 1;
        }
        if call % 11 == 5 {
            // The effect is there and the answer is not: `run` drops the lease, and the next
            // attempt is told that this one was interrupted.
            return Err("the connection broke".into());
        }
        Ok(format!("applied {}", delivery.body))
    }

    fn print_summary(&self, events: u32, deliveries: u32) -> bool {
        let Ok(applied) = self.applied.lock() else {
            return false;
        };
        let more_than_once = applied.values().filter(|&&times| times != 1).count();
        println!("events                       {events:>6}");
        println!("deliveries                   {deliveries:>6}");
        println!(
            "operation run                {:>6}",
            self.calls.load(Ordering::Relaxed)
        );
        println!(
            "found done by an earlier run {:>6}",
            self.found_applied.load(Ordering::Relaxed)
        );
        println!("events applied               {:>6}", applied.len());
        println!("applied more than once       {more_than_once:>6}");
        applied.len() == events as usize && more_than_once == 0
    }
}

/// The provider: a few threads that deliver every event until it is acknowledged. Returns how many
/// deliveries that took.
fn deliver_all(receiver: &Receiver, events: u32) -> u32 {
    let deliveries = AtomicU32::new(0);
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let event = next.fetch_add(1, Ordering::Relaxed);
                    if event >= events {
                        break;
                    }
                    let delivery = Delivery {
                        event,
                        body: format!("{{\"invoice\":{event},\"paid\":true}}"),
                    };
                    deliveries.fetch_add(deliver(receiver, &delivery), Ordering::Relaxed);
                }
            });
        }
    });
    deliveries.into_inner()
}

/// Delivers one event, every third one twice at once, and once more after its acknowledgement.
fn deliver(receiver: &Receiver, delivery: &Delivery) -> u32 {
    let mut deliveries = 0;
    loop {
        deliveries += 1;
        let twice = delivery.event.is_multiple_of(3);
        let acknowledged = thread::scope(|scope| {
            let again = twice.then(|| scope.spawn(|| receiver.receive(delivery)));
            let first = receiver.receive(delivery);
            deliveries += u32::from(twice);
            let again = again.and_then(|thread| thread.join().ok());
            first == Status::Ok200 || again == Some(Status::Ok200)
        });
        if acknowledged {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    // The acknowledgement was lost on the way: it is answered again, and nothing runs.
    receiver.receive(delivery);
    deliveries + 1
}

/// A new directory in the system's temporary one, removed at the end.
struct TemporaryDir(PathBuf);

impl TemporaryDir {
    fn create() -> io::Result<Self> {
        let unique = RandomState::new().hash_one(std::process::id());
        let path = env::temp_dir().join(format!("firstclaim-webhook-{unique:016x}"));
        fs::create_dir(&path)?;
        Ok(TemporaryDir(path))
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // Nothing depends on it: at worst a few files are left behind.
        let _ = fs::remove_dir_all(&self.0);
    }
}
