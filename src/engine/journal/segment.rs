//! A segment: one preallocated file of the journal, its header, its name.

use std::io;
use std::sync::Arc;

use crate::bugs::{self, Bug};
use crate::codec::checksum;
use crate::engine::disk::{Disk, DiskFile, preallocate};

/// The unit of frames: no two frames share a sector, so that a torn write of one cannot harm an
/// older one.
pub(crate) const SECTOR_BYTES: u64 = 512;
/// Where the two copies of the header lie: on different pages.
const HEADER_OFFSETS: [u64; 2] = [0, 4096];
/// Where the frames begin.
pub(crate) const FRAMES_OFFSET: u64 = 8192;
/// No segment is shorter.
pub(crate) const MIN_SEGMENT_BYTES: u64 = 16 * 1024;

/// A file made ahead of its need, until it becomes a segment.
pub(crate) const SPARE_FILE: &str = "journal-spare";

const MAGIC: [u8; 8] = *b"fcjrnl\x00\x01";
const HEADER_BYTES: usize = 72;
const NAME_PREFIX: &str = "journal-";

/// What a segment's header says, and what every checksum of its frames depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// The store it belongs to.
    pub(crate) store: [u8; 16],
    /// Its number: one more than the segment before it.
    pub(crate) number: u64,
    /// The run that wrote it.
    pub(crate) run: u64,
    /// Fresh for every use of the file.
    pub(crate) salt: u64,
    /// The last batch before its first.
    pub(crate) batch_before: u64,
    /// The length of the file in bytes.
    pub(crate) len: u64,
}

impl Header {
    /// The bytes of one copy.
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..24].copy_from_slice(&self.store);
        for (place, number) in bytes[24..64].chunks_exact_mut(8).zip([
            self.number,
            self.run,
            self.salt,
            self.batch_before,
            self.len,
        ]) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(0, &bytes[..64]);
        bytes[64..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let number_at = |at: usize| {
            let chunk = bytes[at..].first_chunk::<8>();
            chunk.map_or(0, |chunk| u64::from_le_bytes(*chunk))
        };
        if bytes[0..8] != MAGIC || number_at(64) != checksum(0, &bytes[..64]) {
            return None;
        }
        let mut store = [0; 16];
        store.copy_from_slice(&bytes[8..24]);
        Some(Header {
            store,
            number: number_at(24),
            run: number_at(32),
            salt: number_at(40),
            batch_before: number_at(48),
            len: number_at(56),
        })
    }

    /// The seed of its frames' checksums.
    pub(crate) fn seed(&self) -> u64 {
        if bugs::is(Bug::StaleFrameAccepted) {
            return 0;
        }
        checksum(0, &self.to_bytes())
    }
}

/// A segment's file, open.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) header: Header,
}

impl Segment {
    /// Opens the segment of that name; none if neither copy of its header is whole or the file is
    /// shorter than the header says.
    pub(crate) fn open(disk: &dyn Disk, name: &str) -> io::Result<Option<Self>> {
        let file = disk.open(name)?;
        let file_len = file.len()?;
        for offset in HEADER_OFFSETS {
            let mut bytes = [0; HEADER_BYTES];
            if offset + HEADER_BYTES as u64 > file_len {
                continue;
            }
            file.read_at(offset, &mut bytes)?;
            let header = Header::from_bytes(&bytes);
            if let Some(header) = header.filter(|h| h.len <= file_len && h.len >= MIN_SEGMENT_BYTES)
            {
                return Ok(Some(Segment {
                    name: name.to_owned(),
                    file,
                    header,
                }));
            }
        }
        Ok(None)
    }

    /// Writes the header, twice, and syncs it: from here on the file is this segment.
    pub(crate) fn begin(blank: Blank, header: Header) -> io::Result<Self> {
        for offset in HEADER_OFFSETS {
            blank.file.write_at(offset, &header.to_bytes())?;
        }
        blank.file.sync()?;
        Ok(Segment {
            name: blank.name,
            file: blank.file,
            header,
        })
    }
}

/// A file of full length under a segment's name, whose header is still to be written. What it
/// holds of an earlier use means nothing under another salt.
#[derive(Debug)]
pub(crate) struct Blank {
    name: String,
    file: Arc<dyn DiskFile>,
}

impl Blank {
    /// Makes a new file for segment `number`, all of it written once.
    pub(crate) fn create(disk: &dyn Disk, number: u64, len: u64) -> io::Result<Self> {
        Self::create_named(disk, name_of(number), len)
    }

    fn create_named(disk: &dyn Disk, name: String, len: u64) -> io::Result<Self> {
        // If one is there and stays, it cannot be created.
        let _ = disk.remove(&name);
        let file = disk.create(&name)?;
        let filled = preallocate(&*file, len).and_then(|()| disk.sync_dir());
        if let Err(error) = filled {
            // Give the space back: on a full disk it may be what the base needs.
            drop(file);
            let _ = disk.remove(&name);
            return Err(error);
        }
        Ok(Blank { name, file })
    }

    /// Takes the file of a segment that is no longer needed for segment `number`.
    pub(crate) fn recycle(disk: &dyn Disk, old: &str, number: u64) -> io::Result<Self> {
        let name = name_of(number);
        if old != name {
            disk.rename(old, &name)?;
        }
        // Needed even then: an opening that was cut short may have made the file and no more.
        disk.sync_dir()?;
        let file = disk.open(&name)?;
        Ok(Blank { name, file })
    }
}

/// Makes a file under [`SPARE_FILE`] with a header that no run accepts: the header shows that the
/// file was written in full.
pub(crate) fn create_spare(disk: &dyn Disk, len: u64) -> io::Result<()> {
    let blank = Blank::create_named(disk, SPARE_FILE.to_owned(), len)?;
    let header = Header {
        store: [0; 16],
        number: 0,
        run: 0,
        salt: 0,
        batch_before: 0,
        len,
    };
    Segment::begin(blank, header).map(drop)
}

/// Whether the file is a segment of that length, used or spare, written in full.
pub(crate) fn can_be_recycled(disk: &dyn Disk, name: &str, len: u64) -> io::Result<bool> {
    let is_whole = Segment::open(disk, name)?.is_some_and(|segment| segment.header.len == len);
    Ok(is_whole && disk.open(name)?.len()? == len)
}

/// The file name of segment `number`.
pub(crate) fn name_of(number: u64) -> String {
    format!("{NAME_PREFIX}{number:016x}")
}

/// The number of the segment with this file name, if it is one.
pub(crate) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(NAME_PREFIX)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (name_of(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::memory::MemoryDisk;

    const HEADER: Header = Header {
        store: [7; 16],
        number: 3,
        run: 2,
        salt: 99,
        batch_before: 41,
        len: MIN_SEGMENT_BYTES,
    };

    fn begun(disk: &MemoryDisk) -> Segment {
        let blank = Blank::create(disk, 3, MIN_SEGMENT_BYTES).unwrap();
        Segment::begin(blank, HEADER).unwrap()
    }

    #[test]
    fn either_copy_of_the_header_is_enough() {
        for damaged in HEADER_OFFSETS {
            let disk = MemoryDisk::new();
            let segment = begun(&disk);
            segment.file.write_at(damaged + 30, &[0xff]).unwrap();
            let again = Segment::open(&disk, &name_of(3)).unwrap().unwrap();
            assert_eq!(again.header, HEADER);
        }
    }

    #[test]
    fn a_header_damaged_twice_or_a_short_file_is_none() {
        let disk = MemoryDisk::new();
        let segment = begun(&disk);
        segment.file.set_len(MIN_SEGMENT_BYTES - 1).unwrap();
        assert!(Segment::open(&disk, &name_of(3)).unwrap().is_none());
        segment.file.set_len(MIN_SEGMENT_BYTES).unwrap();
        for offset in HEADER_OFFSETS {
            segment.file.write_at(offset + 30, &[0xff]).unwrap();
        }
        assert!(Segment::open(&disk, &name_of(3)).unwrap().is_none());
    }

    #[test]
    fn seeds_differ_with_every_field() {
        let others = [
            Header {
                store: [8; 16],
                ..HEADER
            },
            Header {
                number: 4,
                ..HEADER
            },
            Header { run: 3, ..HEADER },
            Header { salt: 98, ..HEADER },
            Header {
                batch_before: 42,
                ..HEADER
            },
        ];
        assert!(others.iter().all(|other| other.seed() != HEADER.seed()));
    }

    #[test]
    fn names_round_trip_and_others_are_not_segments() {
        assert_eq!(number_of(&name_of(0xabc)), Some(0xabc));
        for other in [
            "journal-",
            "journal-12",
            "base.redb",
            "journal-000000000000000G",
        ] {
            assert_eq!(number_of(other), None);
        }
    }

    #[test]
    fn only_a_whole_file_of_the_right_length_is_recycled() {
        let disk = MemoryDisk::new();
        let segment = begun(&disk);
        let name = name_of(3);
        assert!(can_be_recycled(&disk, &name, MIN_SEGMENT_BYTES).unwrap());
        assert!(!can_be_recycled(&disk, &name, MIN_SEGMENT_BYTES + 512).unwrap());
        segment.file.set_len(MIN_SEGMENT_BYTES + 512).unwrap();
        assert!(!can_be_recycled(&disk, &name, MIN_SEGMENT_BYTES).unwrap());
        assert!(!can_be_recycled(&disk, &name, MIN_SEGMENT_BYTES + 512).unwrap());
    }
}
