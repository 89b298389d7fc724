//! What is written directly, and what is not.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::*;
use crate::engine::disk::Disk;
use crate::engine::disk::directory::Directory;

const LEN: usize = 2 << 20;

fn file(path: &Path) -> RealFile {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false);
    RealFile(options.open(path).unwrap())
}

fn bytes_of(len: usize, n: u8) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ n).collect()
}

/// Writes one after the other, from `first` on, as a journal does; each is read as it was written, by this
/// handle and by others, and so is what comes before.
fn write_in_order(path: &Path, direct: &dyn DiskFile, first: usize, lens: &[usize]) {
    let mut expected = std::fs::read(path).unwrap();
    let mut at = first;
    for (n, len) in (1..).zip(lens) {
        let bytes = bytes_of(*len, n);
        direct.write_at(at as u64, &bytes).unwrap();
        direct.sync().unwrap();
        expected[at..at + len].copy_from_slice(&bytes);
        at += len;
        let mut read = vec![0; LEN];
        direct.read_at(0, &mut read).unwrap();
        assert!(read[..at] == expected[..at], "write {n}");
        assert!(std::fs::read(path).unwrap() == read, "write {n}");
        // What lies behind the block in which it ended is as it was.
        let end = at.next_multiple_of(BLOCK_BYTES);
        assert!(read[end..] == expected[end..], "write {n}");
    }
    assert_eq!(direct.len().unwrap(), LEN as u64);
}

const FRAMES: [usize; 12] = [
    512,
    512,
    3 * 512,
    4096,
    1536,
    CHUNK_BYTES - 512,
    CHUNK_BYTES,
    3 * CHUNK_BYTES + 1024,
    512,
    100,
    1000,
    4096,
];

#[test]
fn frames_are_read_as_they_were_written() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    let disk = Directory::at(temp.path()).unwrap();
    for first in [8192, 0, 512, 8192] {
        std::fs::write(&path, bytes_of(LEN, 99)).unwrap();
        let direct = disk.open_direct("file").unwrap();
        write_in_order(&path, &*direct, first, &FRAMES);
    }
}

/// Where there is `O_DIRECT`, frames from a block on are written so.
#[test]
fn frames_are_written_directly() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    std::fs::write(&path, bytes_of(LEN, 99)).unwrap();
    let mut options = File::options();
    let options = options.write(true).custom_flags(libc::O_DIRECT);
    let Ok(handle) = options.open(&path) else {
        return;
    };
    let direct = DirectFile::of(file(&path), handle).unwrap();
    let refused = {
        let mut last = Last::default();
        direct.direct.write_all_at(last.aligned(0, BLOCK_BYTES), 0)
    };
    write_in_order(&path, &direct, 8192, &FRAMES);
    let last = direct.last.lock();
    assert_eq!(last.refused, refused.is_err());
    let end = 8192 + FRAMES.iter().sum::<usize>() as u64;
    assert_eq!(last.end, refused.is_ok().then_some(end));
    assert!(last.buffer.len() <= CHUNK_BYTES + BLOCK_BYTES);
}

/// A file whose direct handle is an ordinary one, to see which way a write goes.
#[test]
fn what_is_not_in_order_goes_through_the_page_cache() {
    let temp = tempfile::tempdir().unwrap();
    let (path, other) = (temp.path().join("file"), temp.path().join("other"));
    for path in [&path, &other] {
        std::fs::write(path, [1; 16384]).unwrap();
    }
    let direct = DirectFile::of(file(&path), file(&other).0).unwrap();
    // Each with whether it is to go directly.
    let writes = [
        (512, 512, false),
        (4096, 512, true),
        (4608, 512, true),
        // Not where the last one ended,
        (5632, 512, false),
        // nor where a direct one did.
        (5120, 512, false),
        (8192, 4096, true),
        (4096, 100, true),
        (4196, 512, true),
        // Up to the end of the file, and beyond.
        (12288, 4000, true),
        (16288, 96, true),
        (12288, 4097, false),
    ];
    for (n, (offset, len, directly)) in (2..).zip(writes) {
        direct.write_at(offset as u64, &vec![n; len]).unwrap();
        let [cached, directed] = [&path, &other].map(|path| std::fs::read(path).unwrap()[offset]);
        assert_eq!(cached == n, !directly, "{offset}, {len}");
        assert_eq!(directed == n, directly, "{offset}, {len}");
    }
}

/// A segment need not be as long as whole blocks: its end is written through the page cache.
#[test]
fn no_file_is_made_longer() {
    let temp = tempfile::tempdir().unwrap();
    let (path, other) = (temp.path().join("file"), temp.path().join("other"));
    for path in [&path, &other] {
        std::fs::write(path, [1; 8704]).unwrap();
    }
    let direct = DirectFile::of(file(&path), file(&other).0).unwrap();
    direct.write_at(4096, &[2; 4096]).unwrap();
    direct.write_at(8192, &[3; 512]).unwrap();
    let [cached, directed] = [&path, &other].map(|path| std::fs::read(path).unwrap());
    assert_eq!((cached.len(), directed.len()), (8704, 8704));
    assert_eq!((directed[4096], cached[8192], directed[8192]), (2, 3, 1));
}

#[test]
fn what_is_written_directly_lies_at_an_aligned_place_behind_what_was_there() {
    let mut last = Last::default();
    let mut before = Vec::new();
    for (known, len) in [
        (0, 4096),
        (512, 8192),
        (1536, 4096),
        (0, CHUNK_BYTES),
        (7, 4096),
    ] {
        let aligned = last.aligned(known, len);
        assert_eq!(aligned.as_ptr().align_offset(BLOCK_BYTES), 0);
        assert!(known == 0 || aligned[..known] == before[..known]);
        aligned.copy_from_slice(&bytes_of(len, len as u8));
        before = aligned.to_vec();
    }
    assert!(last.buffer.len() <= CHUNK_BYTES + BLOCK_BYTES);
}

#[test]
fn what_is_refused_goes_through_the_page_cache_from_then_on() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    std::fs::write(&path, [0; 8192]).unwrap();
    // Refuses what is no number as a device with longer sectors refuses one: EINVAL.
    let mut options = File::options();
    let refusing = options.write(true).open("/proc/self/oom_score_adj");
    let direct = DirectFile::of(file(&path), refusing.unwrap()).unwrap();
    direct.write_at(0, &[7; 512]).unwrap();
    assert!(direct.last.lock().refused);
    direct.write_at(4096, &[8; 512]).unwrap();
    let read = std::fs::read(&path).unwrap();
    assert_eq!(
        (&read[..512], &read[4096..4608]),
        (&[7; 512][..], &[8; 512][..])
    );

    // Any other error is told: this handle is for reading alone.
    let unwritable = File::open(&path).unwrap();
    let direct = DirectFile::of(file(&path), unwritable).unwrap();
    assert!(direct.write_at(0, &[7; 512]).is_err());
    assert!(!direct.last.lock().refused);
    // What is there is not known then.
    direct.write_at(512, &[9; 512]).unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[512..1024], [9; 512]);
}
