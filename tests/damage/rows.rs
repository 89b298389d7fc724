//! Damage to single rows and tables of the base.

use std::path::Path;
use std::sync::Arc;

use firstclaim::internals::bucket::{self, Contents};
use firstclaim::internals::transition::Command;
use firstclaim::internals::{Directory, Engine, Request, Tried};
use firstclaim::{Claim, Clock, Error, ManualClock, SystemClock};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use super::*;

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

/// Opens a table of the closed store at `path`, changes it, and commits.
fn change_table(path: &Path, table: &str, change: impl FnOnce(&mut redb::Table<'_, Bytes, Bytes>)) {
    let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(table);
    let database = redb::Database::open(path.join("base.redb")).unwrap();
    let write = database.begin_write().unwrap();
    change(&mut write.open_table(definition).unwrap());
    write.commit().unwrap();
}

fn change_row(path: &Path, table: &str, key: &[u8], value: Option<&[u8]>) {
    change_table(path, table, |table| {
        match value {
            Some(value) => table.insert(key, value).unwrap(),
            None => table.remove(key).unwrap(),
        };
    });
}

/// The rows of a table.
fn rows(path: &Path, table: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(table);
    let database = redb::Database::open(path.join("base.redb")).unwrap();
    let read = database.begin_read().unwrap();
    let table = read.open_table(definition).unwrap();
    let rows = table.iter().unwrap().map(|row| row.unwrap());
    rows.map(|(key, value)| (key.value().to_vec(), value.value().to_vec()))
        .collect()
}

/// The bucket of a done record, and the record.
fn find_record(path: &Path, table: &str, name: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    rows(path, table).into_iter().find_map(|(key, row)| {
        let mut entries = bucket::entries(&row).unwrap().map(Result::unwrap);
        let (_, record) = entries.find(|(found, _)| *found == name)?;
        Some((key, record.to_vec()))
    })
}

/// The table of a done record, its bucket, and the record.
fn home_of(path: &Path, name: &[u8]) -> (String, Vec<u8>, Vec<u8>) {
    let mut tables = done_tables(path).into_iter();
    let home = tables.find_map(|table| {
        let (key, record) = find_record(path, &table, name)?;
        Some((table, key, record))
    });
    home.unwrap()
}

/// Changes one record of a bucket, and seals that again.
fn change_record(path: &Path, table: &str, key: &[u8], name: &[u8], record: Option<&[u8]>) {
    let old = rows(path, table).into_iter().find(|(k, _)| k == key);
    let old = old.map(|(_, row)| row);
    let mut contents = old
        .as_ref()
        .map_or_else(Contents::default, |row| Contents::of(row));
    contents.set(name, record);
    change_row(path, table, key, contents.row(key).as_deref());
}

#[test]
fn a_damaged_record_is_corrupt_until_it_is_forgotten() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let (table, key, mut record) = home_of(&path, b"\x01tbase7");
    let middle = record.len() / 2;
    record[middle] ^= 1;
    change_record(&path, &table, &key, b"\x01tbase7", Some(&record));
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
fn a_bucket_whose_entries_cannot_be_told_apart_hides_nothing_and_stops_nobody() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let (table, key, _) = home_of(&path, b"\x01tbase7");
    let (_, mut row) = rows(&path, &table)
        .into_iter()
        .find(|(k, _)| *k == key)
        .unwrap();
    let names: Vec<String> = bucket::entries(&row)
        .unwrap()
        .map(|entry| String::from_utf8(entry.unwrap().0[2..].to_vec()).unwrap())
        .collect();
    // The length of the first name, behind the version.
    row[2] ^= 0x40;
    change_row(&path, &table, &key, Some(&row));
    for _ in 0..2 {
        let store = options(&path).open().unwrap();
        for name in &names {
            let claim = store.claim("t", name);
            assert!(matches!(claim, Err(Error::Corrupt { .. })), "{claim:?}");
        }
        store.checkpoint().unwrap();
        store.close().unwrap();
    }
    // New records come into the same bucket.
    let store = options(&path).open().unwrap();
    for n in 0..300 {
        match store.claim("t", format!("new{n}")) {
            Ok(Claim::Claimed(lease)) => lease.complete("new").unwrap(),
            // That it was never there is not known.
            Err(Error::Corrupt { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    store.checkpoint().unwrap();
    for name in &names {
        let claim = store.claim("t", name);
        assert!(matches!(claim, Err(Error::Corrupt { .. })), "{claim:?}");
    }
    assert!(matches!(store.verify(), Err(Error::Corrupt { .. })));
}

#[test]
fn a_key_found_vacant_before_a_verification_found_it_lost_is_not_claimed_after_it() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let name = b"\x01tbase7";
    let (table, row_key, _) = home_of(&path, name);
    change_record(&path, &table, &row_key, name, None);
    // As if it had been killed: what a closed base has lost is known from the beginning.
    std::fs::remove_file(path.join("base.seal")).unwrap();
    let disk = Arc::new(Directory::at(&path).unwrap());
    // Before its records expire.
    let clock = ManualClock::at(SystemClock::new().now());
    let engine = Engine::open(disk, steps::options(&clock)).unwrap();
    let (key, terms) = (steps::key("base7"), steps::terms(LONG));
    let Tried::MustWrite(vacancy) = engine.try_claim(&key, &terms).unwrap() else {
        panic!("it is lost");
    };
    assert!(vacancy.is_some());
    assert!(matches!(engine.verify(), Err(Error::Corrupt { .. })));
    let late = Request::new(key, Command::Claim(terms)).seen_vacant(vacancy);
    let answer = engine.commit(&[late]).remove(0);
    assert!(matches!(answer, Err(Error::Corrupt { .. })), "{answer:?}");
}

#[test]
fn a_lost_record_makes_its_key_corrupt_once_verification_has_passed() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let (table, key, _) = home_of(&path, b"\x01tbase7");
    change_record(&path, &table, &key, b"\x01tbase7", None);
    let store = options(&path).open().unwrap();
    assert!(matches!(store.verify(), Err(Error::Corrupt { .. })));
    let lost = store.claim("t", "base7");
    assert!(matches!(lost, Err(Error::Corrupt { .. })), "{lost:?}");
    assert_done(&store, "base8", "response 8");
}

#[test]
fn an_older_filter_in_the_place_of_a_newer_is_not_believed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let mut filters = Vec::new();
    for part in ["early", "late"] {
        let store = options(&path).open().unwrap();
        fill(&store, part, 50);
        store.close().unwrap();
        filters.push(rows(&path, "filters"));
    }
    assert_ne!(filters[0], filters[1], "it was stored again");
    let (key, older) = &filters[0][0];
    change_row(&path, "filters", key, Some(older));
    // Without its seal the base is not verified before it is used.
    std::fs::remove_file(path.join("base.seal")).unwrap();
    let store = options(&path).open().unwrap();
    for part in ["early", "late"] {
        (0..50).for_each(|n| assert_done(&store, &format!("{part}{n}"), &format!("response {n}")));
    }
    store.verify().unwrap();
}

#[test]
fn a_missing_table_is_corrupt_not_vacant() {
    let temp = tempfile::tempdir().unwrap();
    let path = closed(temp.path());
    let (table, ..) = home_of(&path, b"\x01tbase7");
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
    let (key, _) = rows(&path, "unfinished").pop().unwrap();
    change_row(&path, "unfinished", &key, None);
    let store = options(&path).open().unwrap();
    assert!(matches!(
        store.claim("t", "open"),
        Err(Error::Corrupt { .. })
    ));
    assert_done(&store, "base1", "response 1");
}

/// A store with these claims left behind, closed.
fn left_in_flight(path: &Path, names: &[&str]) {
    let store = options(path).open().unwrap();
    names
        .iter()
        .for_each(|name| drop(store.claim("t", name).unwrap()));
    store.close().unwrap();
}

#[test]
fn a_damaged_unfinished_record_harms_no_other_in_its_row() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    left_in_flight(&path, &["one", "two"]);
    let (key, row) = rows(&path, "unfinished").pop().unwrap();
    let entries = bucket::entries(&row).unwrap().map(Result::unwrap);
    let (name, record) = entries.last().unwrap();
    assert_eq!(name, b"\x01ttwo");
    let mut damaged = record.to_vec();
    damaged[record.len() / 2] ^= 1;
    change_record(&path, "unfinished", &key, name, Some(&damaged));
    let store = options(&path).open().unwrap();
    let two = store.claim("t", "two");
    assert!(matches!(two, Err(Error::Corrupt { .. })), "{two:?}");
    assert!(matches!(store.verify(), Err(Error::Corrupt { .. })));
    assert!(matches!(store.claim("t", "one"), Ok(Claim::Claimed(lease)) if lease.attempt() == 2));
    assert!(matches!(store.claim("t", "new"), Ok(Claim::Claimed(_))));
    assert!(store.forget_held("t", "two").unwrap());
    assert!(matches!(store.claim("t", "two"), Ok(Claim::Claimed(lease)) if lease.attempt() == 1));
    store.checkpoint().unwrap();
    store.verify().unwrap();
}

#[test]
fn unfinished_records_that_cannot_be_told_apart_make_every_miss_corrupt() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    left_in_flight(&path, &["one", "two"]);
    let (key, mut row) = rows(&path, "unfinished").pop().unwrap();
    // The length of the first name, behind the version.
    row[2] ^= 0x40;
    change_row(&path, "unfinished", &key, Some(&row));
    for _ in 0..2 {
        let store = options(&path).open().unwrap();
        for name in ["one", "two", "new"] {
            let claim = store.claim("t", name);
            assert!(matches!(claim, Err(Error::Corrupt { .. })), "{claim:?}");
        }
        store.checkpoint().unwrap();
        store.close().unwrap();
    }
}

#[test]
fn an_unfinished_record_in_a_row_it_does_not_belong_to_is_damaged() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    left_in_flight(&path, &["one"]);
    let (key, row) = rows(&path, "unfinished").pop().unwrap();
    let mut contents = Contents::of(&row);
    let (name, record) = bucket::entries(&row).unwrap().next().unwrap().unwrap();
    assert!(contents.set(name, Some(record)));
    let other = [0xff; 8];
    change_row(&path, "unfinished", &key, None);
    change_row(&path, "unfinished", &other, contents.row(&other).as_deref());
    // What verifies what it opens is not what is asked here.
    std::fs::remove_file(path.join("base.seal")).unwrap();
    for _ in 0..2 {
        let store = options(&path).open().unwrap();
        // A record that is where nobody would look for it to change it is not gone on from.
        for name in ["one", "new"] {
            let claim = store.claim("t", name);
            assert!(matches!(claim, Err(Error::Corrupt { .. })), "{claim:?}");
        }
        assert!(matches!(store.verify(), Err(Error::Corrupt { .. })));
        store.close().unwrap();
    }
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
    let home = tables
        .iter()
        .find(|t| find_record(&path, t, name).is_some())
        .unwrap();
    let other = tables
        .iter()
        .find(|t| find_record(&path, t, name).is_none())
        .unwrap();
    let (_, live) = find_record(&path, home, name).unwrap();
    let live = decode_record(name, &live).unwrap();
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
    // So few records are all in one bucket.
    change_record(&path, other, &[0; 4], name, Some(&bytes));
    let store = options(&path).open().unwrap();
    assert_done(&store, "later", "l");
}
