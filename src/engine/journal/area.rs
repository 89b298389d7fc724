//! The frames of a segment, read piece by piece: a segment may be a gigabyte long.

use super::frame::{FRAME_HEADER_BYTES, Frame};
use super::segment::{FRAMES_OFFSET, SECTOR_BYTES, Segment};
use crate::error::Result;

/// As much is read at once, or a frame, if that is longer.
const PIECE_BYTES: u64 = 8 << 10;

/// Where frames lie in a segment; places are counted from the first.
pub(super) struct Area<'s> {
    segment: &'s Segment,
    /// The piece that is in memory, and its place.
    bytes: Vec<u8>,
    begin: u64,
    /// What lies before here is kept, and what lies before there was written again.
    kept: u64,
    rewritten: u64,
}

impl<'s> Area<'s> {
    pub(super) fn of(segment: &'s Segment) -> Self {
        Area {
            segment,
            bytes: Vec::new(),
            begin: 0,
            kept: 0,
            rewritten: 0,
        }
    }

    /// The frame at a place, if there is a whole one.
    pub(super) fn frame(&mut self, at: u64) -> Result<Option<Frame<'_>>> {
        let Some(len) = Frame::claimed_len(self.at(at, FRAME_HEADER_BYTES as u64)?) else {
            return Ok(None);
        };
        if len > self.len() - at {
            return Ok(None);
        }
        let seed = self.segment.header.seed();
        let with_padding = len.next_multiple_of(SECTOR_BYTES);
        Ok(Frame::read(seed, self.at(at, with_padding)?))
    }

    /// Whether any whole frame from a place on says that batch `missing` had been synced.
    pub(super) fn says_synced(&mut self, from: u64, missing: u64) -> Result<bool> {
        for at in (from..self.len()).step_by(SECTOR_BYTES as usize) {
            let header = self.at(at, FRAME_HEADER_BYTES as u64)?;
            // Cheaply first: the checksum of a frame is over all of it.
            if Frame::claims_synced(header, missing) && self.frame(at)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The frame that ends here is to be written again, as are all before it. It must be the last that was
    /// read.
    pub(super) fn keep_through(&mut self, end: u64) {
        self.kept = end.min(self.len());
    }

    /// Makes durable what is kept.
    pub(super) fn sync_kept(&mut self) -> Result<()> {
        self.rewrite_kept()?;
        if self.kept > 0 {
            self.segment.file.sync()?;
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.segment.header.len - FRAMES_OFFSET
    }

    /// At least `wanted` bytes from a place on, or all that there are.
    fn at(&mut self, at: u64, wanted: u64) -> Result<&[u8]> {
        let left = self.len().saturating_sub(at);
        let there = (self.begin + self.bytes.len() as u64).saturating_sub(at);
        if at < self.begin || there < wanted.min(left) {
            self.rewrite_kept()?;
            self.bytes
                .resize(wanted.max(PIECE_BYTES).min(left) as usize, 0);
            self.segment
                .file
                .read_at(FRAMES_OFFSET + at, &mut self.bytes)?;
            self.begin = at;
        }
        Ok(self.bytes.get((at - self.begin) as usize..).unwrap_or(&[]))
    }

    /// Of the piece in memory, before another takes its place: what is written is what was checked.
    fn rewrite_kept(&mut self) -> Result<()> {
        if self.kept > self.rewritten {
            let in_piece =
                (self.rewritten - self.begin) as usize..(self.kept - self.begin) as usize;
            self.segment
                .file
                .write_at(FRAMES_OFFSET + self.rewritten, &self.bytes[in_piece])?;
            self.rewritten = self.kept;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::super::frame::{FrameBuilder, FrameInfo};
    use super::super::segment::{Blank, Header};
    use super::*;
    use crate::engine::disk::memory::MemoryDisk;
    use crate::engine::disk::{Disk, DiskFile};
    use crate::key::RecordKey;
    use crate::record::Fence;
    use crate::time::Timestamp;

    /// Notes what is written to a file, and the longest reading.
    #[derive(Debug)]
    struct Watched {
        file: Arc<dyn DiskFile>,
        written: Mutex<Vec<(u64, Vec<u8>)>>,
        longest_read: Mutex<usize>,
    }

    impl DiskFile for Watched {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            let mut longest = self.longest_read.lock();
            *longest = out.len().max(*longest);
            self.file.read_at(offset, out)
        }

        fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.written.lock().push((offset, bytes.to_vec()));
            self.file.write_at(offset, bytes)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.file.set_len(len)
        }

        fn sync(&self) -> io::Result<()> {
            self.file.sync()
        }
    }

    /// A segment with frames of so many deletions each, numbered from 1, of which each says that the one
    /// two before it was synced; where each begins, and where the last ends.
    fn segment_of(frames: &[usize]) -> (Segment, Arc<Watched>, Vec<u64>) {
        let disk = MemoryDisk::new();
        let blank = Blank::create(&disk, 1, 256 << 10).unwrap();
        let header = Header {
            store: [7; 16],
            number: 1,
            run: 1,
            salt: 9,
            batch_before: 0,
            len: 256 << 10,
        };
        let mut segment = Segment::begin(blank, header).unwrap();
        let mut places = vec![0];
        for (batch, deletions) in (1..).zip(frames) {
            let mut builder = FrameBuilder::default();
            builder.clear();
            for n in 0..*deletions {
                builder.push(&RecordKey::new(b"t", &n.to_le_bytes(), 255).unwrap(), None);
            }
            let info = FrameInfo {
                batch,
                time: Timestamp::from_micros(batch),
                synced_through: batch.saturating_sub(2),
                fence: Fence::from_u64(batch),
                next_segment: None,
            };
            let bytes = builder.finish(header.seed(), &info);
            let at = places[places.len() - 1];
            segment.file.write_at(FRAMES_OFFSET + at, bytes).unwrap();
            places.push(at + bytes.len() as u64);
        }
        let watched = Arc::new(Watched {
            file: disk.open(&segment.name).unwrap(),
            written: Mutex::default(),
            longest_read: Mutex::default(),
        });
        segment.file = watched.clone();
        (segment, watched, places)
    }

    /// Of less than a sector to several pieces; some end where a piece does, or a sector before.
    const FRAMES: [usize; 9] = [1, 340, 680, 20, 3000, 1, 310, 1500, 5];

    #[test]
    fn frames_are_found_wherever_a_piece_ends_and_are_written_again_as_they_were() {
        let (segment, watched, places) = segment_of(&FRAMES);
        let mut before = vec![0; *places.last().unwrap() as usize];
        watched.file.read_at(FRAMES_OFFSET, &mut before).unwrap();
        let mut area = Area::of(&segment);
        for (batch, ends) in (1..).zip(places.windows(2)) {
            let frame = area.frame(ends[0]).unwrap().unwrap();
            assert_eq!((frame.info.batch, frame.len), (batch, ends[1] - ends[0]));
            area.keep_through(ends[1]);
        }
        assert!(area.frame(before.len() as u64).unwrap().is_none());
        area.sync_kept().unwrap();

        let mut next = FRAMES_OFFSET;
        let mut again = Vec::new();
        for (at, bytes) in watched.written.lock().iter() {
            assert_eq!(*at, next, "each byte once, in order");
            next += bytes.len() as u64;
            again.extend_from_slice(bytes);
        }
        assert_eq!(again, before);
        let longest_frame = places.windows(2).map(|ends| ends[1] - ends[0]).max();
        assert!(*watched.longest_read.lock() as u64 <= longest_frame.unwrap().max(PIECE_BYTES));
    }

    #[test]
    fn nothing_is_written_beyond_what_is_kept() {
        let (segment, watched, places) = segment_of(&FRAMES);
        let mut area = Area::of(&segment);
        for n in 0..4 {
            area.frame(places[n]).unwrap().unwrap();
            area.keep_through(places[n + 1]);
        }
        // As looking for a gap does: it goes on from there.
        assert!(area.says_synced(places[4], 5).unwrap());
        area.sync_kept().unwrap();
        let end = |(at, bytes): &(u64, Vec<u8>)| at + bytes.len() as u64;
        let written = watched.written.lock();
        assert_eq!(
            written.iter().map(end).max(),
            Some(FRAMES_OFFSET + places[4])
        );
    }

    #[test]
    fn a_frame_anywhere_behind_tells_what_was_synced() {
        let (segment, watched, places) = segment_of(&FRAMES);
        let says = |from: usize, missing| {
            Area::of(&segment)
                .says_synced(places[from], missing)
                .unwrap()
        };
        // The last is the ninth, and says that the seventh was synced.
        assert!(says(0, 7) && says(8, 7));
        assert!(!says(0, 8) && !says(9, 1));
        // One that is not whole says nothing.
        watched
            .file
            .write_at(FRAMES_OFFSET + places[8] + 70, &[0xff])
            .unwrap();
        assert!(says(0, 6) && !says(0, 7));
    }

    #[test]
    fn a_frame_that_would_end_beyond_the_segment_is_none() {
        let (segment, watched, _) = segment_of(&[1]);
        let area_len = segment.header.len - FRAMES_OFFSET;
        let mut last = [0; 512];
        watched.file.read_at(FRAMES_OFFSET, &mut last).unwrap();
        last[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let at = segment.header.len - 512;
        watched.file.write_at(at, &last).unwrap();
        let mut area = Area::of(&segment);
        assert!(area.frame(area_len - 512).unwrap().is_none());
        assert!(area.frame(area_len).unwrap().is_none());
    }
}
