//! The response of a completed operation.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::record::{Record, State};
use crate::time::Timestamp;

/// The response of a completed operation.
#[cfg_attr(
    feature = "json",
    doc = r#"
Stored by [`Lease::complete_json`](crate::Lease::complete_json), it can be read as JSON again:

```
use firstclaim::{Claim, Store};

let store = Store::in_memory()?;
if let Claim::Claimed(lease) = store.claim("acct", "key")? {
    lease.complete_json(&("created", 7))?;
}
if let Claim::Done(response) = store.claim("acct", "key")? {
    assert_eq!(response.json::<(String, u32)>()?, ("created".to_owned(), 7));
}
# Ok::<(), Box<dyn std::error::Error>>(())
```"#
)]
#[derive(Clone)]
pub struct StoredResponse {
    response: Arc<[u8]>,
    completed_at: Timestamp,
    expires_at: Timestamp,
}

impl StoredResponse {
    /// The response in a record, if that is done.
    pub(crate) fn of(record: Arc<Record>) -> Option<Self> {
        match &record.state {
            State::Done {
                completed_at,
                response,
            } => Some(StoredResponse {
                response: response.clone(),
                completed_at: *completed_at,
                expires_at: record.expires_at,
            }),
            _ => None,
        }
    }

    /// The bytes it was completed with.
    pub fn bytes(&self) -> &[u8] {
        &self.response
    }

    /// When it was completed.
    pub fn completed_at(&self) -> SystemTime {
        self.completed_at.into()
    }

    /// When it is forgotten: from then on the key is vacant.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at.into()
    }

    /// The response read as JSON.
    ///
    /// # Errors
    /// What `serde_json` says if it is not the JSON of a `T`.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.response)
    }
}

impl fmt::Debug for StoredResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredResponse")
            .field("bytes", &self.response.len())
            .field("completed_at", &self.completed_at)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}
