//! A simulated disk: what programs see, what is durable, and what lies between.
//!
//! Before every operation a plan is asked what becomes of it, with the disk as it is then.

mod image;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firstclaim::internals::{DirectoryLock, Disk, DiskFile};

pub use self::image::{FailedSync, Image, Keep, SECTOR};

/// An operation that changes the disk, before or after it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Read,
    Write,
    SetLen,
    Sync,
    Create,
    Rename,
    Remove,
    SyncDir,
}

/// What a plan makes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Happens,
    Fails(io::ErrorKind),
    /// Of a sync.
    FailsSync(FailedSync),
}

/// Called before every operation, with its number and the disk as it is then.
pub type Plan = Box<dyn FnMut(Op, &str, &Image) -> Fate + Send>;

/// A disk over an image, under a plan.
#[derive(Clone)]
pub struct SimDisk(Arc<Inner>);

struct Inner {
    image: Mutex<Image>,
    plan: Mutex<Option<Plan>>,
    taken: AtomicBool,
}

impl SimDisk {
    pub fn over(image: Image) -> Self {
        SimDisk(Arc::new(Inner {
            image: Mutex::new(image),
            plan: Mutex::new(None),
            taken: AtomicBool::new(false),
        }))
    }

    /// From now on `plan` decides.
    pub fn set_plan(&self, plan: impl FnMut(Op, &str, &Image) -> Fate + Send + 'static) {
        *locked(&self.0.plan) = Some(Box::new(plan));
    }

    /// From now on the `n`th of the operations that `picks` picks fails, counted from 0, or all from it
    /// on. What is given back tells whether it came to that.
    pub fn fail_from(
        &self,
        picks: impl Fn(Op) -> bool + Send + 'static,
        n: u64,
        for_good: bool,
        fate: Fate,
    ) -> Arc<AtomicBool> {
        let hit = Arc::new(AtomicBool::new(false));
        let (noted, mut seen) = (hit.clone(), 0);
        self.set_plan(move |op, _, _| {
            if !picks(op) {
                return Fate::Happens;
            }
            seen += 1;
            if seen == n + 1 || (for_good && seen > n) {
                noted.store(true, Ordering::SeqCst);
                return fate;
            }
            Fate::Happens
        });
        hit
    }

    pub fn clear_plan(&self) {
        *locked(&self.0.plan) = None;
    }

    /// The same disk, with its plan, for another process; this one's no longer matters.
    pub fn fork(&self) -> Self {
        let fork = SimDisk::over(self.image());
        *locked(&fork.0.plan) = locked(&self.0.plan).take();
        fork
    }

    /// The disk as it is.
    pub fn image(&self) -> Image {
        locked(&self.0.image).clone()
    }

    pub fn set_capacity(&self, sectors: Option<usize>) {
        locked(&self.0.image).capacity_sectors = sectors;
    }

    pub fn as_disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    fn ask(&self, op: Op, name: &str) -> io::Result<Option<FailedSync>> {
        let mut plan = locked(&self.0.plan);
        let Some(plan) = plan.as_mut() else {
            return Ok(None);
        };
        let image = locked(&self.0.image);
        match plan(op, name, &image) {
            Fate::Happens => Ok(None),
            Fate::Fails(kind) => Err(kind.into()),
            Fate::FailsSync(way) if op == Op::Sync => Ok(Some(way)),
            Fate::FailsSync(_) => Err(io::ErrorKind::Other.into()),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Image) -> T) -> T {
        f(&mut locked(&self.0.image))
    }

    fn file(&self, name: &str, inode: usize) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            name: name.to_owned(),
            inode,
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inode = self.with(|image| image.find(name))?;
        Ok(self.file(name, inode))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.ask(Op::Create, name)?;
        let inode = self.with(|image| image.create(name))?;
        Ok(self.file(name, inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.ask(Op::Rename, from)?;
        self.with(|image| image.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.ask(Op::Remove, name)?;
        self.with(|image| image.remove(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.with(|image| image.names()))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.ask(Op::SyncDir, "")?;
        self.with(Image::sync_names);
        Ok(())
    }

    fn lock(&self) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        if self.0.taken.swap(true, Ordering::SeqCst) {
            return Ok(None);
        }
        Ok(Some(Box::new(Taken(self.clone()))))
    }
}

#[derive(Debug)]
struct Taken(SimDisk);

impl DirectoryLock for Taken {}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.taken.store(false, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    name: String,
    inode: usize,
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.with(|image| image.len(self.inode)))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.ask(Op::Read, &self.name)?;
        self.disk.with(|image| image.read(self.inode, offset, out))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.ask(Op::Write, &self.name)?;
        self.disk
            .with(|image| image.write(self.inode, offset, bytes))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.ask(Op::SetLen, &self.name)?;
        self.disk.with(|image| image.set_len(self.inode, len))
    }

    fn sync(&self) -> io::Result<()> {
        let failed = self.disk.ask(Op::Sync, &self.name)?;
        self.disk.with(|image| image.sync(self.inode, failed))
    }
}
