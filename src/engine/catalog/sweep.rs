//! Dropping generations whose records have all expired.

use std::sync::Arc;

use super::Catalog;
use super::ledger::{FILTERS, Ledger};
use super::list::List;
use super::verify::end_if;
use crate::engine::base::Transaction;
use crate::engine::generation::{GenerationId, GenerationRow};
use crate::engine::pace::Pace;
use crate::error::{Error, Result};
use crate::sync::AtomicBool;
use crate::time::Timestamp;

/// So many rows are read in one snapshot: the pages that others free meanwhile cannot be used again before
/// that is over, nor can the base be reopened.
const ROWS_AT_ONCE: usize = 64;

impl Catalog {
    /// Drops one generation that is over at `now`, in one transaction, and gives its number of
    /// rows; none if there is none.
    ///
    /// # Errors
    /// Those of the base; `Closed` once `stop` is set.
    pub(crate) fn drop_one_expired(
        &self,
        now: Timestamp,
        stop: &AtomicBool,
        pace: &Pace<'_>,
    ) -> Result<Option<u64>> {
        loop {
            let Some(id) = self.first_expired(now)? else {
                return Ok(None);
            };
            // What else goes wrong the transaction meets too, and tells.
            if let Err(Error::Closed) = self.read_through(id, stop) {
                return Err(Error::Closed);
            }
            let mut ledger = self.ledger.lock();
            self.heal_with(&mut ledger)?;
            if let Some(row) = ledger.generations.get(&id).copied() {
                pace.with_pages(|| self.drop_generation(&mut ledger, row, now))?;
                return Ok(Some(row.tally.rows));
            }
            // Another sweep was faster.
        }
    }

    fn first_expired(&self, now: Timestamp) -> Result<Option<GenerationId>> {
        let mut ledger = self.ledger.lock();
        self.heal_with(&mut ledger)?;
        let mut ids = ledger.generations.keys();
        Ok(ids.find(|id| id.end() <= now).copied())
    }

    /// Reads a generation's table through, and its filter. To drop it, redb reads every page of it, and those
    /// are as old as the records: often only the disk has them. Here nobody waits for that; checkpoints would
    /// wait for a transaction, and claims for them.
    fn read_through(&self, id: GenerationId, stop: &AtomicBool) -> Result<()> {
        let name = id.table();
        let pace = Pace::of(1, &|| 0.0);
        self.base.read(|snapshot| match snapshot.table(FILTERS)? {
            Some(filters) => filters.find(&id.key(), |_| ()),
            None => Ok(None),
        })?;
        let mut last = None;
        loop {
            end_if(stop)?;
            pace.step(ROWS_AT_ONCE);
            let read_on = || {
                self.base.read(|snapshot| match snapshot.table(&name)? {
                    Some(table) => table.read_on(last.as_deref(), ROWS_AT_ONCE),
                    None => Ok(None),
                })
            };
            last = pace.with_pages(read_on)?;
            if last.is_none() {
                return Ok(());
            }
        }
    }

    fn drop_generation(
        &self,
        ledger: &mut Ledger,
        row: GenerationRow,
        now: Timestamp,
    ) -> Result<()> {
        let mut staged = ledger.clone();
        staged.generations.remove(&row.id);
        // What justified the removal must hold after a reopening too.
        staged.store.time_us = staged.store.time_us.max(now.as_micros());
        let drop_it = |transaction: &mut Transaction<'_>| {
            transaction.drop_table(&row.id.table())?;
            Ledger::remove_generation(transaction, row.id)?;
            staged.write_store(transaction)
        };
        match self.write_base(ledger, drop_it) {
            Err(error) if self.is_worth_another_try(ledger, &error) => {
                self.write_base(ledger, drop_it)?
            }
            dropped => dropped?,
        }
        *ledger = staged;
        let mut list = self.list.write();
        let left = list.iter().filter(|g| g.id != row.id).cloned();
        *list = Arc::new(List::of(left.collect()));
        Ok(())
    }
}
