//! A stand-in for the base under a model checker: the same tables and transactions, in memory, and
//! at each commit written whole to the base's file. A schedule takes no longer for it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use super::disk::Disk;
use super::pace::after_page;
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, Mutex, Ordering, RwLock};

/// The base's file.
pub(crate) const BASE_FILE: &str = "base.redb";
/// Its name until it is complete.
pub(crate) const UNFINISHED_BASE_FILE: &str = "base.new";

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
type Tables = BTreeMap<String, Arc<Rows>>;

/// The open file, or none if it could not be opened or was closed.
#[derive(Debug)]
pub(crate) struct Base {
    disk: Arc<dyn Disk>,
    /// The tables as last committed.
    database: RwLock<Option<Mutex<Arc<Tables>>>>,
    broken: AtomicBool,
}

impl Base {
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        _cache_bytes: usize,
        fill: impl FnOnce(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut transaction = Transaction::over(Tables::new());
        fill(&mut transaction)?;
        Ok(save(&*disk, &transaction.tables)?)
    }

    pub(crate) fn open(disk: Arc<dyn Disk>, _cache_bytes: usize) -> Result<Self> {
        let base = Base {
            disk,
            database: RwLock::new(None),
            broken: AtomicBool::new(true),
        };
        base.reopen()?;
        Ok(base)
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    pub(crate) fn reopen(&self) -> Result<()> {
        let mut database = self.database.write();
        *database = None;
        *database = Some(Mutex::new(Arc::new(load(&*self.disk)?)));
        self.broken.store(false, Ordering::SeqCst);
        Ok(())
    }

    pub(crate) fn close(&self) {
        *self.database.write() = None;
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Snapshot) -> Result<T>) -> Result<T> {
        let database = self.database.read();
        let Some(tables) = database.as_ref() else {
            return Err(io::Error::other("the base is not open").into());
        };
        // As a real reading does, this asks the disk.
        if let Err(error) = self.disk.open(BASE_FILE) {
            self.broken.store(true, Ordering::SeqCst);
            return Err(error.into());
        }
        let snapshot = Snapshot(tables.lock().clone());
        read(&snapshot)
    }

    pub(crate) fn write<T>(
        &self,
        write: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let database = self.database.read();
        let Some(tables) = database.as_ref() else {
            return Err(io::Error::other("the base is not open").into());
        };
        let mut transaction = Transaction::over(Tables::clone(&*tables.lock()));
        let written = write(&mut transaction).and_then(|result| {
            save(&*self.disk, &transaction.tables)?;
            after_page();
            *tables.lock() = Arc::new(transaction.tables);
            Ok(result)
        });
        if written.is_err() {
            self.broken.store(true, Ordering::SeqCst);
        }
        written
    }
}

/// A base that is only read.
pub(crate) struct ReadOnlyBase(Snapshot);

impl ReadOnlyBase {
    pub(crate) fn open(disk: &Arc<dyn Disk>, _cache_bytes: usize) -> Result<Self> {
        Ok(ReadOnlyBase(Snapshot(Arc::new(load(&**disk)?))))
    }

    pub(crate) fn read<T>(&mut self, read: impl FnOnce(&Snapshot) -> Result<T>) -> Result<T> {
        read(&self.0)
    }
}

/// The base as it was at one moment.
pub(crate) struct Snapshot(Arc<Tables>);

impl Snapshot {
    pub(crate) fn table(&self, name: &str) -> Result<Option<SnapshotTable>> {
        Ok(self.0.get(name).cloned().map(SnapshotTable))
    }
}

/// A table as it was at one moment.
pub(crate) struct SnapshotTable(Arc<Rows>);

impl SnapshotTable {
    pub(crate) fn find<T>(&self, key: &[u8], with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        Ok(self.0.get(key).map(|value| with(value)))
    }

    pub(crate) fn read_on(&self, after: Option<&[u8]>, rows: usize) -> Result<Option<Vec<u8>>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.0.range::<[u8], _>((from, Bound::Unbounded));
        Ok(range.take(rows).last().map(|(key, _)| key.clone()))
    }

    pub(crate) fn for_each(&self, mut with: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        self.0.iter().try_for_each(|(key, value)| with(key, value))
    }
}

/// What lies around a key in a table.
#[derive(Debug, Default)]
pub(crate) struct Around {
    pub(crate) row: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) next_key: Option<Vec<u8>>,
}

/// Changes to the base that happen all or not at all.
pub(crate) struct Transaction<'t> {
    tables: Tables,
    _of: std::marker::PhantomData<&'t ()>,
}

impl Transaction<'_> {
    fn over(tables: Tables) -> Self {
        Transaction {
            tables,
            _of: std::marker::PhantomData,
        }
    }

    pub(crate) fn put(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<bool> {
        let before = self.rows(table).insert(key.to_vec(), value.to_vec());
        Ok(before.is_some())
    }

    pub(crate) fn make_table(&mut self, table: &str) -> Result<()> {
        self.rows(table);
        Ok(())
    }

    pub(crate) fn remove(&mut self, table: &str, key: &[u8]) -> Result<bool> {
        if !self.tables.contains_key(table) {
            return Ok(false);
        }
        Ok(self.rows(table).remove(key).is_some())
    }

    pub(crate) fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self
            .tables
            .get(table)
            .and_then(|rows| rows.get(key).cloned()))
    }

    pub(crate) fn around(&mut self, table: &str, key: &[u8]) -> Result<Around> {
        let Some(rows) = self.tables.get(table) else {
            return Ok(Around::default());
        };
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let row = rows.range::<[u8], _>(up_to).next_back();
        let after = (Bound::Excluded(key), Bound::Unbounded);
        let next = rows.range::<[u8], _>(after).next();
        Ok(Around {
            row: row.map(|(key, value)| (key.clone(), value.clone())),
            next_key: next.map(|(key, _)| key.clone()),
        })
    }

    pub(crate) fn for_each(&self, table: &str, mut with: impl FnMut(&[u8], &[u8])) -> Result<()> {
        if let Some(rows) = self.tables.get(table) {
            rows.iter().for_each(|(key, value)| with(key, value));
        }
        Ok(())
    }

    pub(crate) fn drop_table(&mut self, table: &str) -> Result<()> {
        self.tables.remove(table);
        Ok(())
    }

    fn rows(&mut self, table: &str) -> &mut Rows {
        Arc::make_mut(self.tables.entry(table.to_owned()).or_default())
    }
}

/// Writes the tables to a new file that takes the old one's place.
fn save(disk: &dyn Disk, tables: &Tables) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (name, rows) in tables {
        put_bytes(&mut bytes, name.as_bytes());
        bytes.extend_from_slice(&(rows.len() as u64).to_le_bytes());
        for (key, value) in &**rows {
            put_bytes(&mut bytes, key);
            put_bytes(&mut bytes, value);
        }
    }
    let file = match disk.create(UNFINISHED_BASE_FILE) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Left by a commit that failed.
            disk.remove(UNFINISHED_BASE_FILE)?;
            disk.create(UNFINISHED_BASE_FILE)
        }
        created => created,
    }?;
    file.write_at(0, &bytes)?;
    file.sync()?;
    disk.rename(UNFINISHED_BASE_FILE, BASE_FILE)?;
    disk.sync_dir()
}

fn load(disk: &dyn Disk) -> Result<Tables> {
    let file = disk.open(BASE_FILE)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(0, &mut bytes)?;
    let mut rest = bytes.as_slice();
    parse(&mut rest).ok_or_else(|| Error::corrupt(BASE_FILE, "the stand-in's file is cut short"))
}

fn parse(rest: &mut &[u8]) -> Option<Tables> {
    let mut tables = Tables::new();
    while !rest.is_empty() {
        let name = String::from_utf8(take_bytes(rest)?.to_vec()).ok()?;
        let mut rows = Rows::new();
        for _ in 0..take_u64(rest)? {
            let key = take_bytes(rest)?.to_vec();
            rows.insert(key, take_bytes(rest)?.to_vec());
        }
        tables.insert(name, Arc::new(rows));
    }
    Some(tables)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn take_bytes<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let len = take_u64(rest)? as usize;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_le_bytes(*number))
}
