//! What is being committed.

use super::record::{Call, Lease};
use super::rules::Truth;
use super::store::Frames;

/// Commands that go into one frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Batch {
    /// The calls, and what each client holds once it is answered.
    pub answers: Vec<(Call, Option<Lease>)>,
    pub frame: Frames,
    pub after: Truth,
    pub synced: bool,
    pub shown: bool,
    pub answered: bool,
}

impl Batch {
    /// Whether a client of the batch has the guard of a lease, or is going to.
    pub fn knows(&self, lease: Lease) -> bool {
        let mut given = self.answers.iter();
        self.is_called_under(lease) || given.any(|(_, answer)| *answer == Some(lease))
    }

    pub fn is_called_under(&self, lease: Lease) -> bool {
        let mut answers = self.answers.iter();
        answers.any(|(call, _)| call.lease() == Some(lease))
    }

    pub fn highest_fence(&self) -> u8 {
        let given = self.answers.iter().filter_map(|(_, answer)| *answer);
        given.map(|lease| lease.fence).max().unwrap_or(0)
    }
}
