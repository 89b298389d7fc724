//! An embedded idempotency store: no operation runs twice.
//!
//! A request, webhook or queue message arrives with an idempotency key. [`Store::claim`] says,
//! atomically and durably, whether this caller runs the operation, another is running it, or it
//! has run and here is the answer:
//!
//! ```
//! use firstclaim::{Claim, Store};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("orders.fc");
//! # fn charge() -> Result<String, firstclaim::Error> { Ok("charged $500".to_owned()) }
//! let store = Store::open(path)?; // a directory; made if missing
//! match store.claim("acct_42", "9f1c-…")? {
//!     Claim::Claimed(lease) => {
//!         let receipt = charge()?;
//!         lease.complete(&receipt)?;
//!     }
//!     Claim::InFlight(running) => { /* 409, Retry-After: running.retry_after() */ }
//!     Claim::Done(response) => { /* send response.bytes() again */ }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A duplicate may wait for the first one's answer: [`Store::claim_or_wait`]. Every call has a form for
//! tasks, such as [`Store::claim_async`], which needs no runtime of its own and says what becomes of it
//! when its future is dropped.
//!
//! The store is opened by one process; its threads group the claims of all callers into one disk
//! sync. What is promised, against what, and what is not, is in `docs/guarantees.md`; how it is
//! built is in `ARCHITECTURE.md`.
//!
//! Features, none of them on by default: `json` (responses as JSON), `http` (a tower layer that makes
//! routes idempotent), `axum` (its extractor for axum), `client` (a tower layer that sends a request
//! again under one key).

// A model checker's own types are larger.
#![cfg_attr(firstclaim_shuttle, allow(clippy::large_enum_variant))]

mod bugs;
mod builder;
mod claim;
#[cfg(feature = "client")]
pub mod client;
mod codec;
mod committer;
mod engine;
mod error;
mod fingerprint;
#[cfg(feature = "http")]
pub mod http;
mod key;
mod maintenance;
mod record;
mod store;
mod sync;
mod time;
mod transition;

pub use crate::builder::{Builder, Durability, Limits};
pub use crate::claim::{Claim, InFlight, Lease, Peek, StoredResponse};
pub use crate::engine::{Swept, Verified};
pub use crate::error::{Error, Result};
pub use crate::fingerprint::Fingerprint;
#[cfg(feature = "http")]
pub use crate::http::{Attempt, IdempotencyLayer, Tenant, single_tenant};
pub use crate::record::{Fence, Previous, Takeover};
pub use crate::store::{
    ClaimRequest, Ran, RunError, Stats, Store, StoreFuture, TenantView, Unfinished, UnfinishedState,
};
pub use crate::time::{Clock, ManualClock, SystemClock};

/// The engine, the disk and the state machine, for the project's own tests. Not a public
/// interface.
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals {
    pub use crate::codec::{Damage, decode_record, encode_record};
    #[cfg(firstclaim_loom)]
    pub use crate::committer::handoff;
    pub use crate::engine::disk::directory::Directory;
    pub use crate::engine::disk::memory::MemoryDisk;
    pub use crate::engine::disk::{DirectoryLock, Disk, DiskFile};
    pub use crate::engine::{Answer, Engine, EngineOptions, Request, Seen, Tried, Vacancy};
    pub use crate::engine::{Swept, Verified};
    pub use crate::key::RecordKey;
    pub use crate::time::Timestamp;

    pub mod bucket {
        pub use crate::engine::bucket::{Contents, entries};
    }

    pub mod record {
        pub use crate::record::*;
    }

    pub mod transition {
        pub use crate::transition::*;
    }
}
