//! The calls for tasks: each does what its blocking form does, and none leaves anything behind when its
//! future is dropped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may
#![allow(clippy::disallowed_methods)] // tests start threads

mod calls;
mod closing;
mod dropped;
#[path = "../kit/executor.rs"]
mod executor;
#[path = "../kit/faults.rs"]
mod faults;
mod gate;
mod overload;
