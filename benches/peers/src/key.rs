//! Names as a payment service would have them.

/// A tenant and a key of it: a UUID as clients make them.
#[derive(Debug, Clone)]
pub struct Key {
    pub tenant: String,
    pub key: String,
}

const TENANTS: u64 = 1000;

impl Key {
    /// The `n`th of the keys that a store is filled with.
    pub fn live(n: u64) -> Self {
        Self::of(u128::from(mixed(n)) << 64 | u128::from(mixed(!n)))
    }

    /// One that was never used before.
    pub fn fresh() -> Self {
        Self::of(fastrand::u128(..))
    }

    fn of(number: u128) -> Self {
        let hex = format!("{number:032x}");
        let (a, b, c, d, e) = (
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        );
        Key {
            tenant: format!("acct_{:04}", number as u64 % TENANTS),
            key: format!("{a}-{b}-{c}-{d}-{e}"),
        }
    }

    /// Both in one string, for engines that have one name only.
    pub fn joined(&self) -> String {
        format!("{}:{}", self.tenant, self.key)
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
fn mixed(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
