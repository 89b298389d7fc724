//! Reads bytes as operations, does them to a store and to the reference model, and compares every
//! answer: claims, leases, time, bursts, sweeps, checkpoints, reopenings and kills.
//!
//! The model, the operations and the comparison are those of the property test `tests/model.rs`.

#![no_main]

#[path = "../../tests/kit/mod.rs"]
mod kit;

use kit::operation::read;
use kit::pair::perform_all;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.iter().copied();
    perform_all(std::iter::from_fn(|| read(&mut bytes)));
});
