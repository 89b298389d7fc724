//! Numbers that no other store, run or use of a file has.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A number from the operating system's randomness, by way of the standard library's hash seeds.
pub(crate) fn fresh_u64() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_differ() {
        let numbers: std::collections::HashSet<u64> =
            (0..1_000).map(|_| super::fresh_u64()).collect();
        assert_eq!(numbers.len(), 1_000);
    }
}
