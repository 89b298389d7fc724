//! Reading the whole base through.

use std::sync::Arc;

use super::ledger::Ledger;
use super::unfinished::{UNFINISHED, belongs, for_each_row};
use super::{Catalog, open_table};
use crate::codec::{checksum, decode_record, open_bytes};
use crate::engine::base::{BASE_FILE, Snapshot, SnapshotTable};
use crate::engine::bucket;
use crate::engine::filter::Probe;
use crate::engine::generation::{Generation, Tally};
use crate::engine::pace::Pace;
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, Ordering};

/// So often a table is tried whose reading met an I/O error.
const MAX_READ_TRIES: usize = 4;

/// What a verification has read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verification {
    pub(crate) records: u64,
    pub(crate) tables: u64,
    /// How many records are damaged, and how many tables have lost some.
    pub(crate) damaged: u64,
    /// The first damage found.
    pub(crate) first_damage: Option<String>,
}

impl Catalog {
    /// Reads every record of the base, checks it, finds it by its key, and compares each table's
    /// rows with what was counted when they were written. Marks the tables that have lost rows,
    /// and completes the filters that were not ready, or lack keys that they must have.
    ///
    /// # Errors
    /// An I/O error of the base; `Closed` once `stop` is set. Damage is no error here: it is in the
    /// answer.
    pub(crate) fn verify(&self, stop: &AtomicBool, pace: &Pace<'_>) -> Result<Verification> {
        let mut found = Verification::default();
        self.verify_unfinished(&mut found, stop)?;
        let list = self.list.read().clone();
        for generation in list.iter() {
            self.verify_generation(generation, &mut found, stop, pace)?;
        }
        Ok(found)
    }

    /// How many tables have not been read through since they were loaded.
    pub(crate) fn unverified(&self) -> usize {
        let list = self.list.read();
        let generations = list.iter().filter(|g| !g.is_verified()).count();
        generations + usize::from(!self.unfinished_verified.load(Ordering::SeqCst))
    }

    /// Reads through one table that has not been since it was loaded.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub(crate) fn verify_one(&self, stop: &AtomicBool, pace: &Pace<'_>) -> Result<Verification> {
        let mut found = Verification::default();
        let list = self.list.read().clone();
        if !self.unfinished_verified.load(Ordering::SeqCst) {
            self.verify_unfinished(&mut found, stop)?;
        } else if let Some(generation) = list.iter().find(|g| !g.is_verified()) {
            self.verify_generation(generation, &mut found, stop, pace)?;
        }
        Ok(found)
    }

    /// Reads one table. A damaged page breaks the base's file for all that comes after, and for
    /// whoever reads at that moment; so it is opened anew where that has happened.
    fn read_base<T>(&self, mut read: impl FnMut(&Snapshot) -> Result<T>) -> Result<T> {
        let mut tries = 0;
        loop {
            if self.is_broken() {
                self.heal()?;
            }
            tries += 1;
            match self.base.read(&mut read) {
                Err(Error::Io(_)) if tries < MAX_READ_TRIES => {}
                read => return read,
            }
        }
    }

    fn verify_unfinished(&self, found: &mut Verification, stop: &AtomicBool) -> Result<()> {
        let before = found.clone();
        let read = self.read_base(|snapshot| {
            *found = before.clone();
            let expected = Ledger::read(snapshot)?.unfinished;
            let read = match snapshot.table(UNFINISHED)? {
                Some(table) => self.read_unfinished(&table, found, stop)?,
                None => Tally::default(),
            };
            Ok(read == expected)
        });
        let whole = damage_as_false(read)?;
        self.note_whole(whole);
        if !whole {
            // Never the other way round: what the opening could not read is not in memory.
            self.unfinished_damaged.store(true, Ordering::SeqCst);
        }
        self.unfinished_verified.store(true, Ordering::SeqCst);
        found.note_table(UNFINISHED, whole);
        Ok(())
    }

    fn verify_generation(
        &self,
        generation: &Arc<Generation>,
        found: &mut Verification,
        stop: &AtomicBool,
        pace: &Pace<'_>,
    ) -> Result<()> {
        let complete_filter = !generation.filter_is_ready();
        let mut lacks_keys = false;
        let before = found.clone();
        let read = self.read_base(|snapshot| {
            *found = before.clone();
            let Some(table) = open_table(snapshot, generation)? else {
                return Ok(true);
            };
            let ledger = Ledger::read(snapshot)?;
            let Some(row) = ledger.generations.get(&generation.id) else {
                return Ok(true);
            };
            let read = self.read_generation(&table, generation, found, stop, |hash| {
                pace.step(1);
                let probe = Probe::of(hash);
                if !generation.filter.may_contain(&probe) {
                    generation.filter.insert(&probe);
                    lacks_keys |= !complete_filter;
                }
            })?;
            Ok(read == row.tally)
        });
        let whole = damage_as_false(read)?;
        self.note_whole(whole);
        generation.set_damaged(!whole);
        generation.set_verified(true);
        if whole && complete_filter {
            generation.set_filter_ready();
        }
        found.note_table(&generation.table, whole);
        if lacks_keys {
            self.note_whole(false);
            found.note_damage(format!("the filter of {} lacked keys", generation.table));
        }
        Ok(())
    }

    fn note_whole(&self, whole: bool) {
        if !whole {
            self.damage_found.store(true, Ordering::SeqCst);
        }
    }

    /// Reads the unfinished records through: checks every row and record, and that its name leads to it.
    fn read_unfinished(
        &self,
        table: &SnapshotTable,
        found: &mut Verification,
        stop: &AtomicBool,
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        self.read_rows(table, UNFINISHED, found, stop, |at, hash| {
            if at.is_some_and(|at| belongs(hash, at.key, at.next_key)) {
                tally.add(hash);
            }
        })?;
        Ok(tally)
    }

    /// Reads a generation through: checks every row and every record in it, and that its name leads to
    /// it.
    fn read_generation(
        &self,
        table: &SnapshotTable,
        generation: &Generation,
        found: &mut Verification,
        stop: &AtomicBool,
        mut with_hash: impl FnMut(u64),
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        let name = &generation.table;
        self.read_rows(table, name, found, stop, |at, hash| {
            if at.is_some_and(|at| at.key == bucket::row_key(hash, generation.buckets)) {
                tally.add(hash);
            }
            with_hash(hash);
        })?;
        Ok(tally)
    }

    /// Checks every row of a table and every record in it. Calls `with` for each record with the hash of its
    /// name and where its row is, if that is found by its key.
    fn read_rows(
        &self,
        table: &SnapshotTable,
        name: &str,
        found: &mut Verification,
        stop: &AtomicBool,
        mut with: impl FnMut(Option<At<'_>>, u64),
    ) -> Result<()> {
        for_each_row(table, |key, next_key, row| {
            end_if(stop)?;
            if self.base.is_broken() {
                // Whoever opens it anew waits until nobody reads.
                return Err(std::io::Error::other("the base is being opened anew").into());
            }
            let is_found = table.find(key, |again| again == row)? == Some(true);
            let at = is_found.then_some(At { key, next_key });
            if let Err(damage) = open_bytes(key, row) {
                found.note_damage(format!("{name}, row {key:?}: {damage}"));
            }
            for (record_name, record) in bucket::entries(row).into_iter().flatten().flatten() {
                let hash = checksum(self.hash_seed, record_name);
                with(at, hash);
                found.note_record(name, record_name, record);
            }
            Ok(())
        })
    }
}

/// Where a row is: its key and the next one's.
#[derive(Clone, Copy)]
struct At<'r> {
    key: &'r [u8],
    next_key: Option<&'r [u8]>,
}

pub(super) fn end_if(stop: &AtomicBool) -> Result<()> {
    match stop.load(Ordering::SeqCst) {
        true => Err(Error::Closed),
        false => Ok(()),
    }
}

impl Verification {
    /// The verification as a result: damage becomes `Corrupt`.
    pub(crate) fn into_result(self) -> Result<Self> {
        match &self.first_damage {
            None => Ok(self),
            Some(what) => Err(Error::corrupt(
                BASE_FILE,
                format!("{} damages, the first: {what}", self.damaged),
            )),
        }
    }

    fn note_record(&mut self, table: &str, name: &[u8], record: &[u8]) {
        self.records += 1;
        if let Err(damage) = decode_record(name, record) {
            self.note_damage(format!("{table}, key {}: {damage}", name.escape_ascii()));
        }
    }

    fn note_table(&mut self, name: &str, whole: bool) {
        self.tables += 1;
        if !whole {
            self.note_damage(format!("{name}: rows are lost or unreadable"));
        }
    }

    fn note_damage(&mut self, what: String) {
        self.damaged += 1;
        self.first_damage.get_or_insert(what);
    }
}

/// A table that cannot be read through because of damage is not whole.
fn damage_as_false(read: Result<bool>) -> Result<bool> {
    match read {
        Err(Error::Corrupt { .. }) => Ok(false),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::catalog::list::List;
    use crate::engine::testing::{engine, key, run};
    use crate::time::{ManualClock, Timestamp};
    use std::time::Duration;

    #[test]
    fn a_filter_that_lacks_a_key_is_found_and_mended() {
        let engine = engine(&ManualClock::new());
        run(&engine, "k", Duration::from_secs(60));
        engine.checkpoint().unwrap();
        assert!(engine.verify().is_ok());

        let catalog = engine.catalog();
        let emptied = {
            let list = catalog.list.read();
            let first = list.iter().next().unwrap();
            Arc::new(first.with_filter(catalog.banks.filter_for(100)))
        };
        *catalog.list.write() = Arc::new(List::of(vec![emptied]));
        let find = || catalog.find(&key("k"), Timestamp::default()).unwrap();
        assert!(find().is_none(), "hidden");
        assert!(matches!(engine.verify(), Err(Error::Corrupt { .. })));
        assert!(find().is_some(), "found again");
        assert!(engine.verify().is_ok());
    }

    #[test]
    fn whoever_verifies_is_called_when_tables_are_loaded_again() {
        let engine = engine(&ManualClock::new());
        run(&engine, "k", Duration::from_secs(60));
        engine.checkpoint().unwrap();
        engine.verify().unwrap();
        let catalog = engine.catalog();
        assert!(!catalog.reloaded.wait(Duration::ZERO));
        *catalog.list.write() = Arc::default();
        catalog.ledger.lock().is_stale = true;
        catalog.heal().unwrap();
        assert!(catalog.reloaded.wait(Duration::ZERO));
        assert_eq!(catalog.unverified(), 1);
    }

    #[test]
    fn nothing_is_tried_again_with_a_ledger_that_may_be_out_of_date() {
        let engine = engine(&ManualClock::new());
        let catalog = engine.catalog();
        let mut ledger = catalog.ledger.lock();
        assert!(catalog.is_worth_another_try(&ledger, &Error::NoSpace));
        ledger.is_stale = true;
        assert!(!catalog.is_worth_another_try(&ledger, &Error::NoSpace));
    }
}
