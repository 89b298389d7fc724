//! Writing past the page cache (`O_DIRECT`, open(2)).
//!
//! A frame is synced as soon as it is written. Through the page cache that is a copy into it, a search for
//! what has changed, and, where the last frame ended within a page, a wait until that page is written. Past it
//! the bytes go to the device at once, and the sync only has the device flush what it has.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::DiskFile;
use super::directory::RealFile;
use crate::sync::Mutex;

/// What is written at once begins and ends at a multiple of this, in the file and in memory. A device with
/// shorter sectors does not need it; one that has these inside would itself read, change and write them.
const BLOCK_BYTES: usize = 4096;
/// As much is written at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A file that is written in order past the page cache, if the file system and the device take that; all
/// else goes through it.
#[derive(Debug)]
pub(super) struct DirectFile {
    cached: RealFile,
    direct: File,
    /// No write goes beyond it: none is to make the file longer.
    len: u64,
    last: Mutex<Last>,
}

/// The last write.
#[derive(Debug, Default)]
struct Last {
    /// Where it ended, if the block there was written from `buffer`, where it still lies.
    end: Option<u64>,
    buffer: Vec<u8>,
    /// Where that block is in `buffer`.
    block_at: usize,
    /// The device or the file system does not take it.
    refused: bool,
}

impl DirectFile {
    /// Of two handles of one file.
    pub(super) fn of(cached: RealFile, direct: File) -> io::Result<Self> {
        Ok(DirectFile {
            len: cached.len()?,
            cached,
            direct,
            last: Mutex::default(),
        })
    }

    /// Writes whole blocks: before `bytes` what lies there, after them zeros. False if it is not known what
    /// lies there, or if there is no room for whole blocks.
    fn write_blocks(&self, last: &mut Last, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        let known = (offset % BLOCK_BYTES as u64) as usize;
        let begin = offset - known as u64;
        let end = offset + bytes.len() as u64;
        let fits = end.next_multiple_of(BLOCK_BYTES as u64) <= self.len;
        if !fits || (known > 0 && last.end != Some(offset)) {
            return Ok(false);
        }
        last.end = None;
        let (mut at, mut known, mut rest) = (begin, known, bytes);
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(CHUNK_BYTES - known));
            let filled = known + chunk.len();
            let whole = filled.next_multiple_of(BLOCK_BYTES);
            let aligned = last.aligned(known, whole);
            aligned[known..filled].copy_from_slice(chunk);
            aligned[filled..].fill(0);
            self.direct.write_all_at(aligned, at)?;
            last.block_at += (filled - 1) / BLOCK_BYTES * BLOCK_BYTES;
            at += whole as u64;
            (known, rest) = (0, after);
        }
        last.end = Some(end);
        Ok(true)
    }
}

impl Last {
    /// So many bytes of the buffer at an aligned place, the first `known` of them those of the last block.
    fn aligned(&mut self, known: usize, len: usize) -> &mut [u8] {
        let mut block = [0; BLOCK_BYTES];
        if known > 0 {
            block.copy_from_slice(&self.buffer[self.block_at..self.block_at + BLOCK_BYTES]);
        }
        let enough = len + BLOCK_BYTES;
        if self.buffer.len() < enough {
            self.buffer.resize(enough, 0);
        }
        self.block_at = self.buffer.as_ptr().align_offset(BLOCK_BYTES);
        let aligned = &mut self.buffer[self.block_at..self.block_at + len];
        aligned[..known].copy_from_slice(&block[..known]);
        aligned
    }
}

impl DiskFile for DirectFile {
    fn len(&self) -> io::Result<u64> {
        self.cached.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.cached.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut last = self.last.lock();
        if !last.refused {
            match self.write_blocks(&mut last, offset, bytes) {
                Ok(false) => {}
                Ok(true) => return Ok(()),
                Err(error) if is_refusal(&error) => last.refused = true,
                Err(error) => return Err(error),
            }
        }
        last.end = None;
        self.cached.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cached.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.cached.sync()
    }
}

/// Whether the file is not to be written so at all: EINVAL, EOPNOTSUPP, ENOSYS.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests;
