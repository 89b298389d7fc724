//! The disk as the store sees it: a flat directory of files.
//!
//! Every byte the store reads or writes goes through [`Disk`], the base's too, so that a test can
//! fail or cut short any single operation.

#[cfg(target_os = "linux")]
mod direct;
pub(crate) mod directory;
pub(crate) mod memory;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A directory of files.
///
/// Creating, renaming and removing are durable after [`sync_dir`](Disk::sync_dir); a file's
/// content and length after its own [`sync`](DiskFile::sync).
pub trait Disk: Debug + Send + Sync {
    /// Opens a file that exists.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; anything the disk reports.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that exists, to be written over in order and synced after each write: past the page
    /// cache, where that can be done. Behind a write there may be zeros then, up to a multiple of 4 KiB.
    ///
    /// # Errors
    /// As [`open`](Disk::open).
    fn open_direct(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open(name)
    }

    /// Makes a file, empty.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one of that name; anything the disk reports.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, replacing one that has the new name.
    ///
    /// # Errors
    /// Anything the disk reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` if it does not exist; anything the disk reports.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in no order.
    ///
    /// # Errors
    /// Anything the disk reports.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes what was created, renamed and removed durable.
    ///
    /// # Errors
    /// Anything the disk reports.
    fn sync_dir(&self) -> io::Result<()>;

    /// Takes the directory for this store alone, or `None` if another has it. It is free again
    /// when what is returned is dropped.
    ///
    /// # Errors
    /// Anything the disk reports.
    fn lock(&self) -> io::Result<Option<Box<dyn DirectoryLock>>>;
}

/// A file of a [`Disk`].
#[allow(clippy::len_without_is_empty)] // nobody asks
pub trait DiskFile: Debug + Send + Sync {
    /// The length in bytes.
    ///
    /// # Errors
    /// Anything the disk reports.
    fn len(&self) -> io::Result<u64>;

    /// Reads exactly `out.len()` bytes from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter; anything the disk reports.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, growing the file if need be.
    ///
    /// # Errors
    /// Anything the disk reports; some of the bytes may have been written then.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file off, or extends it with zeros.
    ///
    /// # Errors
    /// Anything the disk reports.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// Anything the disk reports; what was written since the last sync may or may not be durable.
    fn sync(&self) -> io::Result<()>;
}

/// The right to a directory; dropping it gives it back.
pub trait DirectoryLock: Debug + Send + Sync {}

/// Writes zeros over the first `len` bytes and syncs, so that later writes there need no new space.
pub(crate) fn preallocate(file: &dyn DiskFile, len: u64) -> io::Result<()> {
    const CHUNK_BYTES: usize = 1 << 20;
    let zeros = vec![0u8; CHUNK_BYTES.min(usize::try_from(len).unwrap_or(CHUNK_BYTES))];
    let mut offset = 0;
    while offset < len {
        let chunk = (len - offset).min(zeros.len() as u64);
        file.write_at(offset, &zeros[..chunk as usize])?;
        offset += chunk;
    }
    file.sync()
}
