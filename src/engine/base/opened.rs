//! The base's file while it is open, and what readers see of it.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{
    Bytes, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableError,
    definition, failed,
};
use crate::error::Result;
use crate::sync::RwLock;

/// The file, open, with the snapshot of its last commit, which readers share: to begin one, and to open
/// a table in it, costs more than to find a row. After a reopening there is none until the next commit;
/// then readers begin their own.
///
/// It is kept while the next commit is made. So the pages which that one frees can be used after one
/// more: to free them at once, redb would make another commit in memory alone, and from then on every
/// page that a reader lacks would drive a page of the transaction under way out to the file.
#[derive(Debug)]
pub(super) struct Opened {
    // First: it must be gone before the file is.
    latest: RwLock<Option<Arc<Snapshot>>>,
    pub(super) database: Database,
}

impl Opened {
    pub(super) fn of(database: Database) -> Self {
        Opened {
            latest: RwLock::new(None),
            database,
        }
    }

    /// The snapshot of the last commit.
    pub(super) fn latest(&self) -> Result<Arc<Snapshot>> {
        match &*self.latest.read() {
            Some(latest) => Ok(latest.clone()),
            None => self.begin(),
        }
    }

    /// Runs `commit`; then the snapshot of that commit is the one that is shared.
    pub(super) fn renew_by(&self, commit: impl FnOnce() -> Result<()>) -> Result<()> {
        commit()?;
        let latest = self.begin()?;
        *self.latest.write() = Some(latest);
        Ok(())
    }

    fn begin(&self) -> Result<Arc<Snapshot>> {
        let begun = self.database.begin_read();
        Ok(Arc::new(Snapshot::over(
            begun.map_err(|e| failed(e.into()))?,
        )))
    }
}

/// The base as it was at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    transaction: ReadTransaction,
    /// The tables opened so far.
    tables: RwLock<HashMap<String, SnapshotTable>>,
}

impl Snapshot {
    pub(super) fn over(transaction: ReadTransaction) -> Self {
        Snapshot {
            transaction,
            tables: RwLock::default(),
        }
    }

    /// The table of that name, if there is one.
    pub(crate) fn table(&self, name: &str) -> Result<Option<SnapshotTable>> {
        if let Some(table) = self.tables.read().get(name) {
            return Ok(Some(table.clone()));
        }
        let table = match self.transaction.open_table(definition(name)) {
            Ok(table) => SnapshotTable(Arc::new(table)),
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        self.tables.write().insert(name.to_owned(), table.clone());
        Ok(Some(table))
    }
}

/// A table as it was at one moment.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotTable(Arc<ReadOnlyTable<Bytes, Bytes>>);

impl SnapshotTable {
    /// What `with` makes of the value under `key`, if there is one.
    pub(crate) fn find<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let value = self.0.get(key).map_err(|e| failed(e.into()))?;
        Ok(value.map(|value| with(value.value())))
    }

    /// Reads so many rows, from the first on or from the one after that key, and gives the key of the last;
    /// none if there are none.
    pub(crate) fn read_on(&self, after: Option<&[u8]>, rows: usize) -> Result<Option<Vec<u8>>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.0.range::<&[u8]>((from, Bound::Unbounded));
        let mut last = None;
        for row in range.map_err(|e| failed(e.into()))?.take(rows) {
            last = Some(row.map_err(|e| failed(e.into()))?.0);
        }
        Ok(last.map(|key| key.value().to_vec()))
    }

    /// Calls `with` for every row, in key order, until it returns an error.
    pub(crate) fn for_each(&self, mut with: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for row in self.0.iter().map_err(|e| failed(e.into()))? {
            let (key, value) = row.map_err(|e| failed(e.into()))?;
            with(key.value(), value.value())?;
        }
        Ok(())
    }
}
