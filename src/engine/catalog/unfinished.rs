//! The table of unfinished records.
//!
//! They lie in rows as those of a generation do, and for the same reason. But how many there will be is not
//! known beforehand, and changes by much, so that rows cannot be numbered. Here a row holds those whose
//! hashes are its key or more and less than the next row's key, and is split when it has grown too long: it
//! is a leaf of a B-tree (Bayer and McCreight, *Organization and Maintenance of Large Ordered Indices*,
//! 1972), of which redb has the rest.

use super::change::{Change, encode_all, make};
use crate::engine::base::{Around, SnapshotTable, Transaction};
use crate::engine::bucket::Contents;
use crate::engine::generation::Tally;
use crate::engine::pace::Pace;
use crate::error::Result;

/// The table's name.
pub(super) const UNFINISHED: &str = "unfinished";

/// A longer row is split, unless it is a single record: two pages of redb's, but for what they need.
const MAX_ROW_BYTES: u64 = 8 * 1024 - 128;
/// The parts are about so long.
const PART_BYTES: u64 = 6 * 1024;
/// So many changes are made to a row at once.
const MAX_CHANGES: usize = 64;

/// The key of the first row, if there is none yet.
const LOWEST: [u8; 8] = [0; 8];

/// Makes changes, in the order of their hashes, and counts them.
pub(super) fn change(
    transaction: &mut Transaction<'_>,
    changes: &[Change<'_>],
    hash_of: impl Fn(&[u8]) -> u64,
    tally: &mut Tally,
    pace: &Pace<'_>,
) -> Result<()> {
    let mut encoded = Vec::new();
    let mut rest = changes;
    while let Some(first) = rest.first() {
        let Around { row, next_key } = transaction.around(UNFINISHED, &first.hash.to_be_bytes())?;
        let (key, mut contents) = match &row {
            Some((key, row)) => (key.as_slice(), Contents::of(row)),
            None => (LOWEST.as_slice(), Contents::default()),
        };
        let next_key = next_key.as_deref();
        // The first belongs there, whatever the table holds.
        let others = rest.iter().skip(1).take(MAX_CHANGES - 1);
        let here = 1 + others
            .take_while(|c| belongs(c.hash, key, next_key))
            .count();
        let (here, after) = rest.split_at(here);
        rest = after;
        pace.step(here.iter().filter(|change| change.record.is_some()).count());
        let records = encode_all(here, &mut encoded);
        if !make(&mut contents, here, records, tally) {
            continue;
        }
        if contents.bytes() <= MAX_ROW_BYTES {
            put(transaction, key, &contents)?;
            continue;
        }
        // What damage has brought here stays in the first part: it must not take another row's place.
        let place = |name: &[u8]| {
            let hash = hash_of(name);
            let is_above = belongs(hash, key, next_key) && hash.to_be_bytes().as_slice() != key;
            if is_above { hash } else { 0 }
        };
        let parts = contents.split(PART_BYTES, MAX_ROW_BYTES, place);
        for (n, (from, part)) in parts.into_iter().enumerate() {
            match n {
                0 => put(transaction, key, &part)?,
                _ => put(transaction, &from.to_be_bytes(), &part)?,
            }
        }
    }
    Ok(())
}

/// Whether a name with this hash belongs to the row under `key`, if the one after that has `next_key`.
pub(super) fn belongs(hash: u64, key: &[u8], next_key: Option<&[u8]>) -> bool {
    let hash = hash.to_be_bytes();
    key <= hash.as_slice() && next_key.is_none_or(|next| hash.as_slice() < next)
}

fn put(transaction: &mut Transaction<'_>, key: &[u8], contents: &Contents<'_>) -> Result<()> {
    match contents.row(key) {
        Some(row) => transaction.put(UNFINISHED, key, &row)?,
        None => transaction.remove(UNFINISHED, key)?,
    };
    Ok(())
}

/// Calls `with` for every row of a table, in order, with its key, the next row's and its bytes.
pub(super) fn for_each_row(
    table: &SnapshotTable,
    mut with: impl FnMut(&[u8], Option<&[u8]>, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut before = None::<(Vec<u8>, Vec<u8>)>;
    table.for_each(|next_key, next_row| {
        if let Some((key, row)) = &before {
            with(key, Some(next_key), row)?;
        }
        before = Some((next_key.to_vec(), next_row.to_vec()));
        Ok(())
    })?;
    before.map_or(Ok(()), |(key, row)| with(&key, None, &row))
}

#[cfg(test)]
mod tests;
