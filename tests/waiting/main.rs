//! A duplicate that waits for the first one's answer: what ends its wait, and what does not begin one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod bounds;
mod ends;
#[path = "../async_calls/executor.rs"]
mod executor;
mod kit;
