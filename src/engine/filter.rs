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
pub(crate) struct Filter(Box<[AtomicU64]>);

impl Filter {
    /// An empty filter for about `keys` keys: 2.75 bytes for each.
    pub(crate) fn for_keys(keys: u64) -> Self {
        let blocks = keys
            .saturating_mul(BITS_PER_KEY)
            .div_ceil(64 * BLOCK_WORDS as u64)
            .clamp(1, 1 << 26);
        let words = blocks as usize * BLOCK_WORDS;
        Filter((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Adds a key by its hash.
    pub(crate) fn insert(&self, hash: u64) {
        let block = self.block(hash);
        for bit in bits(hash) {
            block[bit / 64].fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
    }

    /// Whether the key with this hash may have been added; certainly not if false.
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        let block = self.block(hash);
        bits(hash).all(|bit| block[bit / 64].load(Ordering::Relaxed) & (1 << (bit % 64)) != 0)
    }

    /// The filter's size in bytes.
    pub(crate) fn len_bytes(&self) -> usize {
        self.0.len() * 8
    }

    /// The words, little-endian.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let words = self.0.iter().map(|word| word.load(Ordering::Relaxed));
        words.flat_map(u64::to_le_bytes).collect()
    }

    /// The filter that [`to_bytes`](Self::to_bytes) gave, or `None` if the length is not one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let whole = rest.is_empty() && !words.is_empty() && words.len() % BLOCK_WORDS == 0;
        whole.then(|| {
            let words = words.iter().map(|word| u64::from_le_bytes(*word));
            Filter(words.map(AtomicU64::new).collect())
        })
    }

    /// The block is picked by the hash's upper half, the bits by its lower.
    fn block(&self, hash: u64) -> &[AtomicU64] {
        let blocks = (self.0.len() / BLOCK_WORDS) as u64;
        let block = ((hash >> 32) * blocks) >> 32;
        let begin = block as usize * BLOCK_WORDS;
        &self.0[begin..begin + BLOCK_WORDS]
    }
}

/// The bits of a block that a key sets: the upper 9 bits of a product, the next 9, and so on.
fn bits(hash: u64) -> impl Iterator<Item = usize> {
    let products = SPREADS.map(|by| (hash & 0xffff_ffff | 1).wrapping_mul(by));
    (0..BITS_PER_KEY_SET).map(move |n| {
        let product = products[(n / BITS_PER_PRODUCT) as usize];
        ((product >> (55 - 9 * (n % BITS_PER_PRODUCT))) & 511) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::checksum;

    fn hash(n: u64) -> u64 {
        checksum(1, &n.to_le_bytes())
    }

    #[test]
    fn added_keys_are_found_and_few_others() {
        let filter = Filter::for_keys(10_000);
        (0..10_000).for_each(|n| filter.insert(hash(n)));
        assert!((0..10_000).all(|n| filter.may_contain(hash(n))));
        let others = (10_000..110_000).filter(|n| filter.may_contain(hash(*n)));
        let passed = others.count();
        assert!(passed < 40, "{passed} of 100,000 other keys pass");
        assert_eq!(filter.len_bytes(), 27_520);
    }

    #[test]
    fn an_empty_filter_says_no() {
        let filter = Filter::for_keys(0);
        assert!((0..1_000).all(|n| !filter.may_contain(hash(n))));
    }

    #[test]
    fn bytes_round_trip_and_other_lengths_are_refused() {
        let filter = Filter::for_keys(100);
        filter.insert(hash(1));
        let bytes = filter.to_bytes();
        let again = Filter::from_bytes(&bytes).unwrap();
        assert!(again.may_contain(hash(1)));
        assert_eq!(again.to_bytes(), bytes);
        for bad in [0, 8, 63, bytes.len() - 1] {
            assert!(Filter::from_bytes(&bytes[..bad]).is_none());
        }
    }
}
