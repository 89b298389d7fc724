//! A frame: one batch of changes as it lies in a segment.
//!
//! Fixed part, then the changes, then zeros to the next sector; docs/format.md has the table. The
//! checksum's seed is the segment's, so that a frame is only valid in the segment, the run and the
//! store it was written for.

use super::segment::SECTOR_BYTES;
use crate::bugs::{self, Bug};
use crate::codec::{Damage, checksum, decode_record, encode_record};
use crate::key::{MAX_ENCODED_BYTES, RecordKey};
use crate::record::{Fence, Record};
use crate::time::Timestamp;

const MAGIC: [u8; 4] = *b"fcfr";
/// The fixed part.
pub(crate) const FRAME_HEADER_BYTES: usize = 64;
/// What a change adds to its key and record.
const OP_OVERHEAD_BYTES: usize = 1 + 2 + 4;
/// The largest key with the overhead of its change.
pub(crate) const MAX_OP_OVERHEAD_BYTES: usize = OP_OVERHEAD_BYTES + MAX_ENCODED_BYTES;

const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;

/// What a frame says besides its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameInfo {
    /// Its number: one more than the frame before it, over all segments.
    pub(crate) batch: u64,
    /// The store's time when it was written.
    pub(crate) time: Timestamp,
    /// The last batch known to be synced when it was written.
    pub(crate) synced_through: u64,
    /// The highest fence given so far, its own included.
    pub(crate) fence: Fence,
    /// The segment that comes next, if this is the last frame of its own.
    pub(crate) next_segment: Option<u64>,
}

/// A change to one key: its record now, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: RecordKey,
    pub(crate) record: Option<Record>,
}

/// Builds a frame in a buffer that is used again for the next.
#[derive(Debug, Default)]
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
    changes: u32,
}

/// A place in a frame to go back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    bytes: usize,
    changes: u32,
}

impl FrameBuilder {
    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(FRAME_HEADER_BYTES, 0);
        self.changes = 0;
    }

    /// The bytes the frame takes up in a segment.
    pub(crate) fn len(&self) -> u64 {
        padded(self.bytes.len() as u64)
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            bytes: self.bytes.len(),
            changes: self.changes,
        }
    }

    /// Takes back what was added since `mark`.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.changes = mark.changes;
    }

    /// Adds a change.
    pub(crate) fn push(&mut self, key: &RecordKey, record: Option<&Record>) {
        let name = key.as_bytes();
        self.bytes
            .push(if record.is_some() { OP_PUT } else { OP_DELETE });
        self.bytes
            .extend_from_slice(&(name.len() as u16).to_le_bytes());
        let length_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(name);
        if let Some(record) = record {
            let begin = self.bytes.len();
            encode_record(name, record, &mut self.bytes);
            let record_bytes = (self.bytes.len() - begin) as u32;
            self.bytes[length_at..length_at + 4].copy_from_slice(&record_bytes.to_le_bytes());
        }
        self.changes += 1;
    }

    /// Finishes the frame for a segment with checksum seed `seed`: its bytes, padded.
    pub(crate) fn finish(&mut self, seed: u64, info: &FrameInfo) -> &[u8] {
        let total = self.bytes.len();
        let header = &mut self.bytes[..FRAME_HEADER_BYTES];
        header[0..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&(total as u32).to_le_bytes());
        header[8..16].copy_from_slice(&info.batch.to_le_bytes());
        header[16..24].copy_from_slice(&info.time.as_micros().to_le_bytes());
        header[24..32].copy_from_slice(&info.synced_through.to_le_bytes());
        header[32..40].copy_from_slice(&info.fence.as_u64().to_le_bytes());
        header[40..48].copy_from_slice(&info.next_segment.unwrap_or(0).to_le_bytes());
        header[48..52].copy_from_slice(&self.changes.to_le_bytes());
        header[52..64].fill(0);
        let sum = frame_sum(seed, &self.bytes);
        self.bytes[56..64].copy_from_slice(&sum.to_le_bytes());
        self.bytes.resize(padded(total as u64) as usize, 0);
        &self.bytes
    }
}

/// A frame that was read and found whole.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) info: FrameInfo,
    /// The bytes it takes up, padding included.
    pub(crate) len: u64,
    changes: u32,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the beginning of `bytes`, if there is a whole one written for the segment with
    /// checksum seed `seed`.
    pub(crate) fn read(seed: u64, bytes: &'a [u8]) -> Option<Self> {
        let total = Self::claimed_len(bytes)?;
        let content = bytes.get(..total as usize)?;
        let content = Some(content).filter(|content| content.len() >= FRAME_HEADER_BYTES)?;
        let number_at = |at: usize| Some(u64::from_le_bytes(*content.get(at..)?.first_chunk()?));
        let sum_fits = number_at(56)? == frame_sum(seed, content);
        if !sum_fits && !bugs::is(Bug::TornTailAccepted) {
            return None;
        }
        Some(Frame {
            info: FrameInfo {
                batch: number_at(8)?,
                time: Timestamp::from_micros(number_at(16)?),
                synced_through: number_at(24)?,
                fence: Fence::from_u64(number_at(32)?),
                next_segment: number_at(40).filter(|next| *next != 0),
            },
            len: padded(total),
            changes: u32::from_le_bytes(*content.get(48..)?.first_chunk()?),
            body: &content[FRAME_HEADER_BYTES..],
        })
    }

    /// How long something like a frame at the beginning of `bytes` says it is, without its padding;
    /// unchecked.
    pub(crate) fn claimed_len(bytes: &[u8]) -> Option<u64> {
        let len = bytes.strip_prefix(&MAGIC)?.first_chunk()?;
        Some(u32::from_le_bytes(*len).into())
    }

    /// Whether there is something like a frame at the beginning of `bytes` that says that batch
    /// `missing` had been synced; unchecked.
    pub(crate) fn claims_synced(bytes: &[u8], missing: u64) -> bool {
        let number_at = |at: usize| {
            let number = bytes.get(at..).and_then(|b| b.first_chunk());
            number.map(|number| u64::from_le_bytes(*number))
        };
        match (number_at(8), number_at(24)) {
            (Some(batch), Some(synced)) => {
                bytes.starts_with(&MAGIC) && (missing..batch).contains(&synced)
            }
            _ => false,
        }
    }

    /// Its changes, in order.
    ///
    /// # Errors
    /// [`Damage`] if they are malformed behind a right checksum.
    pub(crate) fn changes(&self) -> Result<Vec<Change>, Damage> {
        let mut rest = self.body;
        let mut changes = Vec::new();
        for _ in 0..self.changes {
            changes.push(take_change(&mut rest)?);
        }
        if rest.is_empty() {
            Ok(changes)
        } else {
            Err(Damage::Length)
        }
    }
}

fn take_change(rest: &mut &[u8]) -> Result<Change, Damage> {
    let mut take = |n: usize| {
        let (taken, after) = rest.split_at_checked(n).ok_or(Damage::Length)?;
        *rest = after;
        Ok::<_, Damage>(taken)
    };
    let kind = take(1)?[0];
    let name_bytes = take(2)?.first_chunk().map_or(0, |b| u16::from_le_bytes(*b));
    let record_bytes = take(4)?.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
    let name = take(usize::from(name_bytes))?;
    let record = take(record_bytes as usize)?;
    let key = RecordKey::from_bytes(name).ok_or(Damage::Header)?;
    let record = match (kind, record) {
        (OP_PUT, bytes) => Some(decode_record(name, bytes)?),
        (OP_DELETE, []) => None,
        _ => return Err(Damage::Header),
    };
    Ok(Change { key, record })
}

/// Over everything but the checksum itself.
fn frame_sum(seed: u64, content: &[u8]) -> u64 {
    let (head, tail) = (&content[..56], &content[FRAME_HEADER_BYTES..]);
    checksum(checksum(seed, head), tail)
}

/// The length in whole sectors.
fn padded(len: u64) -> u64 {
    len.next_multiple_of(SECTOR_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{State, Takeover};
    use std::time::Duration;

    const SEED: u64 = 5;
    const INFO: FrameInfo = FrameInfo {
        batch: 8,
        time: Timestamp::from_micros(1_000),
        synced_through: 7,
        fence: Fence::from_u64(12),
        next_segment: None,
    };

    fn changes() -> Vec<Change> {
        let record = Record {
            fence: Fence::from_u64(12),
            attempt: 1,
            takeover: Takeover::Gone,
            retain_for: Duration::from_secs(1),
            fingerprint: None,
            since: Timestamp::from_micros(900),
            expires_at: Timestamp::from_micros(2_000),
            interrupted: None,
            recovery_point: Some(vec![1; 600].into()),
            state: State::Released,
        };
        let key = |name: &str| RecordKey::new(b"t", name.as_bytes(), 255).unwrap();
        vec![
            Change {
                key: key("put"),
                record: Some(record),
            },
            Change {
                key: key("deleted"),
                record: None,
            },
        ]
    }

    fn framed() -> Vec<u8> {
        let mut builder = FrameBuilder::default();
        builder.clear();
        for change in changes() {
            builder.push(&change.key, change.record.as_ref());
        }
        let len = builder.len();
        let bytes = builder.finish(SEED, &INFO).to_vec();
        assert_eq!(bytes.len() as u64, len);
        assert_eq!(bytes.len() % 512, 0);
        bytes
    }

    #[test]
    fn frames_round_trip() {
        let bytes = framed();
        let frame = Frame::read(SEED, &bytes).unwrap();
        assert_eq!(frame.info, INFO);
        assert_eq!(frame.len, bytes.len() as u64);
        assert_eq!(frame.changes().unwrap(), changes());
    }

    #[test]
    fn every_flipped_bit_of_the_content_voids_the_frame() {
        let bytes = framed();
        let content = u32::from_le_bytes(*bytes[4..].first_chunk().unwrap()) as usize;
        for bit in 0..content * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::read(SEED, &flipped).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_void_when_cut_short_or_in_another_segment() {
        let bytes = framed();
        assert!(Frame::read(SEED + 1, &bytes).is_none());
        assert!(Frame::read(SEED, &bytes[..512]).is_none());
        assert!(Frame::read(SEED, &[]).is_none());
    }

    #[test]
    fn rewinding_takes_a_change_back() {
        let mut builder = FrameBuilder::default();
        builder.clear();
        let all = changes();
        builder.push(&all[0].key, all[0].record.as_ref());
        let mark = builder.mark();
        builder.push(&all[1].key, all[1].record.as_ref());
        builder.rewind(mark);
        let bytes = builder.finish(SEED, &INFO).to_vec();
        let frame = Frame::read(SEED, &bytes).unwrap();
        assert_eq!(frame.changes().unwrap(), all[..1]);
    }
}
