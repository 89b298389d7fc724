//! Segments and frames read by docs/format.md, apart from the store's own code, so that damage can
//! be put in a chosen place and a checksum made right again behind it.

use twox_hash::XxHash3_64;

/// Where the two copies of a segment's header lie.
pub const HEADERS: [usize; 2] = [0, 4096];
/// Where the frames begin.
pub const FRAMES: usize = 8192;
const HEADER_BYTES: usize = 72;
const FRAME_HEADER_BYTES: usize = 64;
const SECTOR_BYTES: usize = 512;

/// A whole frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub at: usize,
    /// Without padding.
    pub len: usize,
    pub changes: u32,
}

/// The header that counts: the first whole copy.
pub fn header(segment: &[u8]) -> Option<&[u8]> {
    let copies = HEADERS.map(|at| segment.get(at..at + HEADER_BYTES));
    copies.into_iter().flatten().find(|copy| {
        copy[..8] == *b"fcjrnl\0\x01"
            && number(copy, 64) == hash(0, &copy[..64])
            && number(copy, 56) <= segment.len() as u64
    })
}

/// The seed of the checksums of a segment's frames.
pub fn seed(header: &[u8]) -> u64 {
    hash(0, header)
}

/// The frames of a segment, in order, up to the first that is not whole or not the next batch.
pub fn frames(segment: &[u8]) -> Vec<Frame> {
    let Some(header) = header(segment) else {
        return Vec::new();
    };
    let (seed, mut batch) = (seed(header), number(header, 48));
    let mut frames = Vec::new();
    let mut at = FRAMES;
    while let Some(frame) = frame(segment, seed, at) {
        batch += 1;
        if number(segment, at + 8) != batch {
            break;
        }
        at = (at + frame.len).next_multiple_of(SECTOR_BYTES);
        frames.push(frame);
    }
    frames
}

fn frame(segment: &[u8], seed: u64, at: usize) -> Option<Frame> {
    let fixed = segment.get(at..at + FRAME_HEADER_BYTES)?;
    let len = u32::from_le_bytes(*fixed[4..].first_chunk()?) as usize;
    let content = segment.get(at..at + len)?;
    let is_whole = fixed[..4] == *b"fcfr"
        && len >= FRAME_HEADER_BYTES
        && number(fixed, 56) == frame_sum(seed, content);
    is_whole.then_some(Frame {
        at,
        len,
        changes: u32::from_le_bytes(*fixed[48..].first_chunk()?),
    })
}

/// Makes the checksum of a header copy right.
pub fn reseal_header(segment: &mut [u8], copy: usize) {
    let at = HEADERS[copy];
    if let Some(bytes) = segment.get_mut(at..at + HEADER_BYTES) {
        let sum = hash(0, &bytes[..64]);
        bytes[64..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Makes the checksum of the frame at `at` right, whatever its length says now.
pub fn reseal_frame(segment: &mut [u8], seed: u64, at: usize) {
    let Some(fixed) = segment.get(at..at + FRAME_HEADER_BYTES) else {
        return;
    };
    let len = fixed[4..]
        .first_chunk()
        .map_or(0, |b| u32::from_le_bytes(*b)) as usize;
    let Some(content) = segment.get_mut(at..at.saturating_add(len)) else {
        return;
    };
    if len >= FRAME_HEADER_BYTES {
        let sum = frame_sum(seed, content);
        content[56..64].copy_from_slice(&sum.to_le_bytes());
    }
}

/// The number at `at`; 0 if the bytes end before.
pub fn number(bytes: &[u8], at: usize) -> u64 {
    let chunk = bytes.get(at..).and_then(<[u8]>::first_chunk);
    chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

fn frame_sum(seed: u64, content: &[u8]) -> u64 {
    hash(hash(seed, &content[..56]), &content[FRAME_HEADER_BYTES..])
}
