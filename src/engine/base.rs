//! The base's file: tables of bytes with transactions. The only file that names redb.
//!
//! Every commit is two-phase with quick repair: a one-phase commit was seen to lose the whole file
//! after a failed sync and a power cut, and to roll back silently past a damaged page. A failed
//! commit may have happened; after any I/O error the file must be reopened ([`Base::reopen`]).
//! Damaged pages can make redb panic; no panic leaves this file.

mod backend;
mod opened;
mod transaction;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use redb::{
    Database, ReadOnlyDatabase, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageBackend, Table, TableDefinition, TableError, WriteTransaction,
};

use self::backend::FileBackend;
use self::opened::Opened;
pub(crate) use self::opened::{Snapshot, SnapshotTable};
pub(crate) use self::transaction::{Around, Transaction};
use super::disk::{Disk, DiskFile};
use crate::bugs::{self, Bug};
use crate::error::{Error, Result};
use crate::sync::{AtomicBool, Ordering, RwLock};

/// The base's file.
pub(crate) const BASE_FILE: &str = "base.redb";
/// Its name until it is complete: creating a redb file is not crash-safe.
pub(crate) const UNFINISHED_BASE_FILE: &str = "base.new";

type Bytes = &'static [u8];

fn definition(name: &str) -> TableDefinition<'_, Bytes, Bytes> {
    TableDefinition::new(name)
}

/// The open file, or none while it is being reopened or could not be.
#[derive(Debug)]
pub(crate) struct Base {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    database: RwLock<Option<Opened>>,
    /// An I/O error happened: nothing more will succeed until the file is reopened.
    broken: Arc<AtomicBool>,
    /// The disk was full for the last write.
    lacks_space: AtomicBool,
}

impl Base {
    /// Makes a base that holds what `fill` puts into it. Until all of it is durable, the file does
    /// not have its name.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        cache_bytes: usize,
        fill: impl FnOnce(&mut Transaction<'_>) -> Result<()>,
    ) -> Result<()> {
        if disk.list()?.iter().any(|name| name == UNFINISHED_BASE_FILE) {
            disk.remove(UNFINISHED_BASE_FILE)?;
        }
        let file = disk.create(UNFINISHED_BASE_FILE)?;
        let broken = Arc::default();
        let database = open_database(file.clone(), cache_bytes, &broken)?;
        let base = Base {
            disk: disk.clone(),
            cache_bytes,
            database: RwLock::new(Some(Opened::of(database))),
            broken,
            lacks_space: AtomicBool::new(false),
        };
        base.write(fill)?;
        base.close();
        file.sync()?;
        disk.rename(UNFINISHED_BASE_FILE, BASE_FILE)?;
        disk.sync_dir()?;
        Ok(())
    }

    /// Opens the base that is there.
    pub(crate) fn open(disk: Arc<dyn Disk>, cache_bytes: usize) -> Result<Self> {
        let base = Base {
            disk,
            cache_bytes,
            database: RwLock::new(None),
            broken: Arc::new(AtomicBool::new(true)),
            lacks_space: AtomicBool::new(false),
        };
        base.reopen()?;
        Ok(base)
    }

    /// Whether the file must be reopened before anything more succeeds.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    /// Opens the file anew; the old handle is gone before, so that it writes nothing later.
    pub(crate) fn reopen(&self) -> Result<()> {
        let mut database = self.database.write();
        discard(database.take());
        self.broken.store(true, Ordering::SeqCst);
        let file = self.disk.open(BASE_FILE)?;
        // redb would make a new database of an empty file.
        if file.len()? == 0 {
            return Err(Error::corrupt(BASE_FILE, "the file is empty"));
        }
        self.broken.store(false, Ordering::SeqCst);
        let opened = open_database(file, self.cache_bytes, &self.broken);
        let opened = opened.inspect_err(|_| self.broken.store(true, Ordering::SeqCst))?;
        *database = Some(Opened::of(opened));
        Ok(())
    }

    /// Closes the file, for good: reads and writes fail from here on.
    pub(crate) fn close(&self) {
        let database = self.database.write().take();
        if self.is_broken() {
            discard(database);
        } else {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
        }
    }

    /// Runs `read` on the snapshot of the last commit.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Snapshot) -> Result<T>) -> Result<T> {
        let opened = self.database.read();
        let Some(opened) = opened.as_ref() else {
            return Err(io::Error::other("the base is not open").into());
        };
        contained(|| read(&*opened.latest()?))
    }

    /// Runs `write` in one transaction and commits it durably. After an error the transaction may
    /// or may not have happened.
    ///
    /// If the disk was full for the last one, this one finds all pages free that nobody needs.
    pub(crate) fn write<T>(
        &self,
        write: impl FnOnce(&mut Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let opened = self.database.read();
        let Some(opened) = opened.as_ref() else {
            return Err(io::Error::other("the base is not open").into());
        };
        let result = contained(|| {
            if self.lacks_space.load(Ordering::SeqCst) {
                // There is no snapshot to share after the reopening: all can be freed at once.
                let empty = begin_write(&opened.database)?;
                empty.commit().map_err(|e| failed(e.into()))?;
                self.lacks_space.store(false, Ordering::SeqCst);
            }
            let inner = begin_write(&opened.database)?;
            let mut transaction = Transaction::over(opened.latest()?, &inner);
            let result = write(&mut transaction)?;
            drop(transaction);
            // The new snapshot is there before the caller publishes what it wrote.
            opened.renew_by(|| inner.commit().map_err(|e| failed(e.into())))?;
            Ok(result)
        });
        if let Err(error) = &result {
            self.broken.store(true, Ordering::SeqCst);
            if matches!(error, Error::NoSpace) {
                self.lacks_space.store(true, Ordering::SeqCst);
            }
        }
        result
    }
}

impl Drop for Base {
    fn drop(&mut self) {
        discard(self.database.get_mut().take());
    }
}

/// Lets go of the file without another write; it is as durable as its last commit.
///
/// Closing it would commit once more, and that can meet a damaged page and panic in a panic, which
/// nothing can catch. redb does not do so in a thread that is unwinding: so this one is, for a moment,
/// and no hook is called.
fn discard(opened: Option<Opened>) {
    let Some(opened) = opened else { return };
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _dropped_by_unwinding = opened;
        if cfg!(panic = "unwind") {
            resume_unwind(Box::new(()));
        }
    }));
}

/// Runs `work`, and turns a panic of redb on a damaged page into an error.
fn contained<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::corrupt(
            BASE_FILE,
            "a page is damaged (redb panicked)",
        ))
    })
}

/// A base that is only read, to save what can be saved of it.
pub(crate) struct ReadOnlyBase {
    disk: Arc<dyn Disk>,
    cache_bytes: usize,
    database: ReadOnlyDatabase,
    broken: Arc<AtomicBool>,
}

impl ReadOnlyBase {
    /// Opens the base that is there; it must have been closed in order.
    pub(crate) fn open(disk: &Arc<dyn Disk>, cache_bytes: usize) -> Result<Self> {
        let file = disk.open(BASE_FILE)?;
        let broken = Arc::default();
        let backend = FileBackend::over(file, &broken);
        let database = contained(|| {
            let builder = &mut Database::builder();
            let opened = builder.set_cache_size(counted(cache_bytes));
            let opened = opened.open_read_only_with_backend(backend);
            opened.map_err(|e| failed(e.into()))
        })?;
        Ok(ReadOnlyBase {
            disk: disk.clone(),
            cache_bytes,
            database,
            broken,
        })
    }

    /// Runs `read` on one snapshot, after an earlier error on a file opened anew.
    pub(crate) fn read<T>(&mut self, read: impl FnOnce(&Snapshot) -> Result<T>) -> Result<T> {
        if self.broken.load(Ordering::SeqCst) {
            *self = Self::open(&self.disk, self.cache_bytes)?;
        }
        contained(|| {
            let transaction = self.database.begin_read().map_err(|e| failed(e.into()))?;
            read(&Snapshot::over(transaction))
        })
    }
}

fn begin_write(database: &Database) -> Result<WriteTransaction> {
    let begun = database.begin_write();
    let mut transaction = begun.map_err(|e| failed(e.into()))?;
    transaction.set_two_phase_commit(!bugs::is(Bug::OnePhaseBaseCommits));
    transaction.set_quick_repair(!bugs::is(Bug::OnePhaseBaseCommits));
    Ok(transaction)
}

fn open_database(
    file: Arc<dyn DiskFile>,
    cache_bytes: usize,
    broken: &Arc<AtomicBool>,
) -> Result<Database> {
    let backend = FileBackend::over(file, broken);
    contained(|| {
        Database::builder()
            .set_cache_size(counted(cache_bytes))
            .create_with_backend(backend)
            .map_err(|e| failed(e.into()))
    })
}

/// What redb may count of so much memory. It counts the bytes of its pages alone, not what an allocator
/// keeps of pages that were let go: about a third as much, and that for each thread that has read or written
/// many, since what one has let go another may not use. There are three: the opening one, and those that
/// checkpoint and that sweep. Callers read pages too, but few each.
fn counted(cache_bytes: usize) -> usize {
    cache_bytes / 4
}

/// What redb's errors mean here.
fn failed(error: redb::Error) -> Error {
    match error {
        redb::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            Error::corrupt(BASE_FILE, error.to_string())
        }
        redb::Error::Io(error) => error.into(),
        redb::Error::Corrupted(what) => Error::corrupt(BASE_FILE, what),
        redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::UpgradeRequired(_)
        | redb::Error::RepairAborted => Error::corrupt(BASE_FILE, error.to_string()),
        other => io::Error::other(other).into(),
    }
}

#[cfg(test)]
mod tests;
