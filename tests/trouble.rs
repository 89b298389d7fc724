//! A disk that fails, fills up or stands still, and a commit that panics: clear errors, nothing
//! lost, nobody hangs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // tests start threads

#[path = "kit/faults.rs"]
mod faults;

use std::io::ErrorKind;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faults::{Event, Fate, FaultDisk, Op};
use firstclaim::{Builder, Claim, Error, Lease, Limits, ManualClock, Store};

const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(3600);

fn options(disk: &FaultDisk) -> Builder {
    let limits = Limits {
        response_bytes: 4096,
        recovery_point_bytes: 1024,
        ..Limits::default()
    };
    Builder::on_disk(Arc::new(disk.clone()))
        .limits(limits)
        .journal_bytes(64 * 1024)
        .base_cache_bytes(1 << 20)
        .sweep_every(LONG)
        .checkpoint_every(LONG)
}

/// What is in there, for the first who asks.
fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap().take()
}

fn claimed(store: &Store, key: &str) -> Lease {
    match store.claim("t", key).unwrap() {
        Claim::Claimed(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn is_done(store: &Store, key: &str, response: &[u8]) -> bool {
    matches!(store.claim("t", key), Ok(Claim::Done(r)) if r.bytes() == response)
}

/// On a segment in use; the spare one is written by another thread when it likes.
fn is_journal(event: &Event<'_>) -> bool {
    event.file.starts_with("journal-0")
}

fn is_base(event: &Event<'_>) -> bool {
    event.file.starts_with("base")
}

#[test]
fn a_failed_sync_poisons_until_reopened_and_replays_go_on() {
    let disk = FaultDisk::new();
    let store = options(&disk).open().unwrap();
    claimed(&store, "done").complete("r").unwrap();
    let running = claimed(&store, "running");
    disk.fail(ErrorKind::Other, |e| is_journal(e) && e.op == Op::Sync);
    assert!(matches!(store.claim("t", "new"), Err(Error::Indeterminate)));
    disk.clear();
    // The disk is well again, but what it kept of the failed sync is unknown.
    assert!(matches!(store.claim("t", "other"), Err(Error::Poisoned)));
    assert!(matches!(running.complete("x"), Err(Error::Poisoned)));
    assert!(is_done(&store, "done", b"r"));
    assert!(matches!(
        store.claim("t", "running"),
        Ok(Claim::InFlight(_))
    ));
    assert!(store.stats().poisoned && store.stats().trouble.is_some());
    assert!(matches!(store.close(), Err(Error::Poisoned)));
    drop(running);
    let store = options(&disk).open().unwrap();
    assert!(is_done(&store, "done", b"r"));
    // Settled one way or the other.
    let new = store.claim("t", "new").unwrap();
    assert!(matches!(new, Claim::Claimed(lease) if lease.attempt() <= 2));
}

#[test]
fn a_failed_write_poisons_too() {
    let disk = FaultDisk::new();
    let store = options(&disk).open().unwrap();
    disk.set(|e, _| match e.op {
        Op::Write if is_journal(e) => Fate::CutShort(e.bytes / 2),
        _ => Fate::Happens,
    });
    assert!(matches!(store.claim("t", "k"), Err(Error::Indeterminate)));
    disk.clear();
    assert!(matches!(store.claim("t", "k"), Err(Error::Poisoned)));
}

#[test]
fn a_panic_in_a_commit_answers_everybody_and_guesses_nothing() {
    let disk = FaultDisk::new();
    let store = options(&disk).open().unwrap();
    claimed(&store, "done").complete("r").unwrap();
    disk.set(|e, _| {
        assert!(!(is_journal(e) && e.op == Op::Write), "the test's panic");
        Fate::Happens
    });
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|n| {
                let store = &store;
                scope.spawn(move || store.claim("t", format!("k{n}")))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for answer in answers {
        assert!(matches!(
            answer,
            Err(Error::Indeterminate | Error::Poisoned)
        ));
    }
    disk.clear();
    assert!(is_done(&store, "done", b"r"));
    assert!(matches!(store.claim("t", "k0"), Err(Error::Poisoned)));
    drop(store);
    let store = options(&disk).open().unwrap();
    assert!(is_done(&store, "done", b"r"));
    assert!(matches!(store.claim("t", "k0"), Ok(Claim::Claimed(_))));
}

#[test]
fn a_lease_released_while_its_thread_panics_poisons_nothing() {
    /// What an operation that is cut short may have to clean up.
    struct ReleaseOnDrop(Lease);
    impl Drop for ReleaseOnDrop {
        fn drop(&mut self) {
            self.0.release().unwrap();
        }
    }
    let store = options(&FaultDisk::new()).open().unwrap();
    let lease = claimed(&store, "k");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _releases = ReleaseOnDrop(lease);
        panic!("the test's panic");
    }));
    assert!(panicked.is_err());
    assert!(!store.stats().poisoned);
    assert_eq!(claimed(&store, "k").attempt(), 2);
}

#[test]
fn a_full_disk_is_no_space_replays_go_on_and_writes_resume() {
    let disk = FaultDisk::new();
    let store = options(&disk).open().unwrap();
    claimed(&store, "done").complete("r").unwrap();
    // No file may grow, and no new one be made.
    disk.fail(ErrorKind::StorageFull, |e| {
        (is_base(e) && e.op.changes()) || matches!(e.op, Op::Create | Op::SetLen)
    });
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for n in 0..200 {
        match store.claim("t", format!("k{n}")) {
            Ok(Claim::Claimed(lease)) => match lease.complete(vec![1; 2000]) {
                Ok(()) => acknowledged.push(n),
                Err(Error::NoSpace) => {
                    refused += 1;
                    lease.release().ok();
                }
                Err(other) => panic!("{other}"),
            },
            Err(Error::NoSpace) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 0 && !acknowledged.is_empty());
    assert!(is_done(&store, "done", b"r"));
    assert!(!store.stats().poisoned);
    disk.clear();
    // By itself, without a reopening, as soon as the next try of the checkpoint succeeds.
    let resumed = (0..100).find_map(|_| match store.claim("t", "after") {
        Ok(Claim::Claimed(lease)) => Some(lease),
        _ => {
            std::thread::sleep(Duration::from_millis(50));
            None
        }
    });
    resumed.expect("writes resume").complete("a").unwrap();
    store.checkpoint().unwrap();
    for n in acknowledged {
        assert!(is_done(&store, &format!("k{n}"), &[1; 2000]));
    }
    store.verify().unwrap();
}

#[test]
fn a_base_that_cannot_be_read_is_io_never_vacant_and_heals() {
    let content = {
        let disk = FaultDisk::new();
        let store = options(&disk).journal_bytes(8 << 20).open().unwrap();
        // Longer than what redb keeps in memory.
        for n in 0..700 {
            claimed(&store, &format!("k{n}"))
                .complete([5; 4000])
                .unwrap();
        }
        store.close().unwrap();
        disk.content().snapshot()
    };
    let disk = FaultDisk::over(content);
    let store = options(&disk).open().unwrap();
    store.verify().unwrap();
    disk.fail(ErrorKind::Other, is_base);
    let mut failed = 0;
    for n in 0..700 {
        match store.claim("t", format!("k{n}")) {
            Ok(Claim::Done(response)) => assert_eq!(response.bytes(), [5; 4000]),
            Err(Error::Io(_)) => failed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(failed > 0);
    // What needs no base goes on.
    assert!(!store.stats().poisoned);
    disk.clear();
    for n in 0..700 {
        let healed = (0..100).any(|_| {
            let done = is_done(&store, &format!("k{n}"), &[5; 4000]);
            if !done {
                std::thread::sleep(Duration::from_millis(100));
            }
            done
        });
        assert!(healed, "k{n}");
    }
}

#[test]
fn every_limit_of_waiting_is_overloaded_or_indeterminate_and_loses_no_lease() {
    let disk = FaultDisk::new();
    let store = options(&disk)
        .queue_commands(2)
        .queue_wait(Duration::from_millis(200))
        .open()
        .unwrap();
    let (stuck, at_sync) = mpsc::channel();
    let (go_on, resume) = mpsc::channel::<()>();
    let hold = Mutex::new(Some((stuck, resume)));
    disk.set(move |e, _| {
        if is_journal(e)
            && e.op == Op::Sync
            && let Some((stuck, resume)) = take(&hold)
        {
            stuck.send(()).unwrap();
            resume.recv().unwrap();
        }
        Fate::Happens
    });
    std::thread::scope(|scope| {
        let begun = scope.spawn(|| store.claim("t", "begun"));
        at_sync.recv().unwrap();
        let waiting: Vec<_> = (0..6)
            .map(|n| {
                let store = &store;
                scope.spawn(move || store.claim("t", format!("w{n}")))
            })
            .collect();
        for thread in waiting {
            let answer = thread.join().unwrap();
            assert!(matches!(answer, Err(Error::Overloaded)), "{answer:?}");
        }
        // The leader itself is in the sync; it has its answer when that is over.
        go_on.send(()).unwrap();
        assert!(matches!(begun.join().unwrap(), Ok(Claim::Claimed(_))));
    });
    // The withdrawn claims did not happen.
    for n in 0..6 {
        let lease = claimed(&store, &format!("w{n}"));
        assert_eq!(lease.attempt(), 1);
    }
}

#[test]
fn a_lease_that_nobody_waits_for_any_more_is_released() {
    let disk = FaultDisk::new();
    let store = options(&disk)
        .queue_wait(Duration::from_millis(200))
        .open()
        .unwrap();
    let (stuck, at_sync) = mpsc::channel();
    let (go_on, resume) = mpsc::channel::<()>();
    // The first batch gathers the second, whose caller does not lead.
    let hold = Mutex::new((2, stuck, resume));
    disk.set(move |e, _| {
        if is_journal(e) && e.op == Op::Sync {
            let (left, stuck, resume) = &mut *hold.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                stuck.send(()).unwrap();
                resume.recv().unwrap();
            }
        }
        Fate::Happens
    });
    std::thread::scope(|scope| {
        scope.spawn(|| store.claim("t", "first"));
        at_sync.recv().unwrap();
        let second = scope.spawn(|| store.claim("t", "second"));
        while store.stats().queued == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        go_on.send(()).unwrap();
        at_sync.recv().unwrap();
        // Its commit has begun; it gives up before the sync ends.
        assert!(matches!(second.join().unwrap(), Err(Error::Indeterminate)));
        go_on.send(()).unwrap();
    });
    let lease = (0..100)
        .find_map(|_| match store.claim("t", "second").unwrap() {
            Claim::Claimed(lease) => Some(lease),
            _ => {
                std::thread::sleep(Duration::from_millis(20));
                None
            }
        })
        .expect("the undelivered lease is given back");
    assert_eq!(lease.previous(), firstclaim::Previous::Released);
    assert_eq!(lease.attempt(), 2);
}

#[test]
fn expired_generations_give_a_full_disk_its_space_back() {
    let disk = FaultDisk::new();
    let clock = ManualClock::new();
    let store = options(&disk).clock(clock.clone()).open().unwrap();
    for n in 0..60 {
        claimed(&store, &format!("old{n}"))
            .complete_for([3; 4000], MINUTE)
            .unwrap();
    }
    // An unfinished record expires as well: removing it needs a frame.
    drop(
        store
            .request("t", "gone")
            .lease_for(MINUTE)
            .retain_for(MINUTE)
            .claim()
            .unwrap(),
    );
    store.checkpoint().unwrap();
    disk.fail(ErrorKind::StorageFull, |e| e.grows);
    let full = (0..500).find_map(|n| {
        let claim = store
            .request("t", format!("new{n}"))
            .retain_for(24 * LONG)
            .claim();
        let done = claim.and_then(|claim| match claim {
            Claim::Claimed(lease) => lease.complete([4; 4000]),
            other => panic!("{other:?}"),
        });
        done.err()
    });
    assert!(matches!(full, Some(Error::NoSpace)), "{full:?}");
    let before = store.stats();
    clock.advance(LONG);
    // It frees what has expired, whatever else it cannot do.
    let _ = store.sweep();
    let after = store.stats();
    // A checkpoint may have brought what was in memory.
    let most = before.base_records + before.overlay_records as u64 - 60;
    assert!(after.base_records <= most, "{before:?} {after:?}");
    let resumed = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        store.claim("t", "resumed").is_ok()
    });
    assert!(resumed, "{:?}", store.stats());
}

#[test]
fn a_checkpoint_whose_base_fails_once_is_made_at_the_second_try() {
    let disk = FaultDisk::new();
    let store = options(&disk).open().unwrap();
    claimed(&store, "k").complete("k").unwrap();
    let fails = Arc::new(Mutex::new(Some(())));
    let fail = fails.clone();
    disk.set(move |e, _| match e.op {
        Op::Write if e.file == "base.redb" && take(&fail).is_some() => {
            Fate::Fails(ErrorKind::Other)
        }
        _ => Fate::Happens,
    });
    store.checkpoint().unwrap();
    assert!(fails.lock().unwrap().is_none(), "nothing failed");
    assert_eq!(store.stats().overlay_records, 0);
    assert!(is_done(&store, "k", b"k"));
}

#[test]
fn a_caller_with_a_slow_base_waits_no_longer_than_told() {
    let disk = FaultDisk::new();
    let store = options(&disk)
        .queue_wait(Duration::from_millis(300))
        .open()
        .unwrap();
    let (go_on, resume) = mpsc::channel::<()>();
    let resume = Mutex::new(resume);
    disk.set(move |e, _| {
        if is_base(e) && e.op == Op::Sync {
            let _ = resume.lock().unwrap().recv();
        }
        Fate::Happens
    });
    // Until a segment is full and its checkpoint stands still.
    let stopped = (0..100).find_map(|n| match store.claim("t", format!("k{n}")) {
        Ok(Claim::Claimed(lease)) => lease.complete([1; 4000]).err(),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Some(error),
    });
    // The call came back though the base is still stuck.
    assert!(matches!(stopped, Some(Error::Overloaded)), "{stopped:?}");
    drop(go_on);
}
