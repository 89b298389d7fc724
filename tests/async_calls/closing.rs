//! Closing while tasks wait, and last handles that go where nobody would put them.

use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use firstclaim::{Claim, Error, Result, Store, StoreFuture, Takeover};

use crate::executor::Task;
use crate::gate::{builder, gated, lease, until};

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_close_carries_out_what_waits_and_refuses_what_has_no_place_yet() {
    let (store, gate, disk) = gated(|builder| builder.queue_commands(1));
    let held = lease(store.claim("t", "held"));
    gate.shut();
    let mut committed = Task::new(store.claim_async("t", "committed"));
    assert!(committed.poll().is_pending());
    gate.until_reached();
    let mut queued = Task::new(held.complete_async("done"));
    let mut in_line = Task::new(store.claim_async("t", "in line"));
    let mut for_key = Task::new(store.claim_or_wait_async("t", "held", HOUR));
    assert!(queued.poll().is_pending());
    assert!(in_line.poll().is_pending());
    assert!(for_key.poll().is_pending());
    let for_key_too = {
        let store = store.clone();
        thread::spawn(move || store.claim_or_wait("t", "held", HOUR))
    };
    until("both wait", || store.stats().waiters == 2);
    let closer = {
        let store = store.clone();
        thread::spawn(move || store.close())
    };
    assert!(matches!(in_line.finish(), Err(Error::Closed)));
    assert!(matches!(for_key.finish(), Err(Error::Closed)));
    assert!(matches!(for_key_too.join().unwrap(), Err(Error::Closed)));
    gate.open();
    assert!(matches!(committed.finish(), Ok(Claim::Claimed(_))));
    queued.finish().unwrap();
    closer.join().unwrap().unwrap();
    let late = Task::new(store.claim_async("t", "late")).finish();
    assert!(matches!(late, Err(Error::Closed)));
    drop((held, store));
    let again = builder(&disk).open().unwrap();
    assert!(matches!(again.claim("t", "held"), Ok(Claim::Done(_))));
}

#[test]
fn a_lease_that_nobody_took_does_not_keep_a_closed_store_in_use() {
    let (store, gate, disk) = gated(|builder| builder);
    let mut claim = Task::new(store.claim_async("t", "k"));
    gate.shut();
    assert!(claim.poll().is_pending());
    gate.open();
    claim.wait();
    store.close().unwrap();
    assert!(matches!(builder(&disk).open(), Err(Error::Locked)));
    drop(claim);
    // Its holder is gone, though a handle of the closed store is not.
    let again = builder(&disk).open().unwrap();
    assert!(matches!(again.claim("t", "k"), Ok(Claim::Claimed(_))));
    drop(store);
}

type Future<T> = Pin<Box<StoreFuture<T>>>;

/// Drops what it has when it is woken, as the waker of a runtime that has ended does, and tells the name
/// of the thread it is on.
struct Dropping<T> {
    had: Mutex<Option<(Future<T>, Store)>>,
    told: Sender<String>,
}

impl<T: 'static> Wake for Dropping<T> {
    fn wake(self: Arc<Self>) {
        let had = self.had.lock().unwrap().take();
        drop(had);
        let name = thread::current().name().unwrap_or_default().to_owned();
        self.told.send(name).unwrap();
    }
}

/// Polls the future once; from then on its waker alone has it, and the store's last handle. Gives the
/// name of the thread on which they are dropped.
fn drop_when_woken<T: 'static>(future: StoreFuture<T>, store: Store) -> Receiver<String> {
    let (told, thread) = channel();
    let had = Mutex::default();
    let dropping = Arc::new(Dropping { had, told });
    let waker = Waker::from(dropping.clone());
    let mut future = Box::pin(future);
    // Held, so that a wake-up waits for what it is to drop.
    let mut had = dropping.had.lock().unwrap();
    let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    *had = Some((future, store));
    thread
}

#[test]
fn the_last_handle_may_go_on_the_committer_thread() {
    let (store, gate, disk) = gated(|builder| builder);
    let held = lease(store.claim("t", "held"));
    gate.shut();
    let thread = drop_when_woken(store.claim_async("t", "k"), store);
    gate.until_reached();
    // Accepted, and still in the queue when the store closes.
    let mut completed = Task::new(held.complete_async("done"));
    assert!(completed.poll().is_pending());
    drop((completed, held));
    gate.open();
    let thread = thread.recv_timeout(PATIENCE).unwrap();
    assert_eq!(thread, "firstclaim-commit");
    let again = builder(&disk).open().unwrap();
    assert!(matches!(again.claim("t", "held"), Ok(Claim::Done(_))));
    assert!(matches!(again.claim("t", "k"), Ok(Claim::Claimed(_))));
}

#[test]
fn the_last_handle_may_go_on_the_deadline_thread() {
    let (store, _, disk) = gated(|builder| builder.takeover(Takeover::Expired));
    // Its holder is gone, and its lease has long to run.
    drop(store.claim("t", "k").unwrap());
    let soon = Duration::from_millis(500);
    let thread = drop_when_woken(store.claim_or_wait_async("t", "k", soon), store);
    let thread = thread.recv_timeout(PATIENCE).unwrap();
    assert_eq!(thread, "firstclaim-deadline");
    let again = builder(&disk).open().unwrap();
    assert!(matches!(again.claim("t", "k"), Ok(Claim::InFlight(_))));
}

/// Looks at the store, and closes it, when it is woken.
struct Closing(Store, Sender<Result<()>>);

impl Wake for Closing {
    fn wake(self: Arc<Self>) {
        let _ = (self.0.stats(), self.0.peek("t", "k"));
        self.1.send(self.0.close()).unwrap();
    }
}

#[test]
fn a_waker_may_close_the_store() {
    for leads in [false, true] {
        let (store, gate, _) = gated(|builder| builder);
        let held = lease(store.claim("t", "k"));
        let (told, closed) = channel();
        let waker = Waker::from(Arc::new(Closing(store.clone(), told)));
        let mut waiting = Box::pin(store.claim_or_wait_async("t", "k", HOUR));
        let task = &mut Context::from_waker(&waker);
        assert!(waiting.as_mut().poll(task).is_pending());
        match leads {
            // By a caller, who wakes the task when it has left the store.
            true => held.complete("done").unwrap(),
            false => {
                let mut completed = Task::new(held.complete_async("done"));
                gate.shut();
                assert!(completed.poll().is_pending());
                gate.until_reached();
                // With a caller who waits for the thread that is to close.
                let caller = {
                    let store = store.clone();
                    thread::spawn(move || store.claim("t", "other"))
                };
                until("it waits", || store.stats().queued == 1);
                gate.open();
                completed.finish().unwrap();
                assert!(matches!(caller.join().unwrap(), Ok(Claim::Claimed(_))));
            }
        }
        closed.recv_timeout(PATIENCE).unwrap().unwrap();
        assert!(store.stats().closed);
    }
}

#[test]
fn a_waker_may_close_the_store_while_it_is_being_closed() {
    let (store, gate, _) = gated(|builder| builder);
    let (told, closed) = channel();
    let waker = Waker::from(Arc::new(Closing(store.clone(), told)));
    let mut claim = Box::pin(store.claim_async("t", "k"));
    gate.shut();
    let task = &mut Context::from_waker(&waker);
    assert!(claim.as_mut().poll(task).is_pending());
    gate.until_reached();
    let closer = {
        let store = store.clone();
        thread::spawn(move || store.close())
    };
    until("it closes", || {
        matches!(store.peek("t", "k"), Err(Error::Closed))
    });
    // It waits for the committer, or soon will.
    thread::sleep(Duration::from_millis(50));
    gate.open();
    closed.recv_timeout(PATIENCE).unwrap().unwrap();
    closer.join().unwrap().unwrap();
}

/// Panics when it is woken.
struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("a waker's own panic");
    }
}

#[test]
fn a_waker_that_panics_hurts_nobody_else() {
    let (store, gate, _) = gated(|builder| builder);
    let waker = Waker::from(Arc::new(Panicking));
    let mut claim = Box::pin(store.claim_async("t", "k"));
    let task = &mut Context::from_waker(&waker);
    gate.shut();
    assert!(claim.as_mut().poll(task).is_pending());
    gate.open();
    let other = Task::new(store.claim_async("t", "other")).finish();
    assert!(matches!(other, Ok(Claim::Claimed(_))));
    store.close().unwrap();
}
