//! What all handles of an open store share, and how it is closed.

mod call;
mod waiting;

use std::sync::Arc;

use super::stats::Stats;
use super::unfinished::Unfinished;
use crate::builder::{Builder, Limits};
use crate::committer::{self, Queue};
use crate::engine::disk::{DirectoryLock, Disk};
use crate::engine::{Answer, Engine, EngineOptions, Request, Tried};
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::maintenance::{self, Deadlines, KeptRenewed, Rhythm};
use crate::record::Fence;
use crate::sync::{
    AtomicBool, JoinHandle, Mutex, Ordering, RwLock, RwLockReadGuard, ThreadId, current,
};
use crate::time::{Deadline, Timestamp};
use crate::transition::{Command, Terms};

/// An open store. Dropping it closes the store.
#[derive(Debug)]
pub(crate) struct Handle {
    engine: Arc<Engine>,
    queue: Arc<Queue>,
    deadlines: Arc<Deadlines>,
    options: Builder,
    /// Whether the store is closed. Calls hold it shared while they run, so that nothing touches
    /// the disk once the directory is given back.
    closed: RwLock<bool>,
    /// Set before `closed` is: no call begins any more.
    stop: Arc<AtomicBool>,
    /// Taken by whoever closes the store, while it does.
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The ids of `threads`, the committer's first.
    thread_ids: Vec<ThreadId>,
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
}

impl Handle {
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        lock: Box<dyn DirectoryLock>,
        options: EngineOptions,
        builder: Builder,
    ) -> Result<Self> {
        let limits = builder.limits;
        let mut handle = Handle {
            engine: Arc::new(Engine::open(disk, options)?),
            queue: Arc::new(Queue::new(limits.queue_commands, limits.queue_bytes)),
            deadlines: Arc::default(),
            options: builder,
            closed: RwLock::new(false),
            stop: Arc::default(),
            threads: Mutex::default(),
            thread_ids: Vec::new(),
            lock: Mutex::new(Some(lock)),
        };
        // Should one of them not start, dropping the handle ends the others.
        handle.start_threads()?;
        Ok(handle)
    }

    fn start_threads(&mut self) -> Result<()> {
        let rhythm = Rhythm {
            sweep_every: self.options.sweep_every,
            checkpoint_every: self.options.checkpoint_every,
        };
        let threads = self.threads.get_mut();
        threads.push(committer::start(self.engine.clone(), self.queue.clone())?);
        let (engine, stop) = (&self.engine, &self.stop);
        threads.push(maintenance::start_checkpoints(
            engine.clone(),
            rhythm,
            stop.clone(),
        )?);
        threads.push(maintenance::start_sweeps(
            engine.clone(),
            rhythm,
            stop.clone(),
        )?);
        let (deadlines, queue) = (self.deadlines.clone(), self.queue.clone());
        let stop = self.stop.clone();
        threads.push(maintenance::start_deadlines(deadlines, queue, stop)?);
        let ids = threads.iter().map(|thread| thread.thread().id());
        self.thread_ids = ids.collect();
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
        // Without waiting: whoever closes the store may wait for this thread.
        match self.closed.try_read_recursive() {
            Some(closed) if !*closed => Ok(Open {
                handle: self,
                _closed: closed,
            }),
            _ => Err(Error::Closed),
        }
    }

    /// Commits one command.
    pub(crate) fn call(&self, key: RecordKey, command: Command) -> Result<Answer> {
        let open = self.enter()?;
        self.commit(open, Request::new(key, command))
    }

    /// Claims a key: without the queue if the answer needs no write.
    pub(crate) fn claim(&self, key: RecordKey, terms: Terms) -> Result<Answer> {
        let open = self.enter()?;
        match open.engine().try_claim(&key, &terms)? {
            Tried::Answered(answer) => Ok(answer),
            Tried::MustWrite(vacancy) => {
                let request = Request::new(key, Command::Claim(terms)).seen_vacant(vacancy);
                self.commit(open, request)
            }
        }
    }

    fn commit(&self, open: Open<'_>, request: Request) -> Result<Answer> {
        let deadline = Deadline::after(self.options.queue_wait);
        let (answer, to_wake) = self.queue.call(open.engine(), request, deadline);
        // Not while the store is kept open: a waker may close it.
        drop(open);
        to_wake.wake();
        self.engine.wake_waiters();
        answer
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
        self.deadlines.keep_renewed(key.clone(), fence, lease_for)
    }

    /// Asks for a lease whatever the policy, for as long as leases run by default.
    pub(crate) fn resolve_command(&self) -> Command {
        Command::Resolve {
            lease_for: self.options.lease_for,
        }
    }

    /// Wakes who waited for what a call has changed, once that holds nothing.
    pub(crate) fn wake_waiters(&self) {
        self.engine.wake_waiters();
    }

    pub(crate) fn stats(&self) -> Stats {
        let closed = self.closed.try_read_recursive();
        Stats::of(
            &self.engine,
            &self.queue,
            closed.is_none_or(|closed| *closed),
        )
    }

    /// Closes the store; see [`Store::close`](super::Store::close).
    ///
    /// A thread of the store's own may be the one to close it: it wakes tasks, and one of them may
    /// have the last handle. It does not wait for itself, nor for another closing, which waits for it.
    pub(crate) fn close(&self) -> Result<()> {
        // From here on commands are refused; those that wait are still carried out, and their
        // callers leave.
        self.stop.store(true, Ordering::SeqCst);
        self.queue.close();
        self.engine.stop();
        self.engine.holders().waiters().wake_all();
        let threads = match self.thread_ids.contains(&current().id()) {
            true => self.threads.try_lock(),
            false => Some(self.threads.lock()),
        };
        threads.map_or(Ok(()), |mut threads| self.close_once(&mut threads))
    }

    fn close_once(&self, threads: &mut Vec<JoinHandle<()>>) -> Result<()> {
        let this = current().id();
        if self.thread_ids.first() == Some(&this) {
            // Callers wait for the committer, and the store for them.
            self.queue.run(&*self.engine);
        }
        let mut closed = self.closed.write();
        if *closed {
            drop(closed);
            self.free_directory();
            return Ok(());
        }
        *closed = true;
        self.deadlines.stop();
        let mut others = threads.drain(..).filter(|t| t.thread().id() != this);
        // A panic was answered where it happened.
        others.by_ref().for_each(|thread| drop(thread.join()));

        let written = self.engine.close();
        drop(closed);
        self.free_directory();
        written
    }

    /// Wakes who waited for the holder of a lease to go, and gives the directory back if the store is
    /// closed and no lease is out. Waits for nothing: while the store is being closed, `close` itself
    /// looks again at its end.
    pub(crate) fn note_lease_dropped(&self) {
        self.engine.wake_waiters();
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
