//! A payment: a number, the key that its client made for it, an amount.

use std::fmt;
use std::str::FromStr;

use firstclaim::Fingerprint;

/// One payment that a client wants made, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Payment(pub(crate) u32);

impl Payment {
    /// The idempotency key: the client makes it once, and sends it with every retry.
    pub(crate) fn key(self) -> String {
        self.to_string()
    }

    pub(crate) fn cents(self) -> u32 {
        100 + self.0 % 9_900
    }

    /// What the request asks for, so that one key used for two payments would be noticed.
    pub(crate) fn fingerprint(self) -> Fingerprint {
        Fingerprint::of([
            b"charge".as_slice(),
            self.key().as_bytes(),
            &self.cents().to_le_bytes(),
        ])
    }
}

impl fmt::Display for Payment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "payment-{:06}", self.0)
    }
}

impl FromStr for Payment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix("payment-")
            .and_then(|number| number.parse().ok())
            .map(Payment)
            .ok_or_else(|| format!("{text:?} is not a payment"))
    }
}
