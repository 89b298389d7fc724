//! Which keys a generation may hold.
//!
//! A blocked Bloom filter (Putze, Sanders and Singler, *Cache-, Hash- and Space-Efficient Bloom
//! Filters*, 2007): the hash of a key picks one block of 64 bytes, and all its bits lie in it, so
//! that a look-up touches one line of memory. The crates at hand spread a key's bits over the
//! whole filter, which with a filter for every generation was the largest cost of a claim.

use crate::sync::{AtomicU64, Ordering};

/// 512 bits: one line of memory.
const BLOCK_WORDS: usize = 8;
/// Bits of filter for each key it is made for.
const BITS_PER_KEY: u64 = 22;
/// Bits a key sets in its block. About 0.01 % of other keys pass: a store of ten million records has a
/// hundred filters, and a new key should pass none of them.
const BITS_PER_KEY_SET: u32 = 9;
/// Two products of a hash with these are long enough for them.
const SPREADS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];
const BITS_PER_PRODUCT: u32 = 5;

/// A set of key hashes that answers "no" or "maybe". Keys are only ever added.
#[derive(Debug)]
pub(crate) struct Filter(Box<[Block]>);

/// Aligned, so that it is one line indeed.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Block([AtomicU64; BLOCK_WORDS]);

/// What a filter is asked by, the same for all filters: it is made once for a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    /// Picks the block.
    upper: u64,
    /// The bits of the block that the key sets.
    mask: [u64; BLOCK_WORDS],
}

impl Probe {
    /// For the key with this hash: its upper half picks the block, its lower the bits.
    pub(crate) fn of(hash: u64) -> Self {
        let products = SPREADS.map(|by| (hash & 0xffff_ffff | 1).wrapping_mul(by));
        let mut mask = [0; BLOCK_WORDS];
        for n in 0..BITS_PER_KEY_SET {
            // The upper 9 bits of a product, the next 9, and so on.
            let product = products[(n / BITS_PER_PRODUCT) as usize];
            let bit = (product >> (55 - 9 * (n % BITS_PER_PRODUCT))) & 511;
            mask[bit as usize / 64] |= 1 << (bit % 64);
        }
        Probe {
            upper: hash >> 32,
            mask,
        }
    }
}

impl Filter {
    /// An empty filter for about `keys` keys: 2.75 bytes for each.
    pub(crate) fn for_keys(keys: u64) -> Self {
        let blocks = keys
            .saturating_mul(BITS_PER_KEY)
            .div_ceil(64 * BLOCK_WORDS as u64)
            .clamp(1, 1 << 26);
        Filter((0..blocks).map(|_| Block::default()).collect())
    }

    /// Adds a key.
    pub(crate) fn insert(&self, probe: &Probe) {
        for (word, bits) in self.block(probe).iter().zip(probe.mask) {
            if bits != 0 {
                word.fetch_or(bits, Ordering::Relaxed);
            }
        }
    }

    /// Whether that key may have been added; certainly not if false.
    pub(crate) fn may_contain(&self, probe: &Probe) -> bool {
        // All words, since it cannot be foreseen which would be the first to say no.
        let words = self.block(probe).iter().zip(probe.mask);
        words.fold(0, |missing, (word, bits)| {
            missing | (bits & !word.load(Ordering::Relaxed))
        }) == 0
    }

    /// The filter's size in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// The words, little-endian.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let words = self.0.iter().flat_map(|block| &block.0);
        let mut bytes = Vec::with_capacity(self.len_bytes());
        words.for_each(|word| bytes.extend(word.load(Ordering::Relaxed).to_le_bytes()));
        bytes
    }

    /// The filter that [`to_bytes`](Self::to_bytes) gave, or `None` if the length is not one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let (blocks, more) = words.as_chunks::<BLOCK_WORDS>();
        let whole = rest.is_empty() && more.is_empty() && !blocks.is_empty();
        let block = |words: &[[u8; 8]; BLOCK_WORDS]| {
            Block(words.map(|word| AtomicU64::new(u64::from_le_bytes(word))))
        };
        whole.then(|| Filter(blocks.iter().map(block).collect()))
    }

    fn block(&self, probe: &Probe) -> &[AtomicU64; BLOCK_WORDS] {
        let block = (probe.upper * self.0.len() as u64) >> 32;
        &self.0[block as usize].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::checksum;

    fn probe(n: u64) -> Probe {
        Probe::of(checksum(1, &n.to_le_bytes()))
    }

    #[test]
    fn added_keys_are_found_and_few_others() {
        let filter = Filter::for_keys(10_000);
        (0..10_000).for_each(|n| filter.insert(&probe(n)));
        assert!((0..10_000).all(|n| filter.may_contain(&probe(n))));
        let others = (10_000..110_000).filter(|n| filter.may_contain(&probe(*n)));
        let passed = others.count();
        assert!(passed < 40, "{passed} of 100,000 other keys pass");
        assert_eq!(filter.len_bytes(), 27_520);
    }

    #[test]
    fn an_empty_filter_says_no() {
        let filter = Filter::for_keys(0);
        assert!((0..1_000).all(|n| !filter.may_contain(&probe(n))));
    }

    #[test]
    fn bytes_round_trip_and_other_lengths_are_refused() {
        let filter = Filter::for_keys(100);
        filter.insert(&probe(1));
        let bytes = filter.to_bytes();
        let again = Filter::from_bytes(&bytes).unwrap();
        assert!(again.may_contain(&probe(1)));
        assert_eq!(again.to_bytes(), bytes);
        for bad in [0, 8, 63, bytes.len() - 1] {
            assert!(Filter::from_bytes(&bytes[..bad]).is_none());
        }
    }
}
