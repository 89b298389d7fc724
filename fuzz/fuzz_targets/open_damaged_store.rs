//! Opens a closed store whose files were damaged at rest: never a panic, never bytes that the key
//! did not have. After a verification that found everything whole, every key is there; after one
//! that found damage, or as soon as the store is open if its base had been sealed, no key that was
//! there is given out as new.
//!
//! Input: which store, then edits of its files, the base's mostly.

#![no_main]

use std::sync::OnceLock;

use firstclaim::Error;
use firstclaim::internals::Engine;
use firstclaim::internals::record::{Record, Takeover};
use firstclaim::internals::transition::Reply;
use firstclaim_fuzz::damage::{damage, disk_of};
use firstclaim_fuzz::input::Input;
use firstclaim_fuzz::made::{Made, Maker, claim};
use firstclaim_fuzz::panics::{contained_or_ended, may_end};
use firstclaim_fuzz::steps;
use libfuzzer_sys::fuzz_target;

const MOST_EDITS: usize = 8;
const SEAL: &str = "base.seal";

fuzz_target!(|bytes: &[u8]| contained_or_ended(bytes, run));

fn run(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    static MADE: OnceLock<Vec<Made>> = OnceLock::new();
    let made = input.pick(MADE.get_or_init(|| vec![small(), large()]));
    let mut files = made.files.clone();
    if input.byte().is_multiple_of(2) {
        // As long bases are, and those of stores that were not closed.
        files.remove(SEAL);
    }
    for _ in 0..MOST_EDITS {
        if input.is_empty() {
            break;
        }
        let any_file = input.byte() >= 224;
        damage(&mut files, |name| any_file || name == "base.redb", input);
    }
    let names: Vec<&String> = files.keys().collect();
    if names.is_empty() {
        return; // a new store's directory
    }
    let sealed = files.get(SEAL) == made.files.get(SEAL);
    if !sealed {
        may_end();
    }
    let engine = match Engine::open(disk_of(&files), made.options()) {
        Ok(engine) => engine,
        Err(error) => return check_clear(&error),
    };
    check_bytes(made, &engine, |_| true);
    if sealed {
        return check_no_false_vacant(made, &engine, files == made.files);
    }
    match engine.verify() {
        Ok(_) => {
            let shown = made.shown(&engine).expect("it was verified");
            for (name, record) in made.acknowledged() {
                let found = shown.get(name) == Some(record);
                assert!(found, "verified, but {name} is not what it was; {names:?}");
            }
            check_no_false_vacant(made, &engine, true);
        }
        Err(error) => {
            check_clear(&error);
            check_no_false_vacant(made, &engine, false);
            // Writing to the base and reopening it changes nothing of what was done.
            if let Err(error) = engine.checkpoint() {
                check_clear(&error);
            }
            check_bytes(made, &engine, |record| !record.is_unfinished());
        }
    }
}

fn check_clear(error: &Error) {
    let clear = matches!(
        error,
        Error::Corrupt { .. } | Error::Io(_) | Error::Format { .. }
    );
    assert!(clear, "not a clear error: {error:?}");
}

/// Every key whose last record `of` picks shows a record that it had, nothing, or an error.
fn check_bytes(made: &Made, engine: &Engine, of: impl Fn(&Record) -> bool) {
    let picked = made.acknowledged().iter().filter(|(_, record)| of(record));
    for (name, _) in picked {
        match engine.peek(&steps::key(name)) {
            Ok(Some((record, _))) => made.check_had(name, &record),
            Ok(None) => {}
            Err(error) => check_clear(&error),
        }
    }
}

/// Claims every key that has a record: what was done stays done, and what was interrupted or
/// released says so.
fn check_no_false_vacant(made: &Made, engine: &Engine, whole: bool) {
    for (name, record) in made.acknowledged() {
        let answer = match steps::commit(engine, name, claim(Takeover::Gone)) {
            Ok(answer) => answer,
            Err(error) => {
                assert!(!whole, "{name} was verified: {error:?}");
                check_clear(&error);
                continue;
            }
        };
        let expected = match (record.is_unfinished(), record.takeover) {
            (false, _) => Reply::Done,
            (true, Takeover::Never) => Reply::InFlight { interrupted: true },
            (true, _) => Reply::Claimed,
        };
        let attempt = record.attempt + u32::from(answer.reply == Reply::Claimed);
        let shown = answer.record.as_deref().expect("the key has a record");
        assert_eq!(
            (answer.reply, shown.attempt, shown.response()),
            (expected, attempt, record.response()),
            "{name} is not as it was: {}",
            short(record)
        );
    }
}

fn short(record: &Record) -> String {
    format!("fence {}, attempt {}", record.fence, record.attempt)
}

/// Unfinished records of every kind, and done ones in tables open and closed.
fn small() -> Made {
    let mut store = Maker::new();
    store.claim("never", Takeover::Never);
    let fence = store.claim("saved", Takeover::Gone);
    store.save("saved", fence, 100);
    let fence = store.claim("freed", Takeover::Gone);
    store.release("freed", fence);
    for n in 0..3 {
        store.done(&format!("a{n}"), n);
    }
    store.checkpoint();
    store.advance(2);
    for n in 0..4 {
        store.done(&format!("b{n}"), 300);
    }
    store.checkpoint();
    store.advance(2);
    store.done("last", 5);
    store.closed()
}

/// Tables with several pages.
fn large() -> Made {
    let mut store = Maker::new();
    for n in 0..30 {
        store.claim(&format!("open{n:03}"), Takeover::Gone);
    }
    for hour in 0..3 {
        for n in 0..60 {
            store.done(&format!("done{hour}-{n:03}"), 10 * n);
        }
        store.checkpoint();
        store.advance(2);
    }
    store.closed()
}
