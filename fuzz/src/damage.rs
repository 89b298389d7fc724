//! A store's files as bytes, and what can happen to bytes at rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use firstclaim::internals::{Disk, MemoryDisk};

use crate::input::Input;

/// File names and contents.
pub type Files = BTreeMap<String, Vec<u8>>;

const SECTOR_BYTES: usize = 512;

/// The files of a disk.
pub fn files_of(disk: &MemoryDisk) -> Files {
    let read = |name: String| {
        let file = disk.open(&name).expect("it is listed");
        let mut bytes = vec![0; file.len().expect("in memory") as usize];
        file.read_at(0, &mut bytes).expect("in memory");
        (name, bytes)
    };
    let names = disk.list().expect("in memory");
    names.into_iter().map(read).collect()
}

/// A disk with these files.
pub fn disk_of(files: &Files) -> Arc<dyn Disk> {
    let disk = MemoryDisk::new();
    for (name, bytes) in files {
        let file = disk.create(name).expect("names are unique");
        file.write_at(0, bytes).expect("in memory");
    }
    Arc::new(disk)
}

/// Does what `input` says to files whose names `may` allows. Nothing here makes a checksum right.
pub fn damage(files: &mut Files, may: impl Fn(&str) -> bool, input: &mut Input<'_>) {
    let names: Vec<String> = files.keys().filter(|name| may(name)).cloned().collect();
    if names.is_empty() {
        return;
    }
    let name = input.pick(&names);
    let mut bytes = files.remove(name).unwrap_or_default();
    let at = place(&bytes, input);
    match input.byte() % 8 {
        0 | 1 => {
            let bit = input.byte() % 8;
            bytes
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|b| *b ^= 1 << bit);
        }
        2 => {
            let len = usize::from(input.byte() % 32);
            overwrite(&mut bytes, at, input.take(len));
        }
        3 => {
            let (fill, sectors) = (input.byte(), input.byte() % 16);
            let stretch = vec![fill; usize::from(sectors) * SECTOR_BYTES];
            overwrite(&mut bytes, at, &stretch);
        }
        4 => bytes.truncate(at),
        5 => bytes.resize(bytes.len() + usize::from(input.byte()) * 64, input.byte()),
        // A stretch of another place or file, whole sectors or not.
        6 => {
            let from = files.get(input.pick(&names)).unwrap_or(&bytes).clone();
            let source = place(&from, input);
            let len = usize::from(input.byte()) * SECTOR_BYTES / 8;
            let stretch: Vec<u8> = from.iter().skip(source).take(len).copied().collect();
            overwrite(&mut bytes, at, &stretch);
        }
        // Under another's name, another number, or gone.
        _ => {
            let other = match input.byte() % 4 {
                0 => return,
                1 => input.pick(&names).clone(),
                2 => "journal-spare".to_owned(),
                _ => format!("journal-{:016x}", input.number(1)),
            };
            if may(&other) {
                files.insert(other, bytes);
            }
            return;
        }
    }
    files.insert(name.clone(), bytes);
}

/// An offset: mostly in a sector that holds something, else anywhere.
fn place(bytes: &[u8], input: &mut Input<'_>) -> usize {
    if input.byte().is_multiple_of(4) {
        return input.below(bytes.len());
    }
    let sectors = bytes.chunks(SECTOR_BYTES).enumerate();
    let used: Vec<usize> = sectors
        .filter(|(_, sector)| sector.iter().any(|b| *b != 0))
        .map(|(n, _)| n * SECTOR_BYTES)
        .collect();
    match used.is_empty() {
        true => 0,
        false => *input.pick(&used) + input.below(SECTOR_BYTES),
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    let target = bytes.get_mut(at..).unwrap_or_default();
    let len = with.len().min(target.len());
    target[..len].copy_from_slice(&with[..len]);
}
