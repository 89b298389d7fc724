//! The least any durable design could do: the bytes of a claim or a completion appended to a
//! preallocated file, one write past the page cache and one sync for all that have gathered, and a hash map.
//!
//! Whoever finds nobody committing commits what has gathered, and wakes one of those that gathered
//! meanwhile to go on. The others give way a few times before they park, which on few cores is the
//! fastest way to wait for many. The file is used again from its beginning when it is full: nothing is
//! ever moved elsewhere.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{Client, DAY, Peer, RESPONSE, Seen};
use crate::cell::Cell;
use crate::key::Key;

const FILE_BYTES: u64 = 64 << 20;
const SECTOR_BYTES: usize = 512;
/// Of the memory that is written.
const ALIGNMENT: usize = 4096;
/// What firstclaim's frame adds to a batch, and its record to a key and a response.
const BATCH_OVERHEAD_BYTES: usize = 64;
const RECORD_OVERHEAD_BYTES: usize = 50;
const YIELDS_BEFORE_PARKING: usize = 16;

pub struct Limit {
    file: File,
    map: Mutex<HashMap<Box<[u8]>, Entry>>,
    state: Mutex<State>,
    /// Batches below it are durable.
    durable: AtomicU64,
    /// Someone commits. Both change under the mutex.
    leading: AtomicBool,
    /// Those whose batch is even, and those whose batch is odd.
    settled: [Condvar; 2],
}

struct Entry {
    expires_at: Instant,
    response: Option<Box<[u8]>>,
}

#[derive(Default)]
struct State {
    gathering: Vec<u8>,
    /// The number of the batch that gathers.
    batch: u64,
    offset: u64,
    /// The buffer of the batch before, to be used again.
    spare: Vec<u8>,
    /// Where what is written lies meanwhile, at an aligned place.
    aligned: Vec<u8>,
}

impl Limit {
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("limit");
        let file = File::create(&path)?;
        for at in (0..FILE_BYTES).step_by(1 << 20) {
            file.write_all_at(&[0; 1 << 20], at)?;
        }
        file.sync_all()?;
        let mut options = File::options();
        let options = options.write(true);
        // Not every file system has it.
        let direct = options.clone().custom_flags(libc::O_DIRECT).open(&path);
        Ok(Limit {
            file: direct.or_else(|_| options.open(path))?,
            map: Mutex::default(),
            state: Mutex::default(),
            durable: AtomicU64::new(0),
            leading: AtomicBool::new(false),
            settled: [Condvar::new(), Condvar::new()],
        })
    }

    fn append(&self, name: &[u8], response: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        if state.gathering.is_empty() {
            state.gathering.resize(BATCH_OVERHEAD_BYTES, 1);
        }
        let head = state.gathering.len() + RECORD_OVERHEAD_BYTES;
        state.gathering.resize(head, 1);
        state.gathering.extend_from_slice(name);
        state.gathering.extend_from_slice(response);
        let mine = state.batch;
        state = self.wait(state, mine);
        if self.is_durable(mine) {
            return Ok(());
        }
        self.leading.store(true, Ordering::Release);
        state.batch += 1;
        let spare = std::mem::take(&mut state.spare);
        let mut bytes = std::mem::replace(&mut state.gathering, spare);
        bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES), 0);
        if state.offset + bytes.len() as u64 > FILE_BYTES {
            state.offset = 0;
        }
        let offset = state.offset;
        state.offset += bytes.len() as u64;
        let mut aligned = std::mem::take(&mut state.aligned);
        drop(state);
        self.write(offset, &bytes, &mut aligned)?;
        bytes.clear();
        let mut state = self.state.lock();
        (state.spare, state.aligned) = (bytes, aligned);
        self.durable.store(mine + 1, Ordering::Release);
        self.leading.store(false, Ordering::Release);
        drop(state);
        self.settled[(mine + 1) as usize % 2].notify_one();
        self.settled[mine as usize % 2].notify_all();
        Ok(())
    }

    fn is_durable(&self, batch: u64) -> bool {
        self.durable.load(Ordering::Acquire) > batch
    }

    /// Waits until the batch is durable, or nobody commits.
    fn wait<'l>(&'l self, mut state: MutexGuard<'l, State>, batch: u64) -> MutexGuard<'l, State> {
        let must_wait = || !self.is_durable(batch) && self.leading.load(Ordering::Acquire);
        if must_wait() {
            MutexGuard::unlocked(&mut state, || {
                let mut yields = 0..YIELDS_BEFORE_PARKING;
                while must_wait() && yields.next().is_some() {
                    yield_now();
                }
            });
        }
        while must_wait() {
            self.settled[batch as usize % 2].wait(&mut state);
        }
        state
    }

    fn write(&self, offset: u64, bytes: &[u8], aligned: &mut Vec<u8>) -> io::Result<()> {
        aligned.resize(aligned.len().max(bytes.len() + ALIGNMENT), 0);
        let skipped = aligned.as_ptr().align_offset(ALIGNMENT);
        let aligned = &mut aligned[skipped..skipped + bytes.len()];
        aligned.copy_from_slice(bytes);
        self.file.write_all_at(aligned, offset)?;
        self.file.sync_data()
    }
}

fn entry(response: Option<&[u8]>, retain_for: Duration) -> Entry {
    Entry {
        expires_at: Instant::now() + retain_for,
        response: response.map(Box::from),
    }
}

impl Peer for Limit {
    fn client(&self) -> Result<Box<dyn Client + '_>> {
        Ok(Box::new(Session(self)))
    }

    fn fill(&mut self, keys: u64) -> Result<()> {
        let mut map = self.map.lock();
        for n in 0..keys {
            let name = Key::live(n).joined().into_bytes().into_boxed_slice();
            map.insert(name, entry(Some(&RESPONSE), DAY));
        }
        Ok(())
    }

    fn tidy(&self, _: Cell) -> Result<()> {
        let now = Instant::now();
        self.map.lock().retain(|_, entry| now < entry.expires_at);
        Ok(())
    }
}

struct Session<'p>(&'p Limit);

impl Client for Session<'_> {
    fn claim(&mut self, key: &Key, retain_for: Duration) -> Result<()> {
        let name = key.joined().into_bytes().into_boxed_slice();
        self.0.append(&name, &[])?;
        let before = self.0.map.lock().insert(name, entry(None, retain_for));
        ensure!(before.is_none(), "{key:?} is taken");
        Ok(())
    }

    fn complete(&mut self, key: &Key, response: &[u8], retain_for: Duration) -> Result<()> {
        let name = key.joined().into_bytes().into_boxed_slice();
        self.0.append(&name, response)?;
        self.0
            .map
            .lock()
            .insert(name, entry(Some(response), retain_for));
        Ok(())
    }

    fn ask(&mut self, key: &Key) -> Result<Seen> {
        let map = self.0.map.lock();
        let found = map.get(key.joined().as_bytes()).context("vacant")?;
        Ok(match &found.response {
            Some(response) => Seen::Done {
                bytes: response.clone().len(),
            },
            None => Seen::InFlight,
        })
    }
}
