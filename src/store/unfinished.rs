//! Keys whose operations have not been completed.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::engine::Seen;
use crate::key::RecordKey;
use crate::record::{Fence, Holder, Record, State};

/// A key that is in flight, interrupted or released.
#[derive(Clone)]
pub struct Unfinished {
    key: RecordKey,
    record: Arc<Record>,
    state: UnfinishedState,
}

/// Where an unfinished key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnfinishedState {
    /// Its holder is alive.
    InFlight,
    /// Its holder is gone, and what it did is unknown.
    Interrupted,
    /// Its holder gave it back: it can be claimed.
    Released,
}

impl Unfinished {
    pub(super) fn of((key, (record, holder)): (RecordKey, Seen)) -> Self {
        let state = match (&record.state, holder) {
            (State::Released, _) => UnfinishedState::Released,
            (_, Holder::Alive) => UnfinishedState::InFlight,
            (_, Holder::Gone) => UnfinishedState::Interrupted,
        };
        Unfinished { key, record, state }
    }

    /// The tenant.
    pub fn tenant(&self) -> &[u8] {
        self.key.tenant()
    }

    /// The key within its tenant.
    pub fn key(&self) -> &[u8] {
        self.key.key()
    }

    /// Where it stands.
    pub fn state(&self) -> UnfinishedState {
        self.state
    }

    /// When its latest attempt began.
    pub fn since(&self) -> SystemTime {
        self.record.since.into()
    }

    /// How many attempts there have been.
    pub fn attempt(&self) -> u32 {
        self.record.attempt
    }

    /// The token of its record.
    pub fn fence(&self) -> Fence {
        self.record.fence
    }

    /// The bytes its attempts saved last.
    pub fn recovery_point(&self) -> Option<&[u8]> {
        self.record.recovery_point.as_deref()
    }
}

impl fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unfinished")
            .field("key", &self.key)
            .field("state", &self.state)
            .field("attempt", &self.attempt())
            .field("fence", &self.fence())
            .finish_non_exhaustive()
    }
}
