//! All that a disk holds at one moment.
//!
//! Every file keeps its live sectors, its durable ones, and the sector writes since its last sync.
//! Names keep the same three. Cutting the power makes an image in which any part of what was not
//! synced may have happened; killing the process keeps all of it visible and none of it durable.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

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

    fn read(&self, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = offset as usize;
        while !out.is_empty() {
            let sector = &self.sectors[at / SECTOR][at % SECTOR..];
            let n = sector.len().min(out.len());
            let (now, later) = out.split_at_mut(n);
            now.copy_from_slice(&sector[..n]);
            out = later;
            at += n;
        }
        Ok(())
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

    fn set_len(&mut self, len: u64) {
        self.live.set_len(len);
        self.pending.push(Change::SetLen(len));
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

    /// A hash of what an opening would see, and of what is durable of it.
    pub fn digest(&self) -> u64 {
        let mut bytes = Vec::new();
        for (name, inode) in self.live_names.iter().chain(&self.durable_names) {
            bytes.extend_from_slice(name.as_bytes());
            let inode = &self.inodes[*inode];
            for content in [&inode.live, &inode.durable] {
                bytes.extend_from_slice(&content.len.to_le_bytes());
                content
                    .sectors
                    .iter()
                    .for_each(|s| bytes.extend_from_slice(s));
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

    /// What a program would read in a file, whole.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let Some(inode) = self.live_names.get(name) else {
            return Vec::new();
        };
        let content = &self.inodes[*inode].live;
        let mut bytes = content.sectors.concat();
        bytes.truncate(content.len as usize);
        bytes
    }

    /// The files and their lengths.
    pub fn files(&self) -> Vec<(String, u64)> {
        let names = self.live_names.iter();
        names
            .map(|(name, inode)| (name.clone(), self.inodes[*inode].live.len))
            .collect()
    }

    /// The inode of a file.
    pub(super) fn find(&self, name: &str) -> io::Result<usize> {
        let inode = self.live_names.get(name).copied();
        inode.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.live_names.keys().cloned().collect()
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<usize> {
        if self.live_names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = self.inodes.len();
        self.inodes.push(Arc::default());
        self.set_name(NameChange::Set(name.to_owned(), inode));
        Ok(inode)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let inode = self.find(from)?;
        self.set_name(NameChange::Set(to.to_owned(), inode));
        Ok(())
    }

    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        self.find(name)?;
        self.set_name(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    pub(super) fn sync_names(&mut self) {
        for change in std::mem::take(&mut self.pending_names) {
            apply_name(&mut self.durable_names, &change);
        }
    }

    pub(super) fn len(&self, inode: usize) -> u64 {
        self.inodes[inode].live.len
    }

    pub(super) fn read(&self, inode: usize, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inodes[inode].live.read(offset, out)
    }

    pub(super) fn write(&mut self, inode: usize, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_room(inode, offset + bytes.len() as u64)?;
        Arc::make_mut(&mut self.inodes[inode]).write(offset, bytes);
        Ok(())
    }

    pub(super) fn set_len(&mut self, inode: usize, len: u64) -> io::Result<()> {
        self.check_room(inode, len)?;
        Arc::make_mut(&mut self.inodes[inode]).set_len(len);
        Ok(())
    }

    /// Syncs a file, or fails to in one of the ways.
    pub(super) fn sync(&mut self, inode: usize, failed: Option<FailedSync>) -> io::Result<()> {
        let inode = Arc::make_mut(&mut self.inodes[inode]);
        match failed {
            None => {
                inode.sync();
                Ok(())
            }
            Some(way) => {
                inode.fail_sync(way);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    /// Whether the disk has room for a file to grow to `len`.
    fn check_room(&self, inode: usize, len: u64) -> io::Result<()> {
        let own = self.inodes[inode].live.sectors.len();
        let wanted = (len as usize).div_ceil(SECTOR);
        match self.capacity_sectors {
            Some(capacity) if wanted > own && self.sectors() - own + wanted > capacity => {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
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
