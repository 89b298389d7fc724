//! The generations of a base that is opened, and their filters.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ledger::{FILTERS, Ledger};
use super::list::List;
use crate::bugs::{self, Bug};
use crate::codec::open_bytes;
use crate::engine::base::{Snapshot, SnapshotTable};
use crate::engine::filter::Banks;
use crate::engine::generation::{Generation, GenerationRow};
use crate::error::Result;

/// The generations that the ledger lists; those already known keep their filters. The others have their
/// stored ones, if those are whole and nothing was put since; else an empty one that is not ready: then it
/// may hold any key.
pub(super) fn load_generations(
    snapshot: &Snapshot,
    ledger: &Ledger,
    known: &List,
    banks: &Banks,
) -> Result<List> {
    let rows = ledger.generations.values();
    let unknown = rows.filter(|row| known.iter().all(|g| g.id != row.id));
    let stored = unknown.filter(|row| has_complete_filter(row));
    let filters = snapshot.table(FILTERS)?;
    let mut failed = Ok(());
    let loaded = banks.load(stored.map(|row| (row, row.filter_bytes)), |row| {
        let read = stored_filter(filters.as_ref()?, row);
        read.unwrap_or_else(|error| {
            failed = Err(error);
            None
        })
    });
    failed?;
    let loaded = loaded.into_iter().map(|(row, filter)| (row.id, filter));
    let mut loaded: BTreeMap<_, _> = loaded.collect();
    let generation = |row: &GenerationRow| match known.iter().find(|g| g.id == row.id) {
        Some(generation) => {
            generation.set_rows(row.tally.rows);
            generation.clone()
        }
        None => Arc::new(Generation::loaded(row, loaded.remove(&row.id), banks)),
    };
    Ok(List::of(
        ledger.generations.values().map(generation).collect(),
    ))
}

/// Whether the stored filter of a generation has all its keys.
fn has_complete_filter(row: &GenerationRow) -> bool {
    row.filter_at == row.put_bytes
        || bugs::is(Bug::StaleFilterTrusted)
        || (row.closed && bugs::is(Bug::ClosedGenerationTakesPut))
}

/// The bytes of a generation's stored filter, if there is one and it is whole.
fn stored_filter(filters: &SnapshotTable, row: &GenerationRow) -> Result<Option<Vec<u8>>> {
    let found = filters.find(&row.id.key(), |bytes| {
        let whole = open_bytes(&row.filter_seal_key(), bytes);
        whole.ok().map(<[u8]>::to_vec)
    })?;
    Ok(found.flatten())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crate::engine::catalog::MANY_FILTER_BYTES;
    use crate::engine::disk::memory::MemoryDisk;
    use crate::engine::testing::{key, options, run};
    use crate::engine::{Engine, disk::Disk};
    use crate::time::ManualClock;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn an_opening_beside_long_filters_finds_what_they_and_the_journal_have() {
        let clock = ManualClock::new();
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let engine = Engine::open(disk.clone(), options(&clock)).unwrap();
        // A table for each day, which the checkpoint after that closes, and stores its filter.
        for days in 10..80 {
            run(&engine, &format!("{days}"), days * DAY);
        }
        engine.checkpoint().unwrap();
        clock.advance(5 * DAY);
        run(&engine, "later", DAY);
        engine.checkpoint().unwrap();
        run(&engine, "journal", DAY);
        assert!(engine.catalog().ledger.lock().filter_bytes() > MANY_FILTER_BYTES);
        drop(engine);

        let engine = Engine::open(disk, options(&clock)).unwrap();
        let list = engine.catalog().list.read().clone();
        assert!(2 * list.unready().len() < list.iter().len());
        let is_done = |name: &str| engine.peek(&key(name)).unwrap().is_some();
        assert!((10..80).all(|days| is_done(&format!("{days}"))));
        assert!(is_done("later") && is_done("journal") && !is_done("new"));
    }
}
