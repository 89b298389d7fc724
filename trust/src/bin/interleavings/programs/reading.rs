//! Readers beside freeze, base commit, publication and the dropping of what was frozen, on the
//! engine alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use firstclaim::ManualClock;
use firstclaim::internals::Seen;
use firstclaim::internals::record::Holder;
use firstclaim::internals::transition::{Command, Reply};

use crate::kit::{self, DAY, HOUR, ModelDisk, at_once, commit, run, shown, thread};

/// What was acknowledged is found, whatever is being moved.
pub fn acknowledged_across_checkpoints() {
    let engine = Arc::new(kit::engine(
        ModelDisk::default().as_disk(),
        &ManualClock::new(),
    ));
    run(&engine, "k", HOUR);
    let reader = {
        let engine = engine.clone();
        thread(move || {
            for _ in 0..3 {
                let record = shown(&engine, "k").expect("acknowledged, and not found");
                assert_eq!(record.response(), Some(&b"k"[..]));
            }
        })
    };
    let mover = |name: &'static str| {
        let engine = engine.clone();
        thread(move || {
            run(&engine, name, DAY);
            engine.checkpoint().expect("checkpoints");
            let record = shown(&engine, name).expect("acknowledged, and not found");
            assert_eq!(record.response(), Some(name.as_bytes()));
        })
    };
    at_once(vec![reader, mover("l"), mover("m")]);
    let verified = engine.verify().expect("whole");
    assert_eq!(verified.records, 3);
    engine.close().expect("closes");
}

/// A reader that is at the base after a key was done and moved there must not answer from what it
/// knew before.
pub fn a_miss_across_a_freeze() {
    let disk = ModelDisk::default();
    let engine = Arc::new(kit::engine(disk.as_disk(), &ManualClock::new()));
    // The filter of this generation keeps the key, so that readers ask the base.
    run(&engine, "k", HOUR);
    engine.checkpoint().expect("checkpoints");
    commit(&engine, "k", Command::Forget { held: false }).expect("forgets");
    engine.checkpoint().expect("checkpoints");

    let moved = Arc::new(AtomicBool::new(false));
    // Whether the reader's last look at the base came after the move.
    let looked_after = Arc::new(AtomicBool::new(false));
    let reader = {
        let (engine, moved, looked_after) = (engine.clone(), moved.clone(), looked_after.clone());
        thread(move || {
            let me = shuttle::current::me();
            let (at_base, moved) = (looked_after.clone(), moved);
            disk.watch_base_reads(move || {
                if shuttle::current::me() == me {
                    at_base.store(moved.load(SeqCst), SeqCst);
                }
            });
            let found =
                shown(&engine, "k").and_then(|record| record.response().map(<[u8]>::to_vec));
            if looked_after.load(SeqCst) {
                assert_eq!(found.as_deref(), Some(&b"k"[..]), "missed what was there");
            }
        })
    };
    let writer = {
        let (engine, moved) = (engine.clone(), moved);
        thread(move || {
            // Another bucket, and so another generation.
            run(&engine, "k", 20 * DAY);
            engine.checkpoint().expect("checkpoints");
            moved.store(true, SeqCst);
        })
    };
    at_once(vec![reader, writer]);
}

/// A holder goes when its key would have expired but for it, and somebody forgets the key. Who shows
/// the key as left behind says that it had not expired when its holder went; then there was nothing to
/// forget.
pub fn gone_while_it_is_forgotten() {
    let clock = ManualClock::new();
    let engine = Arc::new(kit::engine(ModelDisk::default().as_disk(), &clock));
    let held = commit(&engine, "k", kit::claim(HOUR)).expect("claims");
    let is_left = |(_, holder): &Seen| *holder == Holder::Gone;
    let peek = {
        let engine = engine.clone();
        thread(move || {
            let seen = engine.peek(&kit::key("k")).expect("readable");
            seen.as_ref().is_some_and(is_left)
        })
    };
    let list = {
        let engine = engine.clone();
        thread(move || {
            let listed = engine.unfinished(&[]).expect("readable");
            listed.iter().any(|(_, seen)| is_left(seen))
        })
    };
    let go = thread(move || {
        drop(held);
        false
    });
    let forget = {
        let engine = engine.clone();
        thread(move || {
            clock.advance(DAY);
            let answer = commit(&engine, "k", Command::Forget { held: true });
            answer.expect("answered").reply == Reply::Changed
        })
    };
    let outcomes = at_once(vec![peek, list, go, forget]);
    let (was_shown, was_forgotten) = (outcomes[0] || outcomes[1], outcomes[3]);
    assert!(
        !(was_shown && was_forgotten),
        "left behind, and then not expired: {outcomes:?}"
    );
}
