//! The base's account of itself: the rows of its `meta` and `generations` tables.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::codec::{Damage, decode_row, encode_row};
use crate::engine::base::{BASE_FILE, Snapshot, Transaction};
use crate::engine::generation::{GenerationId, GenerationRow, Tally};
use crate::error::{Error, Result};

/// The table of stored filters, by generation.
pub(super) const FILTERS: &str = "filters";
const META: &str = "meta";
const GENERATIONS: &str = "generations";

const FORMAT_KEY: &[u8] = b"format";
const STORE_KEY: &[u8] = b"store";
const UNFINISHED_KEY: &[u8] = b"unfinished";

/// The format of the whole directory. Its row never changes shape.
pub(crate) const FORMAT: u32 = 1;

/// What the base says of the store as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoreRow {
    /// Names the store.
    pub(crate) store: [u8; 16],
    /// The seed of the hashes of keys.
    pub(crate) hash_seed: u64,
    /// The current run; only its segments count.
    pub(crate) run: u64,
    /// The first segment that is not in the base, none before the first run.
    pub(crate) first_segment: Option<u64>,
    /// The last batch that is in the base.
    pub(crate) applied: u64,
    /// No fence at or below it is given again.
    pub(crate) fence: u64,
    /// Time does not go back behind it.
    pub(crate) time_us: u64,
    /// How many generations there are, so that a lost row or table is noticed.
    pub(crate) generations: u64,
}

/// All rows, as of the last commit.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pub(crate) store: StoreRow,
    pub(crate) unfinished: Tally,
    pub(crate) generations: BTreeMap<GenerationId, GenerationRow>,
    /// A commit failed, so the base may differ from this.
    pub(crate) is_stale: bool,
}

impl Ledger {
    /// Of a new store.
    pub(super) fn new(store: StoreRow) -> Self {
        Ledger {
            store,
            unfinished: Tally::default(),
            generations: BTreeMap::new(),
            is_stale: false,
        }
    }

    /// Reads it.
    ///
    /// # Errors
    /// `Format` if the store is of a newer format, `Corrupt` if a row is damaged or missing.
    pub(super) fn read(snapshot: &Snapshot) -> Result<Self> {
        let meta = snapshot
            .table(META)?
            .ok_or_else(|| Error::corrupt(BASE_FILE, "table meta is missing"))?;
        let format = meta.find(FORMAT_KEY, format_of)?;
        match format.flatten() {
            Some(FORMAT) => {}
            Some(found) => {
                return Err(Error::Format {
                    found,
                    known: FORMAT,
                });
            }
            None => return Err(row_error(FORMAT_KEY, None)),
        }
        let store = meta.find(STORE_KEY, |bytes| decode_row(STORE_KEY, bytes))?;
        let unfinished = meta.find(UNFINISHED_KEY, |bytes| decode_row(UNFINISHED_KEY, bytes))?;
        let mut ledger = Ledger::new(whole(STORE_KEY, store)?);
        ledger.unfinished = whole(UNFINISHED_KEY, unfinished)?;
        if let Some(table) = snapshot.table(GENERATIONS)? {
            table.for_each(|key, bytes| {
                let row: GenerationRow = whole(key, Some(decode_row(key, bytes)))?;
                ledger.generations.insert(row.id, row);
                Ok(())
            })?;
        }
        if ledger.generations.len() as u64 != ledger.store.generations {
            return Err(Error::corrupt(
                BASE_FILE,
                "the list of generations is not whole",
            ));
        }
        Ok(ledger)
    }

    /// The length of all stored filters, as their rows say.
    pub(super) fn filter_bytes(&self) -> u64 {
        let lengths = self.generations.values().map(|row| row.filter_bytes);
        lengths.fold(0, u64::saturating_add)
    }

    /// Whether the base of this snapshot has that generation.
    pub(super) fn lists(snapshot: &Snapshot, id: GenerationId) -> Result<bool> {
        match snapshot.table(GENERATIONS)? {
            Some(table) => Ok(table.find(&id.key(), |_| ())?.is_some()),
            None => Ok(false),
        }
    }

    /// Writes all of it, for a new store.
    pub(super) fn write_all(&self, transaction: &mut Transaction<'_>) -> Result<()> {
        transaction.put(META, FORMAT_KEY, &format_row(FORMAT))?;
        self.write_store(transaction)
    }

    /// Writes the rows about the whole store.
    pub(super) fn write_store(&self, transaction: &mut Transaction<'_>) -> Result<()> {
        let store = StoreRow {
            generations: self.generations.len() as u64,
            ..self.store
        };
        let store = encode_row(STORE_KEY, &store);
        transaction.put(META, STORE_KEY, &store)?;
        let unfinished = encode_row(UNFINISHED_KEY, &self.unfinished);
        transaction.put(META, UNFINISHED_KEY, &unfinished)?;
        Ok(())
    }

    /// Writes the row about one generation.
    pub(super) fn write_generation(
        &self,
        transaction: &mut Transaction<'_>,
        id: GenerationId,
    ) -> Result<()> {
        if let Some(row) = self.generations.get(&id) {
            let key = id.key();
            transaction.put(GENERATIONS, &key, &encode_row(&key, row))?;
        }
        Ok(())
    }

    /// Removes what the base says about one generation, filter included.
    pub(super) fn remove_generation(
        transaction: &mut Transaction<'_>,
        id: GenerationId,
    ) -> Result<()> {
        transaction.remove(GENERATIONS, &id.key())?;
        transaction.remove(FILTERS, &id.key())?;
        Ok(())
    }

    /// A number that no generation has.
    pub(super) fn next_generation_number(&self) -> u64 {
        let numbers = self.generations.keys().map(|id| id.number);
        numbers.max().map_or(1, |highest| highest + 1)
    }
}

/// The format number and, against damage, its complement, both little-endian.
fn format_row(format: u32) -> [u8; 8] {
    let mut row = [0; 8];
    row[..4].copy_from_slice(&format.to_le_bytes());
    row[4..].copy_from_slice(&(!format).to_le_bytes());
    row
}

fn format_of(row: &[u8]) -> Option<u32> {
    let format = u32::from_le_bytes(*row.first_chunk()?);
    (row == format_row(format)).then_some(format)
}

fn whole<T>(key: &[u8], found: Option<Result<T, Damage>>) -> Result<T> {
    match found {
        Some(Ok(row)) => Ok(row),
        Some(Err(damage)) => Err(row_error(key, Some(damage))),
        None => Err(row_error(key, None)),
    }
}

fn row_error(key: &[u8], damage: Option<Damage>) -> Error {
    let what = match damage {
        Some(damage) => format!("row {}: {damage}", key.escape_ascii()),
        None => format!("row {} is missing or damaged", key.escape_ascii()),
    };
    Error::corrupt(BASE_FILE, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_rows_round_trip_and_damage_is_noticed() {
        assert_eq!(format_of(&format_row(7)), Some(7));
        let mut row = format_row(1);
        row[0] ^= 2;
        assert_eq!(format_of(&row), None);
        assert_eq!(format_of(b"short"), None);
    }
}
