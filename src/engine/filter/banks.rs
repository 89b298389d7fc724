//! Where filters lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::{BLOCK_BITS, Bank, Filter, blocks_for};
use crate::sync::{AtomicU64, Mutex};

/// No bank has more lanes: a row of them is a word.
const MAX_LANES: usize = 64;
/// The next bank of a length has half as many lanes as there are, up to this many.
const NARROW_LANES: usize = 8;
const BLOCK_BYTES: usize = BLOCK_BITS / 8;

/// All banks.
#[derive(Debug, Default)]
pub(crate) struct Banks(Mutex<Vec<Weak<Bank>>>);

impl Banks {
    /// An empty filter for about `keys` keys: 2.5 bytes for each.
    ///
    /// Where all lanes of its length are taken, the next bank has half as many, or a quarter where they are
    /// many: little lies idle, and banks are few.
    pub(crate) fn filter_for(&self, keys: u64) -> Filter {
        let blocks = blocks_for(keys);
        let mut banks = self.0.lock();
        banks.retain(|bank| bank.strong_count() > 0);
        let mut lanes = 0;
        for bank in banks.iter().filter_map(Weak::upgrade) {
            if bank.blocks == blocks {
                lanes += bank.lanes();
                if let Some(filter) = bank.take_lane() {
                    return filter;
                }
            }
        }
        let next = (lanes / 2).min(NARROW_LANES).max(lanes / 4);
        let lanes_log2 = next.clamp(1, MAX_LANES).ilog2();
        let bank = Arc::new(Bank::new(blocks, lanes_log2, 1));
        banks.push(Arc::downgrade(&bank));
        Filter { bank, lane: 0 }
    }

    /// The filters that [`Filter::to_bytes`] gave, in banks without a gap. Those whose length is none are
    /// left out.
    pub(crate) fn load<K>(&self, stored: impl Iterator<Item = (K, Vec<u8>)>) -> Vec<(K, Filter)> {
        let mut loaded = Vec::new();
        let mut by_len = BTreeMap::<usize, Vec<(K, Vec<u8>)>>::new();
        for (of, bytes) in stored {
            if bytes.is_empty() || bytes.len() % BLOCK_BYTES != 0 {
                continue;
            }
            let same_len = by_len.entry(bytes.len()).or_default();
            same_len.push((of, bytes));
            if same_len.len() == MAX_LANES {
                // At once, so that never all of them are in memory twice.
                loaded.extend(self.bank_of(std::mem::take(same_len)));
            }
        }
        for mut same_len in by_len.into_values() {
            while !same_len.is_empty() {
                let rest = same_len.split_off(first_bank_of(same_len.len()));
                loaded.extend(self.bank_of(same_len));
                same_len = rest;
            }
        }
        loaded
    }

    /// A bank of these filters, all of one length.
    fn bank_of<K>(&self, stored: Vec<(K, Vec<u8>)>) -> impl Iterator<Item = (K, Filter)> {
        let lanes = stored.len().next_power_of_two();
        let words_each = stored[0].1.len() / 8;
        let blocks = stored[0].1.len() / BLOCK_BYTES;
        let mut bank = Bank::new(blocks, lanes.ilog2(), stored.len());
        let mut words = bank.lines.iter_mut().flat_map(|line| &mut line.0);
        for n in 0..words_each {
            let mut rows = [0; MAX_LANES];
            for (row, (_, bytes)) in rows.iter_mut().zip(&stored) {
                *row = bytes
                    .as_chunks()
                    .0
                    .get(n)
                    .map_or(0, |word| u64::from_le_bytes(*word));
            }
            transpose(&mut rows[..lanes]);
            for (row, word) in rows[..lanes].iter().zip(words.by_ref()) {
                *word = AtomicU64::new(*row);
            }
        }
        let bank = Arc::new(bank);
        self.0.lock().push(Arc::downgrade(&bank));
        let with_lanes = stored.into_iter().zip(0..);
        with_lanes.map(move |((of, _), lane)| {
            let bank = bank.clone();
            (of, Filter { bank, lane })
        })
    }
}

/// How many of so many filters of a length share the first bank: of its lanes a quarter may lie idle, until
/// filters are made for them.
fn first_bank_of(filters: usize) -> usize {
    let lanes = filters.next_power_of_two();
    match 4 * filters >= 3 * lanes {
        true => filters,
        false => lanes / 2,
    }
}

/// Cuts the columns of a power of two of words into squares, and makes bit `m` of word `n` bit `n` of word
/// `m` in each: the corners of a square change places, then those of each quarter (Warren, *Hacker's
/// Delight*, 7–3).
fn transpose(words: &mut [u64]) {
    let mut width = words.len() / 2;
    while width > 0 {
        let columns = u64::MAX / ((1 << width) + 1);
        for upper in (0..words.len()).filter(|n| n & width == 0) {
            let lower = upper + width;
            let differ = (words[upper] >> width ^ words[lower]) & columns;
            words[upper] ^= differ << width;
            words[lower] ^= differ;
        }
        width /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Probe;
    use super::*;
    use crate::codec::checksum;

    fn probe(n: usize) -> Probe {
        Probe::of(checksum(1, &n.to_le_bytes()))
    }

    #[test]
    fn squares_are_transposed() {
        let all: [u64; 64] = std::array::from_fn(|n| checksum(2, &n.to_le_bytes()));
        for len in [1, 2, 4, 8, 16, 32, 64] {
            let before = &all[..len];
            let mut after = before.to_vec();
            transpose(&mut after);
            for (n, column) in (0..len).flat_map(|n| (0..64).map(move |column| (n, column))) {
                let (first, m) = (column / len * len, column % len);
                assert_eq!(before[n] >> column & 1, after[m] >> (first + n) & 1);
            }
            transpose(&mut after);
            assert_eq!(before, after);
        }
    }

    #[test]
    fn filters_of_a_length_lie_in_few_banks_and_keep_apart() {
        let banks = Banks::default();
        let filters: Vec<_> = (0..100).map(|_| banks.filter_for(100)).collect();
        for (n, filter) in filters.iter().enumerate() {
            filter.insert(&probe(n));
        }
        for n in 0..filters.len() {
            for (m, filter) in filters.iter().enumerate() {
                assert_eq!(filter.may_contain(&probe(n)), n == m);
                let (bank, lane) = filter.place();
                let passes = bank.passing(&probe(n)) >> lane & 1 == 1;
                assert_eq!(passes, n == m);
            }
        }
        let all = banks.0.lock();
        let lanes: Vec<_> = all
            .iter()
            .filter_map(Weak::upgrade)
            .map(|b| b.lanes())
            .collect();
        let narrow = [[1; 4].as_slice(), &[2; 2], &[4; 2], &[8; 6], &[16; 3]].concat();
        assert_eq!(lanes, narrow);
        drop(all);
        let other = banks.filter_for(200);
        assert!(
            filters
                .iter()
                .all(|f| !Arc::ptr_eq(f.place().0, other.place().0))
        );
    }

    #[test]
    fn a_lane_is_empty_for_its_next_filter() {
        let banks = Banks::default();
        let mut filters: Vec<_> = (0..10).map(|_| banks.filter_for(100)).collect();
        filters
            .iter()
            .enumerate()
            .for_each(|(n, f)| f.insert(&probe(n)));
        let dropped = filters.swap_remove(9);
        let (bank, lane) = (dropped.place().0.clone(), dropped.place().1);
        assert_eq!((bank.lanes(), lane), (4, 1));
        drop(dropped);
        let next = banks.filter_for(100);
        assert_eq!(next.place().1, lane);
        assert!(Arc::ptr_eq(&bank, next.place().0));
        assert!(!next.may_contain(&probe(9)));
        assert!(
            filters
                .iter()
                .enumerate()
                .all(|(n, f)| f.may_contain(&probe(n)))
        );
    }

    #[test]
    fn bytes_round_trip_in_banks_of_any_width() {
        for count in [1, 2, 3, 5, 7, 36, 64, 65, 100] {
            let banks = Banks::default();
            let filters: Vec<_> = (0..count).map(|_| banks.filter_for(100)).collect();
            filters
                .iter()
                .enumerate()
                .for_each(|(n, f)| f.insert(&probe(n)));
            let bytes = filters.iter().map(Filter::to_bytes).enumerate();
            let banks = Banks::default();
            let again = banks.load(bytes);
            let bank_lanes = |bank: Arc<Bank>| bank.lanes();
            let all = banks
                .0
                .lock()
                .iter()
                .filter_map(Weak::upgrade)
                .map(bank_lanes)
                .sum::<usize>();
            assert!(
                (count..=count * 4 / 3).contains(&all),
                "{all} lanes for {count}"
            );
            assert_eq!(again.len(), count);
            for (n, filter) in &again {
                assert_eq!(filter.to_bytes(), filters[*n].to_bytes());
                assert!((0..count).all(|m| filter.may_contain(&probe(m)) == (*n == m)));
            }
            // The next one, in a lane that lay idle or not, is empty.
            let next = banks.filter_for(100);
            assert!((0..count).all(|m| !next.may_contain(&probe(m))));
            // And they can be added to.
            again.iter().for_each(|(n, f)| f.insert(&probe(n + 1000)));
            assert!(again.iter().all(|(n, f)| f.may_contain(&probe(n + 1000))));
        }
    }

    #[test]
    fn other_lengths_are_left_out() {
        let lengths = [0, 8, 63, 64, 65, 128];
        let stored = lengths.into_iter().map(|len| (len, vec![0; len]));
        let loaded = Banks::default().load(stored);
        let lengths: Vec<_> = loaded.iter().map(|(len, _)| *len).collect();
        assert_eq!(lengths, [64, 128]);
    }
}
