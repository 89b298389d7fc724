//! The seal of a closed base: checksums of its blocks, written when the store is closed.
//!
//! redb checks nothing as it reads, and damaged pages can lead look-ups astray or stop it with a
//! panic that nothing can catch. So the next opening compares the file with its seal before redb
//! sees it. The seal is removed before a whole base is written to; a store that was not closed has none.

use std::io;

use super::base::BASE_FILE;
use super::disk::{Disk, DiskFile};
use crate::codec::{checksum, open_bytes, seal_bytes};
use crate::error::Result;

/// The seal's file.
const SEAL_FILE: &str = "base.seal";
/// Its name until it is complete.
const UNFINISHED_SEAL_FILE: &str = "base.seal.new";
/// The key the seal's own checksum covers.
const SEAL_KEY: &[u8] = b"seal";
const BLOCK_BYTES: u64 = 64 * 1024;
/// Longer bases are not sealed: reading one through would hold up opening and closing.
const MAX_SEALED_BYTES: u64 = 128 << 20;

/// What the seal says of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    /// There is none, or it is itself damaged.
    Missing,
    /// The base is as it was closed.
    Whole,
    /// It is not.
    Broken,
}

/// Seals the base, which nobody has open.
pub(crate) fn write(disk: &dyn Disk) -> Result<()> {
    let base = disk.open(BASE_FILE)?;
    if base.len()? > MAX_SEALED_BYTES {
        return Ok(());
    }
    // What is read back must be what is on the disk.
    base.sync()?;
    let sealed = seal_bytes(SEAL_KEY, &sums(&*base)?);
    remove_if_there(disk, UNFINISHED_SEAL_FILE)?;
    let file = disk.create(UNFINISHED_SEAL_FILE)?;
    file.write_at(0, &sealed)?;
    file.sync()?;
    disk.rename(UNFINISHED_SEAL_FILE, SEAL_FILE)?;
    disk.sync_dir()?;
    Ok(())
}

/// Compares the base with its seal.
pub(crate) fn check(disk: &dyn Disk) -> Result<Seal> {
    let file = match disk.open(SEAL_FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seal::Missing),
        file => file?,
    };
    let mut sealed = vec![0; usize::try_from(file.len()?.min(MAX_SEALED_BYTES)).unwrap_or(0)];
    file.read_at(0, &mut sealed)?;
    let Ok(expected) = open_bytes(SEAL_KEY, &sealed) else {
        return Ok(Seal::Missing);
    };
    let base = disk.open(BASE_FILE)?;
    if base.len()? <= MAX_SEALED_BYTES && sums(&*base)? == expected {
        Ok(Seal::Whole)
    } else {
        Ok(Seal::Broken)
    }
}

/// Removes the seal, durably, before the base is written to.
pub(crate) fn remove(disk: &dyn Disk) -> Result<()> {
    let names = disk.list()?;
    let is_ours = |name: &&String| [SEAL_FILE, UNFINISHED_SEAL_FILE].contains(&name.as_str());
    let mut removed = false;
    for name in names.iter().filter(is_ours) {
        disk.remove(name)?;
        removed = true;
    }
    if removed {
        disk.sync_dir()?;
    }
    Ok(())
}

fn remove_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The file's length and the checksum of each of its blocks, little-endian.
fn sums(base: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let len = base.len()?;
    let mut sums = len.to_le_bytes().to_vec();
    let mut block = vec![0; BLOCK_BYTES as usize];
    let mut offset = 0;
    while offset < len {
        let bytes = &mut block[..BLOCK_BYTES.min(len - offset) as usize];
        base.read_at(offset, bytes)?;
        sums.extend_from_slice(&checksum(offset, bytes).to_le_bytes());
        offset += BLOCK_BYTES;
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::disk::memory::MemoryDisk;

    fn sealed(len: usize) -> MemoryDisk {
        let disk = MemoryDisk::new();
        let base = disk.create(BASE_FILE).unwrap();
        base.write_at(0, &vec![7; len]).unwrap();
        write(&disk).unwrap();
        disk
    }

    #[test]
    fn any_change_of_the_base_breaks_the_seal() {
        for len in [1, 65_536, 200_000] {
            let disk = sealed(len);
            assert_eq!(check(&disk).unwrap(), Seal::Whole);
            let base = disk.open(BASE_FILE).unwrap();
            for at in [0, len as u64 / 2, len as u64 - 1] {
                base.write_at(at, &[6]).unwrap();
                assert_eq!(check(&disk).unwrap(), Seal::Broken);
                base.write_at(at, &[7]).unwrap();
            }
            base.set_len(len as u64 + 1).unwrap();
            assert_eq!(check(&disk).unwrap(), Seal::Broken);
        }
    }

    #[test]
    fn a_damaged_or_removed_seal_says_nothing() {
        let disk = sealed(100);
        let seal = disk.open(SEAL_FILE).unwrap();
        seal.write_at(3, &[0xff]).unwrap();
        assert_eq!(check(&disk).unwrap(), Seal::Missing);
        remove(&disk).unwrap();
        assert_eq!(check(&disk).unwrap(), Seal::Missing);
        assert!(!disk.list().unwrap().iter().any(|name| name == SEAL_FILE));
    }
}
