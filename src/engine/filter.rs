//! Which keys a generation may hold.
//!
//! A blocked Bloom filter (Putze, Sanders and Singler, *Cache-, Hash- and Space-Efficient Bloom
//! Filters*, 2007): the hash of a key picks one block, and all its bits lie in it. A new key asks every
//! generation of a store, so filters of the same length lie crosswise in a bank, as bit-sliced signatures
//! do (Goodwin and others, *BitFunnel: Revisiting Signatures for Search*, 2017): the first bits of all of
//! them side by side, then the second ones, and so on. Ten words, in five pairs of cache lines, then tell of
//! up to 64 filters. The crates at hand spread a key's bits over a whole filter, and ask each by
//! itself, which was the largest cost of a claim.

mod banks;

use std::sync::Arc;

pub(crate) use self::banks::Banks;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The layout of a stored filter: it is part of what one is sealed under, so that one of another layout,
/// which would say no to its own keys, is not taken for one.
pub(crate) const LAYOUT: u8 = 5;

const BLOCK_BITS: usize = 1024;
/// Bits of filter for each key it is made for.
const BITS_PER_KEY: u64 = 20;
/// A key sets two bits in each of so many groups of sixteen, which lie in two cache lines side by side in any
/// bank. About 0.02 % of other keys pass: a store of ten million records has over a hundred filters, and a
/// new key should pass none of them, since it would have to read the base. In groups of eight and blocks of half
/// the size twice as many pass.
const GROUPS_PER_KEY: usize = 5;
const GROUP_BITS: usize = 16;
const GROUPS: usize = BLOCK_BITS / GROUP_BITS;
/// A table may hold the keys of one range of hashes alone, since checkpoints write in their order: the
/// block of a key must not depend on where in that order it is.
const REMIX: u64 = 0x9fb2_1c65_1e98_df25;
/// The product of a hash with this is long enough for its bits.
const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
/// So many of them for each group: to pick it, its first bit, and how far the second is from that.
const SPREAD_BITS: u32 = (GROUPS * GROUP_BITS * GROUP_BITS).ilog2();
const MAX_BLOCKS: u64 = 1 << 28;

/// A set of key hashes that answers "no" or "maybe". Keys are only ever added.
#[derive(Debug)]
pub(crate) struct Filter {
    bank: Arc<Bank>,
    lane: u32,
}

/// Filters of the same length, crosswise: a row for every bit, in which each filter has its lane.
///
/// Of `L` lanes, `L` words hold 64 rows: the first word the rows 0, `L`, 2`L` and so on, the second 1,
/// `L` + 1, 2`L` + 1, so that stored filters are soon brought into this order.
#[derive(Debug)]
pub(crate) struct Bank {
    blocks: usize,
    /// Of how many lanes there are: up to 64, in words of 64 bits.
    lanes_log2: u32,
    lines: Box<[Line]>,
    /// Whoever changes a word has this.
    lanes: Mutex<Lanes>,
}

/// A cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Line([AtomicU64; LINE_WORDS]);

const LINE_WORDS: usize = 8;

#[derive(Debug)]
struct Lanes {
    /// Those that have a filter,
    taken: u64,
    /// and those that have one or had one, and may not be empty.
    used: u64,
}

/// What a filter is asked by, the same for all filters: it is made once for a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// Picks the block.
    upper: u64,
    /// The bits of the block that the key sets.
    bits: [u16; 2 * GROUPS_PER_KEY],
}

impl Probe {
    /// For the key with this hash: all of it picks the block, its lower half the bits.
    pub(crate) fn of(hash: u64) -> Self {
        let product = u128::from(hash & 0xffff_ffff | 1).wrapping_mul(SPREAD);
        let mut bits = [0; 2 * GROUPS_PER_KEY];
        for (n, pair) in (1..).zip(bits.chunks_exact_mut(2)) {
            let word = (product >> (u128::BITS - SPREAD_BITS * n)) as usize % (1 << SPREAD_BITS);
            let group = word % GROUPS * GROUP_BITS;
            let first = word / GROUPS % GROUP_BITS;
            let apart = word / GROUPS / GROUP_BITS % (GROUP_BITS - 1) + 1;
            pair[0] = (group + first) as u16;
            pair[1] = (group + (first + apart) % GROUP_BITS) as u16;
        }
        Probe {
            upper: hash.wrapping_mul(REMIX) >> 32,
            bits,
        }
    }

    /// Grows with the place in any filter.
    pub(crate) fn place(&self) -> u32 {
        self.upper as u32
    }
}

/// The length of a filter for about so many keys. Lengths are few, so that filters find others to lie
/// beside: two for every doubling.
fn blocks_for(keys: u64) -> usize {
    let blocks = keys
        .saturating_mul(BITS_PER_KEY)
        .div_ceil(BLOCK_BITS as u64)
        .clamp(1, MAX_BLOCKS);
    let step = (blocks.next_power_of_two() / 4).max(1);
    blocks.next_multiple_of(step) as usize
}

/// How many keys the filter for at least so many takes before it passes more than it should.
pub(crate) fn room_for(keys: u64) -> u64 {
    keys.max((blocks_for(keys) * BLOCK_BITS) as u64 / BITS_PER_KEY)
}

impl Bank {
    /// An empty one, whose first lanes are taken by so many filters.
    fn new(blocks: usize, lanes_log2: u32, filters: usize) -> Self {
        let lines = (blocks << lanes_log2) * BLOCK_BITS / 64 / LINE_WORDS;
        let taken = u64::MAX >> (64 - filters);
        Bank {
            blocks,
            lanes_log2,
            lines: (0..lines)
                .map(|_| Line([0; LINE_WORDS].map(AtomicU64::new)))
                .collect(),
            lanes: Mutex::new(Lanes { taken, used: taken }),
        }
    }

    /// Its lanes whose filters may hold that key, a bit for each. A lane that is free may be among them.
    pub(crate) fn passing(&self, probe: &Probe) -> u64 {
        let rows = self.rows(probe).map(|row| {
            let (word, shift) = self.place_of(row);
            word.load(Ordering::Relaxed) >> shift
        });
        let passing = rows.fold(u64::MAX, |passing, row| passing & row);
        passing & (u64::MAX >> (64 - self.lanes()))
    }

    /// How many filters have room in it.
    pub(crate) fn lanes(&self) -> usize {
        1 << self.lanes_log2
    }

    /// The bank's size in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }

    /// Where a row is: in which word, and so many bits up.
    fn place_of(&self, row: usize) -> (&AtomicU64, usize) {
        let in_row = self.lanes() - 1;
        let word = ((row / 64) << self.lanes_log2) + (row & in_row);
        (self.word(word), (row % 64) & !in_row)
    }

    fn word(&self, n: usize) -> &AtomicU64 {
        &self.lines[n / LINE_WORDS].0[n % LINE_WORDS]
    }

    /// The same lanes in each of the rows of a word.
    fn in_every_row(&self, lanes: u64) -> u64 {
        let rows = (0..64).step_by(self.lanes());
        rows.fold(0, |all, at| all | lanes << at)
    }

    /// The rows of a key's bits.
    fn rows(&self, probe: &Probe) -> impl Iterator<Item = usize> {
        let block = (probe.upper * self.blocks as u64) >> 32;
        let start = block as usize * BLOCK_BITS;
        probe
            .bits
            .into_iter()
            .map(move |bit| start + usize::from(bit))
    }

    /// A lane that no filter has, emptied of what one had in it.
    fn take_lane(self: Arc<Self>) -> Option<Filter> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.taken.trailing_ones();
        if lane as usize >= self.lanes() {
            return None;
        }
        if lanes.used & (1 << lane) != 0 {
            let kept = !self.in_every_row(1 << lane);
            for word in self.lines.iter().flat_map(|line| &line.0) {
                word.store(word.load(Ordering::Relaxed) & kept, Ordering::Relaxed);
            }
        }
        lanes.taken |= 1 << lane;
        lanes.used |= 1 << lane;
        drop(lanes);
        Some(Filter { bank: self, lane })
    }
}

impl Filter {
    /// Adds a key.
    pub(crate) fn insert(&self, probe: &Probe) {
        let _changing = self.bank.lanes.lock();
        for row in self.bank.rows(probe) {
            let (word, bit) = self.bit(row);
            word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
        }
    }

    /// Whether that key may have been added; certainly not if false.
    pub(crate) fn may_contain(&self, probe: &Probe) -> bool {
        self.bank.rows(probe).all(|row| self.has(row))
    }

    /// Whether one of half its length would do for so many keys.
    pub(crate) fn is_oversized_for(&self, keys: u64) -> bool {
        blocks_for(keys) <= self.bank.blocks / 2
    }

    /// The bank it lies in, and its lane there.
    pub(crate) fn place(&self) -> (&Arc<Bank>, usize) {
        (&self.bank, self.lane as usize)
    }

    /// The filter's size in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        self.bank.len_bytes() / self.bank.lanes()
    }

    /// Its bits by their rows, the lowest of a byte first.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let bank = &*self.bank;
        let in_every_row = bank.in_every_row(1);
        let rows = |begin: usize| {
            (0..bank.lanes()).fold(0, |rows, n| {
                let word = bank.word(begin + n).load(Ordering::Relaxed);
                rows | ((word >> self.lane) & in_every_row) << n
            })
        };
        let words = 0..bank.blocks * BLOCK_BITS / 64;
        let rows = words.map(|word| rows(word << bank.lanes_log2));
        rows.flat_map(u64::to_le_bytes).collect()
    }

    fn has(&self, row: usize) -> bool {
        let (word, bit) = self.bit(row);
        word.load(Ordering::Relaxed) & bit != 0
    }

    fn bit(&self, row: usize) -> (&AtomicU64, u64) {
        let (word, shift) = self.bank.place_of(row);
        (word, 1 << (shift + self.lane as usize))
    }
}

impl Drop for Filter {
    /// Leaves its lane to another.
    fn drop(&mut self) {
        self.bank.lanes.lock().taken &= !(1 << self.lane);
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

    /// Another layout needs another [`LAYOUT`].
    #[test]
    fn a_key_sets_the_bits_that_the_format_says() {
        let probe = Probe::of(0x1fdb_9753_0eca_8624);
        assert_eq!(probe.upper, 372_611_343);
        assert_eq!(
            probe.bits,
            [73, 75, 1020, 1021, 983, 984, 896, 904, 325, 324]
        );
    }

    #[test]
    fn added_keys_are_found_and_few_others() {
        let filter = filter_for(10_000);
        let room = room_for(10_000);
        (0..room).for_each(|n| filter.insert(&probe(n)));
        assert!((0..room).all(|n| filter.may_contain(&probe(n))));
        let others = (room..room + 1_000_000).filter(|n| filter.may_contain(&probe(*n)));
        let passed = others.count();
        assert!(passed < 240, "{passed} of a million other keys pass");
        assert_eq!(filter.len_bytes(), 32_768);
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
        assert!(passed < 30, "{passed} of some 100,000 other keys pass");
    }

    #[test]
    fn an_empty_filter_says_no() {
        let filter = filter_for(0);
        assert!((0..1_000).all(|n| !filter.may_contain(&probe(n))));
    }

    #[test]
    fn a_filter_is_oversized_if_half_of_it_would_do() {
        let filter = filter_for(100_000);
        let room = room_for(100_000);
        assert!((100_000..113_000).contains(&room), "{room}");
        assert_eq!(blocks_for(room), blocks_for(100_000));
        assert!(filter.is_oversized_for(room / 2) && !filter.is_oversized_for(room / 2 + 100));
    }
}
