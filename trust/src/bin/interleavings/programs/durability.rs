//! What is shown is on stable storage.

use std::sync::Arc;

use firstclaim::ManualClock;
use firstclaim::internals::record::{Record, State};
use firstclaim::internals::transition::{Command, Reply};

use crate::kit::{self, HOUR, ModelDisk, at_once, commit, shown, thread};

/// Whatever a caller or a reader is shown is there after a power cut at that moment.
pub fn shown_is_durable() {
    let (disk, clock) = (ModelDisk::default(), ManualClock::new());
    let engine = Arc::new(kit::engine(disk.as_disk(), &clock));
    let check = {
        let (disk, clock) = (disk.clone(), clock.clone());
        move |shown: &Record| {
            // The disk as it was when this was shown; opening it takes a while.
            let left = disk.after_power_cut();
            let after = kit::engine(left.as_disk(), &clock);
            let kept = kit::shown(&after, "k").expect("shown, and lost");
            assert!(kept.fence >= shown.fence, "shown, and lost");
            let is_done = |record: &Record| matches!(record.state, State::Done { .. });
            assert!(
                is_done(&kept) || !is_done(shown),
                "done was shown, and lost"
            );
        }
    };
    let writer = {
        let (engine, check) = (engine.clone(), check.clone());
        thread(move || {
            let claimed = commit(&engine, "k", kit::claim(HOUR)).expect("claims");
            assert_eq!(claimed.reply, Reply::Claimed);
            let record = claimed.record.expect("a record");
            check(&record);
            let complete = Command::Complete {
                fence: record.fence,
                response: Arc::from(&b"k"[..]),
                retain_for: None,
            };
            let completed = commit(&engine, "k", complete).expect("completes");
            check(&completed.record.expect("a record"));
        })
    };
    let reader = {
        let engine = engine.clone();
        thread(move || {
            for _ in 0..2 {
                if let Some(record) = shown(&engine, "k") {
                    check(&record);
                }
            }
        })
    };
    let mover = {
        let engine = engine.clone();
        thread(move || engine.checkpoint().expect("checkpoints"))
    };
    at_once(vec![writer, reader, mover]);
}
