//! A directory in memory, for stores that need not outlive their process and for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{DirectoryLock, Disk, DiskFile};
use crate::sync::{AtomicBool, Mutex, Ordering, RwLock};

/// Files in memory. What is written is there at once; syncs do nothing.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
    taken: Arc<AtomicBool>,
}

impl MemoryDisk {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of all files as they are now, not taken by any store: what a kill would leave.
    #[cfg(any(test, feature = "internals"))]
    pub fn snapshot(&self) -> Self {
        let files = self.files.lock();
        let copies = files.iter().map(|(name, file)| {
            let bytes = file.0.read().clone();
            (name.clone(), Arc::new(MemoryFile(RwLock::new(bytes))))
        });
        MemoryDisk {
            files: Mutex::new(copies.collect()),
            taken: Arc::default(),
        }
    }

    fn find(&self, name: &str) -> io::Result<Arc<MemoryFile>> {
        let files = self.files.lock();
        files.get(name).cloned().ok_or_else(|| not_found(name))
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.find(name)?)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = self.files.lock();
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile::default());
        files.insert(name.to_owned(), file.clone());
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.remove(from).ok_or_else(|| not_found(from))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.files.lock().remove(name);
        removed.map(drop).ok_or_else(|| not_found(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        if self.taken.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        Ok(Some(Box::new(Taken(self.taken.clone()))))
    }
}

#[derive(Debug)]
struct Taken(Arc<AtomicBool>);

impl DirectoryLock for Taken {}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[derive(Debug, Default)]
struct MemoryFile(RwLock<Vec<u8>>);

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.read();
        let from = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
        let range = from.and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.0.write();
        let begin = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = begin
            .checked_add(bytes.len())
            .ok_or(io::ErrorKind::FileTooLarge)?;
        if content.len() < end {
            content.resize(end, 0);
        }
        content[begin..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.0.write().resize(len, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}
