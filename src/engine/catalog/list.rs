//! The generations in use, as readers ask them.

use std::sync::Arc;

use crate::engine::filter::{Bank, Probe};
use crate::engine::generation::Generation;

/// The generations in use, oldest first.
#[derive(Debug, Default)]
pub(crate) struct List {
    generations: Vec<Arc<Generation>>,
    /// Those whose filters were ready when the list was made, by the filters, of which those in a bank are
    /// asked together.
    shelves: Vec<Shelf>,
    /// The others: until their filters are ready they may hold any key.
    unready: Vec<Arc<Generation>>,
}

#[derive(Debug)]
struct Shelf {
    bank: Arc<Bank>,
    generations: Vec<Option<Arc<Generation>>>,
}

impl List {
    pub(super) fn of(generations: Vec<Arc<Generation>>) -> Self {
        let mut list = List::default();
        for generation in &generations {
            let (bank, lane) = generation.filter.place();
            let known = list.shelves.iter().position(|s| Arc::ptr_eq(&s.bank, bank));
            let at = known.unwrap_or_else(|| {
                list.shelves.push(Shelf {
                    bank: bank.clone(),
                    generations: vec![None; bank.lanes()],
                });
                list.shelves.len() - 1
            });
            match generation.filter_is_ready() {
                true => list.shelves[at].generations[lane] = Some(generation.clone()),
                false => list.unready.push(generation.clone()),
            }
        }
        list.generations = generations;
        list
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Arc<Generation>> {
        self.generations.iter()
    }

    /// Those that may hold that key, oldest first.
    pub(super) fn candidates(&self, probe: &Probe) -> Vec<&Arc<Generation>> {
        let unready = self.unready.iter();
        let mut found: Vec<_> = unready.filter(|g| g.may_contain(probe)).collect();
        found.extend(self.passing(probe));
        found.sort_unstable_by_key(|generation| generation.id);
        found
    }

    /// Those of them whose filters were ready when the list was made.
    pub(super) fn passing(&self, probe: &Probe) -> Vec<&Arc<Generation>> {
        let mut found = Vec::new();
        for shelf in &self.shelves {
            let mut passing = shelf.bank.passing(probe);
            while passing != 0 {
                let lane = passing.trailing_zeros() as usize;
                found.extend(&shelf.generations[lane]);
                passing &= passing - 1;
            }
        }
        found
    }

    /// The others.
    pub(super) fn unready(&self) -> &[Arc<Generation>] {
        &self.unready
    }

    /// The bytes that all filters take.
    pub(super) fn filter_bytes(&self) -> usize {
        self.shelves
            .iter()
            .map(|shelf| shelf.bank.len_bytes())
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::seal_bytes;
    use crate::engine::catalog::ledger::{FILTERS, Ledger};
    use crate::engine::catalog::load::load_generations;
    use crate::engine::filter::Banks;
    use crate::engine::testing::{engine, run};
    use crate::time::ManualClock;
    use std::time::Duration;

    /// Whether a filter is believed whose seal is under the first so many bytes of its key.
    fn is_believed(key_bytes: usize) -> bool {
        let engine = engine(&ManualClock::new());
        run(&engine, "k", Duration::from_secs(60));
        engine.checkpoint().unwrap();
        let catalog = engine.catalog();
        let mut ledger = catalog.ledger.lock();
        let row = ledger.generations.values_mut().next().unwrap();
        let filter = Banks::default().filter_for(row.capacity_rows);
        row.filter_at = row.put_bytes;
        row.filter_bytes = filter.len_bytes() as u64;
        let row = *row;
        let sealed = seal_bytes(&row.filter_seal_key()[..key_bytes], &filter.to_bytes());
        let put = |transaction: &mut crate::engine::base::Transaction<'_>| {
            ledger.write_generation(transaction, row.id)?;
            transaction.put(FILTERS, &row.id.key(), &sealed)
        };
        catalog.base.write(put).unwrap();
        let loaded = catalog.base.read(|snapshot| {
            let ledger = Ledger::read(snapshot)?;
            load_generations(snapshot, &ledger, &List::default(), &Banks::default())
        });
        let loaded = loaded.unwrap();
        loaded.iter().all(|generation| generation.filter_is_ready())
    }

    #[test]
    fn a_filter_that_is_not_sealed_with_its_layout_is_not_believed() {
        assert!(is_believed(25));
        assert!(!is_believed(24));
    }
}
