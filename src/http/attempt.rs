//! What an operation can know of its lease.

use std::sync::{Arc, Weak};

use crate::claim::Lease;
use crate::error::{Error, Result};
use crate::record::{Fence, Previous};

/// The attempt that a protected request is, in the request's extensions. Cheap to clone.
///
/// An operation that finds that an earlier attempt was cut short looks first what that did:
///
/// ```
/// use firstclaim::Previous;
/// use firstclaim::http::Attempt;
///
/// # fn id_of(_: &[u8]) -> u64 { 7 }
/// # fn find(_: u64) -> Option<String> { None }
/// # fn create(_: u64) -> String { "created".to_owned() }
/// async fn order(attempt: Attempt) -> firstclaim::Result<String> {
///     let id = match attempt.recovery_point() {
///         Some(point) => id_of(point),
///         None => 7, // a fresh one
///     };
///     if attempt.previous() == Previous::Interrupted {
///         if let Some(order) = find(id) {
///             return Ok(order);
///         }
///     }
///     attempt.save_recovery_point(id.to_le_bytes()).await?;
///     Ok(create(id))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Attempt {
    facts: Arc<Facts>,
    /// Not a handle: whoever keeps an attempt must not keep its lease alive.
    lease: Weak<Lease>,
}

#[derive(Debug)]
struct Facts {
    key: Box<[u8]>,
    tenant: Box<[u8]>,
    attempt: u32,
    previous: Previous,
    fence: Fence,
    recovery_point: Option<Box<[u8]>>,
}

impl Attempt {
    pub(super) fn of(lease: &Arc<Lease>) -> Self {
        Attempt {
            facts: Arc::new(Facts {
                key: lease.key().into(),
                tenant: lease.tenant().into(),
                attempt: lease.attempt(),
                previous: lease.previous(),
                fence: lease.fence(),
                recovery_point: lease.recovery_point().map(Into::into),
            }),
            lease: Arc::downgrade(lease),
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.facts.key
    }

    /// Whose it is.
    pub fn tenant(&self) -> &[u8] {
        &self.facts.tenant
    }

    /// 1 for the first attempt, one more for each further one.
    pub fn attempt(&self) -> u32 {
        self.facts.attempt
    }

    /// How the attempts before this one ended. After [`Previous::Interrupted`], find out what they
    /// did before running the operation again.
    pub fn previous(&self) -> Previous {
        self.facts.previous
    }

    /// The fencing token, for the systems that the operation touches.
    pub fn fence(&self) -> Fence {
        self.facts.fence
    }

    /// The bytes that an earlier attempt saved last.
    pub fn recovery_point(&self) -> Option<&[u8]> {
        self.facts.recovery_point.as_deref()
    }

    /// Saves bytes for the next attempt, should this one be cut short; they replace what was saved
    /// before. Once the future was polled, the bytes may be saved even if it is dropped.
    ///
    /// # Errors
    /// As [`Lease::save_recovery_point`]; `Fenced` if the operation is over.
    pub async fn save_recovery_point(&self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let lease = self.lease.upgrade().ok_or(Error::Fenced)?;
        let saved = lease.save_recovery_point_async(bytes);
        drop(lease);
        saved.await
    }
}
