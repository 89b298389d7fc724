//! Changes to rows that hold many records.

use std::hint::black_box;
use std::ops::BitXor;

use crate::codec::encode_record;
use crate::engine::bucket::Contents;
use crate::engine::generation::Tally;
use crate::record::Record;

/// A change to the records of a table.
pub(super) struct Change<'e> {
    pub(super) hash: u64,
    pub(super) name: &'e [u8],
    /// None: the one it has there, if any, is to go.
    pub(super) record: Option<&'e Record>,
}

/// The bytes of the records that these changes bring, in `buffer`: one record after the other, since those
/// of a whole transaction would lie between the pages of the base, and leave holes.
pub(super) fn encode_all<'b>(
    changes: &[Change<'_>],
    buffer: &'b mut Vec<u8>,
) -> Vec<Option<&'b [u8]>> {
    buffer.clear();
    let names = changes.iter().map(|change| change.name);
    fetch(names, changes.iter().filter_map(|change| change.record));
    let mut encode = |change: &Change<'_>| {
        let begin = buffer.len();
        encode_record(change.name, change.record?, buffer);
        Some(begin..buffer.len())
    };
    let ranges: Vec<_> = changes.iter().map(&mut encode).collect();
    let bytes = |range| &buffer[range];
    ranges.into_iter().map(|range| range.map(bytes)).collect()
}

/// Makes changes to what a row holds, and counts them. Whether there were any.
pub(super) fn make<'c>(
    contents: &mut Contents<'c>,
    changes: &[Change<'c>],
    records: Vec<Option<&'c [u8]>>,
    tally: &mut Tally,
) -> bool {
    let mut changed = false;
    for (Change { hash, name, .. }, record) in changes.iter().zip(records) {
        let was_there = contents.set(name, record);
        match (was_there, record.is_some()) {
            (false, true) => tally.add(*hash),
            (true, false) => tally.remove(*hash),
            _ => {}
        }
        changed |= was_there || record.is_some();
    }
    changed
}

/// Has the processor fetch names and records. They lie scattered in memory: to read a little of each, none
/// depending on another, takes about as long as to wait for one.
pub(super) fn fetch<'e>(
    names: impl Iterator<Item = &'e [u8]>,
    records: impl Iterator<Item = &'e Record> + Clone,
) {
    let first = |bytes: &[u8]| bytes.first().map_or(0, |byte| u64::from(*byte));
    let names = names.map(first);
    let fences = records.clone().map(|record| record.fence.as_u64());
    let responses = records.map(|record| record.response().map_or(0, first));
    black_box(names.chain(fences).fold(0, BitXor::bitxor));
    black_box(responses.fold(0, BitXor::bitxor));
}
