//! Opens made stores whose journal holds arbitrary bytes: never a panic; `Ok` or an error that
//! names the damage; and if `Ok`, nothing that was not there before.
//!
//! As long as no checksum was made right behind a change, `Ok` shows the acknowledged state, or an
//! earlier one only if every frame that is missing was damaged: one that is whole would have been
//! read, or have said that what came before it was synced. Whoever makes checksums right can
//! leave changes out (docs/guarantees.md), but not make records up.
//!
//! Input: which store, then edits of its segments.

#![no_main]

use std::sync::OnceLock;

use firstclaim::Error;
use firstclaim::internals::Engine;
use firstclaim::internals::record::Takeover;
use firstclaim::internals::transition::{Command, Reply};
use firstclaim_fuzz::damage::{Files, damage, disk_of};
use firstclaim_fuzz::input::Input;
use firstclaim_fuzz::made::{Logged, Made, Maker, State, claim};
use firstclaim_fuzz::panics::contained;
use firstclaim_fuzz::segment::{self, FRAMES, HEADERS};
use firstclaim_fuzz::steps;
use libfuzzer_sys::fuzz_target;

const MOST_EDITS: usize = 12;

fuzz_target!(|bytes: &[u8]| contained(|| run(&mut Input::new(bytes))));

fn run(input: &mut Input<'_>) {
    static MADE: OnceLock<Vec<Made>> = OnceLock::new();
    let made = input.pick(MADE.get_or_init(stores));
    let mut files = made.files.clone();
    let mut forged = false;
    for _ in 0..MOST_EDITS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            5 => forged |= forge_header(&mut files, input),
            6 => forged |= forge_frame(&mut files, made, input),
            7 => raw(&mut files, input),
            _ => damage(&mut files, is_segment, input),
        }
    }
    let disk = disk_of(&files);
    let engine = match Engine::open(disk.clone(), made.options()) {
        Ok(engine) => engine,
        Err(Error::Corrupt { .. }) => {
            assert!(!is_unharmed(made, &files), "what the log needs is whole");
            return;
        }
        Err(other) => panic!("not a clear error: {other:?}"),
    };
    let shown = made.shown(&engine).expect("the base is whole");
    for (name, record) in &shown {
        made.check_had(name, record);
    }
    let listed = engine.unfinished(&[]).expect("the base is whole");
    assert!(
        listed.iter().all(|(key, _)| key.tenant() == b"t"
            && made.had.keys().any(|name| name.as_bytes() == key.key()))
    );
    if !forged {
        check_prefix(made, &files, &shown);
    }
    check_going_on(made, &engine, forged);
    drop(engine);
    // What was shown is not unsaid.
    let engine = Engine::open(disk, made.options()).expect("it opened before");
    assert_eq!(made.shown(&engine).expect("the base is whole"), shown);
}

fn stores() -> Vec<Made> {
    vec![
        in_one_segment(),
        in_two_segments(),
        in_a_used_segment(),
        closed(),
    ]
}

fn base() -> Maker {
    let mut store = Maker::new();
    for n in 0..4 {
        store.done(&format!("base{n}"), 40 * n);
    }
    store.claim("open", Takeover::Never);
    store.checkpoint();
    store
}

/// Changes of every kind, some longer than a sector.
fn more(store: &mut Maker) {
    store.done("base9", 700);
    store.forget("base1");
    let fence = store.claim("saved", Takeover::Gone);
    store.save("saved", fence, 600);
    let batch = ["b0", "b1", "b2"].map(|name| (name, claim(Takeover::Expired)));
    store.commit(batch.into());
    let fence = store.claim("freed", Takeover::Gone);
    store.release("freed", fence);
    store.done("last", 10);
}

fn in_one_segment() -> Made {
    let mut store = base();
    more(&mut store);
    store.killed(1)
}

fn in_two_segments() -> Made {
    let mut store = base();
    store.done("first", 900);
    store.claim("second", Takeover::Gone);
    store.checkpoint_in_vain();
    store.done("third", 900);
    store.forget("base2");
    store.done("fourth", 1);
    store.killed(2)
}

/// Stale frames of an earlier use, and of an earlier run, lie beyond the end.
fn in_a_used_segment() -> Made {
    let mut store = base();
    for n in 0..12 {
        store.done(&format!("used{n}"), 1500);
    }
    store.reopen();
    for n in 12..24 {
        store.done(&format!("used{n}"), 1500);
    }
    store.checkpoint();
    more(&mut store);
    store.killed(1)
}

fn closed() -> Made {
    let mut store = base();
    more(&mut store);
    store.closed()
}

fn is_segment(name: &str) -> bool {
    name.starts_with("journal-")
}

fn any_segment<'f>(files: &'f mut Files, input: &mut Input<'_>) -> Option<&'f mut Vec<u8>> {
    let count = files.keys().filter(|name| is_segment(name)).count();
    let nth = input.below(count);
    let segments = files.iter_mut().filter(|(name, _)| is_segment(name));
    segments.map(|(_, bytes)| bytes).nth(nth)
}

/// Changes a field of one or both copies of a header, and makes the checksum right.
fn forge_header(files: &mut Files, input: &mut Input<'_>) -> bool {
    let Some(bytes) = any_segment(files, input) else {
        return false;
    };
    let which = input.byte();
    let field = 8 * usize::from(input.byte() % 8);
    let value = input.number(segment::number(bytes, HEADERS[0] + field));
    for (copy, header) in HEADERS.into_iter().enumerate() {
        if which % 3 == copy as u8 {
            continue;
        }
        if let Some(place) = bytes.get_mut(header + field..header + field + 8) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        segment::reseal_header(bytes, copy);
    }
    true
}

/// Changes bytes of a frame of the log, header or body, and makes the checksum right.
fn forge_frame(files: &mut Files, made: &Made, input: &mut Input<'_>) -> bool {
    if made.log.is_empty() {
        return false;
    }
    let frame = input.pick(&made.log);
    let Some(bytes) = files.get_mut(&frame.file) else {
        return false;
    };
    let at = frame.at
        + match input.byte() {
            header @ 0..192 => 4 * usize::from(header % 16),
            _ => input.below(frame.content.len()),
        };
    let value = input.number(segment::number(bytes, at));
    let width = if input.byte().is_multiple_of(2) { 4 } else { 8 };
    if let Some(place) = bytes.get_mut(at..at + width) {
        place.copy_from_slice(&value.to_le_bytes()[..width]);
    }
    if let Some(seed) = segment::header(bytes).map(segment::seed) {
        segment::reseal_frame(bytes, seed, frame.at);
    }
    true
}

/// Puts the rest of the input in place of the frames, or of the whole segment.
fn raw(files: &mut Files, input: &mut Input<'_>) {
    let Some(bytes) = any_segment(files, input) else {
        return;
    };
    let begin = *input.pick(&[FRAMES, 0, HEADERS[1]]);
    let with = input.take(usize::MAX);
    bytes.resize(bytes.len().max(begin + with.len()), 0);
    bytes[begin..begin + with.len()].copy_from_slice(with);
}

/// Whether everything that recovery needs is as it was.
fn is_unharmed(made: &Made, files: &Files) -> bool {
    made.log.iter().all(|frame| {
        let (was, is) = (&made.files[&frame.file], files.get(&frame.file));
        let whole = is.is_some_and(|is| is.len() == was.len() && is[..FRAMES] == was[..FRAMES]);
        whole && is_intact(made, files, frame)
    }) && !made.log.is_empty()
        && made.files.keys().all(|name| files.contains_key(name))
}

/// Whether a frame can be read as it was: its bytes, and the header its checksum depends on.
fn is_intact(made: &Made, files: &Files, frame: &Logged) -> bool {
    let Some(bytes) = files.get(&frame.file) else {
        return false;
    };
    segment::header(bytes) == segment::header(&made.files[&frame.file])
        && bytes.get(frame.at..frame.at + frame.content.len()) == Some(&frame.content[..])
}

/// The state shown is one that was, and no frame that could be read is missing from it.
fn check_prefix(made: &Made, files: &Files, shown: &State) {
    let last = made.states.iter().rposition(|state| state == shown);
    let Some(last) = last else {
        panic!("no state had just these keys: {:?}", shown.keys());
    };
    let missing = made.log[last..].iter();
    let mut whole = missing.filter(|frame| is_intact(made, files, frame));
    if let Some(frame) = whole.next() {
        panic!(
            "after {last} of {} frames, the one at {} of {} is whole but not there",
            made.log.len(),
            frame.at,
            frame.file
        );
    }
}

/// Claims, checkpoints and verification work.
fn check_going_on(made: &Made, engine: &Engine, forged: bool) {
    let answer = steps::commit(engine, "fresh", claim(Takeover::Gone)).expect("the key is vacant");
    assert_eq!(answer.reply, Reply::Claimed);
    let fence = answer.record.as_ref().expect("a lease").fence.as_u64();
    assert!(
        forged || fence > made.fence,
        "fence {fence} after {}",
        made.fence
    );
    drop(answer);
    let forget = Command::Forget { held: false };
    steps::commit(engine, "fresh", forget).expect("nobody holds it");
    engine.checkpoint().expect("nothing disturbs it");
    engine.verify().expect("the base is whole");
}
