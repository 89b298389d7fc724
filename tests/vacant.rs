//! When a key may be called vacant: not while a commit under way may still go on from its expired
//! record, and not after a verification that met damage.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)] // a test starts threads

#[path = "kit/faults.rs"]
mod faults;
#[path = "kit/steps.rs"]
mod steps;

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use faults::{Event, Fate, FaultDisk, Op};
use firstclaim::internals::record::{Previous, Takeover};
use firstclaim::internals::transition::{Command, Reply, Terms};
use firstclaim::internals::{Disk, Engine, EngineOptions, Request, Tried};
use firstclaim::{Error, ManualClock};
use steps::{claim, commit, key, open, options, run, terms};

const MINUTE: Duration = Duration::from_secs(60);
/// What a reader who does not wait would need at most; only a mistake is caught by it.
const A_MOMENT: Duration = Duration::from_millis(200);

fn is_journal_sync(event: &Event<'_>) -> bool {
    event.op == Op::Sync && event.file.starts_with("journal-0")
}

/// The previous and the number of the attempt that a reader sees, and whether it is listed.
fn seen(engine: &Engine) -> (Option<(Previous, u32)>, usize) {
    let listed = engine.unfinished(&[]).unwrap().len();
    let peek = engine.peek(&key("k")).unwrap();
    (peek.map(|(r, _)| (r.previous(), r.attempt)), listed)
}

/// What a claim found out by itself before its turn to commit counts only as long as it can be right.
#[test]
fn a_key_found_vacant_that_was_done_before_the_commit_is_done() {
    for moves in [0, 1, 2] {
        let clock = ManualClock::new();
        let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
        let engine = open(&disk, &clock).unwrap();
        let terms = terms(MINUTE);
        let Tried::MustWrite(vacancy) = engine.try_claim(&key("k"), &terms).unwrap() else {
            panic!("nobody has claimed it");
        };
        assert!(vacancy.is_some());
        run(&engine, "k", MINUTE, b"done");
        for n in 0..moves {
            engine.checkpoint().unwrap();
            run(&engine, &format!("other {n}"), MINUTE, b"done");
            clock.advance(2 * MINUTE / 3);
        }
        let late = Request::new(key("k"), Command::Claim(terms)).seen_vacant(vacancy);
        let expired = moves == 2;
        let reply = engine.commit(&[late]).remove(0).unwrap().reply;
        assert_eq!(
            reply == Reply::Claimed,
            expired,
            "after {moves} checkpoints"
        );
    }
}

#[test]
fn a_key_is_not_called_vacant_while_its_takeover_is_on_its_way() {
    let (disk, clock) = (FaultDisk::new(), ManualClock::new());
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let engine = open(&dyn_disk, &clock).unwrap();
    let takeover = Command::Claim(Terms {
        takeover: Takeover::Expired,
        ..terms(MINUTE)
    });
    let first = commit(&engine, "k", takeover.clone()).unwrap();
    // The lease is over, and but for its holder the record would have expired.
    clock.advance(3 * MINUTE);

    let (syncing, is_syncing) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    disk.set(move |event, _| {
        if is_journal_sync(event) {
            syncing.send(()).unwrap();
            let _ = may_go.lock().unwrap().recv();
        }
        Fate::Happens
    });
    thread::scope(|scope| {
        let second = scope.spawn(|| commit(&engine, "k", takeover).unwrap());
        is_syncing.recv().unwrap();
        // It was decided while this holder was there.
        drop(first);
        let (tell, told) = mpsc::channel();
        let engine = &engine;
        scope.spawn(move || tell.send(seen(engine)));
        let early = told.recv_timeout(A_MOMENT);
        drop(go);
        let second = second.join().unwrap();
        assert_eq!(second.record.as_ref().unwrap().attempt, 2);
        let seen = early.or_else(|_| told.recv()).unwrap();
        assert_eq!(seen, (Some((Previous::Interrupted, 2)), 1));
    });
}

#[test]
fn a_key_whose_last_change_failed_is_not_called_vacant() {
    check_unknown(|disk| disk.fail(ErrorKind::Other, is_journal_sync));
}

#[test]
fn a_key_whose_last_change_panicked_is_not_called_vacant() {
    check_unknown(|disk| {
        disk.set(|event, _| match is_journal_sync(event) {
            true => panic!("the test's panic"),
            false => Fate::Happens,
        });
    });
}

/// Renews a lease by a commit that goes wrong after its frame was written.
fn check_unknown(go_wrong: impl FnOnce(&FaultDisk)) {
    let (disk, clock) = (FaultDisk::new(), ManualClock::new());
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let engine = open(&dyn_disk, &clock).unwrap();
    let lease = claim(&engine, "k", MINUTE).unwrap();
    let other = claim(&engine, "other", MINUTE).unwrap();
    go_wrong(&disk);
    let renew = Command::Renew {
        fence: lease.record.as_ref().unwrap().fence,
        lease_for: 60 * MINUTE,
    };
    let renewed = catch_unwind(AssertUnwindSafe(|| commit(&engine, "k", renew)));
    assert!(matches!(renewed, Err(_) | Ok(Err(Error::Indeterminate))));
    drop((lease, other));
    // Without the renewal it has expired now, with it it has not.
    clock.advance(3 * MINUTE);
    let is_unknown = |error: Option<Error>| matches!(error, Some(Error::Poisoned));
    assert!(is_unknown(engine.peek(&key("k")).err()));
    assert!(is_unknown(engine.unfinished(&[]).err()));
    let forget = Command::Forget { held: false };
    assert!(is_unknown(commit(&engine, "k", forget.clone()).err()));
    assert!(engine.peek(&key("other")).unwrap().is_none());
    assert!(commit(&engine, "other", forget).is_ok());
    drop(engine);

    disk.clear();
    let engine = open(&dyn_disk, &clock).unwrap();
    assert_eq!(seen(&engine), (Some((Previous::None, 1)), 1));
}

/// Names of done keys in three generations of several pages, by generation, and of one that is unfinished,
/// all in the base of `disk`.
fn fill_base(disk: &Arc<dyn Disk>, clock: &ManualClock) -> Vec<Vec<String>> {
    let engine = open(disk, clock).unwrap();
    let mut names = vec![Vec::new(); 3];
    for n in 0..90 {
        let name = format!("k{n}");
        run(
            &engine,
            &name,
            [60, 48 * 60, 240 * 60][n % 3] * MINUTE,
            &[7; 600],
        );
        names[n % 3].push(name);
    }
    let never = Command::Claim(Terms {
        takeover: Takeover::Never,
        ..terms(MINUTE)
    });
    drop(commit(&engine, "open", never).unwrap());
    engine.checkpoint().unwrap();
    names
}

/// The `nth` read of the base gives less than was asked for; tells whether there was one.
fn shorten(disk: &FaultDisk, nth: usize) -> impl Fn() -> bool + use<> {
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = reads.clone();
    disk.set(move |event, _| {
        let is_read = event.op == Op::Read && event.file == "base.redb";
        match is_read && counted.fetch_add(1, Ordering::SeqCst) == nth {
            true => Fate::Fails(ErrorKind::UnexpectedEof),
            false => Fate::Happens,
        }
    });
    move || reads.load(Ordering::SeqCst) > nth
}

/// Opens with too little memory to keep what the opening has read.
fn open_without_cache(disk: &Arc<dyn Disk>, clock: &ManualClock) -> firstclaim::Result<Engine> {
    let options = EngineOptions {
        base_cache_bytes: 4096,
        ..options(clock)
    };
    Engine::open(disk.clone(), options)
}

/// Which generations do not answer for their keys; none is called vacant, nor what was interrupted.
fn silent_generations(engine: &Engine, names: &[Vec<String>], nth: usize) -> usize {
    match claim(engine, "open", MINUTE) {
        Ok(answer) => assert_eq!(
            answer.reply,
            Reply::InFlight { interrupted: true },
            "read {nth}"
        ),
        Err(Error::Corrupt { .. }) => {}
        Err(other) => panic!("read {nth}: {other}"),
    }
    let is_silent = |names: &&Vec<String>| {
        let mut silent = false;
        for name in names.iter() {
            match claim(engine, name, MINUTE) {
                Ok(answer) => assert_eq!(answer.reply, Reply::Done, "{name}, read {nth}"),
                Err(Error::Corrupt { .. }) => silent = true,
                Err(other) => panic!("{name}, read {nth}: {other}"),
            }
        }
        silent
    };
    names.iter().filter(is_silent).count()
}

#[test]
fn a_verification_that_meets_a_page_beyond_the_file_goes_on_to_the_other_tables() {
    let (disk, clock) = (FaultDisk::new(), ManualClock::new());
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let names = fill_base(&dyn_disk, &clock);
    for nth in 0.. {
        assert!(nth < 1000, "there is no end of reads");
        let engine = open_without_cache(&dyn_disk, &clock).unwrap();
        let was_short = shorten(&disk, nth);
        let verified = engine.verify();
        disk.clear();
        let silent = silent_generations(&engine, &names, nth);
        match &verified {
            Ok(_) => {
                assert!(!was_short() && silent == 0, "read {nth}");
                assert!(nth > 10, "too few reads to mean much: {nth}");
                return;
            }
            Err(Error::Corrupt { .. }) => assert!(was_short() && silent <= 1, "read {nth}"),
            Err(other) => panic!("read {nth}: {other}"),
        }
    }
}

#[test]
fn what_an_opening_could_not_read_is_not_vacant_after_a_verification_that_could() {
    let (disk, clock) = (FaultDisk::new(), ManualClock::new());
    let dyn_disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let names = fill_base(&dyn_disk, &clock);
    for nth in 0.. {
        assert!(nth < 1000, "there is no end of reads");
        let was_short = shorten(&disk, nth);
        let opened = open_without_cache(&dyn_disk, &clock);
        disk.clear();
        match opened {
            Ok(engine) => {
                engine.verify().unwrap();
                silent_generations(&engine, &names, nth);
            }
            Err(Error::Corrupt { .. }) => assert!(was_short(), "read {nth}"),
            Err(other) => panic!("read {nth}: {other}"),
        }
        if !was_short() {
            assert!(nth > 10, "too few reads to mean much: {nth}");
            return;
        }
    }
}
