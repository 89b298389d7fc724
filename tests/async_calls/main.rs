//! The calls for tasks: each does what its blocking form does, and none leaves anything behind when its
//! future is dropped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

mod calls;
mod executor;
