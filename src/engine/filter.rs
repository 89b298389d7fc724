//! Which keys a generation may hold.
//!
//! A blocked Bloom filter (Putze, Sanders and Singler, *Cache-, Hash- and Space-Efficient Bloom
//! Filters*, 2007): the hash of a key picks one block, and all its bits lie in it. Four filters of the
//! same length lie side by side in a bank, their blocks of 256 bits in two lines of memory that
//! processors fetch as a pair, so that to ask all the filters of a store touches a pair for every four of
//! them. The crates at hand spread a key's bits over a whole filter, which with a filter for every
//! generation was the largest cost of a claim.

use std::sync::{Arc, Weak};

use crate::sync::{AtomicU64, Mutex, Ordering};

/// How many filters make a bank.
pub(crate) const LANES: usize = 4;
/// 256 bits of a row of 1,024.
const BLOCK_WORDS: usize = 4;
/// Bits of filter for each key it is made for.
const BITS_PER_KEY: u64 = 22;
/// Bits a key sets in its block. About 0.02 % of other keys pass: a store of ten million records has
/// over a hundred filters, and a new key should pass none of them.
const BITS_PER_KEY_SET: u32 = 10;
/// A table may hold the keys of one range of hashes alone, since checkpoints write in their order: the
/// block of a key must not depend on where in that order it is.
const REMIX: u64 = 0x9fb2_1c65_1e98_df25;
/// Two products of a hash with these are long enough for them.
const SPREADS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
const BITS_PER_PRODUCT: u32 = 5;

/// The layout of a stored filter: it is part of what one is sealed under, so that one of another layout,
/// which would say no to its own keys, is not taken for one.
pub(crate) const LAYOUT: u8 = 1;

/// A set of key hashes that answers "no" or "maybe". Keys are only ever added.
#[derive(Debug)]
pub(crate) struct Filter {
    bank: Arc<Bank>,
    lane: usize,
}

/// Filters of the same length, side by side.
#[derive(Debug)]
pub(crate) struct Bank {
    rows: Box<[Row]>,
    /// Which lanes no filter has.
    free: Mutex<[bool; LANES]>,
}

/// Aligned, so that it is a pair of lines indeed.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Row([[AtomicU64; BLOCK_WORDS]; LANES]);

/// The banks with room for more filters.
#[derive(Debug, Default)]
pub(crate) struct Banks(Mutex<Vec<Weak<Bank>>>);

/// What a filter is asked by, the same for all filters: it is made once for a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// Picks the row.
    upper: u64,
    /// The bits of the block that the key sets.
    mask: [u64; BLOCK_WORDS],
}

impl Probe {
    /// For the key with this hash: all of it picks the row, its lower half the bits.
    pub(crate) fn of(hash: u64) -> Self {
        let products = SPREADS.map(|by| (hash & 0xffff_ffff | 1).wrapping_mul(by));
        let mut mask = [0; BLOCK_WORDS];
        for n in 0..BITS_PER_KEY_SET {
            // The upper 8 bits of a product, the next 8, and so on.
            let product = products[(n / BITS_PER_PRODUCT) as usize];
            let bit = (product >> (56 - 8 * (n % BITS_PER_PRODUCT))) & 255;
            mask[bit as usize / 64] |= 1 << (bit % 64);
        }
        Probe {
            upper: hash.wrapping_mul(REMIX) >> 32,
            mask,
        }
    }

    /// Grows with the place in any filter.
    pub(crate) fn place(&self) -> u64 {
        self.upper
    }

    /// 0 if all its bits are set in the block.
    fn missing_in(&self, block: &[AtomicU64; BLOCK_WORDS]) -> u64 {
        // All words, since it cannot be foreseen which would be the first to say no.
        let words = block.iter().zip(self.mask);
        words.fold(0, |missing, (word, bits)| {
            missing | (bits & !word.load(Ordering::Relaxed))
        })
    }
}

impl Banks {
    /// An empty filter for about `keys` keys: 2.75 bytes for each.
    pub(crate) fn filter_for(&self, keys: u64) -> Filter {
        let blocks = keys
            .saturating_mul(BITS_PER_KEY)
            .div_ceil(64 * BLOCK_WORDS as u64)
            .clamp(1, 1 << 28);
        // Few lengths, so that filters find others to lie beside.
        let step = (blocks.next_power_of_two() / 32).max(1);
        self.filter_of_len(blocks.next_multiple_of(step) as usize)
    }

    /// The filter that [`Filter::to_bytes`] gave, or `None` if the length is not one.
    pub(crate) fn filter_from_bytes(&self, bytes: &[u8]) -> Option<Filter> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (blocks, more) = words.as_chunks::<BLOCK_WORDS>();
        if !rest.is_empty() || !more.is_empty() || blocks.is_empty() {
            return None;
        }
        let filter = self.filter_of_len(blocks.len());
        for (to, from) in filter.blocks().zip(blocks) {
            for (to, from) in to.iter().zip(from) {
                to.store(u64::from_le_bytes(*from), Ordering::Relaxed);
            }
        }
        Some(filter)
    }

    fn filter_of_len(&self, blocks: usize) -> Filter {
        let mut banks = self.0.lock();
        banks.retain(|bank| bank.strong_count() > 0);
        let same_len = banks.iter().filter_map(Weak::upgrade);
        let mut same_len = same_len.filter(|bank| bank.rows.len() == blocks);
        if let Some(filter) = same_len.find_map(|bank| bank.take_lane()) {
            return filter;
        }
        let bank = Arc::new(Bank {
            rows: (0..blocks).map(|_| Row::default()).collect(),
            free: Mutex::new([false, true, true, true]),
        });
        banks.push(Arc::downgrade(&bank));
        Filter { bank, lane: 0 }
    }
}

impl Bank {
    /// Which of its filters may hold that key.
    pub(crate) fn passing(&self, probe: &Probe) -> [bool; LANES] {
        let Row(blocks) = self.row(probe);
        std::array::from_fn(|lane| probe.missing_in(&blocks[lane]) == 0)
    }

    /// The bank's size in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        size_of_val(&*self.rows)
    }

    fn take_lane(self: Arc<Self>) -> Option<Filter> {
        let mut free = self.free.lock();
        let lane = free.iter().position(|free| *free)?;
        free[lane] = false;
        drop(free);
        Some(Filter { bank: self, lane })
    }

    fn row(&self, probe: &Probe) -> &Row {
        let row = (probe.upper * self.rows.len() as u64) >> 32;
        &self.rows[row as usize]
    }
}

impl Filter {
    /// Adds a key.
    pub(crate) fn insert(&self, probe: &Probe) {
        let Row(blocks) = self.bank.row(probe);
        for (word, bits) in blocks[self.lane].iter().zip(probe.mask) {
            if bits != 0 {
                word.fetch_or(bits, Ordering::Relaxed);
            }
        }
    }

    /// Whether that key may have been added; certainly not if false.
    pub(crate) fn may_contain(&self, probe: &Probe) -> bool {
        probe.missing_in(&self.bank.row(probe).0[self.lane]) == 0
    }

    /// The bank it lies in, and its lane there.
    pub(crate) fn place(&self) -> (&Arc<Bank>, usize) {
        (&self.bank, self.lane)
    }

    /// The filter's size in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bank.len_bytes() / LANES
    }

    /// The words, little-endian.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len_bytes());
        let words = self.blocks().flatten();
        words.for_each(|word| bytes.extend(word.load(Ordering::Relaxed).to_le_bytes()));
        bytes
    }

    fn blocks(&self) -> impl Iterator<Item = &[AtomicU64; BLOCK_WORDS]> {
        self.bank.rows.iter().map(|Row(lanes)| &lanes[self.lane])
    }
}

impl Drop for Filter {
    /// Leaves its lane empty, for another.
    fn drop(&mut self) {
        let words = self.blocks().flatten();
        words.for_each(|word| word.store(0, Ordering::Relaxed));
        self.bank.free.lock()[self.lane] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::checksum;

    fn hash(n: u64) -> u64 {
        checksum(1, &n.to_le_bytes())
    }

    fn probe(n: u64) -> Probe {
        Probe::of(hash(n))
    }

    fn filter_for(keys: u64) -> Filter {
        Banks::default().filter_for(keys)
    }

    #[test]
    fn added_keys_are_found_and_few_others() {
        let filter = filter_for(10_000);
        (0..10_000).for_each(|n| filter.insert(&probe(n)));
        assert!((0..10_000).all(|n| filter.may_contain(&probe(n))));
        let others = (10_000..110_000).filter(|n| filter.may_contain(&probe(*n)));
        let passed = others.count();
        assert!(passed < 40, "{passed} of 100,000 other keys pass");
        assert_eq!(filter.len_bytes(), 27_648);
    }

    #[test]
    fn keys_of_one_range_of_hashes_fill_the_whole_filter() {
        let (in_range, others): (Vec<u64>, Vec<u64>) = (0..110_000)
            .map(hash)
            .partition(|hash| *hash < u64::MAX / 11);
        let filter = filter_for(in_range.len() as u64);
        let insert = |hash: &u64| filter.insert(&Probe::of(*hash));
        in_range.iter().for_each(insert);
        let passes = |hash: &&u64| filter.may_contain(&Probe::of(**hash));
        let passed = others.iter().filter(passes).count();
        assert!(passed < 40, "{passed} of some 100,000 other keys pass");
    }

    #[test]
    fn an_empty_filter_says_no() {
        let filter = filter_for(0);
        assert!((0..1_000).all(|n| !filter.may_contain(&probe(n))));
    }

    #[test]
    fn filters_of_a_bank_are_asked_together_and_keep_apart() {
        let banks = Banks::default();
        let filters: Vec<_> = (0..LANES).map(|_| banks.filter_for(100)).collect();
        for (n, filter) in filters.iter().enumerate() {
            assert!(Arc::ptr_eq(filter.place().0, filters[0].place().0));
            assert_eq!(filter.place().1, n);
            filter.insert(&probe(n as u64));
        }
        for n in 0..LANES {
            let passing = filters[0].place().0.passing(&probe(n as u64));
            assert_eq!(passing, std::array::from_fn(|lane| lane == n));
        }
        let other = banks.filter_for(100);
        assert!(!Arc::ptr_eq(other.place().0, filters[0].place().0));
    }

    #[test]
    fn a_lane_is_empty_for_its_next_filter() {
        let banks = Banks::default();
        let kept = banks.filter_for(100);
        let dropped = banks.filter_for(100);
        dropped.insert(&probe(1));
        drop(dropped);
        let next = banks.filter_for(100);
        assert_eq!(next.place().1, 1);
        assert!(Arc::ptr_eq(kept.place().0, next.place().0));
        assert!(!next.may_contain(&probe(1)));
    }

    #[test]
    fn bytes_round_trip_and_other_lengths_are_refused() {
        let banks = Banks::default();
        let filter = banks.filter_for(100);
        filter.insert(&probe(1));
        let bytes = filter.to_bytes();
        let again = banks.filter_from_bytes(&bytes).unwrap();
        assert!(again.may_contain(&probe(1)));
        assert_eq!(again.to_bytes(), bytes);
        for bad in [0, 8, 31, bytes.len() - 1] {
            assert!(banks.filter_from_bytes(&bytes[..bad]).is_none());
        }
    }
}
