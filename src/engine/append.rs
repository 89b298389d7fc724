//! Appending frames, and going on to the next segment.

use std::time::Duration;

use super::Engine;
use super::commit::PoisonOnPanic;
use super::journal::frame::FrameBuilder;
use super::journal::{Journal, RotateError, longest_frame};
use crate::error::{Error, Result};
use crate::record::Fence;
use crate::sync::Ordering;
use crate::time::Deadline;

/// After a checkpoint failed, commits do not try it again for so long: each try may reopen the base,
/// which holds up those who read from it.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);

/// The end of the journal and the frame being built.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) journal: Journal,
    pub(crate) frame: FrameBuilder,
}

/// A checkpoint that failed, and until when commits answer with its error.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Error,
    until: Deadline,
}

impl Engine {
    /// Whether a commit can begin without waiting for a checkpoint.
    pub(crate) fn has_room(&self) -> bool {
        let is_short = self.room.load(Ordering::SeqCst) < self.options.journal_bytes / 4;
        !is_short || self.overlay.frozen().is_none()
    }

    /// Waits until a commit can begin without waiting for a checkpoint. To be called before taking
    /// commands from a queue, so that they can still be withdrawn meanwhile.
    pub fn make_room(&self) {
        if !self.has_room() {
            // What goes wrong here goes wrong in the commit again, and is told there.
            let _ = self.write_frozen_unless_failing();
        }
    }

    /// Appends the frame and makes it durable as the store promises.
    ///
    /// # Errors
    /// `Indeterminate` if it is not known whether that succeeded; any other means that nothing was
    /// written.
    pub(super) fn write_frame(&self, writer: &mut Writer) -> Result<()> {
        if self.is_poisoned() {
            return Err(Error::Poisoned);
        }
        if writer.journal.room() < writer.frame.len() {
            self.rotate(writer)?;
        }
        let Writer { journal, frame } = writer;
        if journal.room() < frame.len() {
            return Err(Error::option("a record is longer than a journal segment"));
        }
        let fence = Fence::from_u64(self.fence.load(Ordering::SeqCst));
        let appended = journal.append(frame, self.time.now(), fence);
        self.room.store(journal.room(), Ordering::SeqCst);
        appended.map_err(|error| {
            self.poison(format!("a frame could not be made durable: {error}"));
            Error::Indeterminate
        })?;
        self.counters.frames.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Freezes the overlay and goes on in a new segment. If the last frozen one is not in the base
    /// yet, that comes first: claims wait for it rather than memory grows.
    pub(super) fn rotate(&self, writer: &mut Writer) -> Result<()> {
        self.write_frozen_unless_failing()?;
        let fence = Fence::from_u64(self.fence.load(Ordering::SeqCst));
        let guard = PoisonOnPanic::over(self);
        let rotated = writer.journal.rotate(self.time.now(), fence);
        guard.disarm();
        let old = match rotated {
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
        self.room.store(journal.room(), Ordering::SeqCst);
        self.checkpoint_bell.ring();
        Ok(())
    }

    /// The longest frame that one record can need.
    pub(super) fn longest_frame(&self) -> u64 {
        longest_frame(self.longest_body)
    }

    /// Writes what is frozen into the base, unless that failed a moment ago.
    fn write_frozen_unless_failing(&self) -> Result<()> {
        if let Some(failure) = &*self.failure.lock()
            && !failure.until.has_passed()
        {
            return Err(failure.error.clone());
        }
        self.write_frozen()
    }

    /// Notes how writing what is frozen went.
    pub(super) fn note_checkpoint(&self, written: &Result<()>) {
        *self.failure.lock() = written.as_ref().err().map(|error| Failure {
            error: error.clone(),
            until: Deadline::after(PAUSE_AFTER_FAILURE),
        });
    }
}
