//! A disk in memory whose every operation a test may watch, fail, cut short or hold up.

#![allow(dead_code)]

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use firstclaim::internals::{DirectoryLock, Disk, DiskFile, MemoryDisk};

/// Which operation is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Open,
    Create,
    Rename,
    Remove,
    SyncDir,
    Read,
    Write,
    SetLen,
    Sync,
}

impl Op {
    /// Whether it changes what is on the disk.
    pub fn changes(self) -> bool {
        !matches!(self, Op::Open | Op::Read)
    }
}

/// An operation and the file it is on.
#[derive(Debug)]
pub struct Event<'a> {
    pub op: Op,
    pub file: &'a str,
    pub bytes: usize,
    /// The file would become longer.
    pub grows: bool,
}

/// What becomes of an operation.
#[derive(Debug)]
pub enum Fate {
    /// It is carried out.
    Happens,
    /// It fails without effect.
    Fails(io::ErrorKind),
    /// Of a write, this many bytes are carried out, and then it fails.
    CutShort(usize),
}

type Rule = Arc<dyn Fn(&Event<'_>, &MemoryDisk) -> Fate + Send + Sync>;

/// A [`MemoryDisk`] under a rule.
#[derive(Clone)]
pub struct FaultDisk {
    inner: Arc<MemoryDisk>,
    rule: Arc<Mutex<Option<Rule>>>,
    death: Arc<Mutex<Option<Death>>>,
}

/// When the disk dies.
#[derive(Debug, Clone, Copy)]
struct Death {
    /// How many operations that change the disk still happen.
    left: u64,
    /// The write after that is carried out by half.
    torn: bool,
}

impl FaultDisk {
    /// A disk over `inner` on which everything happens.
    pub fn over(inner: MemoryDisk) -> Self {
        FaultDisk {
            inner: Arc::new(inner),
            rule: Arc::default(),
            death: Arc::default(),
        }
    }

    /// An empty disk on which everything happens.
    pub fn new() -> Self {
        Self::over(MemoryDisk::new())
    }

    /// The content.
    pub fn content(&self) -> &MemoryDisk {
        &self.inner
    }

    /// From now on `rule` decides; it also gets the disk's content as it is before the operation.
    pub fn set(&self, rule: impl Fn(&Event<'_>, &MemoryDisk) -> Fate + Send + Sync + 'static) {
        *locked(&self.rule) = Some(Arc::new(rule));
    }

    /// From now on everything happens.
    pub fn clear(&self) {
        *locked(&self.rule) = None;
        *locked(&self.death) = None;
    }

    /// From now on operations that `matches` picks fail.
    pub fn fail(
        &self,
        kind: io::ErrorKind,
        matches: impl Fn(&Event<'_>) -> bool + Send + Sync + 'static,
    ) {
        self.set(move |event, _| {
            if matches(event) {
                Fate::Fails(kind)
            } else {
                Fate::Happens
            }
        });
    }

    /// From the `n`th operation that changes the disk on, counted from 0, nothing happens any
    /// more: what a kill leaves. A write at that point is carried out by half if `torn`.
    pub fn die_at(&self, n: u64, torn: bool) {
        *locked(&self.death) = Some(Death { left: n, torn });
    }

    /// Whether the disk has died.
    pub fn is_dead(&self) -> bool {
        locked(&self.death).is_some_and(|death| death.left == 0 && !death.torn)
    }

    /// What death, if it is planned, makes of an operation.
    fn fate_by_death(&self, event: &Event<'_>) -> Option<Fate> {
        let mut death = locked(&self.death);
        let death = death.as_mut().filter(|_| event.op.changes())?;
        if death.left > 0 {
            death.left -= 1;
            return None;
        }
        let torn = std::mem::take(&mut death.torn);
        Some(match event.op {
            Op::Write if torn => Fate::CutShort(event.bytes / 2),
            _ => Fate::Fails(io::ErrorKind::Other),
        })
    }

    fn decide(&self, op: Op, file: &str, bytes: usize, grows: bool) -> Fate {
        let event = Event {
            op,
            file,
            bytes,
            grows,
        };
        if let Some(fate) = self.fate_by_death(&event) {
            return fate;
        }
        // Outside the lock: it may block or panic without holding the disk up.
        let rule = locked(&self.rule).clone();
        rule.map_or(Fate::Happens, |rule| rule(&event, &self.inner))
    }

    fn check(&self, op: Op, file: &str) -> io::Result<()> {
        match self.decide(op, file, 0, op == Op::Create) {
            Fate::Happens => Ok(()),
            Fate::Fails(kind) => Err(kind.into()),
            Fate::CutShort(_) => Err(io::ErrorKind::Other.into()),
        }
    }

    fn file(&self, name: &str, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultFile {
            disk: self.clone(),
            name: name.to_owned(),
            inner,
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for FaultDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FaultDisk")
    }
}

impl Disk for FaultDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.check(Op::Open, name)?;
        Ok(self.file(name, self.inner.open(name)?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.check(Op::Create, name)?;
        Ok(self.file(name, self.inner.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check(Op::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check(Op::Remove, name)?;
        self.inner.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.check(Op::SyncDir, "")
    }

    fn lock(&self) -> io::Result<Option<Box<dyn DirectoryLock>>> {
        self.inner.lock()
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: FaultDisk,
    name: String,
    inner: Arc<dyn DiskFile>,
}

impl DiskFile for FaultFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.check(Op::Read, &self.name)?;
        self.inner.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let grows = offset + bytes.len() as u64 > self.inner.len()?;
        match self.disk.decide(Op::Write, &self.name, bytes.len(), grows) {
            Fate::Happens => self.inner.write_at(offset, bytes),
            Fate::Fails(kind) => Err(kind.into()),
            Fate::CutShort(n) => {
                self.inner.write_at(offset, &bytes[..n])?;
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let grows = len > self.inner.len()?;
        match self.disk.decide(Op::SetLen, &self.name, 0, grows) {
            Fate::Happens => self.inner.set_len(len),
            Fate::Fails(kind) => Err(kind.into()),
            Fate::CutShort(_) => Err(io::ErrorKind::Other.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.check(Op::Sync, &self.name)
    }
}
