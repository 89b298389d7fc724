//! Dropping generations whose records have all expired.

use std::sync::Arc;

use super::Catalog;
use super::ledger::Ledger;
use super::list::List;
use crate::engine::base::Transaction;
use crate::error::{Error, Result};
use crate::time::Timestamp;

impl Catalog {
    /// Drops one generation that is over at `now`, in one transaction, and gives its number of
    /// rows; none if there is none.
    pub(crate) fn drop_one_expired(&self, now: Timestamp) -> Result<Option<u64>> {
        let mut ledger = self.ledger.lock();
        self.heal_with(&mut ledger)?;
        let over = ledger.generations.values().find(|row| row.id.end() <= now);
        let Some(row) = over.copied() else {
            return Ok(None);
        };
        let mut staged = ledger.clone();
        staged.generations.remove(&row.id);
        // What justified the removal must hold after a reopening too.
        staged.store.time_us = staged.store.time_us.max(now.as_micros());
        let drop_it = |transaction: &mut Transaction<'_>| {
            transaction.drop_table(&row.id.table())?;
            Ledger::remove_generation(transaction, row.id)?;
            staged.write_store(transaction)
        };
        match self.write_base(&mut ledger, drop_it) {
            // The next one finds pages free that the last one freed.
            Err(Error::NoSpace) if !self.base.is_broken() => {
                self.write_base(&mut ledger, drop_it)?
            }
            dropped => dropped?,
        }
        *ledger = staged;
        let mut list = self.list.write();
        let left = list.iter().filter(|g| g.id != row.id).cloned();
        *list = Arc::new(List::of(left.collect()));
        Ok(Some(row.tally.rows))
    }
}
