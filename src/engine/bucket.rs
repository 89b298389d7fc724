//! Buckets: many done records in one row of the base.
//!
//! A row of some thousand bytes costs redb about as much as one of a few hundred. So the records of a
//! generation are spread by the hash of their names over a fixed number of buckets, each a row, and a
//! checkpoint, which brings many records, reads and writes a bucket once for all of its own.
//!
//! A row is sealed as a whole, and each record in it by itself. Who finds a record need only check that;
//! who finds none checks the whole row, since damage may have hidden it.

use crate::codec::{Damage, open_bytes, seal_row};

/// A bucket is about so long when its generation is full: with what varies, most stay below two pages
/// of redb's.
const BUCKET_BYTES: u64 = 6 * 1024;
/// Length of the name, length of the record.
const ENTRY_OVERHEAD_BYTES: usize = 2 + 4;

/// Too short to be an entry: stands for a row that was too short to be a row.
const NO_ENTRY: &[u8] = &[0xff];

/// How many buckets a generation has that is to take `rows` records, of `bytes` together.
pub(crate) fn buckets_for(rows: u64, bytes: u64) -> u32 {
    let most = rows.clamp(1, u64::from(u32::MAX));
    bytes.div_ceil(BUCKET_BYTES).clamp(1, most) as u32
}

/// What a record adds to its bucket.
pub(crate) fn entry_bytes(name: &[u8], record: &[u8]) -> u64 {
    (ENTRY_OVERHEAD_BYTES + name.len() + record.len()) as u64
}

/// The key of the row that holds the names with this hash. In the order of the hashes, however many
/// buckets there are.
pub(crate) fn row_key(hash: u64, buckets: u32) -> [u8; 4] {
    let number = (u128::from(hash) * u128::from(buckets)) >> 64;
    (number as u32).to_be_bytes()
}

/// The record of `name` in the row under `key`, if there is one.
///
/// # Errors
/// [`Damage`] if there is none and the row is not whole.
pub(crate) fn find<'r>(key: &[u8], row: &'r [u8], name: &[u8]) -> Result<Option<&'r [u8]>, Damage> {
    for entry in entries(row)? {
        match entry? {
            (found, record) if found == name => return Ok(Some(record)),
            _ => {}
        }
    }
    open_bytes(key, row).map(|_| None)
}

/// The names and records of a row as they lie there; nothing is checked but their lengths.
///
/// # Errors
/// [`Damage::Length`] if it is no row at all; an entry is that if it goes beyond the row's end.
pub fn entries(row: &[u8]) -> Result<Entries<'_>, Damage> {
    let seal_at = row.len().checked_sub(size_of::<u64>());
    let rest = seal_at.and_then(|at| row.get(1..at));
    rest.map(Entries).ok_or(Damage::Length)
}

/// See [`entries`]. After an error there are no more.
#[derive(Debug)]
pub struct Entries<'r>(&'r [u8]);

impl<'r> Iterator for Entries<'r> {
    type Item = Result<(&'r [u8], &'r [u8]), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = take_entry(&mut self.0);
        if entry.is_none() {
            self.0 = &[];
        }
        Some(entry.ok_or(Damage::Length))
    }
}

fn take_entry<'r>(rest: &mut &'r [u8]) -> Option<(&'r [u8], &'r [u8])> {
    let (name_bytes, after) = rest.split_first_chunk()?;
    let (record_bytes, after) = after.split_first_chunk()?;
    let (name, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*name_bytes)))?;
    let (record, after) = after.split_at_checked(u32::from_le_bytes(*record_bytes) as usize)?;
    *rest = after;
    Some((name, record))
}

/// What a bucket holds, to be changed.
#[derive(Debug, Default)]
pub struct Contents<'r> {
    /// By name.
    records: Vec<(&'r [u8], &'r [u8])>,
    /// From where on damage keeps its entries from being told apart. It stays as it is, behind the
    /// others, so that who finds nothing before it meets it: what was in there must not look vacant.
    unreadable: &'r [u8],
}

impl<'r> Contents<'r> {
    /// Of a row. A damaged record stays what it is.
    pub fn of(row: &'r [u8]) -> Self {
        let mut contents = Contents::default();
        let Ok(mut entries) = entries(row) else {
            contents.unreadable = NO_ENTRY;
            return contents;
        };
        loop {
            let rest = entries.0;
            match entries.next() {
                None => return contents,
                Some(Ok((name, record))) => contents.append(name, record),
                Some(Err(_)) => contents.unreadable = rest,
            }
        }
    }

    /// Adds what comes next in a row: all are in the order of their names, but where that is damaged.
    fn append(&mut self, name: &'r [u8], record: &'r [u8]) {
        match self.records.last() {
            Some((last, _)) if *last >= name => drop(self.set(name, Some(record))),
            _ => self.records.push((name, record)),
        }
    }

    /// Sets or removes the record of a name, and tells whether there was one.
    pub fn set(&mut self, name: &'r [u8], record: Option<&'r [u8]>) -> bool {
        let place = self.records.binary_search_by_key(&name, |(name, _)| name);
        match (place, record) {
            (Ok(at), Some(record)) => self.records[at].1 = record,
            (Ok(at), None) => drop(self.records.remove(at)),
            (Err(at), Some(record)) => self.records.insert(at, (name, record)),
            (Err(_), None) => {}
        }
        place.is_ok()
    }

    /// How much of a row it fills.
    pub(crate) fn bytes(&self) -> u64 {
        let records = self.records.iter();
        let bytes: u64 = records
            .map(|(name, record)| entry_bytes(name, record))
            .sum();
        bytes + self.unreadable.len() as u64
    }

    /// Splits it, in the order of the places that `place` gives to the names, into parts of about as many
    /// bytes: about `part_bytes` or less, and no more than `most_bytes`, unless those in one place, which stay
    /// together, are more by themselves. Each comes with its first place. The first part has the first
    /// place, and what cannot be read, however much that is.
    pub(crate) fn split(
        self,
        part_bytes: u64,
        most_bytes: u64,
        place: impl Fn(&[u8]) -> u64,
    ) -> Vec<(u64, Self)> {
        let parts = self.bytes().div_ceil(part_bytes);
        let share = self.bytes().div_ceil(parts.max(1));
        let records = self.records.into_iter();
        let mut placed: Vec<_> = records.map(|record| (place(record.0), record)).collect();
        placed.sort_unstable();
        let mut filled = self.unreadable.len() as u64;
        let first = Contents {
            records: Vec::new(),
            unreadable: self.unreadable,
        };
        let mut split = vec![(placed.first().map_or(0, |(place, _)| *place), first)];
        for same_place in placed.chunk_by(|(one, _), (next, _)| one == next) {
            let records = same_place.iter().map(|(_, record)| *record);
            let bytes: u64 = records.clone().map(|(name, r)| entry_bytes(name, r)).sum();
            let has_room = filled < share && filled + bytes <= most_bytes;
            match split.last_mut() {
                // Whatever cannot be read: the first place is the first part's.
                Some((_, part)) if has_room || part.records.is_empty() => {
                    part.records.extend(records);
                }
                _ => {
                    let records = records.collect();
                    let unreadable = &[];
                    split.push((
                        same_place[0].0,
                        Contents {
                            records,
                            unreadable,
                        },
                    ));
                    filled = 0;
                }
            }
            filled += bytes;
        }
        for (_, part) in &mut split {
            part.records.sort_unstable();
        }
        split
    }

    /// The row under `key`; none if nothing is left.
    pub fn row(&self, key: &[u8]) -> Option<Vec<u8>> {
        if self.records.is_empty() && self.unreadable.is_empty() {
            return None;
        }
        Some(seal_row(key, self.bytes() as usize, |row| {
            for (name, record) in &self.records {
                row.extend_from_slice(&(name.len() as u16).to_le_bytes());
                row.extend_from_slice(&(record.len() as u32).to_le_bytes());
                row.extend_from_slice(name);
                row.extend_from_slice(record);
            }
            row.extend_from_slice(self.unreadable);
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0, 0, 0, 7];

    fn row() -> Vec<u8> {
        let mut contents = Contents::default();
        assert!(!contents.set(b"b", Some(b"second")));
        assert!(!contents.set(b"a", Some(b"first")));
        assert!(contents.set(b"b", Some(b"second again")));
        contents.row(&KEY).unwrap()
    }

    #[test]
    fn what_was_set_is_found_and_what_was_removed_is_not() {
        let row = row();
        assert_eq!(find(&KEY, &row, b"a"), Ok(Some(b"first".as_slice())));
        assert_eq!(find(&KEY, &row, b"b"), Ok(Some(b"second again".as_slice())));
        assert_eq!(find(&KEY, &row, b"c"), Ok(None));
        let mut contents = Contents::of(&row);
        assert!(contents.set(b"a", None) && !contents.set(b"a", None));
        let less = contents.row(&KEY).unwrap();
        assert_eq!(find(&KEY, &less, b"a"), Ok(None));
        assert!(contents.set(b"b", None));
        assert_eq!(contents.row(&KEY), None);
        assert_eq!(
            entry_bytes(b"a", b"first") + entry_bytes(b"b", b"second again"),
            row.len() as u64 - 9
        );
    }

    #[test]
    fn no_flipped_bit_and_no_cut_makes_a_miss() {
        let whole = row();
        for bit in 0..whole.len() * 8 {
            let mut row = whole.clone();
            row[bit / 8] ^= 1 << (bit % 8);
            for name in [b"a", b"b"] {
                assert_ne!(find(&KEY, &row, name), Ok(None), "bit {bit}");
            }
        }
        for len in 0..whole.len() {
            assert_ne!(find(&KEY, &whole[..len], b"b"), Ok(None), "{len} bytes");
        }
        assert!(find(&[0, 0, 0, 8], &whole, b"c").is_err(), "another row's");
    }

    #[test]
    fn what_damage_hides_stays_hidden_and_the_rest_can_be_changed() {
        let whole = row();
        let mut hidden = 0;
        let flips = (8..whole.len() * 8).map(|bit| (whole.len(), Some(bit)));
        let cuts = (0..whole.len()).map(|len| (len, None));
        for (len, bit) in flips.chain(cuts) {
            let mut row = whole[..len].to_vec();
            if let Some(bit) = bit {
                row[bit / 8] ^= 1 << (bit % 8);
            }
            let mut contents = Contents::of(&row);
            if contents.unreadable.is_empty() {
                continue;
            }
            hidden += 1;
            contents.set(b"c", Some(b"third"));
            for _ in 0..2 {
                let changed = contents.row(&KEY).unwrap();
                assert_eq!(find(&KEY, &changed, b"c"), Ok(Some(b"third".as_slice())));
                assert_ne!(find(&KEY, &changed, b"a"), Ok(None));
                assert_ne!(find(&KEY, &changed, b"b"), Ok(None));
            }
            contents.set(b"c", None);
            let removed = contents.row(&KEY).unwrap();
            assert!(find(&KEY, &removed, b"c").is_err());
        }
        assert!(hidden > 50, "{hidden}");
    }

    #[test]
    fn the_number_of_buckets_is_by_bytes_and_at_most_one_a_record() {
        assert_eq!(buckets_for(0, 0), 1);
        assert_eq!(buckets_for(1000, 0), 1);
        assert_eq!(buckets_for(1000, BUCKET_BYTES + 1), 2);
        assert_eq!(buckets_for(10, 1 << 30), 10);
    }

    #[test]
    fn rows_are_in_the_order_of_the_hashes() {
        for buckets in [1, 2, 3, 1000, u32::MAX] {
            let keys: Vec<_> = (0..=16)
                .map(|n| row_key(n * (u64::MAX / 16), buckets))
                .collect();
            assert!(keys.is_sorted());
            assert!(keys.iter().all(|key| u32::from_be_bytes(*key) < buckets));
        }
    }
}
