//! Where filters lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::{BLOCK_BITS, Bank, Filter, blocks_for};
use crate::sync::{Mutex, Ordering};

/// No bank has more lanes: a row of them is a word.
const MAX_LANES: usize = 64;
/// Of the filters of a bank so many are read at once.
const LANES_READ_AT_ONCE: usize = 8;
/// The next bank of a length has half as many lanes as there are, up to this many.
const NARROW_LANES: usize = 8;
const BLOCK_BYTES: usize = BLOCK_BITS / 8;
/// No stored filter is longer. A row that says so is damaged, and has no memory taken for it.
const MAX_STORED_BYTES: u64 = 4 << 20;

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

    /// The filters that [`Filter::to_bytes`] gave, in banks without a gap: of each `stored` one the length,
    /// and `read` for its bytes. Those whose length is none are left out, and those that are not read.
    pub(crate) fn load<K>(
        &self,
        stored: impl Iterator<Item = (K, u64)>,
        mut read: impl FnMut(&K) -> Option<Vec<u8>>,
    ) -> Vec<(K, Filter)> {
        let mut by_len = BTreeMap::<usize, Vec<K>>::new();
        for (of, len) in stored.filter(|(_, len)| (1..=MAX_STORED_BYTES).contains(len)) {
            if len % BLOCK_BYTES as u64 == 0 {
                by_len.entry(len as usize).or_default().push(of);
            }
        }
        let mut loaded = Vec::new();
        for (len, mut same_len) in by_len {
            while !same_len.is_empty() {
                let rest = same_len.split_off(first_bank_of(same_len.len()));
                loaded.extend(self.bank_of(len, same_len, &mut read));
                same_len = rest;
            }
        }
        loaded
    }

    /// A bank of these filters, each of `len` bytes. A few of them are read at a time: never are many in
    /// memory twice.
    fn bank_of<K>(
        &self,
        len: usize,
        stored: Vec<K>,
        mut read: impl FnMut(&K) -> Option<Vec<u8>>,
    ) -> Vec<(K, Filter)> {
        let lanes_log2 = stored.len().next_power_of_two().ilog2();
        let bank = Arc::new(Bank::new(len / BLOCK_BYTES, lanes_log2, stored.len()));
        let at_once = bank.lanes().min(LANES_READ_AT_ONCE);
        let mut filters = Vec::with_capacity(stored.len());
        let lanes = (0..stored.len()).step_by(at_once);
        let mut stored = stored.into_iter();
        for first in lanes {
            let some: Vec<K> = stored.by_ref().take(at_once).collect();
            let is_whole = |bytes: &Vec<u8>| bytes.len() == len;
            let bytes = some.iter().map(|of| read(of).filter(is_whole));
            let bytes: Vec<_> = bytes.collect();
            bank.fill_lanes(first, at_once, &bytes);
            for ((of, bytes), lane) in some.into_iter().zip(bytes).zip(first as u32..) {
                let bank = bank.clone();
                let filter = Filter { bank, lane };
                // Dropped, it leaves its lane to another.
                filters.extend(bytes.map(|_| (of, filter)));
            }
        }
        // Only now: a lane that lies idle could be taken and written meanwhile.
        self.0.lock().push(Arc::downgrade(&bank));
        filters
    }
}

impl Bank {
    /// Puts filters into lanes next to each other that are empty, from `first` on: the power of two of
    /// `lanes` that they are, or the first of those. Nobody else may change the bank meanwhile.
    fn fill_lanes(&self, first: usize, lanes: usize, filters: &[Option<Vec<u8>>]) {
        let lane_of_each = self.in_every_row((1 << lanes) - 1);
        for word in 0..self.blocks * BLOCK_BITS / 64 {
            let mut squares = [0; LANES_READ_AT_ONCE];
            for (square, filter) in squares.iter_mut().zip(filters) {
                let bytes = filter.as_ref().and_then(|f| f.as_chunks().0.get(word));
                *square = bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes));
            }
            transpose(&mut squares[..lanes]);
            // The same 64 rows lie in as many words as there are lanes: a word has the rows that are so far apart.
            let begin = word << self.lanes_log2;
            for at in (0..self.lanes()).step_by(lanes) {
                for (n, square) in squares[..lanes].iter().enumerate() {
                    let to = self.word(begin + at + n);
                    let rows = (square >> at & lane_of_each) << first;
                    to.store(to.load(Ordering::Relaxed) | rows, Ordering::Relaxed);
                }
            }
        }
    }
}

/// How many of so many filters of a length share the first bank: of its lanes a quarter may lie idle, until
/// filters are made for them.
fn first_bank_of(filters: usize) -> usize {
    let lanes = filters.next_power_of_two();
    let few_lie_idle = 4 * filters >= 3 * lanes;
    let first = if few_lie_idle { filters } else { lanes / 2 };
    first.min(MAX_LANES)
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

    /// So many filters, each with the key of its number.
    fn filled(banks: &Banks, count: usize) -> Vec<Filter> {
        let filled = |n| {
            let filter = banks.filter_for(100);
            filter.insert(&probe(n));
            filter
        };
        (0..count).map(filled).collect()
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
        let filters = filled(&banks, 100);
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
        let mut filters = filled(&banks, 10);
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
            let filters = filled(&banks, count);
            let lengths = (0..).zip(filters.iter().map(|f| f.len_bytes() as u64));
            let banks = Banks::default();
            let again = banks.load(lengths, |n: &usize| Some(filters[*n].to_bytes()));
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
    fn a_filter_that_is_not_read_leaves_its_lane_to_another() {
        let banks = Banks::default();
        let filters = filled(&banks, 20);
        let lengths = (0..).zip(filters.iter().map(|f| f.len_bytes() as u64));
        let banks = Banks::default();
        let loaded = banks.load(lengths, |n: &usize| match n {
            5 => None,
            7 => Some(vec![0xff; 64]),
            n => Some(filters[*n].to_bytes()),
        });
        assert_eq!(loaded.len(), 18);
        assert!(
            loaded
                .iter()
                .all(|(n, f)| (0..20).all(|m| f.may_contain(&probe(m)) == (*n == m)))
        );
        let next = [5, 7].map(|_| banks.filter_for(100));
        let lanes = next.each_ref().map(|f| f.place().1);
        assert_eq!(lanes, [5, 7]);
        assert!((0..20).all(|m| next.iter().all(|f| !f.may_contain(&probe(m)))));
    }

    #[test]
    fn other_lengths_are_left_out() {
        let block = BLOCK_BYTES as u64;
        let near = [0, 8, block - 1, block, block + 1, 2 * block];
        let long = [MAX_STORED_BYTES, 2 * MAX_STORED_BYTES];
        let lengths = near.into_iter().chain(long);
        let stored = lengths.map(|len| (len, len));
        let loaded = Banks::default().load(stored, |len| Some(vec![0; *len as usize]));
        let lengths: Vec<_> = loaded.iter().map(|(len, _)| *len).collect();
        assert_eq!(lengths, [block, 2 * block, MAX_STORED_BYTES]);
        // None that a generation has.
        let longest = Banks::default().filter_for(super::super::room_for(1 << 20));
        assert!(longest.len_bytes() as u64 <= MAX_STORED_BYTES);
    }
}
