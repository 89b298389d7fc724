//! A small store in which segments and generations turn over, and the bytes put into it.

use std::sync::Arc;
use std::time::Duration;

use firstclaim::internals::MemoryDisk;
use firstclaim::{Builder, ClaimRequest, Error, Limits, ManualClock, Store, Takeover};

use super::super::model::{Ask, Name};

pub const RESPONSE_LIMIT: usize = 4096;
pub const POINT_LIMIT: usize = 1024;
/// The other keys, that bursts go round.
pub const BULK_KEYS: usize = 500;
/// The store's default terms.
pub const LEASE_FOR: Duration = Duration::from_secs(5);
pub const RETAIN_FOR: Duration = Duration::from_secs(60);

pub fn open(disk: &Arc<MemoryDisk>, clock: &ManualClock) -> Result<Store, Error> {
    const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);
    Builder::on_disk(disk.clone())
        .clock(clock.clone())
        .journal_bytes(64 * 1024)
        .limits(Limits {
            response_bytes: RESPONSE_LIMIT,
            recovery_point_bytes: POINT_LIMIT,
            ..Limits::default()
        })
        .lease_for(LEASE_FOR)
        .retain_for(RETAIN_FOR)
        .sweep_every(A_DAY)
        .checkpoint_every(A_DAY)
        .open()
}

pub fn default_terms() -> Ask {
    Ask {
        fingerprint: None,
        lease_for: LEASE_FOR,
        retain_for: RETAIN_FOR,
        takeover: Takeover::Gone,
    }
}

pub fn request<'s>(store: &'s Store, name: &Name, ask: &Ask) -> ClaimRequest<'s> {
    let request = store
        .request(&name.0, &name.1)
        .lease_for(ask.lease_for)
        .retain_for(ask.retain_for)
        .takeover(ask.takeover);
    match ask.fingerprint {
        Some(fingerprint) => request.fingerprint(fingerprint),
        None => request,
    }
}

/// A few answers of every size, so that a second completion often has the bytes of the first.
pub fn bytes(answer: u8) -> Vec<u8> {
    let len = [0, 3, 700, RESPONSE_LIMIT][usize::from(answer % 4)];
    vec![answer % 8; len]
}

pub fn bulk_name(index: usize) -> Name {
    ("bulk".to_owned(), (index % (BULK_KEYS + 1)).to_string())
}
