//! The journal: where every change is made durable first.
//!
//! A batch is one frame, appended to a preallocated segment and synced once. When a segment is
//! full, its last frame names the next one.

mod area;
pub(crate) mod frame;
pub(crate) mod recovery;
pub(crate) mod segment;

use std::io;
use std::sync::Arc;

use self::frame::{FRAME_HEADER_BYTES, FrameBuilder, FrameInfo, MAX_OP_OVERHEAD_BYTES};
use self::segment::{
    Blank, FRAMES_OFFSET, Header, MIN_SEGMENT_BYTES, SECTOR_BYTES, SPARE_FILE, Segment,
};
use super::disk::Disk;
use crate::bugs::{self, Bug};
use crate::builder::Durability;
use crate::codec::MAX_RECORD_OVERHEAD_BYTES;
use crate::record::Fence;
use crate::sync::Mutex;
use crate::time::Timestamp;

/// The frame that names the next segment takes one sector, which is kept free for it.
const SEAL_BYTES: u64 = SECTOR_BYTES;
/// No frame is longer, unless a single record is.
const FRAME_LIMIT_BYTES: u64 = 1 << 20;

/// The most bytes of frame a record with `body_bytes` of response or recovery point can need.
pub(crate) fn longest_frame(body_bytes: usize) -> u64 {
    let content =
        FRAME_HEADER_BYTES + MAX_OP_OVERHEAD_BYTES + MAX_RECORD_OVERHEAD_BYTES + body_bytes;
    (content as u64).next_multiple_of(SECTOR_BYTES)
}

/// The shortest segment that holds a record with `body_bytes` of response or recovery point.
pub(crate) fn shortest_segment(body_bytes: usize) -> u64 {
    (FRAMES_OFFSET + longest_frame(body_bytes) + SEAL_BYTES).max(MIN_SEGMENT_BYTES)
}

/// What does not change while a store is open.
#[derive(Debug, Clone)]
pub(crate) struct JournalTerms {
    pub(crate) store: [u8; 16],
    pub(crate) run: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) durability: Durability,
}

/// Why the journal could not go on to the next segment.
#[derive(Debug)]
pub(crate) enum RotateError {
    /// The next segment could not be prepared. Nothing has changed; it may be tried again.
    Prepare(io::Error),
    /// The last frame of this one could not be written or synced: the store is poisoned.
    Seal(io::Error),
}

/// The end of the journal, where it is written. Whoever has it has the right to commit.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    terms: JournalTerms,
    active: Segment,
    /// Where the next frame goes.
    offset: u64,
    /// The number of the last frame.
    batch: u64,
    /// The last frame that is known to be synced.
    synced_through: u64,
    spares: Arc<Spares>,
}

impl Journal {
    /// Begins a run with its first segment, `number`.
    pub(crate) fn begin(
        disk: Arc<dyn Disk>,
        terms: JournalTerms,
        spares: Arc<Spares>,
        number: u64,
        batch: u64,
    ) -> io::Result<Self> {
        let active = begin_segment(&*disk, &terms, &spares, number, batch)?;
        Ok(Journal {
            disk,
            terms,
            active,
            offset: FRAMES_OFFSET,
            batch,
            synced_through: batch,
            spares,
        })
    }

    /// The number of the last frame.
    pub(crate) fn batch(&self) -> u64 {
        self.batch
    }

    /// The number of the segment being written.
    pub(crate) fn segment_number(&self) -> u64 {
        self.active.header.number
    }

    /// How long a frame may be at most, in an empty segment.
    pub(crate) fn frame_limit(&self, longest: u64) -> u64 {
        let room = self.active.header.len - FRAMES_OFFSET - SEAL_BYTES;
        FRAME_LIMIT_BYTES.max(longest).min(room)
    }

    /// How long a frame the segment still takes.
    pub(crate) fn room(&self) -> u64 {
        (self.active.header.len - SEAL_BYTES).saturating_sub(self.offset)
    }

    /// Appends a frame of at most [`room`](Self::room) bytes, and makes it durable as the store
    /// promises. After an error nothing more may be written.
    pub(crate) fn append(
        &mut self,
        frame: &mut FrameBuilder,
        time: Timestamp,
        fence: Fence,
    ) -> io::Result<()> {
        self.write(frame, time, fence, None)?;
        if self.terms.durability == Durability::PowerLoss && !bugs::is(Bug::AnswerBeforeSync) {
            self.sync()?;
        }
        Ok(())
    }

    /// Goes on to the next segment, and syncs this one whatever the durability. Gives back the
    /// name of the old one.
    pub(crate) fn rotate(&mut self, time: Timestamp, fence: Fence) -> Result<String, RotateError> {
        let number = self.active.header.number + 1;
        let next = begin_segment(
            &*self.disk,
            &self.terms,
            &self.spares,
            number,
            self.batch + 1,
        )
        .map_err(RotateError::Prepare)?;
        let mut seal = FrameBuilder::default();
        seal.clear();
        self.write(&mut seal, time, fence, Some(number))
            .and_then(|()| match self.terms.durability {
                _ if bugs::is(Bug::NoSyncAtRotation) => Ok(()),
                Durability::ProcessCrash if bugs::is(Bug::BaseBeforeSegmentSync) => Ok(()),
                _ => self.sync(),
            })
            .map_err(RotateError::Seal)?;
        let old = std::mem::replace(&mut self.active, next);
        self.offset = FRAMES_OFFSET;
        Ok(old.name)
    }

    fn write(
        &mut self,
        frame: &mut FrameBuilder,
        time: Timestamp,
        fence: Fence,
        next_segment: Option<u64>,
    ) -> io::Result<()> {
        let info = FrameInfo {
            batch: self.batch + 1,
            time,
            synced_through: self.synced_through,
            fence,
            next_segment,
        };
        let bytes = frame.finish(self.active.header.seed(), &info);
        self.active.file.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        self.batch += 1;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.active.file.sync()?;
        self.synced_through = self.batch;
        Ok(())
    }
}

fn begin_segment(
    disk: &dyn Disk,
    terms: &JournalTerms,
    spares: &Spares,
    number: u64,
    batch_before: u64,
) -> io::Result<Segment> {
    let blank = match spares.take_for(disk, number)? {
        Some(blank) => blank,
        None => Blank::create(disk, number, terms.segment_bytes)?,
    };
    let header = Header {
        store: terms.store,
        number,
        run: terms.run,
        salt: super::entropy::fresh_u64(),
        batch_before,
        len: terms.segment_bytes,
    };
    let mut segment = Segment::begin(blank, header)?;
    if terms.durability == Durability::PowerLoss {
        // Every frame is synced.
        segment.file = disk.open_direct(&segment.name)?;
    }
    Ok(segment)
}

/// Files of full length that no recovery needs, to be used again; at most [`Spares::MOST`].
#[derive(Debug, Default)]
pub(crate) struct Spares(Mutex<Vec<String>>);

impl Spares {
    const MOST: usize = 1;

    /// Keeps the file for later use, or removes it if there are enough.
    pub(crate) fn keep(&self, disk: &dyn Disk, name: String) -> io::Result<()> {
        let mut names = self.0.lock();
        if names.len() < Self::MOST {
            names.push(name);
            return Ok(());
        }
        drop(names);
        disk.remove(&name)
    }

    /// Makes a spare if there is none, to be at hand when the segment is full.
    pub(crate) fn prepare(&self, disk: &dyn Disk, len: u64) -> io::Result<()> {
        let mut names = self.0.lock();
        if names.is_empty() {
            segment::create_spare(disk, len)?;
            names.push(SPARE_FILE.to_owned());
        }
        Ok(())
    }

    /// Whether that file is one of them.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.lock().iter().any(|spare| spare == name)
    }

    /// Takes one for segment `number`. It has its new name before the list is free again, so that
    /// a spare that is made meanwhile cannot be the same file.
    fn take_for(&self, disk: &dyn Disk, number: u64) -> io::Result<Option<Blank>> {
        let mut names = self.0.lock();
        let Some(old) = names.pop() else {
            return Ok(None);
        };
        let recycled = Blank::recycle(disk, &old, number);
        if recycled.is_err() {
            // A file that cannot be used again is removed, so that the next try makes a new one.
            let _ = disk.remove(&old);
        }
        recycled.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::memory::MemoryDisk;

    fn journal(disk: &Arc<MemoryDisk>, segment_bytes: u64) -> Journal {
        let terms = JournalTerms {
            store: [7; 16],
            run: 1,
            segment_bytes,
            durability: Durability::PowerLoss,
        };
        Journal::begin(disk.clone(), terms, Arc::default(), 1, 0).unwrap()
    }

    #[test]
    fn the_longest_body_fits_the_shortest_segment() {
        for body in [0, 1, 511, 64 * 1024, 1 << 20] {
            assert!(longest_frame(body) >= body as u64 + FRAME_HEADER_BYTES as u64 + 512);
            let disk = Arc::new(MemoryDisk::new());
            let journal = journal(&disk, shortest_segment(body));
            assert!(journal.room() >= longest_frame(body));
            assert!(journal.frame_limit(longest_frame(body)) >= longest_frame(body));
        }
    }

    #[test]
    fn a_frame_is_a_megabyte_at_most_unless_one_record_is_longer() {
        let disk = Arc::new(MemoryDisk::new());
        let journal = journal(&disk, 16 << 20);
        assert_eq!(journal.frame_limit(512), 1 << 20);
        assert_eq!(journal.frame_limit(3 << 20), 3 << 20);
        assert_eq!(journal.frame_limit(1 << 40), journal.room());
    }

    #[test]
    fn one_spare_is_kept_and_others_are_removed() {
        let disk = MemoryDisk::new();
        let spares = Spares::default();
        for name in ["one", "two"] {
            disk.create(name).unwrap();
            spares.keep(&disk, name.to_owned()).unwrap();
        }
        assert!(spares.has("one") && !spares.has("two"));
        assert_eq!(disk.list().unwrap(), ["one"]);
    }
}
