//! Stores damaged by hand: torn, truncated, bit-flipped, foreign and missing segments and bases.
//! What is damaged is an error that names the place, or a key that is `Corrupt`; never vacant.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firstclaim::{Builder, Claim, Error, Limits, Store};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

const LONG: Duration = Duration::from_secs(3600);
const FRAMES: u64 = 8192;

fn options(path: &Path) -> Builder {
    let limits = Limits {
        response_bytes: 4096,
        recovery_point_bytes: 1024,
        ..Limits::default()
    };
    Builder::new(path)
        .limits(limits)
        .journal_bytes(128 * 1024)
        .sweep_every(LONG)
        .checkpoint_every(LONG)
}

fn fill(store: &Store, prefix: &str, count: usize) {
    for n in 0..count {
        match store.claim("t", format!("{prefix}{n}")).unwrap() {
            Claim::Claimed(lease) => lease.complete(format!("response {n}")).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

/// A directory as a kill leaves it: 10 keys in the base, 5 more in the journal.
fn killed(temp: &Path) -> PathBuf {
    let (live, copy) = (temp.join("live"), temp.join("killed"));
    let store = options(&live).open().unwrap();
    fill(&store, "base", 10);
    store.checkpoint().unwrap();
    fill(&store, "journal", 5);
    copy_directory(&live, &copy);
    copy
}

/// A directory as `close` leaves it: 300 keys, all in the base.
fn closed(temp: &Path) -> PathBuf {
    let path = temp.join("closed");
    let store = options(&path).open().unwrap();
    fill(&store, "base", 300);
    store.close().unwrap();
    path
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The segment that holds frames.
fn live_segment(path: &Path) -> PathBuf {
    let mut segments: Vec<PathBuf> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|p| {
            p.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("journal-0")
        })
        .filter(|p| !frames(p).is_empty())
        .collect();
    segments.sort();
    segments.pop().unwrap()
}

/// The offsets of the frames in a segment, by their magic.
fn frames(segment: &Path) -> Vec<u64> {
    let bytes = fs::read(segment).unwrap();
    (FRAMES..bytes.len() as u64)
        .step_by(512)
        .filter(|at| bytes[*at as usize..].starts_with(b"fcfr"))
        .collect()
}

fn flip(file: &Path, at: u64) {
    let handle = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let mut byte = [0];
    handle.read_exact_at(&mut byte, at).unwrap();
    handle.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn truncate(file: &Path, len: u64) {
    let handle = fs::OpenOptions::new().write(true).open(file).unwrap();
    handle.set_len(len).unwrap();
}

fn corrupt_place(path: &Path) -> String {
    match options(path).open() {
        Err(Error::Corrupt { place, .. }) => place,
        other => panic!("{other:?}"),
    }
}

fn assert_done(store: &Store, key: &str, response: &str) {
    match store.claim("t", key) {
        Ok(Claim::Done(r)) => assert_eq!(r.bytes(), response.as_bytes()),
        other => panic!("{key}: {other:?}"),
    }
}

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
fn a_missing_empty_truncated_or_foreign_base_is_corrupt() {
    let temp = tempfile::tempdir().unwrap();
    let path = killed(temp.path());
    let base = path.join("base.redb");
    let whole = fs::read(&base).unwrap();

    fs::remove_file(&base).unwrap();
    assert_eq!(corrupt_place(&path), "base.redb");
    fs::write(&base, b"").unwrap();
    assert_eq!(corrupt_place(&path), "base.redb");
    fs::write(&base, b"not a database, but longer than nothing").unwrap();
    assert_eq!(corrupt_place(&path), "base.redb");
    fs::write(&base, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(options(&path).open(), Err(Error::Corrupt { .. })));

    // Another store's base knows nothing of this journal.
    let other = tempfile::tempdir().unwrap();
    fs::copy(killed(other.path()).join("base.redb"), &base).unwrap();
    assert!(matches!(options(&path).open(), Err(Error::Corrupt { .. })));

    fs::write(&base, &whole).unwrap();
    assert_done(&options(&path).open().unwrap(), "base9", "response 9");
}

/// The tables of done records in a closed store, with their rows.
fn done_tables(path: &Path) -> Vec<String> {
    let database = redb::Database::open(path.join("base.redb")).unwrap();
    let read = database.begin_read().unwrap();
    let names = read.list_tables().unwrap();
    names
        .map(|table| redb::TableHandle::name(&table).to_owned())
        .filter(|name| name.starts_with("done-"))
        .collect()
}

type Bytes = &'static [u8];

fn change_row(path: &Path, table: &str, key: &[u8], value: Option<&[u8]>) {
    let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(table);
    let database = redb::Database::open(path.join("base.redb")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(definition).unwrap();
        match value {
            Some(value) => table.insert(key, value).unwrap(),
            None => table.remove(key).unwrap(),
        };
    }
    write.commit().unwrap();
}

fn row(path: &Path, table: &str, key: &[u8]) -> Vec<u8> {
    let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(table);
    let database = redb::Database::open(path.join("base.redb")).unwrap();
    let table = database
        .begin_read()
        .unwrap()
        .open_table(definition)
        .unwrap();
    let value = ReadableTable::get(&table, key).unwrap().unwrap();
    value.value().to_vec()
}

#[test]
fn a_damaged_record_is_corrupt_until_it_is_forgotten() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let table = done_tables(&path).pop().unwrap();
    let mut value = row(&path, &table, b"\x01tbase7");
    let middle = value.len() / 2;
    value[middle] ^= 1;
    change_row(&path, &table, b"\x01tbase7", Some(&value));
    let store = options(&path).open().unwrap();
    for result in [
        store.claim("t", "base7").map(drop),
        store.peek("t", "base7").map(drop),
        store.resolve("t", "base7").map(drop),
        store.forget("t", "base7").map(drop),
        store.verify().map(drop),
    ] {
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
    }
    // The other keys are not harmed, and there is a way out for this one.
    assert_done(&store, "base8", "response 8");
    assert!(matches!(store.claim("t", "new"), Ok(Claim::Claimed(_))));
    assert!(store.forget_held("t", "base7").unwrap());
    assert!(matches!(store.claim("t", "base7"), Ok(Claim::Claimed(lease)) if lease.attempt() == 1));
    store.checkpoint().unwrap();
    store.verify().unwrap();
}

#[test]
fn a_lost_record_makes_its_key_corrupt_once_verification_has_passed() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let table = done_tables(&path).pop().unwrap();
    change_row(&path, &table, b"\x01tbase7", None);
    let store = options(&path).open().unwrap();
    assert!(matches!(store.verify(), Err(Error::Corrupt { .. })));
    let lost = store.claim("t", "base7");
    assert!(matches!(lost, Err(Error::Corrupt { .. })), "{lost:?}");
    assert_done(&store, "base8", "response 8");
}

#[test]
fn a_missing_table_is_corrupt_not_vacant() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let table = done_tables(&path).pop().unwrap();
    {
        let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(&table);
        let database = redb::Database::open(path.join("base.redb")).unwrap();
        let write = database.begin_write().unwrap();
        assert!(write.delete_table(definition).unwrap());
        write.commit().unwrap();
    }
    let store = options(&path).open().unwrap();
    let claim = store.claim("t", "base7");
    assert!(matches!(claim, Err(Error::Corrupt { .. })), "{claim:?}");
}

#[test]
fn a_lost_unfinished_record_makes_every_miss_corrupt() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let store = options(&path).open().unwrap();
    drop(store.claim("t", "open").unwrap());
    fill(&store, "base", 3);
    store.close().unwrap();
    change_row(&path, "unfinished", b"\x01topen", None);
    let store = options(&path).open().unwrap();
    assert!(matches!(
        store.claim("t", "open"),
        Err(Error::Corrupt { .. })
    ));
    assert_done(&store, "base1", "response 1");
}

#[test]
fn a_newer_format_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let mut row = [0; 8];
    row[..4].copy_from_slice(&2u32.to_le_bytes());
    row[4..].copy_from_slice(&(!2u32).to_le_bytes());
    change_row(&path, "meta", b"format", Some(&row));
    match options(&path).open() {
        Err(Error::Format { found, known }) => assert_eq!((found, known), (2, 1)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_expired_copy_beside_a_live_one_is_passed_over() {
    use firstclaim::internals::record::{Record, State};
    use firstclaim::internals::{Timestamp, decode_record, encode_record};
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let store = options(&path).open().unwrap();
    fill(&store, "base", 3);
    store.checkpoint().unwrap();
    // A generation that ends later, with another key.
    match store.claim("t", "later").unwrap() {
        Claim::Claimed(lease) => lease.complete_for("l", 72 * LONG).unwrap(),
        other => panic!("{other:?}"),
    }
    store.close().unwrap();
    let tables = done_tables(&path);
    // The table that ends first is searched first, so the expired copy goes there.
    let name = b"\x01tlater";
    let home = tables.iter().find(|t| has_row(&path, t, name)).unwrap();
    let other = tables.iter().find(|t| !has_row(&path, t, name)).unwrap();
    let live = decode_record(name, &row(&path, home, name)).unwrap();
    let expired = Record {
        expires_at: Timestamp::from_micros(1),
        state: State::Done {
            completed_at: Timestamp::from_micros(0),
            response: b"expired".as_slice().into(),
        },
        ..live
    };
    let mut bytes = Vec::new();
    encode_record(name, &expired, &mut bytes);
    change_row(&path, other, name, Some(&bytes));
    let store = options(&path).open().unwrap();
    assert_done(&store, "later", "l");
}

fn has_row(path: &Path, table: &str, key: &[u8]) -> bool {
    let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(table);
    let database = redb::Database::open(path.join("base.redb")).unwrap();
    let table = database
        .begin_read()
        .unwrap()
        .open_table(definition)
        .unwrap();
    ReadableTable::get(&table, key).unwrap().is_some()
}

#[test]
fn a_flipped_bit_anywhere_in_a_closed_base_gives_no_wrong_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let len = fs::metadata(path.join("base.redb")).unwrap().len();
    // A fixed sample of places; the campaigns of the trust suite try many more.
    for n in 0..60u64 {
        let copy = temp.path().join(format!("copy{n}"));
        copy_directory(&path, &copy);
        flip(&copy.join("base.redb"), (n * 7919 + n * n * 131) % len);
        if let Ok(store) = options(&copy).open() {
            let whole = store.verify().is_ok();
            for key in 0..300 {
                match store.claim("t", format!("base{key}")) {
                    Ok(Claim::Done(r)) => {
                        assert_eq!(r.bytes(), format!("response {key}").as_bytes());
                    }
                    Ok(other) => panic!("flip {n}, verified {whole}: base{key} is {other:?}"),
                    Err(Error::Corrupt { .. } | Error::Io(_)) => {}
                    Err(other) => panic!("flip {n}: {other}"),
                }
            }
        }
        fs::remove_dir_all(&copy).unwrap();
    }
}
