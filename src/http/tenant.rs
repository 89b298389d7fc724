//! Whose keys they are.

use http::Response;
use http::request::Parts;

use super::Body;
use crate::error::{Error, Result};
use crate::key::MAX_TENANT_BYTES;

/// Whose keys a request's are: 1 to 255 bytes.
///
/// A stable account id, never the credential itself: it would be written to disk, and a refreshed
/// token would make retries look new.
///
/// ```
/// use firstclaim::http::Tenant;
///
/// assert_eq!(Tenant::new("acct_42")?, Tenant::try_from("acct_42")?);
/// let of_a_hash = Tenant::from([7; 32]);
/// let of_a_number = Tenant::from(42);
/// assert_eq!(of_a_number.as_bytes(), b"42");
/// # Ok::<(), firstclaim::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(Box<[u8]>);

impl Tenant {
    /// The tenant with this id.
    ///
    /// # Errors
    /// `InvalidKey` unless it is 1 to 255 bytes.
    pub fn new(id: impl AsRef<[u8]>) -> Result<Self> {
        let id = id.as_ref();
        match id.len() {
            1..=MAX_TENANT_BYTES => Ok(Tenant(id.into())),
            n => Err(Error::InvalidKey(format!(
                "the tenant has {n} bytes, not 1 to {MAX_TENANT_BYTES}"
            ))),
        }
    }

    /// The id.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<u64> for Tenant {
    /// By its decimal digits.
    fn from(id: u64) -> Self {
        Tenant(id.to_string().into_bytes().into())
    }
}

macro_rules! from_bytes {
    ($($length:literal)*) => {$(
        impl From<[u8; $length]> for Tenant {
            fn from(id: [u8; $length]) -> Self {
                Tenant(id.into())
            }
        }
    )*};
}

// A UUID; a hash.
from_bytes!(16 32);

impl TryFrom<&str> for Tenant {
    type Error = Error;

    fn try_from(id: &str) -> Result<Self> {
        Tenant::new(id)
    }
}

impl TryFrom<String> for Tenant {
    type Error = Error;

    fn try_from(id: String) -> Result<Self> {
        Tenant::new(id)
    }
}

impl TryFrom<&[u8]> for Tenant {
    type Error = Error;

    fn try_from(id: &[u8]) -> Result<Self> {
        Tenant::new(id)
    }
}

/// For a service whose clients are all one tenant: their keys are not kept apart.
///
/// ```
/// use firstclaim::Store;
/// use firstclaim::http::{IdempotencyLayer, single_tenant};
///
/// let layer = IdempotencyLayer::new(Store::in_memory()?, single_tenant());
/// # Ok::<(), firstclaim::Error>(())
/// ```
#[allow(clippy::result_large_err)] // a response, as users have it
pub fn single_tenant() -> impl Fn(&Parts) -> Result<Tenant, Response<Body>> + Clone {
    |_| Ok(Tenant(b"single".as_slice().into()))
}
