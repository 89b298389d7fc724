//! Damage to the journal.

use std::fs;
use std::sync::Arc;

use firstclaim::ManualClock;
use firstclaim::internals::{Directory, Engine};

use super::*;

#[test]
fn an_undamaged_copy_opens_with_everything() {
    let temp = tempfile::tempdir().unwrap();
    let store = options(&killed(temp.path())).open().unwrap();
    for n in 0..10 {
        assert_done(&store, &format!("base{n}"), &format!("response {n}"));
    }
    for n in 0..5 {
        assert_done(&store, &format!("journal{n}"), &format!("response {n}"));
    }
    store.verify().unwrap();
}

#[test]
fn a_torn_last_frame_is_not_there_and_all_before_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let path = killed(temp.path());
    let segment = live_segment(&path);
    flip(&segment, frames(&segment).pop().unwrap() + 100);
    let store = options(&path).open().unwrap();
    for n in 0..4 {
        assert_done(&store, &format!("journal{n}"), &format!("response {n}"));
    }
    // Its completion was the last frame; its claim was not.
    let last = store.peek("t", "journal4").unwrap().unwrap();
    assert!(matches!(last, firstclaim::Peek::InFlight(running) if running.is_interrupted()));
}

#[test]
fn any_damaged_frame_but_the_last_is_named_with_file_and_offset() {
    let temp = tempfile::tempdir().unwrap();
    let path = killed(temp.path());
    let segment = live_segment(&path);
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let all = frames(&segment);
    for (n, frame) in all[..all.len() - 1].iter().enumerate() {
        let copy = temp.path().join(format!("copy{n}"));
        copy_directory(&path, &copy);
        flip(&copy.join(&name), frame + 80);
        assert_eq!(corrupt_place(&copy), format!("{name} at offset {frame}"));
    }
}

#[test]
fn a_truncated_missing_or_foreign_segment_is_corrupt() {
    let temp = tempfile::tempdir().unwrap();
    let path = killed(temp.path());
    let segment = live_segment(&path);
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let whole = fs::read(&segment).unwrap();

    truncate(&segment, 20_000);
    assert_eq!(corrupt_place(&path), name);
    fs::remove_file(&segment).unwrap();
    assert_eq!(corrupt_place(&path), name);

    let other = tempfile::tempdir().unwrap();
    let foreign = live_segment(&killed(other.path()));
    fs::copy(&foreign, &segment).unwrap();
    assert_eq!(corrupt_place(&path), name);

    fs::write(&segment, &whole).unwrap();
    assert_done(&options(&path).open().unwrap(), "journal4", "response 4");
}

#[test]
fn one_header_of_a_segment_may_be_damaged_but_not_both() {
    let temp = tempfile::tempdir().unwrap();
    let path = killed(temp.path());
    let segment = live_segment(&path);
    flip(&segment, 30);
    let copy = temp.path().join("copy");
    copy_directory(&path, &copy);
    assert_done(&options(&copy).open().unwrap(), "journal4", "response 4");
    flip(&segment, 4096 + 30);
    corrupt_place(&path);
}

#[test]
fn a_stray_segment_is_void_whatever_its_number() {
    let temp = tempfile::tempdir().unwrap();
    let path = killed(temp.path());
    let stray = format!("journal-{:016x}", u64::MAX);
    fs::copy(live_segment(&path), path.join(stray)).unwrap();
    let store = options(&path).open().unwrap();
    assert_done(&store, "journal4", "response 4");
    store.close().unwrap();
    assert_done(&options(&path).open().unwrap(), "journal4", "response 4");
}

/// A directory with two segments whose frames are not in the base yet.
fn two_segments(path: &Path) -> [PathBuf; 2] {
    let clock = ManualClock::new();
    let disk = Arc::new(Directory::at(path).unwrap());
    let engine = Engine::open(disk, steps::options(&clock)).unwrap();
    let second = path.join("journal-0000000000000002");
    let mut keys = 0;
    while !second.exists() {
        steps::run(&engine, &format!("k{keys}"), LONG, &[7; 500]);
        keys += 1;
    }
    // The engine has no threads, so nothing is written to the base meanwhile.
    for n in 0..3 {
        steps::run(&engine, &format!("later{n}"), LONG, b"later");
    }
    [path.join("journal-0000000000000001"), second]
}

#[test]
fn a_damaged_frame_at_the_end_of_a_segment_is_noticed_by_the_next() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let [first, _] = two_segments(&path);
    let name = first.file_name().unwrap().to_str().unwrap().to_owned();
    let seal = frames(&first).pop().unwrap();
    flip(&first, seal + 20);
    assert_eq!(corrupt_place(&path), format!("{name} at offset {seal}"));
    flip(&first, seal + 20);
    let whole = options(&path).clock(ManualClock::new()).open().unwrap();
    assert_done(&whole, "later2", "later");
}
