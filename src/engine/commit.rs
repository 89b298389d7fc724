//! Committing a batch: look each key up, decide, append, sync, show, answer.

use std::collections::HashMap;
use std::sync::Arc;

use super::Engine;
use super::holders::Holding;
use super::journal::frame::FrameBuilder;
use super::journal::{Journal, RotateError, longest_frame};
use super::overlay::{Entry, unfinished_bytes};
use crate::bugs::{self, Bug};
use crate::error::{Error, Result};
use crate::key::RecordKey;
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

/// The end of the journal and the frame being built.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) journal: Journal,
    pub(crate) frame: FrameBuilder,
}

/// Commands that go into one frame, and the answers that wait for it.
#[derive(Debug, Default)]
struct Batch {
    answers: Vec<Option<Result<Answer>>>,
    /// The changes of the frame, newest per key: a later command sees an earlier one's write.
    changes: HashMap<RecordKey, Entry>,
    /// Answers that hold only once the frame is durable.
    waiting: Vec<(usize, Result<Answer>)>,
    /// Leases that the frame ends.
    ended: Vec<Fence>,
    /// Keys and bytes that the frame adds to the unfinished records; what it takes away is not
    /// counted before it is done.
    new_unfinished: usize,
    new_unfinished_bytes: usize,
}

impl Engine {
    /// Carries out the requests in order, in as few frames as they fit, and answers each. What is
    /// answered is durable and visible, or an error says that it is not.
    pub fn commit(&self, requests: &[Request]) -> Vec<Result<Answer>> {
        let mut writer = self.writer.lock();
        writer.frame.clear();
        let mut batch = Batch::default();
        batch.answers.resize_with(requests.len(), || None);
        for (index, request) in requests.iter().enumerate() {
            if !self.stage(&mut writer, &mut batch, index, request) {
                self.flush(&mut writer, &mut batch);
                // The frame is empty now, so there is room.
                self.stage(&mut writer, &mut batch, index, request);
            }
        }
        self.flush(&mut writer, &mut batch);
        let answers = batch.answers.into_iter();
        answers
            .map(|answer| answer.unwrap_or(Err(Error::Indeterminate)))
            .collect()
    }

    /// Whether a commit can begin without waiting for a checkpoint; if not, waits for it. To be
    /// called before taking commands from a queue, so that they can still be withdrawn meanwhile.
    pub fn make_room(&self) {
        let limit = self.options.journal_bytes / 4;
        let is_short = self.writer.lock().journal.room() < limit;
        if is_short && self.overlay.frozen().is_some() {
            // What goes wrong here goes wrong in the commit again, and is told there.
            let _ = self.write_frozen();
        }
    }

    /// Decides one request and adds what it changes to the frame. False if the frame is too full
    /// for it; then nothing happened.
    fn stage(
        &self,
        writer: &mut Writer,
        batch: &mut Batch,
        index: usize,
        request: &Request,
    ) -> bool {
        let now = self.time.now();
        let key = &request.key;
        let depends_on_frame = batch.changes.contains_key(key);
        let decided = self.decide(batch, request, now);
        let (entry, step) = match decided {
            Ok(decided) => decided,
            Err(error) => {
                batch.answer(index, depends_on_frame, Err(error));
                return true;
            }
        };
        let changed = match step.write {
            Write::Keep => {
                let answer = Answer {
                    reply: step.reply,
                    record: entry,
                    holding: None,
                };
                batch.answer(index, depends_on_frame, Ok(answer));
                return true;
            }
            Write::Put(mut record) => {
                if bugs::is(Bug::ReleaseHidesInterruption)
                    && matches!(request.command, Command::Release { .. })
                {
                    record.state = State::Released;
                    record.interrupted = None;
                }
                Some(Arc::new(record))
            }
            Write::Delete => None,
        };
        if self.is_poisoned() {
            batch.answer(index, false, Err(Error::Poisoned));
            return true;
        }
        let growth = Growth::of(key, entry.as_deref(), changed.as_deref());
        if let Err(error) = self.admit(batch, growth, step.reply) {
            batch.answer(index, depends_on_frame, Err(error));
            return true;
        }
        let mark = writer.frame.mark();
        writer.frame.push(key, changed.as_deref());
        let limit = writer.journal.frame_limit(self.longest_frame());
        if writer.frame.len() > limit && !batch.changes.is_empty() {
            writer.frame.rewind(mark);
            return false;
        }
        batch.new_unfinished += growth.records;
        batch.new_unfinished_bytes += growth.bytes;
        self.take(batch, index, request, entry, changed, step.reply);
        true
    }

    /// Looks the key up, in the frame first, and decides.
    fn decide(&self, batch: &Batch, request: &Request, now: Timestamp) -> Result<(Entry, Step)> {
        let found = match batch.changes.get(&request.key) {
            Some(entry) if !bugs::is(Bug::BatchIgnoresEarlierCommands) => Ok(entry.clone()),
            Some(_) => self.find(&request.key, now),
            None => self.find(&request.key, now),
        };
        let entry = match (found, &request.command) {
            // The way out for a damaged record.
            (Err(Error::Corrupt { .. }), Command::Forget { held: true }) => {
                return Ok((
                    None,
                    Step {
                        write: Write::Delete,
                        reply: Reply::Changed,
                    },
                ));
            }
            (found, _) => found?,
        };
        let holder = match &entry {
            Some(record) => self.holders.status(record.fence, now),
            None => Holder::Gone,
        };
        let last = match &entry {
            Some(record) if bugs::is(Bug::FencePerKey) => record.fence.as_u64(),
            None if bugs::is(Bug::FencePerKey) => 0,
            _ => self.fence.load(Ordering::SeqCst),
        };
        let next_fence = Fence::from_u64(last + 1);
        let step = step(entry.as_deref(), holder, &request.command, now, next_fence);
        Ok((entry, step.map_err(refused)?))
    }

    /// Refuses what would go over a limit. What does not grow is never refused: a lease that is out
    /// can always be renewed, completed and released.
    fn admit(&self, batch: &Batch, growth: Growth, reply: Reply) -> Result<()> {
        let limits = &self.options.limits;
        let (count, bytes) = self.overlay.unfinished_size();
        let count = count + batch.new_unfinished + growth.records;
        let bytes = bytes + batch.new_unfinished_bytes + growth.bytes;
        let over = (growth.records > 0 && count > limits.unfinished)
            || (growth.bytes > 0 && bytes > limits.unfinished_bytes)
            || (reply == Reply::Claimed && self.holders.guards() >= limits.leases);
        if over { Err(Error::Overloaded) } else { Ok(()) }
    }

    /// Takes a change into the frame, with its answer.
    fn take(
        &self,
        batch: &mut Batch,
        index: usize,
        request: &Request,
        before: Entry,
        changed: Entry,
        reply: Reply,
    ) {
        if let Some(record) = &changed {
            self.fence
                .fetch_max(record.fence.as_u64(), Ordering::SeqCst);
        }
        // Before the record is published: a reader must not see it without its holder.
        let holding = match (&changed, reply) {
            (Some(_), Reply::Claimed) if bugs::is(Bug::HolderRegisteredLate) => None,
            (Some(record), Reply::Claimed) => Some(self.holders.register(record.fence)),
            _ => None,
        };
        if let Some(record) = before
            && ends_lease(&request.command)
        {
            batch.ended.push(record.fence);
        }
        let answer = Answer {
            reply,
            record: changed.clone(),
            holding,
        };
        batch.waiting.push((index, Ok(answer)));
        batch.changes.insert(request.key.clone(), changed);
    }

    /// Makes the frame durable, shows its changes, and settles the answers that wait for it.
    fn flush(&self, writer: &mut Writer, batch: &mut Batch) {
        let written = if batch.changes.is_empty() {
            Ok(())
        } else {
            self.write_frame(writer)
        };
        let changes = std::mem::take(&mut batch.changes);
        let ended = std::mem::take(&mut batch.ended);
        if written.is_ok() {
            let count = changes.len() as u64;
            self.counters.changes.fetch_add(count, Ordering::Relaxed);
            self.overlay.publish(changes);
            batch.register_late(&self.holders);
            ended.into_iter().for_each(|fence| self.holders.end(fence));
        }
        for (index, answer) in batch.waiting.drain(..) {
            let settled = written.clone().and(answer);
            batch.answers[index] = Some(settled);
        }
        batch.new_unfinished = 0;
        batch.new_unfinished_bytes = 0;
        writer.frame.clear();
    }

    fn write_frame(&self, writer: &mut Writer) -> Result<()> {
        if self.is_poisoned() {
            return Err(Error::Poisoned);
        }
        if writer.journal.room() < writer.frame.len() {
            self.rotate(writer)?;
        }
        let fence = Fence::from_u64(self.fence.load(Ordering::SeqCst));
        let Writer { journal, frame } = writer;
        journal
            .append(frame, self.time.now(), fence)
            .map_err(|error| {
                self.poison(format!("a frame could not be made durable: {error}"));
                Error::Indeterminate
            })?;
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Freezes the overlay and goes on in a new segment. If the last frozen one is not in the base
    /// yet, that comes first: claims wait for it rather than memory grows.
    pub(super) fn rotate(&self, writer: &mut Writer) -> Result<()> {
        self.write_frozen()?;
        let fence = Fence::from_u64(self.fence.load(Ordering::SeqCst));
        let old = match writer.journal.rotate(self.time.now(), fence) {
            Ok(old) => old,
            Err(RotateError::Prepare(error)) => return Err(error.into()),
            Err(RotateError::Seal(error)) => {
                self.poison(format!("a segment could not be made durable: {error}"));
                return Err(Error::Poisoned);
            }
        };
        let journal = &writer.journal;
        self.overlay
            .freeze(journal.batch(), journal.segment_number(), Some(old));
        self.bell.ring();
        Ok(())
    }

    /// The longest frame that one record can need.
    fn longest_frame(&self) -> u64 {
        longest_frame(self.options.limits.longest_body())
    }
}

impl Batch {
    /// Only with a bug: what must be done before the records are published.
    fn register_late(&mut self, holders: &Arc<super::Holders>) {
        if !bugs::is(Bug::HolderRegisteredLate) {
            return;
        }
        std::thread::yield_now();
        for (_, answer) in &mut self.waiting {
            if let Ok(answer) = answer
                && answer.reply == Reply::Claimed
            {
                let fence = answer.record.as_ref().map(|record| record.fence);
                answer.holding = fence.map(|fence| holders.register(fence));
            }
        }
    }

    /// Notes an answer that changes nothing; it waits for the frame if it came from there.
    fn answer(&mut self, index: usize, depends_on_frame: bool, answer: Result<Answer>) {
        if depends_on_frame {
            self.waiting.push((index, answer));
        } else {
            self.answers[index] = Some(answer);
        }
    }
}

/// What a change adds to the unfinished records.
#[derive(Debug, Clone, Copy)]
struct Growth {
    records: usize,
    bytes: usize,
}

impl Growth {
    fn of(key: &RecordKey, before: Option<&Record>, after: Option<&Record>) -> Self {
        let records = |record: Option<&Record>| usize::from(record.is_some());
        let bytes = |record: Option<&Record>| record.map_or(0, |r| unfinished_bytes(key, r));
        let before = before.filter(|record| record.is_unfinished());
        let after = after.filter(|record| record.is_unfinished());
        Growth {
            records: records(after).saturating_sub(records(before)),
            bytes: bytes(after).saturating_sub(bytes(before)),
        }
    }
}

/// Whether the command, once done, leaves the lease it names without a holder.
fn ends_lease(command: &Command) -> bool {
    matches!(command, Command::Complete { .. } | Command::Release { .. })
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
