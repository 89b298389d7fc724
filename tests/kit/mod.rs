//! What the integration tests share.
//!
//! `model` is a plain reference model of the store, `operation` the things that can be done to
//! one, `pair` drives a store and the model side by side and compares every answer. The fuzz
//! target of `fuzz/` uses the same files.

#![allow(dead_code, unreachable_pub)] // every test takes what it needs
#![allow(clippy::expect_used, clippy::panic)] // that is how a test fails

pub mod model;
pub mod operation;
pub mod pair;
