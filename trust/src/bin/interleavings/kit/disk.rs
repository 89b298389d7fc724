//! A disk in memory that keeps apart what is written and what is synced, where the scheduler may
//! go on with another thread before every operation.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firstclaim::internals::{DirectoryLock, Disk, DiskFile};

/// The base's file, under its two names.
const BASE: &str = "base.";
/// Where the frames of a segment begin.
const FRAMES_OFFSET: u64 = 8192;

#[derive(Debug, Default, Clone)]
pub struct ModelDisk(Arc<State>);

/// What happens at the next sync of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails.
    Fails,
    /// It panics.
    Panics,
}

/// Panics within the store that a program made itself.
struct Injected;

#[derive(Debug, Default)]
struct State {
    files: Mutex<BTreeMap<String, Arc<File>>>,
    /// The directory as of its last sync.
    synced: Mutex<BTreeMap<String, Arc<File>>>,
    taken: AtomicBool,
    fault: Mutex<Option<Fault>>,
    /// Called when a reading asks the base.
    on_base_read: Mutex<Option<Watcher>>,
}

struct Watcher(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

#[derive(Debug, Default)]
struct File {
    live: Mutex<Vec<u8>>,
    synced: Mutex<Vec<u8>>,
    /// A frame was written since the last sync.
    has_frame: AtomicBool,
}

/// Never held where the scheduler may choose.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn choose() {
    shuttle::thread::sleep(Duration::ZERO);
}

impl ModelDisk {
    pub fn as_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    pub fn is_taken(&self) -> bool {
        self.0.taken.load(SeqCst)
    }

    /// The next sync of a frame fails.
    pub fn fail_next_sync(&self, fault: Fault) {
        *held(&self.0.fault) = Some(fault);
    }

    /// None fails from here on.
    pub fn fail_no_more(&self) {
        *held(&self.0.fault) = None;
    }

    /// Calls `watcher` whenever a reading is at the base, after it found nothing newer.
    pub fn watch_base_reads(&self, watcher: impl Fn() + Send + Sync + 'static) {
        *held(&self.0.on_base_read) = Some(Watcher(Arc::new(watcher)));
    }

    /// What is left if the power is cut now, and no more is written than was synced.
    pub fn after_power_cut(&self) -> Self {
        let names = held(&self.0.synced);
        let files = names.iter().map(|(name, file)| {
            let bytes = held(&file.synced).clone();
            let file = File {
                live: Mutex::new(bytes.clone()),
                synced: Mutex::new(bytes),
                has_frame: AtomicBool::new(false),
            };
            (name.clone(), Arc::new(file))
        });
        let files: BTreeMap<_, _> = files.collect();
        ModelDisk(Arc::new(State {
            files: Mutex::new(files.clone()),
            synced: Mutex::new(files),
            ..State::default()
        }))
    }

    fn file(&self, name: &str, file: Arc<File>) -> Arc<dyn DiskFile> {
        Arc::new(OpenFile {
            disk: self.clone(),
            is_segment: name.starts_with("journal-"),
            file,
        })
    }
}

impl Disk for ModelDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        choose();
        let file = held(&self.0.files).get(name).cloned();
        if name.starts_with(BASE) {
            let watcher = held(&self.0.on_base_read).as_ref().map(|w| w.0.clone());
            if let Some(watcher) = watcher {
                watcher();
            }
        }
        Ok(self.file(name, file.ok_or(io::ErrorKind::NotFound)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        choose();
        let mut files = held(&self.0.files);
        if files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(File::default());
        files.insert(name.to_owned(), file.clone());
        Ok(self.file(name, file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        choose();
        let mut files = held(&self.0.files);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        choose();
        let removed = held(&self.0.files).remove(name);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        choose();
        Ok(held(&self.0.files).keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        choose();
        *held(&self.0.synced) = held(&self.0.files).clone();
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        choose();
        if self.0.taken.swap(true, SeqCst) {
            return Ok(None);
        }
        Ok(Some(Box::new(Taken(self.clone()))))
    }
}

#[derive(Debug)]
struct Taken(ModelDisk);

impl DirectoryLock for Taken {}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.taken.store(false, SeqCst);
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: ModelDisk,
    is_segment: bool,
    file: Arc<File>,
}

impl DiskFile for OpenFile {
    fn len(&self) -> io::Result<u64> {
        Ok(held(&self.file.live).len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        choose();
        let bytes = held(&self.file.live);
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = bytes.get(begin..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        choose();
        if self.is_segment && offset >= FRAMES_OFFSET {
            self.file.has_frame.store(true, SeqCst);
        }
        let mut live = held(&self.file.live);
        let begin = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = begin + bytes.len();
        if live.len() < end {
            live.resize(end, 0);
        }
        live[begin..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        choose();
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        held(&self.file.live).resize(len, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        choose();
        if self.file.has_frame.swap(false, SeqCst) {
            match held(&self.disk.0.fault).take() {
                Some(Fault::Fails) => return Err(io::Error::other("the sync failed")),
                // Without the hook: shuttle would take it for the end of the schedule.
                Some(Fault::Panics) => std::panic::resume_unwind(Box::new(Injected)),
                None => {}
            }
        }
        held(&self.file.synced).clone_from(&held(&self.file.live));
        Ok(())
    }
}
