//! A small seeded generator for tests that race and kill. Its seed is printed, and is seen when
//! the test fails; set `FIRSTCLAIM_SEED` to use one again.

#![allow(dead_code, unreachable_pub)] // every test takes what it needs

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::Duration;

/// xorshift64*: Vigna, *An experimental exploration of Marsaglia's xorshift generators* (2016).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator with the seed of the environment, or else a new one; prints it.
    pub fn announced() -> Self {
        let seed = match std::env::var("FIRSTCLAIM_SEED") {
            Ok(seed) => seed.parse().expect("FIRSTCLAIM_SEED is a number"),
            Err(_) => RandomState::new().hash_one("seed"),
        };
        println!("FIRSTCLAIM_SEED={seed}");
        Self::seeded(seed)
    }

    pub fn seeded(seed: u64) -> Self {
        // One round of splitmix64: near seeds give far streams, and the state is never zero.
        let mixed = (seed.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Random((mixed ^ (mixed >> 31)).max(1))
    }

    /// Another generator, for another thread.
    pub fn fork(&mut self) -> Self {
        Self::seeded(self.number())
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    pub fn micros(&mut self, range: Range<u64>) -> Duration {
        Duration::from_micros(self.within(range))
    }

    /// True in `percent` of 100 calls.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    pub fn bytes(&mut self, length: Range<u64>) -> Vec<u8> {
        (0..self.within(length))
            .map(|_| self.number() as u8)
            .collect()
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.within(0..last as u64 + 1) as usize);
        }
    }
}
