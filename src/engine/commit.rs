//! Committing a batch: look each key up, decide, append, sync, show, answer.

mod decided;

use std::sync::Arc;

use self::decided::{Decided, Growth};
use super::append::Writer;
use super::holders::Holding;
use super::overlay::Entry;
use super::{Engine, Vacancy};
use crate::bugs::{self, Bug};
use crate::error::{Error, Result};
use crate::key::{KeyMap, RecordKey};
use crate::record::{Fence, Holder, Record, State};
use crate::sync::Ordering;
use crate::time::Timestamp;
use crate::transition::{Command, Refusal, Reply, Step, Write, step};

/// A command on a key.
#[derive(Debug, Clone)]
pub struct Request {
    /// The key.
    pub key: RecordKey,
    /// What is asked of it.
    pub command: Command,
    /// What the caller's own look has found: the base need not be asked again.
    vacancy: Option<Vacancy>,
}

impl Request {
    /// Asks `command` of `key`.
    pub fn new(key: RecordKey, command: Command) -> Self {
        Request {
            key,
            command,
            vacancy: None,
        }
    }

    /// The same, after a look that found the key vacant.
    pub fn seen_vacant(self, vacancy: Option<Vacancy>) -> Self {
        Request { vacancy, ..self }
    }
}

/// What became of a command.
#[derive(Debug)]
pub struct Answer {
    /// The answer.
    pub reply: Reply,
    /// The record as it stands, if there is one.
    pub record: Option<Arc<Record>>,
    /// With [`Reply::Claimed`], the right that was given; dropping it makes the holder gone.
    pub holding: Option<Holding>,
}

/// Commands that go into one frame, and the answers that wait for it.
#[derive(Debug)]
struct Batch {
    /// The time at which its commands are decided.
    now: Timestamp,
    answers: Vec<Result<Answer>>,
    /// The changes of the frame, newest per key: a later command sees an earlier one's write.
    changes: KeyMap<Entry>,
    /// Which answers hold only once the frame is durable.
    waiting: Vec<usize>,
    /// Attempts for which somebody may wait.
    ended: Vec<Ended>,
    /// What the frame adds to the unfinished records; what it takes away is not counted before it
    /// is done.
    growth: Growth,
}

/// An attempt that the frame ends, or whose lease it makes end sooner.
#[derive(Debug, Clone, Copy)]
struct Ended {
    fence: Fence,
    /// It was completed or released: nobody holds it any more.
    by_holder: bool,
    /// The record is gone, or another attempt's.
    is_replaced: bool,
}

impl Engine {
    /// Carries out the requests in order, in as few frames as they fit, and answers each. What is
    /// answered is durable and visible, or an error says that it is not.
    pub fn commit(&self, requests: &[Request]) -> Vec<Result<Answer>> {
        self.commit_each(&requests.iter().collect::<Vec<_>>())
    }

    /// The same, from wherever they are kept.
    pub(crate) fn commit_each(&self, requests: &[&Request]) -> Vec<Result<Answer>> {
        let mut writer = self.writer.lock();
        // Dropped before the commit right is given back.
        let guard = PoisonOnPanic::over(self);
        writer.frame.clear();
        let mut batch = Batch::of(requests.len(), self.time.now());
        for request in requests {
            if !self.stage(&mut writer, &mut batch, request) {
                self.flush(&mut writer, &mut batch);
                batch.now = self.time.now();
                // The frame is empty now, so there is room.
                self.stage(&mut writer, &mut batch, request);
            }
        }
        self.flush(&mut writer, &mut batch);
        guard.disarm();
        batch.answers
    }

    /// Decides one request and adds what it changes to the frame. False if the frame is too full
    /// for it; then nothing happened.
    fn stage(&self, writer: &mut Writer, batch: &mut Batch, request: &Request) -> bool {
        let depends_on_frame = batch.changes.contains_key(&request.key);
        let decided = self.decide(batch, request);
        let decided = decided.and_then(|decided| {
            let growth = decided.growth(&request.key);
            self.admit(batch, &decided, growth)?;
            Ok((decided, growth))
        });
        let (decided, growth) = match decided {
            Ok(decided) => decided,
            Err(error) => {
                batch.answer(depends_on_frame, Err(error));
                return true;
            }
        };
        let ended = decided.ended();
        let Some(changed) = decided.change else {
            let answer = Answer {
                reply: decided.reply,
                record: decided.before,
                holding: None,
            };
            batch.answer(depends_on_frame, Ok(answer));
            return true;
        };
        let mark = writer.frame.mark();
        writer.frame.push(&request.key, changed.as_deref());
        let limit = writer.journal.frame_limit(self.longest_frame());
        if writer.frame.len() > limit && !batch.changes.is_empty() {
            writer.frame.rewind(mark);
            return false;
        }
        let next = self.fence.load(Ordering::SeqCst) + 1;
        if changed.as_ref().is_some_and(|r| r.fence.as_u64() == next) {
            self.fence.store(next, Ordering::SeqCst);
        }
        batch.ended.extend(ended.map(|fence| Ended {
            fence,
            by_holder: ends_lease(&request.command),
            is_replaced: changed.as_ref().is_none_or(|after| after.fence != fence),
        }));
        batch.growth.records += growth.records;
        batch.growth.bytes += growth.bytes;
        let answer = self.granted(decided.reply, &changed);
        batch.answer(true, Ok(answer));
        batch.changes.insert(request.key.clone(), changed);
        true
    }

    /// Looks the key up, in the frame first, and decides.
    fn decide(&self, batch: &Batch, request: &Request) -> Result<Decided> {
        let now = batch.now;
        let found = match batch.changes.get(&request.key) {
            Some(entry) if !bugs::is(Bug::BatchIgnoresEarlierCommands) => Ok(entry.clone()),
            _ => self.find(&request.key, now, request.vacancy),
        };
        let before = match (found, &request.command) {
            // The way out for a damaged record.
            (Err(Error::Corrupt { .. }), Command::Forget { held: true }) => {
                return Ok(Decided {
                    before: None,
                    change: Some(None),
                    reply: Reply::Changed,
                });
            }
            (found, _) => found?,
        };
        let seen = before.clone().map(|record| {
            let holder = self.holders.status(record.fence, now);
            (record, holder)
        });
        self.check_settled(&request.key, seen.as_ref(), now)?;
        let holder = seen.map_or(Holder::Gone, |(_, holder)| holder);
        let next_fence = self.next_fence(&before);
        let Step { write, reply } =
            step(before.as_deref(), holder, &request.command, now, next_fence).map_err(refused)?;
        let change = match write {
            Write::Keep => None,
            Write::Delete => Some(None),
            Write::Put(record) => Some(Some(Arc::new(with_bugs(record, &request.command)))),
        };
        Ok(Decided {
            before,
            change,
            reply,
        })
    }

    fn next_fence(&self, before: &Entry) -> Fence {
        let last = match before {
            Some(record) if bugs::is(Bug::FencePerKey) => record.fence.as_u64(),
            None if bugs::is(Bug::FencePerKey) => 0,
            _ => self.fence.load(Ordering::SeqCst),
        };
        Fence::from_u64(last + 1)
    }

    /// Refuses a change to a poisoned store, and what would go over a limit. What does not grow is
    /// within them: a lease that is out can always be renewed, completed and released.
    fn admit(&self, batch: &Batch, decided: &Decided, growth: Growth) -> Result<()> {
        if decided.change.is_none() {
            return Ok(());
        }
        if self.is_poisoned() {
            return Err(Error::Poisoned);
        }
        let limits = &self.options.limits;
        let (count, bytes) = self.overlay.unfinished_size();
        let count = count + batch.growth.records + growth.records;
        let bytes = bytes + batch.growth.bytes + growth.bytes;
        let over = (growth.records > 0 && count > limits.unfinished)
            || (growth.bytes > 0 && bytes > limits.unfinished_bytes)
            || (decided.reply == Reply::Claimed && self.holders.guards() >= limits.leases);
        if over { Err(Error::Overloaded) } else { Ok(()) }
    }

    /// The answer to a change. A new holder is registered here, before the record is published: a
    /// reader must not see the record without it.
    fn granted(&self, reply: Reply, changed: &Entry) -> Answer {
        let holding = match (changed, reply) {
            (Some(_), Reply::Claimed) if bugs::is(Bug::HolderRegisteredLate) => None,
            (Some(record), Reply::Claimed) => Some(self.holders.register(record.fence)),
            _ => None,
        };
        Answer {
            reply,
            record: changed.clone(),
            holding,
        }
    }

    /// Makes the frame durable, shows its changes, and settles the answers that wait for it.
    fn flush(&self, writer: &mut Writer, batch: &mut Batch) {
        let changes = Unsettled {
            engine: self,
            changes: std::mem::take(&mut batch.changes),
        };
        let ended = std::mem::take(&mut batch.ended);
        let written = match changes.changes.is_empty() {
            true => Ok(()),
            false => self.write_frame(writer),
        };
        match &written {
            Ok(()) => {
                let changes = changes.settled();
                let count = changes.len() as u64;
                self.counters.changes.fetch_add(count, Ordering::Relaxed);
                self.overlay.publish(changes);
                batch.register_late(&self.holders);
                for attempt in ended {
                    if attempt.by_holder {
                        self.holders.end(attempt.fence);
                    } else if attempt.is_replaced {
                        self.holders.end_kept(attempt.fence);
                    }
                    self.holders.waiters().notify(attempt.fence);
                }
            }
            Err(Error::Indeterminate) => drop(changes),
            // Nothing was written.
            Err(_) => drop(changes.settled()),
        }
        for index in batch.waiting.drain(..) {
            if let Err(error) = &written {
                batch.answers[index] = Err(error.clone());
            }
        }
        batch.growth = Growth::default();
        writer.frame.clear();
    }
}

/// The changes of a frame on its way to the disk. Dropped before they are settled, by an error or a
/// panic, they leave their keys noted: what is shown of those may not be what the next opening finds.
struct Unsettled<'e> {
    engine: &'e Engine,
    changes: KeyMap<Entry>,
}

impl Unsettled<'_> {
    fn settled(mut self) -> KeyMap<Entry> {
        std::mem::take(&mut self.changes)
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if !self.changes.is_empty() {
            let keys = std::mem::take(&mut self.changes).into_keys();
            self.engine.unsettled.lock().extend(keys);
        }
    }
}

impl Batch {
    /// Of so many commands.
    fn of(commands: usize, now: Timestamp) -> Self {
        Batch {
            now,
            answers: Vec::with_capacity(commands),
            changes: KeyMap::with_capacity_and_hasher(commands, Default::default()),
            waiting: Vec::with_capacity(commands),
            ended: Vec::new(),
            growth: Growth::default(),
        }
    }

    /// Notes the answer to the next command; it waits for the frame if it came from there.
    fn answer(&mut self, depends_on_frame: bool, answer: Result<Answer>) {
        if depends_on_frame {
            self.waiting.push(self.answers.len());
        }
        self.answers.push(answer);
    }

    /// Only with a bug: what must be done before the records are published.
    fn register_late(&mut self, holders: &Arc<super::Holders>) {
        if !bugs::is(Bug::HolderRegisteredLate) {
            return;
        }
        std::thread::yield_now();
        for answer in &mut self.answers {
            if let Ok(answer) = answer
                && answer.holding.is_none()
                && answer.reply == Reply::Claimed
            {
                let fence = answer.record.as_ref().map(|record| record.fence);
                answer.holding = fence.map(|fence| holders.register(fence));
            }
        }
    }
}

/// Poisons the engine if writing panics before this is disarmed: what was written is not known, and
/// nobody may go on from it. A panic that the caller brought along is none of ours.
pub(super) struct PoisonOnPanic<'e>(Option<&'e Engine>);

impl<'e> PoisonOnPanic<'e> {
    pub(super) fn over(engine: &'e Engine) -> Self {
        PoisonOnPanic(Some(engine))
    }

    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for PoisonOnPanic<'_> {
    fn drop(&mut self) {
        if let Some(engine) = self.0 {
            engine.poison("writing stopped with a panic");
        }
    }
}

/// Whether the command, once done, leaves the lease it names without a holder.
fn ends_lease(command: &Command) -> bool {
    matches!(command, Command::Complete { .. } | Command::Release { .. })
}

/// The record as decided; with a bug, not.
fn with_bugs(mut record: Record, command: &Command) -> Record {
    if bugs::is(Bug::ReleaseHidesInterruption) && matches!(command, Command::Release { .. }) {
        record.state = State::Released;
        record.interrupted = None;
    }
    record
}

/// A refusal as an error.
pub(super) fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::FingerprintMismatch => Error::FingerprintMismatch,
        Refusal::Fenced => Error::Fenced,
        Refusal::AlreadyCompleted => Error::AlreadyCompleted,
        Refusal::Held => Error::Held,
    }
}
