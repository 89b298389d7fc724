//! What a command makes of its key, before it is written.

use crate::engine::overlay::{Entry, unfinished_bytes};
use crate::key::RecordKey;
use crate::record::{Fence, State};
use crate::transition::Reply;

/// What a command makes of its key.
pub(super) struct Decided {
    /// The record before.
    pub(super) before: Entry,
    /// The record after, if it changes.
    pub(super) change: Option<Entry>,
    pub(super) reply: Reply,
}

/// What changes add to the unfinished records.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Growth {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Decided {
    /// The attempt that was in flight, if it is no longer, or its lease ends sooner.
    pub(super) fn ended(&self) -> Option<Fence> {
        let end_of = |entry: &Entry| match entry.as_deref() {
            Some(record) => match record.state {
                State::InFlight { ends_at } => Some((record.fence, ends_at)),
                _ => None,
            },
            None => None,
        };
        let (fence, end) = end_of(&self.before)?;
        let after = self.change.as_ref().and_then(end_of);
        let goes_on = after.is_some_and(|(other, later)| other == fence && later >= end);
        (!goes_on).then_some(fence)
    }

    pub(super) fn growth(&self, key: &RecordKey) -> Growth {
        let Some(after) = &self.change else {
            return Growth::default();
        };
        let size = |entry: &Entry| match entry {
            Some(record) if record.is_unfinished() => (1, unfinished_bytes(key, record)),
            _ => (0, 0),
        };
        let ((records, bytes), (records_before, bytes_before)) = (size(after), size(&self.before));
        Growth {
            records: usize::saturating_sub(records, records_before),
            bytes: usize::saturating_sub(bytes, bytes_before),
        }
    }
}
