//! The name of a record: a tenant and a key within it, as one byte string.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use crate::error::{Error, Result};

/// The longest tenant, in bytes.
pub(crate) const MAX_TENANT_BYTES: usize = 255;
/// The longest key that a store may be set to accept, in bytes.
pub(crate) const MAX_KEY_BYTES: usize = 1024;
/// The longest encoded name: length byte, tenant, key.
pub(crate) const MAX_ENCODED_BYTES: usize = 1 + MAX_TENANT_BYTES + MAX_KEY_BYTES;

/// A validated (tenant, key), encoded as: u8 tenant length, tenant, key.
///
/// The length in front keeps names apart, so `("a", "bc")` is not `("ab", "c")`, and the order of
/// the bytes keeps a tenant's keys together.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordKey {
    /// For tables in memory: hashed once, since a claim looks into many.
    hash: u64,
    bytes: Arc<[u8]>,
}

/// A table by key.
pub(crate) type KeyMap<V> = HashMap<RecordKey, V, BuildHasherDefault<Hashed>>;

/// Keyed, so that nobody can choose keys that collide.
static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl RecordKey {
    /// Names `key` of `tenant`.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] if the tenant is not 1 to 255 bytes, or the key not 1 to
    /// `max_key_bytes`.
    pub fn new(tenant: &[u8], key: &[u8], max_key_bytes: usize) -> Result<Self> {
        check_length("tenant", tenant, MAX_TENANT_BYTES)?;
        check_length("key", key, max_key_bytes.min(MAX_KEY_BYTES))?;
        // On the stack, so that only the name that is kept is allocated.
        let mut bytes = [0; MAX_ENCODED_BYTES];
        let (head, rest) = bytes.split_at_mut(1 + tenant.len());
        head[0] = tenant.len() as u8;
        head[1..].copy_from_slice(tenant);
        rest[..key.len()].copy_from_slice(key);
        let encoded_bytes = 1 + tenant.len() + key.len();
        Ok(Self::of(bytes[..encoded_bytes].into()))
    }

    /// Reads an encoded name, or `None` if the bytes are not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let tenant_bytes = usize::from(*bytes.first()?);
        let fits = tenant_bytes >= 1
            && bytes.len() > 1 + tenant_bytes
            && bytes.len() <= 1 + tenant_bytes + MAX_KEY_BYTES;
        fits.then(|| Self::of(bytes.into()))
    }

    fn of(bytes: Arc<[u8]>) -> Self {
        let hash = HASH.hash_one(&*bytes);
        RecordKey { hash, bytes }
    }

    /// The encoded name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Which of `shards` the key belongs to.
    pub(crate) fn shard(&self, shards: usize) -> usize {
        // Bits that a table does not use to find its place.
        (self.hash >> 32) as usize % shards
    }

    /// The tenant's bytes.
    pub fn tenant(&self) -> &[u8] {
        &self.bytes[1..self.key_offset()]
    }

    /// The key's bytes.
    pub fn key(&self) -> &[u8] {
        &self.bytes[self.key_offset()..]
    }

    fn key_offset(&self) -> usize {
        1 + usize::from(self.bytes[0])
    }
}

impl Hash for RecordKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Ord for RecordKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl PartialOrd for RecordKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Takes a key's hash as it is.
#[derive(Debug, Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}",
            self.tenant().escape_ascii(),
            self.key().escape_ascii()
        )
    }
}

/// What the encoded name of every key of `tenant` begins with; the tenant must be valid.
pub(crate) fn tenant_prefix(tenant: &[u8]) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(1 + tenant.len());
    prefix.push(tenant.len() as u8);
    prefix.extend_from_slice(tenant);
    prefix
}

/// Checks a tenant alone, for the calls that take no key.
pub(crate) fn check_tenant(tenant: &[u8]) -> Result<()> {
    check_length("tenant", tenant, MAX_TENANT_BYTES)
}

fn check_length(what: &str, bytes: &[u8], max: usize) -> Result<()> {
    match bytes.len() {
        0 => Err(Error::InvalidKey(format!("the {what} is empty"))),
        n if n > max => Err(Error::InvalidKey(format!(
            "the {what} has {n} bytes, the limit is {max}"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_concatenate_alike_stay_apart() {
        let a = RecordKey::new(b"a", b"bc", 255).unwrap();
        let b = RecordKey::new(b"ab", b"c", 255).unwrap();
        assert_ne!(a, b);
        assert_eq!((a.tenant(), a.key()), (&b"a"[..], &b"bc"[..]));
        assert_eq!((b.tenant(), b.key()), (&b"ab"[..], &b"c"[..]));
    }

    #[test]
    fn lengths_outside_the_bounds_are_refused() {
        let long = vec![0u8; 256];
        for (tenant, key) in [
            (&b""[..], &b"k"[..]),
            (b"t", b""),
            (&long, b"k"),
            (b"t", &long),
        ] {
            assert!(matches!(
                RecordKey::new(tenant, key, 255),
                Err(Error::InvalidKey(_))
            ));
        }
        assert!(RecordKey::new(&[0; 255], &[255; 1024], 1024).is_ok());
        assert!(RecordKey::new(b"t", &[0; 1025], 4096).is_err());
    }

    #[test]
    fn encoded_names_round_trip_and_others_are_refused() {
        let key = RecordKey::new(b"tenant", b"\0\xff", 255).unwrap();
        assert_eq!(RecordKey::from_bytes(key.as_bytes()), Some(key));
        for bytes in [&b""[..], b"\0key", b"\x03abc", b"\x05ab"] {
            assert_eq!(RecordKey::from_bytes(bytes), None);
        }
    }
}
