//! Every async call once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use firstclaim::{
    Builder, Claim, Error, Lease, Peek, Previous, Ran, RunError, Store, StoreFuture, Takeover,
};

use crate::executor::block_on;

const HOUR: Duration = Duration::from_secs(3600);

fn store() -> Store {
    Store::in_memory().unwrap()
}

fn lease(claim: Claim) -> Lease {
    match claim {
        Claim::Claimed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn is_send_and_owned<T: Send + 'static>(_: &T) {}

fn bytes(claim: Claim) -> Vec<u8> {
    match claim {
        Claim::Done(response) => response.bytes().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_claim_gives_a_lease_then_in_flight_then_the_response() {
    let store = store();
    let claim = store.claim_async("t", "k");
    is_send_and_owned(&claim);
    let lease = lease(block_on(claim).unwrap());
    let running = block_on(store.claim_async("t", "k")).unwrap();
    assert!(matches!(running, Claim::InFlight(_)));
    block_on(lease.complete_async("done")).unwrap();
    assert_eq!(
        bytes(block_on(store.claim_async("t", "k")).unwrap()),
        b"done"
    );
}

#[test]
fn nothing_happens_before_the_first_poll() {
    let store = store();
    let claim = store.claim_async("t", "k");
    let forget = store.forget_async("t", "other");
    let held = lease(store.claim("t", "other").unwrap());
    let complete = held.complete_async("done");
    assert!(store.peek("t", "k").unwrap().is_none());
    drop((claim, forget, complete));
    assert_eq!(store.stats().leases, 1);
    assert!(matches!(
        store.peek("t", "other").unwrap(),
        Some(Peek::InFlight(_))
    ));
}

#[test]
fn a_lease_is_renewed_saved_released_and_completed() {
    let store = store();
    let first = lease(block_on(store.claim_async("t", "k")).unwrap());
    let end = first.ends_at();
    block_on(first.renew_async(HOUR)).unwrap();
    assert!(first.ends_at() > end);
    block_on(first.save_recovery_point_async("half")).unwrap();
    block_on(first.release_async()).unwrap();
    let second = lease(block_on(store.claim_async("t", "k")).unwrap());
    assert_eq!(second.recovery_point(), Some(&b"half"[..]));
    assert_eq!(second.previous(), Previous::Released);
    block_on(second.complete_for_async("done", HOUR)).unwrap();
    let again = block_on(second.complete_async("other"));
    assert!(matches!(again, Err(Error::AlreadyCompleted)));
    assert!(matches!(
        block_on(first.renew_async(HOUR)),
        Err(Error::Fenced)
    ));
}

#[test]
fn json_is_completed_and_read() {
    let store = store();
    let lease = lease(store.claim("t", "k").unwrap());
    block_on(lease.complete_json_async(&("created", 7))).unwrap();
    let Claim::Done(response) = store.claim("t", "k").unwrap() else {
        panic!()
    };
    assert_eq!(response.json::<(String, u32)>().unwrap().1, 7);
}

#[test]
fn peek_forget_and_resolve() {
    let store = Builder::in_memory()
        .takeover(Takeover::Never)
        .open()
        .unwrap();
    assert!(block_on(store.peek_async("t", "k")).unwrap().is_none());
    assert!(block_on(store.resolve_async("t", "k")).unwrap().is_none());
    let held = lease(store.claim("t", "k").unwrap());
    assert!(matches!(
        block_on(store.forget_async("t", "k")),
        Err(Error::Held)
    ));
    drop(held);
    let resolved = block_on(store.resolve_async("t", "k")).unwrap().unwrap();
    let held = lease(resolved);
    assert_eq!(held.attempt(), 2);
    assert!(block_on(store.forget_held_async("t", "k")).unwrap());
    assert!(!block_on(store.forget_async("t", "k")).unwrap());
}

#[test]
fn a_tenant_has_the_same_calls() {
    let store = store();
    let tenant = store.tenant("t");
    let held = lease(block_on(tenant.claim_async("k")).unwrap());
    let waited = block_on(tenant.claim_or_wait_async("k", Duration::ZERO)).unwrap();
    assert!(matches!(waited, Claim::InFlight(_)));
    assert!(matches!(
        block_on(tenant.resolve_async("k")).unwrap(),
        Some(Claim::InFlight(_))
    ));
    assert!(block_on(tenant.peek_async("k")).unwrap().is_some());
    assert!(block_on(tenant.forget_held_async("k")).unwrap());
    assert!(!block_on(tenant.forget_async("k")).unwrap());
    let ran = block_on(tenant.run_async("k", async |_| Ok::<_, Error>("ran"))).unwrap();
    assert!(matches!(ran, Ran::Executed(_)));
    drop(held);
    assert_eq!(
        bytes(tenant.claim_or_wait("k", Duration::ZERO).unwrap()),
        b"ran"
    );
}

#[test]
fn bad_arguments_are_told_when_awaited() {
    let store = store();
    let empty: StoreFuture<_> = store.claim_async("t", "");
    assert!(matches!(block_on(empty), Err(Error::InvalidKey(_))));
    let short = store.request("t", "k").lease_for(Duration::ZERO);
    assert!(matches!(
        block_on(short.claim_async()),
        Err(Error::InvalidOption(_))
    ));
    let lease = lease(store.claim("t", "k").unwrap());
    let long = vec![0; (1 << 20) + 1];
    let completed = block_on(lease.complete_async(&long));
    assert!(
        matches!(completed, Err(Error::TooLarge { .. })),
        "{completed:?}"
    );
    drop(lease);
    // The operation did run.
    assert!(matches!(store.claim("t", "k").unwrap(), Claim::InFlight(_)));
}

#[test]
fn run_runs_once_with_the_lease_in_hand() {
    let store = store();
    let ran = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let ran = ran.clone();
        let outcome = store.run_async("t", "k", async move |lease: Arc<Lease>| {
            ran.fetch_add(1, SeqCst);
            lease.save_recovery_point_async("half").await?;
            Ok::<_, Error>("ran")
        });
        match block_on(outcome).unwrap() {
            Ran::Executed(response) | Ran::Replayed(response) => {
                assert_eq!(response.bytes(), b"ran");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ran.load(SeqCst), 1);
}

#[test]
fn a_run_that_fails_drops_its_lease() {
    let store = store();
    let failed = store.run_async("t", "k", async |_| Err::<&str, _>("no"));
    assert!(matches!(block_on(failed), Err(RunError::Operation("no"))));
    let next = lease(store.claim("t", "k").unwrap());
    assert_eq!(next.previous(), Previous::Interrupted);
}

#[test]
fn a_run_that_panics_drops_its_lease() {
    let store = store();
    let run = store.run_async("t", "k", async |_| -> Result<&str, Error> {
        panic!("its own")
    });
    let caught = catch_unwind(AssertUnwindSafe(|| block_on(run)));
    assert!(caught.is_err());
    assert_eq!(store.stats().leases, 0);
    let next = lease(store.claim("t", "k").unwrap());
    assert_eq!(next.previous(), Previous::Interrupted);
}

#[test]
fn a_run_keeps_its_lease_renewed() {
    let builder = Builder::in_memory().takeover(Takeover::GoneOrExpired);
    let store = builder.open().unwrap();
    // Long enough that it is renewed in time on a busy machine.
    let (other, lease_for) = (store.clone(), Duration::from_secs(2));
    let request = store.request("t", "k").lease_for(lease_for);
    let ran = request.run_async(async move |lease: Arc<Lease>| {
        let first_end = lease.ends_at();
        // Renewed when the end that the claim gave it had come.
        while lease.ends_at() < first_end + lease_for {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(matches!(other.claim("t", "k"), Ok(Claim::InFlight(_))));
        Ok::<_, Error>("ran")
    });
    assert!(matches!(block_on(ran), Ok(Ran::Executed(_))));
}
