//! The base's file as redb wants it.

use std::io;
use std::sync::Arc;

use super::StorageBackend;
use crate::engine::disk::DiskFile;
use crate::engine::pace::{after_page, is_paced};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// Work that lets others run writes about so much at most between two syncs. A checkpoint writes megabytes:
/// synced all together they would have the disk to themselves for milliseconds, and the journal's frames
/// behind them would wait.
const SYNCED_AFTER_BYTES: u64 = 128 << 10;

/// A file of the disk as redb wants it. redb does nothing more after the first error, of whatever
/// kind, so that is noted.
#[derive(Debug)]
pub(super) struct FileBackend {
    file: Arc<dyn DiskFile>,
    /// The bytes written since the last sync.
    unsynced: AtomicU64,
    broken: Arc<AtomicBool>,
}

impl FileBackend {
    pub(super) fn over(file: Arc<dyn DiskFile>, broken: &Arc<AtomicBool>) -> Self {
        FileBackend {
            file,
            unsynced: AtomicU64::new(0),
            broken: broken.clone(),
        }
    }

    fn noted<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|_| self.broken.store(true, Ordering::SeqCst))
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        self.noted(self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.noted(self.file.read_at(offset, out));
        after_page();
        read
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.noted(self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.noted(self.file.sync())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let written = self.noted(self.file.write_at(offset, data));
        after_page();
        written?;
        let len = data.len() as u64;
        let unsynced = self.unsynced.fetch_add(len, Ordering::Relaxed) + len;
        if unsynced >= SYNCED_AFTER_BYTES && is_paced() {
            self.sync_data()?;
        }
        Ok(())
    }
}
