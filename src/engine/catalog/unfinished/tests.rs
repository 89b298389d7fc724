//! Rows that are split, emptied, and damaged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::codec::{checksum, decode_record};
use crate::engine::base::Base;
use crate::engine::bucket;
use crate::engine::disk::Disk;
use crate::engine::disk::memory::MemoryDisk;
use crate::record::{Fence, Record, State, Takeover};
use crate::time::Timestamp;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A table, and what it should hold.
struct World {
    base: Base,
    tally: Tally,
    model: BTreeMap<String, Record>,
}

fn hash_of(name: &[u8]) -> u64 {
    checksum(1, name)
}

fn record(fence: u64, point_bytes: usize) -> Record {
    Record {
        fence: Fence::from_u64(fence),
        attempt: 1,
        takeover: Takeover::Gone,
        retain_for: Duration::from_secs(60),
        fingerprint: None,
        since: Timestamp::from_micros(1),
        expires_at: Timestamp::from_micros(2),
        interrupted: None,
        recovery_point: (point_bytes > 0).then(|| vec![7; point_bytes].into()),
        state: State::Released,
    }
}

impl World {
    fn new() -> Self {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        Base::create(disk.clone(), 1 << 20, |t| t.make_table(UNFINISHED)).unwrap();
        World {
            base: Base::open(disk, 1 << 20).unwrap(),
            tally: Tally::default(),
            model: BTreeMap::new(),
        }
    }

    /// With so many records, and these.
    fn with(count: u64) -> (Self, Vec<(String, Option<Record>)>) {
        let mut world = World::new();
        let all: Vec<_> = (0..count)
            .map(|n| (format!("key{n}"), Some(record(n, 0))))
            .collect();
        world.change(&all);
        (world, all)
    }

    fn change(&mut self, changes: &[(String, Option<Record>)]) {
        let mut all: Vec<_> = changes
            .iter()
            .map(|(name, record)| Change {
                hash: hash_of(name.as_bytes()),
                name: name.as_bytes(),
                record: record.as_ref(),
            })
            .collect();
        all.sort_unstable_by_key(|change| change.hash);
        let pace = Pace::of(0, &|| 1.0);
        let tally = &mut self.tally;
        let written = self
            .base
            .write(|transaction| change(transaction, &all, hash_of, tally, &pace));
        written.unwrap();
        for (name, record) in changes {
            match record {
                Some(record) => drop(self.model.insert(name.clone(), record.clone())),
                None => drop(self.model.remove(name)),
            }
        }
    }

    fn put(&mut self, row: (&[u8], &[u8])) {
        let (key, value) = row;
        self.base.write(|t| t.put(UNFINISHED, key, value)).unwrap();
    }

    fn rows(&self) -> Rows {
        let mut rows = Rows::new();
        let read = self.base.read(|snapshot| {
            let table = snapshot.table(UNFINISHED)?.unwrap();
            table.for_each(|key, row| {
                rows.insert(key.to_vec(), row.to_vec());
                Ok(())
            })
        });
        read.unwrap();
        rows
    }

    fn entries(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for row in self.rows().values() {
            for entry in bucket::entries(row).unwrap() {
                let (name, bytes) = entry.unwrap();
                all.push((String::from_utf8(name.to_vec()).unwrap(), bytes.to_vec()));
            }
        }
        all
    }

    /// Every row has what belongs there and nothing else, is whole and not too long, and together they have
    /// what the model has.
    fn check(&self) {
        let rows = self.rows();
        let mut found = BTreeMap::new();
        for (key, row) in &rows {
            let next = rows
                .range::<Vec<u8>, _>((std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded))
                .next();
            assert!(crate::codec::open_bytes(key, row).is_ok());
            let entries: Vec<_> = bucket::entries(row).unwrap().map(Result::unwrap).collect();
            assert!(row.len() as u64 <= MAX_ROW_BYTES + 9 || entries.len() == 1);
            assert!(!entries.is_empty());
            for (name, bytes) in entries {
                let hash = hash_of(name).to_be_bytes().to_vec();
                assert!(&hash >= key && next.is_none_or(|(next, _)| hash < *next));
                let name = String::from_utf8(name.to_vec()).unwrap();
                let record = decode_record(name.as_bytes(), bytes).unwrap();
                assert!(found.insert(name, record).is_none());
            }
        }
        assert_eq!(found, self.model);
        let mut tally = Tally::default();
        found
            .keys()
            .for_each(|name| tally.add(hash_of(name.as_bytes())));
        assert_eq!(tally, self.tally);
    }
}

#[test]
fn rows_are_split_when_they_are_full_and_go_when_they_are_empty() {
    let mut world = World::new();
    let mut drawn = 0u64;
    let mut random = |below: u64| {
        drawn += 1;
        checksum(7, &drawn.to_le_bytes()) % below
    };
    for round in 0..60 {
        let changes: BTreeMap<String, Option<Record>> = (0..1 + random(400))
            .map(|_| {
                let most_bytes = if random(100) == 0 { 30_000 } else { 60 };
                let record = record(round, random(most_bytes) as usize);
                let is_put = random(8) < 5;
                (format!("key{}", random(3000)), is_put.then_some(record))
            })
            .collect();
        world.change(&changes.into_iter().collect::<Vec<_>>());
        world.check();
    }
    assert!(world.rows().len() > 20, "{}", world.rows().len());
    let all: Vec<_> = world
        .model
        .keys()
        .map(|name| (name.clone(), None))
        .collect();
    world.change(&all);
    world.check();
    assert_eq!(world.rows().len(), 0);
}

/// Few rows are read and written for many records.
#[test]
fn rows_hold_many_records() {
    let (world, _) = World::with(5000);
    world.check();
    let bytes: usize = world.rows().values().map(Vec::len).sum();
    assert!(bytes / world.rows().len() > 3000, "{bytes}");
}

#[test]
fn the_first_row_may_go_and_come_again() {
    let (mut world, all) = World::with(600);
    let second = world.rows().into_keys().nth(1).unwrap();
    let end = u64::from_be_bytes(second[..].try_into().unwrap());
    let is_first = |(name, _): &&(String, _)| hash_of(name.as_bytes()) < end;
    let first: Vec<_> = all.iter().filter(is_first).cloned().collect();
    let gone: Vec<_> = first.iter().map(|(name, _)| (name.clone(), None)).collect();
    world.change(&gone);
    world.check();
    assert_eq!(world.rows().into_keys().next(), Some(second));
    world.change(&first[..1]);
    world.check();
    assert_eq!(world.rows().into_keys().next(), Some(LOWEST.to_vec()));
}

/// What damage has brought into a row of which it is no part stays there when that is split: it takes no
/// other row's place.
#[test]
fn a_name_that_went_astray_hides_no_other() {
    let (mut world, all) = World::with(600);
    let rows = world.rows();
    assert!(rows.len() > 3);
    for (key, row) in rows.iter().skip(1) {
        // Below the row, and above all of it: so much that it must be split.
        let strays: Vec<String> = (0..2000).map(|n| format!("stray{n}")).collect();
        let mut contents = Contents::of(row);
        for name in &strays {
            assert!(!contents.set(name.as_bytes(), Some(b"?")));
        }
        let changed = contents.row(key).unwrap();
        world.put((key, &changed));
        let (name, _) = bucket::entries(row).unwrap().next().unwrap().unwrap();
        let name = String::from_utf8(name.to_vec()).unwrap();
        let again = world.model[&name].clone();
        world.change(&[(name.clone(), Some(again))]);
    }
    let found = world.entries();
    let is_stray = |(name, _): &(String, Vec<u8>)| name.starts_with("stray");
    let strays = found.into_iter().filter(is_stray).count();
    assert_eq!(strays, 2000 * (rows.len() - 1), "what is damaged stays");
    let all: Vec<_> = all.into_iter().map(|(name, _)| (name, None)).collect();
    world.change(&all);
    assert!(world.entries().iter().all(is_stray), "all were found");
}

/// However much of a row cannot be told apart, it keeps that, and its split touches no other row.
#[test]
fn a_row_that_cannot_be_read_to_its_end_is_split_beside_the_others() {
    for key_bytes in [8, 7] {
        let (mut world, all) = World::with(600);
        let rows = world.rows();
        let (key, row) = rows.iter().nth(1).unwrap();
        // Its first record by its hash is in the first half, and what is behind that is not to be read.
        let entries: Vec<_> = bucket::entries(row).unwrap().map(Result::unwrap).collect();
        let lowest = entries
            .iter()
            .position(|(name, _)| hash_of(name).to_be_bytes()[..] == key[..]);
        let mut contents = Contents::default();
        contents.set(entries[lowest.unwrap()].0, Some(entries[lowest.unwrap()].1));
        let mut damaged = contents.row(key).unwrap();
        damaged.truncate(damaged.len() - 8);
        damaged.extend_from_slice(&[0xff; 6_000]);
        // A key that was not made here, too.
        let mut other_key = key.clone();
        other_key.resize(key_bytes, 0);
        world.put((&other_key, &damaged));
        if key_bytes != 8 {
            let removed = world.base.write(|t| t.remove(UNFINISHED, key));
            assert!(removed.unwrap());
        }
        let again: Vec<_> = all
            .iter()
            .filter(|(name, _)| entries.iter().any(|(found, _)| *found == name.as_bytes()))
            .map(|(name, _)| (name.clone(), Some(record(7, 60))))
            .collect();
        world.change(&again);
        let after = world.rows();
        assert!(after.len() > rows.len(), "it was split");
        for other in rows.keys().filter(|other| *other != key) {
            assert!(after[other] == rows[other], "{other:?}");
        }
        assert!(
            after[&other_key]
                .windows(5_992)
                .any(|bytes| bytes == [0xff; 5_992])
        );
        let found: BTreeMap<_, _> = after
            .values()
            .flat_map(|row| bucket::entries(row).unwrap().flatten())
            .map(|(name, bytes)| (name.to_vec(), decode_record(name, bytes).unwrap()))
            .collect();
        for (name, expected) in &world.model {
            assert_eq!(found.get(name.as_bytes()), Some(expected), "{name}");
        }
    }
}

/// A record longer than a row, and a removal that leaves nothing but what cannot be read.
#[test]
fn what_is_longer_than_a_row_is_one() {
    let mut world = World::new();
    world.change(&[("long".to_owned(), Some(record(1, 50_000)))]);
    world.check();
    let (key, row) = world.rows().pop_first().unwrap();
    let mut damaged = row[..row.len() - 8].to_vec();
    damaged.extend_from_slice(&[0xff; 9_000]);
    world.put((&key, &damaged));
    world.change(&[("long".to_owned(), None)]);
    let left = world.rows().pop_first().unwrap();
    assert_eq!((left.0, left.1.len()), (key, 9_000 + 1));
    assert!(bucket::entries(&left.1).unwrap().next().unwrap().is_err());
}
