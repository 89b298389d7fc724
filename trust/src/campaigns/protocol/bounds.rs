//! How far the checker goes.

use std::fmt;

use firstclaim::internals::record::Takeover;

use super::record::KEYS;

/// The policies of the two keys, one run each.
pub const POLICIES: [[Takeover; KEYS]; 2] = [
    [Takeover::Gone, Takeover::Expired],
    [Takeover::GoneOrExpired, Takeover::Never],
];

/// The spaces explored, under each pair of policies.
pub const USUAL: [Bounds; 5] = [
    // Enough leases for one after the release of an interrupted one, which uses up a fence.
    Bounds::new(4, 0, 1, 0),
    Bounds::new(2, 1, 1, 1).in_all_orders(),
    Bounds::new(2, 1, 2, 1),
    Bounds::new(2, 2, 1, 1),
    Bounds::new(3, 1, 1, 1),
];

/// Those that take longer.
pub const LONG: [Bounds; 3] = [
    Bounds::new(2, 2, 1, 1).in_all_orders(),
    Bounds::new(2, 2, 2, 1),
    Bounds::new(3, 2, 1, 0),
];

/// How far a run goes, and which orders of steps it tries.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Leases given.
    pub leases: u8,
    /// The last tick of the clock.
    pub ticks: u8,
    pub crashes: u8,
    /// Checkpoints begun.
    pub freezes: u8,
    pub orders: Orders,
}

/// Which orders of steps are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orders {
    All,
    /// Nothing but a crash comes between the steps of a commit. The others commute with those: a
    /// commit reads what they change when it begins, and they do not read what it writes, save for
    /// the reader, who may as well begin before or after, and a checkpoint, which notes the highest
    /// fence: one that was not given in the end does no harm there.
    AroundCommits,
}

impl Bounds {
    pub const fn new(leases: u8, ticks: u8, crashes: u8, freezes: u8) -> Self {
        Bounds {
            leases,
            ticks,
            crashes,
            freezes,
            orders: Orders::AroundCommits,
        }
    }

    pub const fn in_all_orders(self) -> Self {
        Bounds {
            orders: Orders::All,
            ..self
        }
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} leases {} ticks {} crashes {} checkpoints",
            self.leases, self.ticks, self.crashes, self.freezes
        )?;
        match self.orders {
            Orders::All => write!(f, " all orders"),
            Orders::AroundCommits => Ok(()),
        }
    }
}
