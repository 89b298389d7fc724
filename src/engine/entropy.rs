//! Numbers that no other store, run or use of a file has.

#[cfg(not(any(firstclaim_shuttle, firstclaim_loom)))]
use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};

/// Under a model checker, the checker's: a schedule can be repeated.
#[cfg(any(firstclaim_shuttle, firstclaim_loom))]
pub(crate) use crate::sync::checked::fresh_u64;

/// A number from the operating system's randomness, by way of the standard library's hash seeds.
#[cfg(not(any(firstclaim_shuttle, firstclaim_loom)))]
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
