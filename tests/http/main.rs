//! The HTTP layer end to end: over a loopback socket, with a real client, or with raw bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::result_large_err)] // responses as errors, as axum has them

#[path = "../kit/faults.rs"]
mod faults;

mod attempts;
mod bodies;
mod client;
mod fingerprints;
mod keys;
#[allow(dead_code)] // `http_soak` uses it too
mod kit;
mod orders;
mod problems;
mod replays;
mod running;
mod stacks;
mod stored;
mod structured_fields;
mod trouble;
mod waiting;
