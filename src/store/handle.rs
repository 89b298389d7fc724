//! What all handles of an open store share, and how it is closed.

use std::sync::Arc;

use super::stats::Stats;
use super::unfinished::Unfinished;
use crate::builder::{Builder, Limits};
use crate::committer::{self, Queue};
use crate::engine::disk::{DirectoryLock, Disk};
use crate::engine::{Answer, Engine, EngineOptions, Request, Tried};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::maintenance::{self, KeptRenewed, Renewals, Rhythm};
use crate::record::Fence;
use crate::sync::{AtomicBool, JoinHandle, Mutex, Ordering, RwLock, RwLockReadGuard};
use crate::time::{Deadline, Timestamp};
use crate::transition::{Command, Terms};

/// An open store. Dropping it closes the store.
#[derive(Debug)]
pub(crate) struct Handle {
    engine: Arc<Engine>,
    queue: Arc<Queue>,
    renewals: Arc<Renewals>,
    options: Builder,
    /// Whether the store is closed. Calls hold it shared while they run, so that nothing touches
    /// the disk once the directory is given back.
    closed: RwLock<bool>,
    /// Set before `closed` is: no call begins any more.
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The right to the directory, until the store is closed and no lease is out.
    lock: Mutex<Option<Box<dyn DirectoryLock>>>,
}

/// The store is open as long as this lives.
pub(crate) struct Open<'h> {
    handle: &'h Handle,
    _closed: RwLockReadGuard<'h, bool>,
}

impl Open<'_> {
    pub(crate) fn engine(&self) -> &Engine {
        &self.handle.engine
    }

    fn call(&self, request: Request) -> Result<Answer> {
        let Handle { engine, queue, .. } = self.handle;
        let deadline = Deadline::after(self.handle.options.queue_wait);
        queue.call(&**engine, request, deadline)
    }
}

impl Handle {
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        lock: Box<dyn DirectoryLock>,
        options: EngineOptions,
        builder: Builder,
    ) -> Result<Self> {
        let limits = builder.limits;
        let handle = Handle {
            engine: Arc::new(Engine::open(disk, options)?),
            queue: Arc::new(Queue::new(limits.queue_commands, limits.queue_bytes)),
            renewals: Arc::default(),
            options: builder,
            closed: RwLock::new(false),
            stop: Arc::default(),
            threads: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        // Should one of them not start, dropping the handle ends the others.
        handle.start_threads()?;
        Ok(handle)
    }

    fn start_threads(&self) -> Result<()> {
        let rhythm = Rhythm {
            sweep_every: self.options.sweep_every,
            checkpoint_every: self.options.checkpoint_every,
        };
        let mut threads = self.threads.lock();
        threads.push(committer::start(self.engine.clone(), self.queue.clone())?);
        let stop = self.stop.clone();
        threads.push(maintenance::start_upkeep(
            self.engine.clone(),
            rhythm,
            stop,
        )?);
        let (renewals, queue) = (self.renewals.clone(), self.queue.clone());
        let stop = self.stop.clone();
        threads.push(maintenance::start_deadlines(renewals, queue, stop)?);
        Ok(())
    }

    pub(crate) fn options(&self) -> &Builder {
        &self.options
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.engine.limits()
    }

    /// Keeps the store open while a call runs.
    pub(crate) fn enter(&self) -> Result<Open<'_>> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        // Recursive: a call must not wait for one that waits for it.
        let closed = self.closed.read_recursive();
        if *closed {
            return Err(Error::Closed);
        }
        Ok(Open {
            handle: self,
            _closed: closed,
        })
    }

    /// Commits one command.
    pub(crate) fn call(&self, key: RecordKey, command: Command) -> Result<Answer> {
        self.enter()?.call(Request::new(key, command))
    }

    /// Claims a key: without the queue if the answer needs no write.
    pub(crate) fn claim(&self, key: RecordKey, terms: Terms) -> Result<Answer> {
        let open = self.enter()?;
        match open.engine().try_claim(&key, &terms)? {
            Tried::Answered(answer) => Ok(answer),
            Tried::MustWrite(vacancy) => {
                open.call(Request::new(key, Command::Claim(terms)).seen_vacant(vacancy))
            }
        }
    }

    pub(crate) fn unfinished(&self, prefix: &[u8]) -> Result<Vec<Unfinished>> {
        let open = self.enter()?;
        let records = open.engine().unfinished(prefix)?;
        Ok(records.into_iter().map(Unfinished::of).collect())
    }

    /// The end of a lease that is still the current one on its key. No I/O.
    pub(crate) fn lease_end(&self, key: &RecordKey, fence: Fence) -> Option<Timestamp> {
        self.engine.lease_end(key, fence)
    }

    /// Renews a lease until what is returned is dropped.
    pub(crate) fn keep_renewed(
        &self,
        key: &RecordKey,
        fence: Fence,
        lease_for: std::time::Duration,
    ) -> KeptRenewed {
        self.renewals.keep(key.clone(), fence, lease_for)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::of(&self.engine, &self.queue, *self.closed.read_recursive())
    }

    /// Closes the store; see [`Store::close`](super::Store::close).
    pub(crate) fn close(&self) -> Result<()> {
        // From here on commands are refused; those that wait are still carried out, and their
        // callers leave.
        self.stop.store(true, Ordering::SeqCst);
        self.queue.close();
        self.engine.stop();
        let mut closed = self.closed.write();
        if *closed {
            drop(closed);
            self.free_directory();
            return Ok(());
        }
        *closed = true;
        self.renewals.stop();
        for thread in self.threads.lock().drain(..) {
            // A panic was answered where it happened.
            let _ = thread.join();
        }
        let written = self.engine.close();
        drop(closed);
        self.free_directory();
        written
    }

    /// Gives the directory back if the store is closed and no lease is out. Waits for nothing:
    /// while the store is being closed, `close` itself looks again at its end.
    pub(crate) fn note_lease_dropped(&self) {
        let closed = self.closed.try_read_recursive();
        if closed.is_some_and(|closed| *closed) {
            self.free_directory();
        }
    }

    /// Gives the directory of a closed store back if no lease is out.
    fn free_directory(&self) {
        if self.engine.holders().guards() == 0 {
            // Let go of under the mutex: who finds nothing to let go of may open the directory.
            drop(self.lock.lock().take());
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to know the outcome calls `close`.
        let _ = self.close();
    }
}
