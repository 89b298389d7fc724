//! Options and limits of a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::EngineOptions;
use crate::engine::disk::Disk;
use crate::engine::disk::directory::Directory;
use crate::engine::disk::memory::MemoryDisk;
use crate::engine::journal::shortest_segment;
use crate::error::{Error, Result};
use crate::key::MAX_KEY_BYTES;
use crate::record::Takeover;
use crate::store::Store;
use crate::time::{Clock, Deadline, SystemClock, check_duration};

const MIB: usize = 1 << 20;
/// No response or recovery point may be allowed to be longer.
const MAX_BODY_BYTES: usize = 64 * MIB;
/// No segment may be longer.
const MAX_JOURNAL_BYTES: u64 = 1 << 30;
/// Records in a transaction of a checkpoint. Not few: with each, redb writes its account of all pages.
const TRANSACTION_RECORDS: usize = 8_192;
/// How long to sleep between tries to take a directory that is in use.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// What "durable" means to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// Synced to the disk: survives a power cut.
    #[default]
    PowerLoss,
    /// Written, not synced: survives the end of the process however it comes, but a power cut, or
    /// a crash of the operating system, may take back what was acknowledged last.
    ProcessCrash,
}

/// The store's limits. All have defaults; beyond one, calls fail with the error named.
///
/// ```
/// use firstclaim::{Builder, Limits};
///
/// let limits = Limits { response_bytes: 64 * 1024, ..Limits::default() };
/// let store = Builder::in_memory().limits(limits).open()?;
/// # Ok::<(), firstclaim::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest key, 1 to 1024 bytes; 255. Beyond: `InvalidKey`.
    pub key_bytes: usize,
    /// The longest response, up to 64 MiB; 1 MiB. Beyond: `TooLarge`.
    pub response_bytes: usize,
    /// The longest recovery point, up to 64 MiB; 64 KiB. Beyond: `TooLarge`.
    pub recovery_point_bytes: usize,
    /// The most keys in flight, interrupted or released at a time; 1 million. They are held in
    /// memory. Beyond: `Overloaded`.
    pub unfinished: usize,
    /// The most bytes of their names and recovery points; 256 MiB. Beyond: `Overloaded`.
    pub unfinished_bytes: usize,
    /// The most leases out at a time; 65,536. Beyond: `Overloaded`.
    pub leases: usize,
    /// The most commands waiting to be committed; 1024. Beyond: callers wait. Of tasks as many wait for
    /// room; beyond: `Overloaded` at once.
    pub queue_commands: usize,
    /// The most bytes of names, responses and recovery points waiting to be committed; 64 MiB.
    /// Beyond: callers wait.
    pub queue_bytes: usize,
    /// The most claims that wait for an attempt in flight to end; 65,536. Beyond: `InFlight` at once.
    pub waiters: usize,
    /// The most of them for one attempt; 1024. Beyond: `InFlight` at once.
    pub waiters_per_key: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            key_bytes: 255,
            response_bytes: MIB,
            recovery_point_bytes: 64 * 1024,
            unfinished: 1_000_000,
            unfinished_bytes: 256 * MIB,
            leases: 65_536,
            queue_commands: 1024,
            queue_bytes: 64 * MIB,
            waiters: 65_536,
            waiters_per_key: 1024,
        }
    }
}

impl Limits {
    /// The longest response or recovery point.
    pub(crate) fn longest_body(&self) -> usize {
        self.response_bytes.max(self.recovery_point_bytes)
    }

    fn check(&self) -> Result<()> {
        check_range("key_bytes", self.key_bytes, 1, MAX_KEY_BYTES)?;
        check_range("response_bytes", self.response_bytes, 0, MAX_BODY_BYTES)?;
        check_range(
            "recovery_point_bytes",
            self.recovery_point_bytes,
            0,
            MAX_BODY_BYTES,
        )?;
        check_range("unfinished", self.unfinished, 1, usize::MAX)?;
        check_range("unfinished_bytes", self.unfinished_bytes, 1, usize::MAX)?;
        check_range("leases", self.leases, 1, usize::MAX)?;
        check_range("waiters", self.waiters, 0, 1 << 24)?;
        check_range("waiters_per_key", self.waiters_per_key, 0, 1 << 24)?;
        check_range("queue_commands", self.queue_commands, 1, 1 << 20)?;
        let command = self.longest_body() + 2 * MAX_KEY_BYTES;
        if self.queue_bytes < command {
            return Err(Error::option(format!(
                "queue_bytes of {} does not hold one command of {command} bytes",
                self.queue_bytes
            )));
        }
        Ok(())
    }
}

/// Options of a store, and how to open it.
///
/// ```
/// use std::time::Duration;
/// use firstclaim::{Builder, Takeover};
///
/// let store = Builder::in_memory()
///     .lease_for(Duration::from_secs(30))
///     .retain_for(Duration::from_secs(7 * 24 * 60 * 60))
///     .takeover(Takeover::Never)
///     .open()?;
/// # Ok::<(), firstclaim::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    place: Place,
    pub(crate) lease_for: Duration,
    pub(crate) retain_for: Duration,
    pub(crate) takeover: Takeover,
    pub(crate) sweep_every: Duration,
    pub(crate) checkpoint_every: Duration,
    pub(crate) queue_wait: Duration,
    pub(crate) limits: Limits,
    durability: Durability,
    clock: Option<Arc<dyn Clock>>,
    base_cache_bytes: usize,
    journal_bytes: u64,
    wait_for_lock: Duration,
}

#[derive(Debug, Clone)]
enum Place {
    Directory(PathBuf),
    Memory,
    #[cfg(feature = "internals")]
    Disk(Arc<dyn Disk>),
}

impl Builder {
    /// Options for a store in the directory at `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self::at(Place::Directory(path.as_ref().to_owned()))
    }

    /// Options for a store in memory, gone with its last handle: for tests. Its journal segments
    /// are 2 MiB unless set otherwise.
    pub fn in_memory() -> Self {
        Self::at(Place::Memory).journal_bytes(2 << 20)
    }

    /// Options for a store on a disk of the caller's.
    #[cfg(feature = "internals")]
    pub fn on_disk(disk: Arc<dyn Disk>) -> Self {
        Self::at(Place::Disk(disk))
    }

    fn at(place: Place) -> Self {
        Builder {
            place,
            lease_for: Duration::from_secs(60),
            retain_for: Duration::from_secs(24 * 60 * 60),
            takeover: Takeover::default(),
            sweep_every: Duration::from_secs(60),
            checkpoint_every: Duration::from_secs(60),
            queue_wait: Duration::from_secs(5),
            limits: Limits::default(),
            durability: Durability::default(),
            clock: None,
            base_cache_bytes: 64 * MIB,
            journal_bytes: 16 << 20,
            wait_for_lock: Duration::ZERO,
        }
    }

    /// How long a lease runs unless the claim says otherwise, 1 ms to 366 days; 60 s.
    pub fn lease_for(mut self, lease_for: Duration) -> Self {
        self.lease_for = lease_for;
        self
    }

    /// How long a response is kept from its completion unless the claim or the completion says
    /// otherwise, 1 ms to 366 days; 24 h.
    pub fn retain_for(mut self, retain_for: Duration) -> Self {
        self.retain_for = retain_for;
        self
    }

    /// When a key may be taken over unless the claim says otherwise; [`Takeover::Gone`].
    pub fn takeover(mut self, takeover: Takeover) -> Self {
        self.takeover = takeover;
        self
    }

    /// What "durable" means; [`Durability::PowerLoss`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How often to remove what has expired, in real time, 1 ms to 366 days; 60 s. Expiry itself
    /// does not wait for it.
    pub fn sweep_every(mut self, every: Duration) -> Self {
        self.sweep_every = every;
        self
    }

    /// How often to write what is new into the base even if the journal segment is not full, in
    /// real time, 1 ms to 366 days; 60 s.
    pub fn checkpoint_every(mut self, every: Duration) -> Self {
        self.checkpoint_every = every;
        self
    }

    /// Where to read the time; the system's clock.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The memory for pages of the base, at least 1 MiB; 64 MiB. A quarter of it is for the pages that are
    /// there at a time, those kept to be read again and those of a commit under way; the rest is for what an
    /// allocator keeps of earlier ones, for each of the threads that handle them.
    pub fn base_cache_bytes(mut self, bytes: usize) -> Self {
        self.base_cache_bytes = bytes;
        self
    }

    /// The length of a journal segment, 16 KiB to 1 GiB, a multiple of 512; 16 MiB. Two or three
    /// lie on the disk, and up to two segments' worth of records in memory. It must hold the
    /// longest response and recovery point.
    pub fn journal_bytes(mut self, bytes: u64) -> Self {
        self.journal_bytes = bytes;
        self
    }

    /// How long `open` waits for a directory that is in use, up to 366 days; not at all.
    pub fn wait_for_lock(mut self, wait: Duration) -> Self {
        self.wait_for_lock = wait;
        self
    }

    /// The most commands waiting to be committed; 1024. Same as
    /// [`Limits::queue_commands`].
    pub fn queue_commands(mut self, commands: usize) -> Self {
        self.limits.queue_commands = commands;
        self
    }

    /// How long a call waits in all, for room in the queue and for its commit, 1 ms to 366 days;
    /// 5 s. Then it is [`Error::Overloaded`] if it was still waiting in the queue, from which it is
    /// withdrawn, and [`Error::Indeterminate`] if its commit had begun.
    pub fn queue_wait(mut self, wait: Duration) -> Self {
        self.queue_wait = wait;
        self
    }

    /// Opens the store, making it if it is missing, and recovers what an earlier run left.
    ///
    /// # Errors
    /// `InvalidOption` if an option is out of its bounds or two contradict each other; `Locked` if
    /// the directory is in use; `Format` if its store is of a newer format; `Corrupt` if bytes are
    /// damaged or missing; `NoSpace` or `Io` if the disk says so.
    pub fn open(self) -> Result<Store> {
        self.check()?;
        let disk: Arc<dyn Disk> = match &self.place {
            Place::Directory(path) => Arc::new(Directory::at(path)?),
            Place::Memory => Arc::new(MemoryDisk::new()),
            #[cfg(feature = "internals")]
            Place::Disk(disk) => disk.clone(),
        };
        let lock = self.take_lock(&*disk)?;
        let options = EngineOptions {
            durability: self.durability,
            limits: self.limits,
            journal_bytes: self.journal_bytes,
            base_cache_bytes: self.base_cache_bytes,
            transaction_records: TRANSACTION_RECORDS,
            hash_seed: None,
            clock: match &self.clock {
                Some(clock) => clock.clone(),
                None => Arc::new(SystemClock::new()),
            },
        };
        Store::start(disk, lock, options, self)
    }

    fn take_lock(&self, disk: &dyn Disk) -> Result<Box<dyn crate::engine::disk::DirectoryLock>> {
        let deadline = Deadline::after(self.wait_for_lock);
        loop {
            if let Some(lock) = disk.lock()? {
                return Ok(lock);
            }
            if deadline.has_passed() {
                return Err(Error::Locked);
            }
            std::thread::sleep(LOCK_POLL.min(deadline.left()));
        }
    }

    fn check(&self) -> Result<()> {
        check_duration("lease_for", self.lease_for)?;
        check_duration("retain_for", self.retain_for)?;
        check_duration("sweep_every", self.sweep_every)?;
        check_duration("checkpoint_every", self.checkpoint_every)?;
        check_duration("queue_wait", self.queue_wait)?;
        if !self.wait_for_lock.is_zero() {
            check_duration("wait_for_lock", self.wait_for_lock)?;
        }
        self.limits.check()?;
        check_range("base_cache_bytes", self.base_cache_bytes, MIB, usize::MAX)?;
        let shortest = shortest_segment(self.limits.longest_body());
        if !(shortest..=MAX_JOURNAL_BYTES).contains(&self.journal_bytes)
            || !self.journal_bytes.is_multiple_of(512)
        {
            return Err(Error::option(format!(
                "journal_bytes of {} is not a multiple of 512 between {shortest}, which the \
                 limits on responses and recovery points need, and {MAX_JOURNAL_BYTES}",
                self.journal_bytes
            )));
        }
        Ok(())
    }
}

fn check_range(what: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(Error::option(format!(
            "{what} of {value} is not between {least} and {most}"
        )))
    }
}
