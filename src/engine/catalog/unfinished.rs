//! The table of unfinished records.
//!
//! They lie in rows as those of a generation do, and for the same reason. But how many there will be is not
//! known beforehand, and changes by much, so that rows cannot be numbered. Here a row holds those whose
//! hashes are its key or more and less than the next row's key, and is split when it has grown too long: it
//! is a leaf of a B-tree (Bayer and McCreight, *Organization and Maintenance of Large Ordered Indices*,
//! 1972), of which redb has the rest.

use super::change::{Change, encode_all, make};
use crate::engine::base::{Around, SnapshotTable, Transaction};
use crate::engine::bucket::{self, Contents};
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
        let around = transaction.around(UNFINISHED, &first.hash.to_be_bytes())?;
        let Around { row, next_key } = &around;
        let none = (LOWEST.to_vec(), Vec::new());
        let (key, old) = row.as_ref().unwrap_or(&none);
        let is_before_next = |hash: u64| {
            let next = next_key.as_deref();
            next.is_none_or(|next| hash.to_be_bytes().as_slice() < next)
        };
        // The first is, whatever the table holds.
        let here = rest.iter().skip(1).take(MAX_CHANGES - 1);
        let here = 1 + here
            .take_while(|change| is_before_next(change.hash))
            .count();
        let (here, after) = rest.split_at(here);
        rest = after;
        pace.step(here.len());
        let mut contents = row
            .as_ref()
            .map_or_else(Contents::default, |_| Contents::of(old));
        let records = encode_all(here, &mut encoded);
        if !make(&mut contents, here, records, tally) {
            continue;
        }
        if contents.bytes() <= MAX_ROW_BYTES {
            put(transaction, key, &contents)?;
            continue;
        }
        // What damage has brought here must not take another row's place.
        let place = |name: &[u8]| {
            let hash = hash_of(name);
            let is_own = hash.to_be_bytes().as_slice() > key.as_slice() && is_before_next(hash);
            if is_own { hash } else { 0 }
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

fn put(transaction: &mut Transaction<'_>, key: &[u8], contents: &Contents<'_>) -> Result<()> {
    match contents.row(key) {
        Some(row) => transaction.put(UNFINISHED, key, &row)?,
        None => transaction.remove(UNFINISHED, key)?,
    };
    Ok(())
}

/// Calls `with` for the name and bytes of every record, or of what could be told apart. False if there was more.
pub(super) fn for_each(table: &SnapshotTable, mut with: impl FnMut(&[u8], &[u8])) -> Result<bool> {
    let mut whole = true;
    table.for_each(|_, row| {
        for entry in bucket::entries(row).into_iter().flatten() {
            match entry {
                Ok((name, record)) => with(name, record),
                Err(_) => whole = false,
            }
        }
        whole &= bucket::entries(row).is_ok();
        Ok(())
    })?;
    Ok(whole)
}

#[cfg(test)]
mod tests;
