//! Writing past the page cache (`O_DIRECT`, open(2)).
//!
//! A frame is synced as soon as it is written. Through the page cache that is a copy into it, a search for
//! what is dirty, and, where the last frame ended within a page, a wait for that one. Without it the bytes
//! go to the device at once, and the sync only has the device flush what it has.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::DiskFile;
use super::directory::RealFile;
use crate::sync::{AtomicBool, Mutex, Ordering};

/// What a place and a length must be multiples of; a device with longer sectors refuses.
const SECTOR_BYTES: usize = 512;
/// What the memory must begin at a multiple of: no device asks for more.
const ALIGNMENT: usize = 4096;
/// As much is written at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A file whose whole sectors are written past the page cache, if the file system and the device take them
/// so; all else goes through it.
#[derive(Debug)]
pub(super) struct DirectFile {
    cached: RealFile,
    direct: File,
    /// What is written lies here meanwhile, at an aligned place.
    buffer: Mutex<Vec<u8>>,
    refused: AtomicBool,
}

impl DirectFile {
    /// Of two handles of one file.
    pub(super) fn of(cached: RealFile, direct: File) -> Self {
        DirectFile {
            cached,
            direct,
            buffer: Mutex::default(),
            refused: AtomicBool::new(false),
        }
    }

    fn write_sectors(&self, mut offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut buffer = self.buffer.lock();
        for chunk in bytes.chunks(CHUNK_BYTES) {
            self.direct
                .write_all_at(aligned(chunk, &mut buffer), offset)?;
            offset += chunk.len() as u64;
        }
        Ok(())
    }
}

/// The same bytes at an aligned place.
fn aligned<'b>(bytes: &[u8], buffer: &'b mut Vec<u8>) -> &'b [u8] {
    let enough = bytes.len() + ALIGNMENT;
    if buffer.len() < enough {
        buffer.resize(enough, 0);
    }
    let skipped = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let aligned = &mut buffer[skipped..skipped + bytes.len()];
    aligned.copy_from_slice(bytes);
    aligned
}

impl DiskFile for DirectFile {
    fn len(&self) -> io::Result<u64> {
        self.cached.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.cached.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let are_sectors =
            offset.is_multiple_of(SECTOR_BYTES as u64) && bytes.len().is_multiple_of(SECTOR_BYTES);
        if are_sectors && !self.refused.load(Ordering::Relaxed) {
            match self.write_sectors(offset, bytes) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    self.refused.store(true, Ordering::Relaxed);
                }
                written => return written,
            }
        }
        self.cached.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.cached.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.cached.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::Disk;
    use crate::engine::disk::directory::Directory;

    #[test]
    fn what_is_written_directly_or_not_is_read_as_it_was_written() {
        let temp = tempfile::tempdir().unwrap();
        let disk = Directory::at(temp.path()).unwrap();
        let len = 2 << 20;
        let file = disk.create("file").unwrap();
        crate::engine::disk::preallocate(&*file, len as u64).unwrap();
        let file = disk.open_direct("file").unwrap();
        let mut expected = vec![0; len];
        let writes = [
            (0, 512),
            (512, 512),
            (8192, 3 * 512),
            (8192 + 3 * 512, 4096),
            // More than a chunk, and what is no whole sector.
            (64 << 10, 3 * CHUNK_BYTES + 512),
            (100, 1000),
            (1 << 20, 1000),
            (512, 1024),
        ];
        for (n, (offset, bytes)) in (1..).zip(writes) {
            let bytes: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8 ^ n).collect();
            file.write_at(offset as u64, &bytes).unwrap();
            expected[offset..offset + bytes.len()].copy_from_slice(&bytes);
            file.sync().unwrap();
            for file in [&file, &disk.open("file").unwrap()] {
                let mut read = vec![0; len];
                file.read_at(0, &mut read).unwrap();
                assert!(read == expected, "write {n}");
            }
        }
        assert_eq!(file.len().unwrap(), len as u64);
    }

    #[test]
    fn what_is_written_directly_lies_at_an_aligned_place() {
        let mut buffer = Vec::new();
        for len in [512, 1024, CHUNK_BYTES, 512] {
            let bytes = vec![len as u8 ^ 7; len];
            let aligned = aligned(&bytes, &mut buffer);
            assert_eq!(aligned, bytes);
            assert_eq!(aligned.as_ptr().align_offset(ALIGNMENT), 0);
        }
        assert!(buffer.len() <= CHUNK_BYTES + ALIGNMENT);
    }

    #[test]
    fn parts_of_sectors_are_not_tried_directly() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        std::fs::write(&path, [0; 4096]).unwrap();
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        let file = DirectFile::of(RealFile(open()), File::open(&path).unwrap());
        file.write_at(100, &[7; 512]).unwrap();
        file.write_at(512, &[7; 100]).unwrap();
        // Whole ones are: this handle is for reading alone.
        assert!(file.write_at(512, &[7; 512]).is_err());
    }

    #[test]
    fn what_the_device_refuses_goes_through_the_page_cache() {
        let temp = tempfile::tempdir().unwrap();
        let disk = Directory::at(temp.path()).unwrap();
        drop(disk.create("file").unwrap());
        let path = temp.path().join("file");
        let cached = File::options().read(true).write(true).open(&path).unwrap();
        // Refuses what is no number as a device with longer sectors refuses one: EINVAL.
        let mut options = File::options();
        let refusing = options.write(true).open("/proc/self/oom_score_adj");
        let file = DirectFile::of(RealFile(cached), refusing.unwrap());
        file.write_at(0, &[7; 512]).unwrap();
        assert!(file.refused.load(Ordering::Relaxed));
        assert_eq!(std::fs::read(path).unwrap(), [7; 512]);
    }
}
