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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pace::Pace;

    /// Counts its syncs.
    #[derive(Debug, Default)]
    struct Counting(AtomicU64);

    impl DiskFile for Counting {
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            Ok(())
        }

        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    /// How often a megabyte is synced that is written at a pace.
    fn syncs(pace: &Pace<'_>) -> u64 {
        let file = Arc::new(Counting::default());
        let backend = FileBackend::over(file.clone(), &Arc::default());
        pace.with_pages(|| (0..256).for_each(|n| backend.write(n << 12, &[0; 4096]).unwrap()));
        file.0.load(Ordering::SeqCst)
    }

    #[test]
    fn work_that_lets_others_run_is_synced_a_little_at_a_time_and_no_other() {
        assert_eq!(syncs(&Pace::of(1, &|| 0.0)), 8);
        assert_eq!(syncs(&Pace::hurried()), 0);
    }
}
