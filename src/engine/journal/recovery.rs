//! Reading the journal after a stop.
//!
//! The log is the chain of frames from the segment that the base names. It ends at the first frame
//! that is not whole, which a stop in mid-write leaves, unless a later frame says that the missing
//! one had been synced: then it was damaged, and going on would lose what was acknowledged.

use std::collections::BTreeMap;

use super::area::Area;
use super::frame::Frame;
use super::segment::{FRAMES_OFFSET, Segment, name_of, number_of};
use crate::bugs::{self, Bug};
use crate::engine::disk::Disk;
use crate::error::{Error, Result};
use crate::key::RecordKey;
use crate::record::{Fence, Record};
use crate::time::Timestamp;

/// Where the base says the journal begins.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) store: [u8; 16],
    pub(crate) run: u64,
    /// The first segment that is not in the base yet.
    pub(crate) first_segment: u64,
    /// The last batch that is in the base.
    pub(crate) applied: u64,
}

/// What the journal held beyond the base.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The last change to every key that was changed.
    pub(crate) changes: BTreeMap<RecordKey, Option<Record>>,
    /// The last frame.
    pub(crate) batch: u64,
    /// The latest time of any frame.
    pub(crate) time: Timestamp,
    /// The highest fence of any frame.
    pub(crate) fence: Fence,
    /// The last segment of the chain, none if it was empty.
    pub(crate) last_segment: Option<u64>,
}

/// Reads the journal from `origin` and makes what it keeps durable: what the page cache shows
/// after a failed sync need not be on the disk, and nothing read here may be unsaid by a later
/// power cut. So every kept frame is written again in place, byte for byte, and synced.
pub(crate) fn recover(disk: &dyn Disk, origin: Origin) -> Result<Recovered> {
    let mut reading = Reading {
        disk,
        origin,
        recovered: Recovered {
            changes: BTreeMap::new(),
            batch: origin.applied,
            time: Timestamp::default(),
            fence: Fence::from_u64(0),
            last_segment: None,
        },
    };
    let mut next = Some(origin.first_segment);
    while let Some(number) = next {
        next = reading.segment(number)?;
    }
    Ok(reading.recovered)
}

struct Reading<'d> {
    disk: &'d dyn Disk,
    origin: Origin,
    recovered: Recovered,
}

impl Reading<'_> {
    /// Reads one segment of the chain; gives the next one's number if there is one.
    fn segment(&mut self, number: u64) -> Result<Option<u64>> {
        let segment = self.open_named(number)?;
        self.recovered.last_segment = Some(number);
        let mut area = Area::of(&segment);
        let mut at = 0;
        let mut next_segment = None;
        while next_segment.is_none() {
            let expected = self.recovered.batch + 1;
            let follows = |frame: &Frame<'_>| {
                frame.info.batch == expected || bugs::is(Bug::StaleFrameAccepted)
            };
            let Some(frame) = area.frame(at)?.filter(follows) else {
                break;
            };
            self.take(&segment, at, &frame)?;
            next_segment = frame.info.next_segment;
            at += frame.len;
            if !bugs::is(Bug::RecoveryTrustsPageCache) {
                area.keep_through(at);
            }
        }
        if next_segment.is_none() {
            self.check_gap(&segment, &mut area, at)?;
        }
        area.sync_kept()?;
        Ok(next_segment)
    }

    /// A segment that the base or a frame names was whole and durable before it was named.
    fn open_named(&self, number: u64) -> Result<Segment> {
        let name = name_of(number);
        let missing = |what: &str| Error::corrupt(&name, what);
        let opened = match Segment::open(self.disk, &name) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(missing("the segment is missing"));
            }
            opened => opened?,
        };
        let segment =
            opened.ok_or_else(|| missing("the segment's header is damaged or it was cut short"))?;
        let header = &segment.header;
        if (header.store, header.run, header.number) != (self.origin.store, self.origin.run, number)
        {
            return Err(missing("the segment belongs to another store or run"));
        }
        if header.batch_before != self.recovered.batch {
            return Err(missing("the segment does not follow the one before it"));
        }
        Ok(segment)
    }

    fn take(&mut self, segment: &Segment, at: u64, frame: &Frame<'_>) -> Result<()> {
        let changes = frame
            .changes()
            .map_err(|damage| Error::corrupt(place(segment, at), damage.to_string()))?;
        for change in changes {
            self.recovered.changes.insert(change.key, change.record);
        }
        self.recovered.batch = frame.info.batch;
        self.recovered.time = self.recovered.time.max(frame.info.time);
        self.recovered.fence = self.recovered.fence.max(frame.info.fence);
        Ok(())
    }

    /// Makes sure that nothing durable lies beyond the end of the log at `at`.
    fn check_gap(&self, segment: &Segment, area: &mut Area<'_>, at: u64) -> Result<()> {
        let missing = self.recovered.batch + 1;
        let mut was_synced = area.says_synced(at, missing)?;
        for name in self.disk.list()? {
            if was_synced || number_of(&name).is_none_or(|n| n <= segment.header.number) {
                continue;
            }
            let Some(later) = Segment::open(self.disk, &name)? else {
                continue;
            };
            if (later.header.store, later.header.run) == (self.origin.store, self.origin.run) {
                was_synced = Area::of(&later).says_synced(0, missing)?;
            }
        }
        if was_synced && !bugs::is(Bug::DamageTakenForTornTail) {
            return Err(Error::corrupt(
                place(segment, at),
                format!("frame {missing} is damaged, and a later one says that it had been synced"),
            ));
        }
        Ok(())
    }
}

/// A file and an offset in it, for a message.
fn place(segment: &Segment, at: u64) -> String {
    format!("{} at offset {}", segment.name, FRAMES_OFFSET + at)
}
