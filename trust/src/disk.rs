//! A simulated disk: what programs see, what is durable, and what lies between.
//!
//! Every file keeps its live sectors, its durable ones, and the sector writes since its last sync.
//! Names keep the same three. Cutting the power makes an image in which any part of what was not
//! synced may have happened; killing the process keeps all of it visible and none of it durable.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firstclaim::internals::{DirectoryLock, Disk, DiskFile};

use crate::random::Random;

/// The unit that a disk writes whole or not at all.
pub const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// What happens to a sync that is made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedSync {
    /// What was not synced is gone.
    Dropped,
    /// It stays visible, is not durable, and counts as clean: a later sync does not write it.
    Clean,
    /// It stays to be written by a later sync.
    Dirty,
}

/// What of the unsynced survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    None,
    /// Everything.
    All,
    /// All but the last sector written.
    AllButLast,
    /// Any subset, sector by sector, in any order, by this seed.
    Some(u64),
}

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

/// One file.
#[derive(Debug, Clone, Default)]
struct Inode {
    live: Content,
    durable: Content,
    /// Since the last sync, in order.
    pending: Vec<Change>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Content {
    sectors: Vec<Sector>,
    len: u64,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Box<Sector>),
    SetLen(u64),
}

/// A change to the names.
#[derive(Debug, Clone)]
enum NameChange {
    Set(String, usize),
    Remove(String),
}

/// All of the disk at one moment; cheap enough to copy at every step.
#[derive(Debug, Clone, Default)]
pub struct Image {
    inodes: Vec<Arc<Inode>>,
    live_names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameChange>,
    /// No file may take the disk beyond this many sectors.
    pub capacity_sectors: Option<usize>,
}

impl Content {
    fn set_len(&mut self, len: u64) {
        let sectors = (len as usize).div_ceil(SECTOR);
        if let Some(last) = self.sectors.get_mut((len as usize) / SECTOR) {
            last[len as usize % SECTOR..].fill(0);
        }
        self.sectors.resize(sectors, [0; SECTOR]);
        self.len = len;
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::SetLen(len) => self.set_len(*len),
            Change::Write(at, sector) => {
                if self.sectors.len() <= *at {
                    self.sectors.resize(at + 1, [0; SECTOR]);
                    self.len = ((at + 1) * SECTOR) as u64;
                }
                self.sectors[*at] = **sector;
            }
        }
    }
}

impl Inode {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if end > self.live.len {
            self.live.set_len(end);
            self.pending.push(Change::SetLen(end));
        }
        let (first, last) = (offset as usize / SECTOR, (end as usize).div_ceil(SECTOR));
        for at in first..last {
            let begin = (at * SECTOR).max(offset as usize);
            let stop = ((at + 1) * SECTOR).min(end as usize);
            let sector = &mut self.live.sectors[at];
            sector[begin - at * SECTOR..stop - at * SECTOR]
                .copy_from_slice(&bytes[begin - offset as usize..stop - offset as usize]);
            self.pending.push(Change::Write(at, Box::new(*sector)));
        }
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            self.durable.apply(&change);
        }
    }

    fn fail_sync(&mut self, way: FailedSync) {
        match way {
            FailedSync::Dropped => {
                self.pending.clear();
                self.live = self.durable.clone();
            }
            FailedSync::Clean => self.pending.clear(),
            FailedSync::Dirty => {}
        }
    }

    /// The file after a power cut.
    fn cut(&self, keep: Keep, random: &mut Random) -> Inode {
        let mut durable = self.durable.clone();
        let mut kept: Vec<&Change> = match keep {
            Keep::None => Vec::new(),
            Keep::All => self.pending.iter().collect(),
            Keep::AllButLast => self.pending.iter().rev().skip(1).rev().collect(),
            Keep::Some(_) => self.pending.iter().filter(|_| random.chance(2)).collect(),
        };
        if matches!(keep, Keep::Some(_)) {
            random.shuffle(&mut kept);
        }
        for change in kept {
            durable.apply(change);
        }
        Inode {
            live: durable.clone(),
            durable,
            pending: Vec::new(),
        }
    }
}

impl Image {
    /// The disk after a power cut.
    pub fn cut(&self, keep: Keep) -> Image {
        let mut random = Random::new(match keep {
            Keep::Some(seed) => seed,
            _ => 0,
        });
        let mut names = self.durable_names.clone();
        let kept_names = match keep {
            Keep::None => 0,
            Keep::All => self.pending_names.len(),
            Keep::AllButLast => self.pending_names.len().saturating_sub(1),
            // File systems keep changes of names in order.
            Keep::Some(_) => random.below(self.pending_names.len() as u64 + 1) as usize,
        };
        for change in &self.pending_names[..kept_names] {
            apply_name(&mut names, change);
        }
        let inodes = self.inodes.iter().map(|inode| {
            if inode.pending.is_empty() && inode.live == inode.durable {
                inode.clone()
            } else {
                Arc::new(inode.cut(keep, &mut random))
            }
        });
        Image {
            inodes: inodes.collect(),
            live_names: names.clone(),
            durable_names: names,
            pending_names: Vec::new(),
            capacity_sectors: self.capacity_sectors,
        }
    }

    /// A hash of what an opening would see and what a cut would leave.
    pub fn digest(&self) -> u64 {
        let mut bytes = Vec::new();
        for (name, inode) in &self.live_names {
            bytes.extend_from_slice(name.as_bytes());
            let content = &self.inodes[*inode].live;
            bytes.extend_from_slice(&content.len.to_le_bytes());
            for sector in &content.sectors {
                bytes.extend_from_slice(sector);
            }
        }
        twox_hash::XxHash3_64::oneshot(&bytes)
    }

    /// Flips one bit of a file's durable and live content.
    pub fn flip(&mut self, name: &str, bit: u64) {
        let Some(inode) = self.live_names.get(name) else {
            return;
        };
        let inode = Arc::make_mut(&mut self.inodes[*inode]);
        let byte = (bit / 8) as usize;
        for content in [&mut inode.live, &mut inode.durable] {
            if let Some(sector) = content.sectors.get_mut(byte / SECTOR) {
                sector[byte % SECTOR] ^= 1 << (bit % 8);
            }
        }
    }

    /// The files and their lengths.
    pub fn files(&self) -> Vec<(String, u64)> {
        let names = self.live_names.iter();
        names
            .map(|(name, inode)| (name.clone(), self.inodes[*inode].live.len))
            .collect()
    }

    fn sectors(&self) -> usize {
        let used = self.live_names.values();
        used.map(|inode| self.inodes[*inode].live.sectors.len())
            .sum()
    }

    fn set_name(&mut self, change: NameChange) {
        apply_name(&mut self.live_names, &change);
        self.pending_names.push(change);
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Set(name, inode) => {
            names.retain(|_, other| other != inode);
            names.insert(name.clone(), *inode);
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
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

    fn with_inode<T>(&self, inode: usize, f: impl FnOnce(&mut Inode) -> T) -> T {
        let mut image = locked(&self.0.image);
        f(Arc::make_mut(&mut image.inodes[inode]))
    }

    /// Whether the disk has room for a file to grow to `len`.
    fn check_room(&self, inode: usize, len: u64) -> io::Result<()> {
        let image = locked(&self.0.image);
        let own = image.inodes[inode].live.sectors.len();
        let wanted = (len as usize).div_ceil(SECTOR);
        match image.capacity_sectors {
            Some(capacity) if wanted > own && image.sectors() - own + wanted > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
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
        let inode = locked(&self.0.image).live_names.get(name).copied();
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(name, inode))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.ask(Op::Create, name)?;
        let mut image = locked(&self.0.image);
        if image.live_names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = image.inodes.len();
        image.inodes.push(Arc::default());
        image.set_name(NameChange::Set(name.to_owned(), inode));
        drop(image);
        Ok(self.file(name, inode))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.ask(Op::Rename, from)?;
        let mut image = locked(&self.0.image);
        let inode = *image.live_names.get(from).ok_or(io::ErrorKind::NotFound)?;
        image.set_name(NameChange::Set(to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.ask(Op::Remove, name)?;
        let mut image = locked(&self.0.image);
        if !image.live_names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        image.set_name(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(locked(&self.0.image).live_names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.ask(Op::SyncDir, "")?;
        let mut image = locked(&self.0.image);
        for change in std::mem::take(&mut image.pending_names) {
            apply_name(&mut image.durable_names, &change);
        }
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
        Ok(self.disk.with_inode(self.inode, |inode| inode.live.len))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.ask(Op::Read, &self.name)?;
        self.disk.with_inode(self.inode, |inode| {
            if offset + out.len() as u64 > inode.live.len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let mut at = offset as usize;
            let mut out = out;
            while !out.is_empty() {
                let sector = &inode.live.sectors[at / SECTOR][at % SECTOR..];
                let n = sector.len().min(out.len());
                let (now, later) = out.split_at_mut(n);
                now.copy_from_slice(&sector[..n]);
                out = later;
                at += n;
            }
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.ask(Op::Write, &self.name)?;
        self.disk
            .check_room(self.inode, offset + bytes.len() as u64)?;
        self.disk
            .with_inode(self.inode, |inode| inode.write(offset, bytes));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.ask(Op::SetLen, &self.name)?;
        self.disk.check_room(self.inode, len)?;
        self.disk.with_inode(self.inode, |inode| {
            inode.live.set_len(len);
            inode.pending.push(Change::SetLen(len));
        });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.ask(Op::Sync, &self.name)? {
            None => {
                self.disk.with_inode(self.inode, Inode::sync);
                Ok(())
            }
            Some(way) => {
                self.disk
                    .with_inode(self.inode, |inode| inode.fail_sync(way));
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}
