//! Small programs on the store under a model checker, which decides who runs when.
//!
//!     interleavings [NAME…] [--random N] [--pct N] [--seed N]
//!     interleavings --replay NAME FILE
//!
//! Built by `.ci/interleavings`, once for shuttle and once for loom.

#[cfg(any(firstclaim_shuttle, firstclaim_loom))]
mod apart;
#[cfg(firstclaim_shuttle)]
mod kit;
#[cfg(firstclaim_loom)]
mod loomed;
#[cfg(firstclaim_shuttle)]
mod programs;
#[cfg(firstclaim_shuttle)]
mod shuttled;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    #[cfg(firstclaim_shuttle)]
    return shuttled::main(&args);
    #[cfg(firstclaim_loom)]
    return loomed::main(&args);
    #[cfg(not(any(firstclaim_shuttle, firstclaim_loom)))]
    {
        let _ = args;
        eprintln!("no model checker in this build: run .ci/interleavings");
        ExitCode::FAILURE
    }
}
