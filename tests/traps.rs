//! The traps of a journal, an overlay and a base of generations, each by its name. The engine is
//! driven step by step, without threads, on a disk in memory and under a clock held by the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "kit/faults.rs"]
mod faults;
#[path = "kit/steps.rs"]
mod steps;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faults::{Fate, FaultDisk, Op};
use firstclaim::internals::record::{Holder, Previous, State};
use firstclaim::internals::transition::{Command, Reply};
use firstclaim::internals::{Disk, Engine, MemoryDisk};
use firstclaim::{Error, ManualClock};
use steps::{claim, commit, complete, key, open, response, run, turn_segments};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn memory() -> (Arc<MemoryDisk>, Arc<dyn Disk>, ManualClock) {
    let disk = Arc::new(MemoryDisk::new());
    (disk.clone(), disk, ManualClock::new())
}

/// What is in there, for the first who asks.
fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap().take()
}

/// The disk as a kill would leave it now.
fn killed(disk: &MemoryDisk) -> Arc<dyn Disk> {
    Arc::new(disk.snapshot())
}

#[test]
fn an_expired_overlay_entry_hides_an_older_base_copy() {
    let (_, disk, clock) = memory();
    let engine = open(&disk, &clock).unwrap();
    // In the base for an hour; then forgotten, claimed anew and done for a minute.
    run(&engine, "k", HOUR, b"old");
    engine.checkpoint().unwrap();
    commit(&engine, "k", Command::Forget { held: false }).unwrap();
    run(&engine, "k", MINUTE, b"new");
    clock.advance(2 * MINUTE);
    assert_eq!(response(&engine, "k"), None);
    engine.checkpoint().unwrap();
    assert_eq!(
        response(&engine, "k"),
        None,
        "the old copy was removed from the base"
    );
    assert_eq!(claim(&engine, "k", HOUR).unwrap().reply, Reply::Claimed);
}

#[test]
fn a_tombstone_with_a_later_claim_over_it_leaves_the_later_claim() {
    let (disk, dyn_disk, clock) = memory();
    let engine = open(&dyn_disk, &clock).unwrap();
    run(&engine, "k", HOUR, b"old");
    engine.checkpoint().unwrap();
    commit(&engine, "k", Command::Forget { held: false }).unwrap();
    let again = claim(&engine, "k", HOUR).unwrap();
    assert_eq!(again.record.as_ref().unwrap().attempt, 1);
    engine.checkpoint().unwrap();
    let fence = again.record.as_ref().unwrap().fence;
    // After a kill too: the journal is void by now, only the base says so.
    let engine = open(&killed(&disk), &clock).unwrap();
    let (record, holder) = engine.peek(&key("k")).unwrap().unwrap();
    assert_eq!((record.fence, holder), (fence, Holder::Gone));
    assert!(matches!(record.state, State::InFlight { .. }));
}

#[test]
fn a_tombstone_outlives_its_checkpoint_only_as_absence() {
    let (disk, dyn_disk, clock) = memory();
    let engine = open(&dyn_disk, &clock).unwrap();
    run(&engine, "k", HOUR, b"old");
    engine.checkpoint().unwrap();
    commit(&engine, "k", Command::Forget { held: false }).unwrap();
    engine.checkpoint().unwrap();
    assert_eq!(response(&engine, "k"), None);
    let engine = open(&killed(&disk), &clock).unwrap();
    assert_eq!(response(&engine, "k"), None);
    assert_eq!(engine.verify().unwrap().records, 0);
}

#[test]
fn a_key_done_again_in_another_generation_has_one_copy() {
    let (_, disk, clock) = memory();
    let engine = open(&disk, &clock).unwrap();
    run(&engine, "k", MINUTE, b"first");
    engine.checkpoint().unwrap();
    clock.advance(2 * MINUTE);
    run(&engine, "k", HOUR, b"second");
    engine.checkpoint().unwrap();
    assert_eq!(response(&engine, "k").unwrap(), b"second");
    assert_eq!(engine.verify().unwrap().records, 1);
}

/// More of them than a checkpoint looks for at once.
#[test]
fn of_many_keys_done_again_in_another_generation_each_has_one_copy() {
    let (_, disk, clock) = memory();
    let mut options = steps::options(&clock);
    (options.transaction_records, options.journal_bytes) = (2, 4 << 20);
    let engine = Engine::open(disk, options).unwrap();
    for retain_for in [MINUTE, HOUR] {
        for n in 0..100 {
            run(&engine, &format!("k{n}"), retain_for, b"done");
        }
        engine.checkpoint().unwrap();
        clock.advance(2 * MINUTE);
    }
    assert_eq!(engine.verify().unwrap().records, 100);
}

/// Has the `n`th sync of the base fail from now on, and counts them.
fn fail_base_sync(disk: &FaultDisk, n: u64) -> Arc<AtomicU64> {
    let syncs = Arc::new(AtomicU64::new(0));
    let counted = syncs.clone();
    disk.set(move |event, _| {
        let is_one = event.op == Op::Sync && event.file.starts_with("base");
        match is_one && counted.fetch_add(1, Ordering::SeqCst) + 1 == n {
            true => Fate::Fails(io::ErrorKind::Other),
            false => Fate::Happens,
        }
    });
    syncs
}

/// An engine whose journal has so many done records, which one transaction takes.
fn with_journal(keys: u64, response: &[u8]) -> (FaultDisk, Engine) {
    let (disk, clock) = (FaultDisk::new(), ManualClock::new());
    let mut options = steps::options(&clock);
    (options.transaction_records, options.journal_bytes) = (1000, 4 << 20);
    let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
    for n in 0..keys {
        run(&engine, &format!("k{n}"), HOUR, response);
    }
    (disk, engine)
}

/// A commit whose last sync fails has happened, and is made once more. Some numbers of records fill a
/// generation, so that the second time they are put into another.
#[test]
fn a_checkpoint_whose_commit_failed_but_happened_leaves_one_copy() {
    for keys in 306..=308 {
        for failing in 1..=3 {
            let (disk, engine) = with_journal(keys, b"done");
            let syncs = fail_base_sync(&disk, failing);
            engine.checkpoint().unwrap();
            assert!(
                syncs.load(Ordering::SeqCst) > 3,
                "the commit was made again"
            );
            assert_eq!(engine.verify().unwrap().records, keys, "sync {failing}");
        }
    }
}

/// A checkpoint that lets others run syncs what it writes before it commits, too.
#[test]
fn a_checkpoint_any_of_whose_syncs_fails_is_made_again_and_whole() {
    let response = [7; 4096];
    let (disk, engine) = with_journal(100, &response);
    let syncs = fail_base_sync(&disk, u64::MAX);
    engine.checkpoint().unwrap();
    let syncs = syncs.load(Ordering::SeqCst);
    assert!(syncs > 3, "{syncs}: more than a commit's own");
    for failing in 1..=syncs {
        let (disk, engine) = with_journal(100, &response);
        fail_base_sync(&disk, failing);
        engine.checkpoint().unwrap();
        assert_eq!(engine.verify().unwrap().records, 100, "sync {failing}");
        for n in 0..100 {
            assert_eq!(
                steps::response(&engine, &format!("k{n}")).unwrap(),
                response,
                "sync {failing}"
            );
        }
    }
}

#[test]
fn a_reader_across_freeze_base_commit_and_drop_sees_the_newer_record() {
    let clock = ManualClock::new();
    let content = {
        let disk = Arc::new(MemoryDisk::new());
        let dyn_disk: Arc<dyn Disk> = disk.clone();
        // One checkpoint for all, and so one long generation that stays open.
        let mut options = steps::options(&clock);
        options.journal_bytes = 16 << 20;
        let engine = Engine::open(dyn_disk, options).unwrap();
        turn_segments(&engine, "z", 1500, HOUR);
        engine.checkpoint().unwrap();
        // So little that the filter is not stored again.
        run(&engine, "y", HOUR, b"little");
        engine.close().unwrap();
        disk.snapshot()
    };
    // Reopened, the generation's filter is not ready, so a reader asks the table; and redb keeps
    // nothing in memory, so it asks the disk.
    let disk = FaultDisk::over(content);
    let mut options = steps::options(&clock);
    options.base_cache_bytes = 0;
    let engine = Engine::open(Arc::new(disk.clone()), options).unwrap();
    assert_eq!(response(&engine, "z999").unwrap(), [7; 1500]);
    let (reached, at_base) = mpsc::channel();
    let (go_on, resume) = mpsc::channel::<()>();
    let hold = Mutex::new(Some((reached, resume)));
    disk.set(move |event, _| {
        if event.op == Op::Read
            && event.file.starts_with("base")
            && let Some((reached, resume)) = take(&hold)
        {
            reached.send(()).unwrap();
            resume.recv().unwrap();
        }
        Fate::Happens
    });
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| response(&engine, "k"));
        at_base
            .recv_timeout(Duration::from_secs(20))
            .expect("the reader asks the base");
        // While it reads: claimed, done, frozen, committed to the base and dropped.
        run(&engine, "k", HOUR, b"newer");
        engine.checkpoint().unwrap();
        go_on.send(()).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), b"newer");
    });
}

#[test]
fn what_is_frozen_answers_until_the_base_has_it() {
    let clock = ManualClock::new();
    let disk = FaultDisk::new();
    let engine = open(&(Arc::new(disk.clone()) as _), &clock).unwrap();
    run(&engine, "k", HOUR, b"kept");
    disk.fail(std::io::ErrorKind::Other, |event| {
        event.op == Op::Write && event.file.starts_with("base")
    });
    assert!(matches!(engine.checkpoint(), Err(Error::Io(_))));
    assert_eq!(response(&engine, "k").unwrap(), b"kept");
    // Commits go on in the next segment meanwhile.
    run(&engine, "l", HOUR, b"after");
    disk.clear();
    engine.checkpoint().unwrap();
    assert_eq!(response(&engine, "k").unwrap(), b"kept");
    assert_eq!(response(&engine, "l").unwrap(), b"after");
    assert_eq!(engine.verify().unwrap().records, 2);
}

#[test]
fn recycled_segments_show_nothing_of_their_earlier_use() {
    let (disk, dyn_disk, clock) = memory();
    let engine = open(&dyn_disk, &clock).unwrap();
    // Long frames first, so that their remains lie behind the short frames of the later use.
    turn_segments(&engine, "a", 60, HOUR);
    run(&engine, "short", HOUR, b"s");
    let segments = |disk: &MemoryDisk| {
        let names = disk.list().unwrap();
        names.iter().filter(|n| n.starts_with("journal-")).count()
    };
    assert!(segments(&disk) <= 3, "{:?}", disk.list());
    let engine = open(&killed(&disk), &clock).unwrap();
    assert_eq!(response(&engine, "short").unwrap(), b"s");
    for n in 0..60 {
        assert_eq!(response(&engine, &format!("a{n}")).unwrap(), [7; 1500]);
    }
}

#[test]
fn a_closed_generation_takes_no_puts_though_its_bucket_is_the_target() {
    let (disk, dyn_disk, clock) = memory();
    let engine = open(&dyn_disk, &clock).unwrap();
    // Small checkpoints make a generation for 256 rows; it is full long before its bucket ends.
    for round in 0..6 {
        for n in 0..100 {
            run(&engine, &format!("{round}-{n}"), 24 * HOUR, b"r");
        }
        engine.checkpoint().unwrap();
    }
    assert_eq!(engine.verify().unwrap().records, 600);
    let tables = engine.verify().unwrap().tables;
    assert!(
        tables >= 3,
        "unfinished and two generations of one bucket, {tables}"
    );
    // Their filters are stored, complete: after a reopening every key is still found.
    let engine = open(&killed(&disk), &clock).unwrap();
    for round in 0..6 {
        for n in 0..100 {
            assert!(response(&engine, &format!("{round}-{n}")).is_some());
        }
    }
}

#[test]
fn release_after_an_interruption_does_not_hide_it() {
    let (disk, dyn_disk, clock) = memory();
    let engine = open(&dyn_disk, &clock).unwrap();
    drop(claim(&engine, "k", HOUR).unwrap());
    let second = claim(&engine, "k", HOUR).unwrap();
    let record = second.record.clone().unwrap();
    assert_eq!(record.previous(), Previous::Interrupted);
    let fence = record.fence;
    commit(&engine, "k", Command::Release { fence }).unwrap();
    // The released lease is refused, even though the key is in flight again.
    assert!(matches!(
        complete(&engine, "k", fence, b"x"),
        Err(Error::Fenced)
    ));
    for engine in [engine, open(&killed(&disk), &clock).unwrap()] {
        let third = claim(&engine, "k", HOUR).unwrap().record.unwrap();
        assert_eq!(
            (third.attempt, third.previous()),
            (3, Previous::Interrupted)
        );
        assert!(third.fence > fence);
    }
}

#[test]
fn a_second_recovery_after_the_first_finds_the_same() {
    let (disk, dyn_disk, clock) = memory();
    let engine = open(&dyn_disk, &clock).unwrap();
    turn_segments(&engine, "a", 20, HOUR);
    let last = claim(&engine, "open", HOUR).unwrap().record.unwrap();
    let first_disk = Arc::new(disk.snapshot());
    let first = open(&(first_disk.clone() as _), &clock).unwrap();
    let second = open(&killed(&first_disk), &clock).unwrap();
    drop(first);
    for n in 0..20 {
        assert_eq!(response(&second, &format!("a{n}")).unwrap(), [7; 1500]);
    }
    let taken = claim(&second, "open", HOUR).unwrap().record.unwrap();
    assert!(taken.fence > last.fence);
    assert_eq!(taken.previous(), Previous::Interrupted);
}

#[test]
fn journal_length_and_retention_may_change_between_openings() {
    let (disk, dyn_disk, clock) = memory();
    let mut options = steps::options(&clock);
    let engine = Engine::open(dyn_disk.clone(), options.clone()).unwrap();
    turn_segments(&engine, "a", 30, HOUR);
    run(&engine, "short", MINUTE, b"s");
    for (round, bytes) in [(1, 256 * 1024), (2, 16 * 1024), (3, 64 * 1024)] {
        options.journal_bytes = bytes;
        let engine = Engine::open(killed(&disk), options.clone()).unwrap();
        turn_segments(&engine, &format!("b{round}-"), 30, 3 * HOUR);
        for n in 0..30 {
            assert!(response(&engine, &format!("a{n}")).is_some());
        }
        assert_eq!(response(&engine, "short").unwrap(), b"s");
        engine.close().unwrap();
    }
    let engine = Engine::open(killed(&disk), options).unwrap();
    clock.advance(2 * HOUR);
    assert_eq!(response(&engine, "a0"), None);
    assert!(engine.sweep().unwrap().done > 0);
}

#[test]
fn a_long_recovery_point_fits_after_limits_and_segments_shrank() {
    let (disk, dyn_disk, clock) = memory();
    let mut options = steps::options(&clock);
    options.limits.recovery_point_bytes = 100_000;
    options.journal_bytes = 256 * 1024;
    let engine = Engine::open(dyn_disk, options).unwrap();
    let fence = claim(&engine, "k", HOUR).unwrap().record.unwrap().fence;
    let point: Arc<[u8]> = vec![5; 100_000].into();
    let save = Command::Save {
        fence,
        point: point.clone(),
    };
    commit(&engine, "k", save).unwrap();
    engine.close().unwrap();
    // Smaller limits, and segments that could not hold it.
    let disk = Arc::new(disk.snapshot());
    let engine = open(&(disk.clone() as _), &clock).unwrap();
    let taken = claim(&engine, "k", HOUR).unwrap().record.unwrap();
    assert_eq!(taken.recovery_point, Some(point));
    turn_segments(&engine, "a", 100, HOUR);
    let engine = open(&killed(&disk), &clock).unwrap();
    for n in 0..100 {
        assert!(response(&engine, &format!("a{n}")).is_some(), "a{n}");
    }
}

#[test]
fn a_clock_behind_at_reopening_revives_nothing_and_gives_no_fence_twice() {
    let (disk, dyn_disk, clock) = memory();
    let engine = open(&dyn_disk, &clock).unwrap();
    let fence = run(&engine, "k", MINUTE, b"r");
    clock.advance(2 * MINUTE);
    // Any frame carries the time.
    drop(claim(&engine, "other", HOUR).unwrap());
    let disk = killed(&disk);
    let behind = ManualClock::at(std::time::UNIX_EPOCH + Duration::from_secs(1_000));
    let engine = open(&disk, &behind).unwrap();
    assert_eq!(response(&engine, "k"), None);
    let again = claim(&engine, "k", MINUTE).unwrap().record.unwrap();
    assert!(again.fence > fence);
    // Time runs on from what was persisted, with the clock.
    complete(&engine, "k", again.fence, b"r2").unwrap();
    behind.advance(MINUTE - Duration::from_secs(1));
    assert!(response(&engine, "k").is_some());
    behind.advance(Duration::from_secs(1));
    assert_eq!(response(&engine, "k"), None);
}

#[test]
fn what_a_sweep_removed_stays_removed_with_a_clock_behind() {
    let (disk, dyn_disk, clock) = memory();
    let engine = open(&dyn_disk, &clock).unwrap();
    run(&engine, "k", MINUTE, b"r");
    run(&engine, "kept", 3 * HOUR, b"r");
    engine.checkpoint().unwrap();
    clock.advance(HOUR);
    assert_eq!(engine.sweep().unwrap().done, 1);
    let at_sweep = firstclaim::Clock::now(&clock);
    let behind = ManualClock::at(std::time::UNIX_EPOCH);
    let engine = open(&killed(&disk), &behind).unwrap();
    assert!(std::time::SystemTime::from(engine.now()) >= at_sweep);
    assert_eq!(response(&engine, "kept").unwrap(), b"r");
}

#[test]
fn unfinished_records_expire_by_sweep_but_not_under_a_live_holder() {
    let (_, disk, clock) = memory();
    let engine = open(&disk, &clock).unwrap();
    drop(claim(&engine, "gone", MINUTE).unwrap());
    let held = claim(&engine, "held", MINUTE).unwrap();
    engine.checkpoint().unwrap();
    clock.advance(HOUR);
    assert_eq!(engine.sweep().unwrap().unfinished, 1);
    let left = engine.unfinished(&[]).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].0, key("held"));
    drop(held);
    assert_eq!(
        engine.unfinished(&[]).unwrap().len(),
        0,
        "expired with its holder"
    );
}

#[test]
fn later_commands_of_a_batch_see_earlier_ones() {
    use firstclaim::internals::Request;
    let (_, disk, clock) = memory();
    let engine = open(&disk, &clock).unwrap();
    let request = |command: &Command| Request::new(key("k"), command.clone());
    let claim = Command::Claim(steps::terms(HOUR));
    let answers = engine.commit(&[request(&claim), request(&claim), request(&claim)]);
    let replies: Vec<_> = answers.iter().map(|a| a.as_ref().unwrap().reply).collect();
    let in_flight = Reply::InFlight { interrupted: false };
    assert_eq!(replies, [Reply::Claimed, in_flight, in_flight]);
}

#[test]
fn a_batch_longer_than_a_segment_is_cut_to_fit() {
    use firstclaim::internals::Request;
    let (disk, dyn_disk, clock) = memory();
    let engine = open(&dyn_disk, &clock).unwrap();
    let names: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let claims: Vec<Request> = names
        .iter()
        .map(|name| Request::new(key(name), Command::Claim(steps::terms(HOUR))))
        .collect();
    let granted = engine.commit(&claims);
    let completes: Vec<Request> = names
        .iter()
        .zip(&granted)
        .map(|(name, answer)| {
            let complete = Command::Complete {
                fence: answer.as_ref().unwrap().record.as_ref().unwrap().fence,
                response: vec![3; 4096].into(),
                retain_for: None,
            };
            Request::new(key(name), complete)
        })
        .collect();
    assert!(engine.commit(&completes).iter().all(Result::is_ok));
    let engine = open(&killed(&disk), &clock).unwrap();
    for name in &names {
        assert_eq!(response(&engine, name).unwrap(), [3; 4096]);
    }
}
