//! Closing while tasks wait, and last handles that go where nobody would put them.

use std::pin::Pin;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use firstclaim::{Claim, Error, Result, Store, StoreFuture};

use crate::executor::Task;
use crate::gate::{builder, gated, until};

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_close_carries_out_what_waits_and_refuses_what_has_no_place_yet() {
    let (store, gate, disk) = gated(|builder| builder.queue_commands(1));
    let held = match store.claim("t", "held").unwrap() {
        Claim::Claimed(lease) => lease,
        other => panic!("{other:?}"),
    };
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
    drop((claim, store));
    // Its holder is gone.
    let again = builder(&disk).open().unwrap();
    assert!(matches!(again.claim("t", "k"), Ok(Claim::Claimed(_))));
}

type Future<T> = Pin<Box<StoreFuture<T>>>;

/// Drops what it has when it is woken, as the waker of a runtime that has ended does.
struct Dropping<T>(Mutex<Option<(Future<T>, Store)>>);

impl<T: 'static> Wake for Dropping<T> {
    fn wake(self: Arc<Self>) {
        let had = self.0.lock().unwrap().take();
        drop(had);
    }
}

impl<T: 'static> Dropping<T> {
    /// Polls the future once; from then on the waker alone has it, and the store's last handle.
    fn begin(future: StoreFuture<T>, store: Store) {
        let dropping = Arc::new(Dropping(Mutex::new(None)));
        let waker = Waker::from(dropping.clone());
        let mut future = Box::pin(future);
        // Held, so that a wake-up waits for what it is to drop.
        let mut place = dropping.0.lock().unwrap();
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        *place = Some((future, store));
    }
}

#[test]
fn the_last_handle_may_go_on_the_committer_thread() {
    let (store, gate, disk) = gated(|builder| builder);
    let held = match store.claim("t", "held").unwrap() {
        Claim::Claimed(lease) => lease,
        other => panic!("{other:?}"),
    };
    gate.shut();
    let claim = store.claim_async("t", "k");
    let mut completed = Task::new(held.complete_async("done"));
    Dropping::begin(claim, store);
    gate.until_reached();
    // Accepted, and still in the queue when the store closes.
    assert!(completed.poll().is_pending());
    drop((completed, held));
    gate.open();
    until("the store is closed", || builder(&disk).open().is_ok());
    let again = builder(&disk).open().unwrap();
    assert!(matches!(again.claim("t", "held"), Ok(Claim::Done(_))));
    assert!(matches!(again.claim("t", "k"), Ok(Claim::Claimed(_))));
}

#[test]
fn the_last_handle_may_go_on_the_deadline_thread() {
    let (store, _, disk) = gated(|builder| builder);
    let held = match store.claim("t", "k").unwrap() {
        Claim::Claimed(lease) => lease,
        other => panic!("{other:?}"),
    };
    let soon = Duration::from_millis(50);
    Dropping::begin(store.claim_or_wait_async("t", "k", soon), store);
    drop(held);
    until("the store is closed", || builder(&disk).open().is_ok());
}

/// Closes the store when it is woken.
struct Closing(Store, std::sync::mpsc::Sender<Result<()>>);

impl Wake for Closing {
    fn wake(self: Arc<Self>) {
        self.1.send(self.0.close()).unwrap();
    }
}

#[test]
fn a_waker_may_close_the_store() {
    for leads in [false, true] {
        let (store, gate, _) = gated(|builder| builder);
        let held = match store.claim("t", "k").unwrap() {
            Claim::Claimed(lease) => lease,
            other => panic!("{other:?}"),
        };
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
