//! The things that can be done to a store, as values: for a property test to generate and shrink,
//! and for a fuzzer to read from bytes.

use std::time::Duration;

use firstclaim::Takeover;

use super::model::{Ask, Name};

/// One thing to do.
///
/// Names, leases and sizes are indices that the interpreter takes modulo what there is, so that
/// every operation can be done at any time.
#[derive(Debug, Clone)]
pub enum Operation {
    Claim {
        name: u8,
        ask: Ask,
    },
    /// `Store::claim`, on the store's default terms.
    ClaimPlainly {
        name: u8,
    },
    /// `ClaimRequest::run`, the operation ending in success or in an error.
    Run {
        name: u8,
        ask: Ask,
        answer: Option<u8>,
    },
    Resolve {
        name: u8,
    },
    Peek {
        name: u8,
    },
    Forget {
        name: u8,
    },
    ForgetHeld {
        name: u8,
    },
    Complete {
        lease: u8,
        answer: u8,
    },
    CompleteFor {
        lease: u8,
        answer: u8,
        retain_for: Duration,
    },
    CompleteTooLarge {
        lease: u8,
    },
    Renew {
        lease: u8,
        lease_for: Duration,
    },
    Save {
        lease: u8,
        point: u8,
    },
    SaveTooLarge {
        lease: u8,
    },
    Release {
        lease: u8,
    },
    Drop {
        lease: u8,
    },
    Unfinished,
    Sweep,
    Checkpoint,
    Verify,
    Advance {
        by: Duration,
    },
    SetBack {
        by: Duration,
    },
    /// Claims and completes many other keys with answers of 1 to 3 KB, so that segments fill.
    Burst {
        first: u8,
        retain_for: Duration,
    },
    /// Drops every lease, closes, sets the clock back and opens again.
    Reopen {
        clock_back: Duration,
    },
    /// Opens a copy of the disk as a kill leaves it; with the clock set back.
    Kill {
        clock_back: Duration,
    },
}

pub const TENANTS: [&str; 2] = ["a", "ab"];
pub const KEYS: [&str; 3] = ["bc", "c", "b"];
pub const NAMES: u8 = 6;

/// Of whole seconds and few, so that different sums meet at the same instant and ends are hit to
/// the microsecond.
pub const LEASES_S: [u64; 4] = [1, 2, 5, 30];
pub const RETENTIONS_S: [u64; 4] = [1, 5, 60, 240];
pub const STEPS_US: [u64; 8] = [
    1,
    999_999,
    1_000_000,
    2_000_000,
    5_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];
pub const CLOCK_BACK_S: [u64; 4] = [0, 1, 60, 3_600];
pub const POLICIES: [Takeover; 4] = [
    Takeover::Gone,
    Takeover::GoneOrExpired,
    Takeover::Expired,
    Takeover::Never,
];

/// The name with this index. Two tenants and keys that concatenate alike: ("a", "bc"), ("ab", "c").
pub fn name(index: u8) -> Name {
    let index = usize::from(index % NAMES);
    (
        TENANTS[index / KEYS.len()].to_owned(),
        KEYS[index % KEYS.len()].to_owned(),
    )
}

/// Reads one operation, or `None` at the end. Every byte string is a list of operations.
pub fn read(bytes: &mut impl Iterator<Item = u8>) -> Option<Operation> {
    let code = bytes.next()?;
    let mut byte = || bytes.next().unwrap_or(0);
    Some(match code % 32 {
        0..=3 => Operation::Claim {
            name: byte(),
            ask: ask(byte(), byte()),
        },
        4 => Operation::ClaimPlainly { name: byte() },
        5 => Operation::Run {
            name: byte(),
            ask: ask(byte(), byte()),
            answer: Some(byte()).filter(|answer| answer % 2 == 0),
        },
        6 | 7 => Operation::Resolve { name: byte() },
        8 => Operation::Peek { name: byte() },
        9 => Operation::Forget { name: byte() },
        10 => Operation::ForgetHeld { name: byte() },
        11 | 12 => Operation::Complete {
            lease: byte(),
            answer: byte(),
        },
        13 => Operation::CompleteFor {
            lease: byte(),
            answer: byte(),
            retain_for: pick_s(RETENTIONS_S, byte()),
        },
        14 => Operation::CompleteTooLarge { lease: byte() },
        15 => Operation::Renew {
            lease: byte(),
            lease_for: pick_s(LEASES_S, byte()),
        },
        16 => Operation::Save {
            lease: byte(),
            point: byte(),
        },
        17 => Operation::SaveTooLarge { lease: byte() },
        18 | 19 => Operation::Release { lease: byte() },
        20 | 21 => Operation::Drop { lease: byte() },
        22 => Operation::Unfinished,
        23 => Operation::Sweep,
        24 => Operation::Checkpoint,
        25 => Operation::Verify,
        26 | 27 => Operation::Advance {
            by: pick_us(STEPS_US, byte()),
        },
        28 => Operation::SetBack {
            by: pick_us(STEPS_US, byte()),
        },
        29 => Operation::Burst {
            first: byte(),
            retain_for: pick_s(RETENTIONS_S, byte()),
        },
        30 => Operation::Reopen {
            clock_back: pick_s(CLOCK_BACK_S, byte()),
        },
        _ => Operation::Kill {
            clock_back: pick_s(CLOCK_BACK_S, byte()),
        },
    })
}

/// Terms from two bytes: policy, lease and retention from the first, the fingerprint from the
/// other, mostly none.
fn ask(terms: u8, fingerprint: u8) -> Ask {
    Ask {
        fingerprint: Some([fingerprint % 16; 32]).filter(|f| f[0] < 2),
        lease_for: pick_s(LEASES_S, terms >> 2),
        retain_for: pick_s(RETENTIONS_S, terms >> 4),
        takeover: POLICIES[usize::from(terms % 4)],
    }
}

fn pick_s<const N: usize>(table: [u64; N], index: u8) -> Duration {
    Duration::from_secs(table[usize::from(index) % N])
}

fn pick_us<const N: usize>(table: [u64; N], index: u8) -> Duration {
    Duration::from_micros(table[usize::from(index) % N])
}
