//! Writing to the base's file.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::{
    Bytes, ReadableTable, Snapshot, SnapshotTable, Table, WriteTransaction, definition, failed,
};
use crate::error::Result;

/// What lies around a key in a table: see [`Transaction::around`].
#[derive(Debug, Default)]
pub(crate) struct Around {
    pub(crate) row: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) next_key: Option<Vec<u8>>,
}

/// Changes to the base that happen all or not at all.
///
/// A table is opened when it is to be changed ([`Self::around`] comes before that), not for another look: until
/// then it is as the last commit left it, and readers have it open in that snapshot already, or will.
pub(crate) struct Transaction<'t> {
    inner: &'t WriteTransaction,
    /// The last commit.
    before: Arc<Snapshot>,
    tables: HashMap<String, Table<'t, Bytes, Bytes>>,
    dropped: HashSet<String>,
}

impl<'t> Transaction<'t> {
    pub(super) fn over(before: Arc<Snapshot>, inner: &'t WriteTransaction) -> Self {
        Transaction {
            inner,
            before,
            tables: HashMap::new(),
            dropped: HashSet::new(),
        }
    }

    /// Sets the value under `key`, and tells whether there was one.
    pub(crate) fn put(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<bool> {
        let before = self.table(table)?.insert(key, value);
        Ok(before.map_err(|e| failed(e.into()))?.is_some())
    }

    /// Makes a table, empty, unless there is one of that name.
    pub(crate) fn make_table(&mut self, table: &str) -> Result<()> {
        self.table(table).map(drop)
    }

    /// Removes the value under `key`, and tells whether there was one.
    /// Makes no table: one that is lost must not come back empty.
    pub(crate) fn remove(&mut self, table: &str, key: &[u8]) -> Result<bool> {
        if !self.has_table(table)? {
            return Ok(false);
        }
        let before = self.table(table)?.remove(key);
        Ok(before.map_err(|e| failed(e.into()))?.is_some())
    }

    /// The value under `key`, if there is one. Makes no table either.
    pub(crate) fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(table) = self.tables.get(table) {
            let value = table.get(key).map_err(|e| failed(e.into()))?;
            return Ok(value.map(|value| value.value().to_vec()));
        }
        let Some(table) = self.table_before(table)? else {
            return Ok(None);
        };
        table.find(key, <[u8]>::to_vec)
    }

    /// The row under `key`, or else the last before it, and the key of the one after that; none if there
    /// is none. Makes no table either.
    pub(crate) fn around(&mut self, table: &str, key: &[u8]) -> Result<Around> {
        let mut around = Around::default();
        if !self.has_table(table)? {
            return Ok(around);
        }
        let table = self.table(table)?;
        let rows = table.range(..=key);
        if let Some(row) = rows.map_err(|e| failed(e.into()))?.next_back() {
            let (key, value) = row.map_err(|e| failed(e.into()))?;
            around.row = Some((key.value().to_vec(), value.value().to_vec()));
        }
        let rows = table.range::<&[u8]>((Bound::Excluded(key), Bound::Unbounded));
        if let Some(row) = rows.map_err(|e| failed(e.into()))?.next() {
            let (key, _) = row.map_err(|e| failed(e.into()))?;
            around.next_key = Some(key.value().to_vec());
        }
        Ok(around)
    }

    /// Calls `with` for every row.
    pub(crate) fn for_each(&self, table: &str, mut with: impl FnMut(&[u8], &[u8])) -> Result<()> {
        let Some(table) = self.tables.get(table) else {
            let Some(table) = self.table_before(table)? else {
                return Ok(());
            };
            return table.for_each(|key, value| {
                with(key, value);
                Ok(())
            });
        };
        for row in table.iter().map_err(|e| failed(e.into()))? {
            let (key, value) = row.map_err(|e| failed(e.into()))?;
            with(key.value(), value.value());
        }
        Ok(())
    }

    /// Removes a whole table.
    pub(crate) fn drop_table(&mut self, table: &str) -> Result<()> {
        self.tables.remove(table);
        self.dropped.insert(table.to_owned());
        let dropped = self.inner.delete_table(definition(table));
        dropped.map_err(|e| failed(e.into())).map(drop)
    }

    fn has_table(&self, name: &str) -> Result<bool> {
        Ok(self.tables.contains_key(name) || self.table_before(name)?.is_some())
    }

    /// The table as the last commit left it, unless this transaction has dropped it.
    fn table_before(&self, name: &str) -> Result<Option<SnapshotTable>> {
        match self.dropped.contains(name) {
            true => Ok(None),
            false => self.before.table(name),
        }
    }

    fn table(&mut self, name: &str) -> Result<&mut Table<'t, Bytes, Bytes>> {
        match self.tables.entry(name.to_owned()) {
            Entry::Occupied(table) => Ok(table.into_mut()),
            Entry::Vacant(place) => {
                let opened = self.inner.open_table(definition(name));
                Ok(place.insert(opened.map_err(|e| failed(e.into()))?))
            }
        }
    }
}
