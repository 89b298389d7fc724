//! A duplicate that waits for the first one's answer: what ends its wait, and what does not begin one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may
#![allow(clippy::disallowed_methods)] // tests start threads

mod bounds;
mod ends;
#[path = "../kit/executor.rs"]
mod executor;
mod kit;
