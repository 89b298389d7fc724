//! Where other copies of the records that a checkpoint writes may lie.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::checkpoint::Write;
use super::list::List;
use crate::engine::filter::Probe;
use crate::engine::generation::GenerationId;
use crate::engine::pace::Pace;
use crate::key::Hashed;

/// The generations that may have a record of some key.
///
/// They are found for many keys of a checkpoint at once, in the order in which the filters lie in memory:
/// several keys then ask each cache line. What the checkpoint itself puts need not be among them, since it has
/// each key once; but a transaction that failed may have happened, so for another try they are found anew.
pub(super) struct Copies {
    /// Those whose filters say maybe, by the keys' hashes.
    passing: HashMap<u64, Vec<GenerationId>, BuildHasherDefault<Hashed>>,
    /// It has those whose filters were not ready then.
    list: Arc<List>,
}

impl Copies {
    /// Of the keys of `writes`, in the generations of `list`.
    pub(super) fn of(list: Arc<List>, writes: &[Write<'_>], pace: &Pace<'_>) -> Self {
        let probe_of = |n: u32| Probe::of(writes[n as usize].hash);
        let places = (0..writes.len() as u32).map(|n| (probe_of(n).place(), n));
        let mut places: Vec<(u32, u32)> = places.collect();
        places.sort_unstable();
        let mut passing = HashMap::<_, Vec<_>, _>::default();
        for (_, n) in places {
            pace.step(1);
            let found = list.passing(&probe_of(n));
            if !found.is_empty() {
                let ids = found.iter().map(|generation| generation.id);
                passing.insert(writes[n as usize].hash, ids.collect());
            }
        }
        Copies { passing, list }
    }

    /// The generations that may have a record of the key with this hash.
    pub(super) fn of_key(&self, hash: u64, probe: &Probe) -> impl Iterator<Item = GenerationId> {
        let passing = self.passing.get(&hash).into_iter().flatten().copied();
        let unready = self.list.unready().iter();
        let unready = unready.filter(|generation| generation.may_contain(probe));
        passing.chain(unready.map(|generation| generation.id))
    }
}
