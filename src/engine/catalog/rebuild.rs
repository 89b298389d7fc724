//! Making a damaged base anew from what can be read of it.
//!
//! Every row that can be read is copied as it is, a damaged record too: it stays `Corrupt`. What
//! cannot be read is missed by the counts, so that the verification marks its table. The copy has
//! no damaged pages, so nothing that is written to it later meets one.

use std::sync::Arc;

use super::ledger::{FILTERS, Ledger};
use super::unfinished::UNFINISHED;
use crate::engine::base::{Base, ReadOnlyBase, Transaction};
use crate::engine::disk::Disk;
use crate::error::{Error, Result};

/// Replaces the base by a copy of what can be read of it. False if it cannot be opened for reading
/// alone: redb may have it repaired first.
///
/// # Errors
/// `Corrupt` if its account of itself cannot be read; an I/O error. The base is as it was then.
pub(crate) fn rebuild(disk: &Arc<dyn Disk>, cache_bytes: usize) -> Result<bool> {
    let mut old = match ReadOnlyBase::open(disk, cache_bytes) {
        Err(Error::Corrupt { .. }) => return Ok(false),
        opened => opened?,
    };
    let ledger = old.read(Ledger::read)?;
    Base::create(disk.clone(), cache_bytes, |transaction| {
        ledger.write_all(transaction)?;
        for row in ledger.generations.values() {
            ledger.write_generation(transaction, row.id)?;
            copy_table(&mut old, transaction, &row.id.table())?;
        }
        copy_table(&mut old, transaction, FILTERS)?;
        copy_table(&mut old, transaction, UNFINISHED)
    })?;
    Ok(true)
}

/// Copies the rows of a table up to the first that cannot be read.
fn copy_table(old: &mut ReadOnlyBase, new: &mut Transaction<'_>, name: &str) -> Result<()> {
    let mut failed = None;
    let read = old.read(|snapshot| {
        let Some(table) = snapshot.table(name)? else {
            return Ok(());
        };
        // So that the table exists even if no row can be read.
        new.make_table(name)?;
        table.for_each(|key, value| {
            new.put(name, key, value).map(drop).inspect_err(|error| {
                failed = Some(error.clone());
            })
        })
    });
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Err(Error::Corrupt { .. })) => Ok(()),
        (None, read) => read,
    }
}
