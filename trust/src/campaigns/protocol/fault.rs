//! Variants of the protocol that are broken in one place: the model must find each.

use firstclaim::internals::record::Takeover;
use stateright::{Checker, HasDiscoveries, Model};

use super::bounds::Bounds;
use super::model::Protocol;
use super::record::KEYS;
use super::rules::Rule;
use super::state::Setting;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Callers are answered, and readers shown, before the frame is synced.
    AnswerBeforeSync,
    /// Readers are shown what is not synced; callers wait.
    ShowBeforeSync,
    /// What is frozen is no longer looked at once the base begins to take it.
    FrozenDroppedBeforeCommit,
    /// It is dropped after the base's commit, but before the new list of generations is out.
    FrozenDroppedBeforePublish,
    /// The frozen segment is void after the first of the base's transactions, not the last.
    SegmentVoidTooEarly,
    /// A holder is registered when its caller is answered, after its record is shown.
    HolderAfterPublish,
    /// A dropped guard removes whoever holds its key.
    DropRemovesNewerHolder,
    /// Reopening takes the fence from the base alone, not from the frames.
    FenceResetAtReopening,
    /// Reopening takes the time from the base alone.
    TimeResetAtReopening,
    /// Reopening takes the holders of the earlier run for alive.
    HoldersKeptAtReopening,
    /// Of a frame that was cut off, what is there counts.
    FrameNotWhole,
    /// Reopening reads frames that are only in the page cache, and does not write them again.
    RecoveryTrustsPageCache,
    /// Reopening takes every transaction of the base for the last.
    RecoveryEndsEarly,
    /// A checkpoint leaves older copies of a key in their generations.
    CopiesLeftBehind,
    /// With that, an expired copy ends the search in the base. One copy a key is the first
    /// defence, so the second is missed only where the first is gone.
    ExpiredCopyEndsSearch,
    /// With that, the oldest copy is the answer.
    OldestCopyAnswers,
    /// A tombstone in memory does not hide what is older.
    TombstonePassedOver,
    /// A sweep does not store the time that justified it.
    RemovalWithoutTime,
    /// A command does not see the write of an earlier one in its batch.
    BatchBlindToItself,
    /// Any fence renews.
    FenceNotCompared,
    /// A release makes an interrupted key look as if it never was.
    ReleaseHidesInterruption,
    /// A release makes an interrupted key released, whatever its policy.
    ReleaseFreesInterrupted,
}

/// A fault, the rule it breaks, and a space in which it does.
pub struct Finding {
    pub fault: Fault,
    pub rule: Rule,
    policy: Takeover,
    bounds: Bounds,
}

/// Every fault. Every rule is broken by one of them.
#[rustfmt::skip]
pub const FINDINGS: [Finding; 22] = [
    finding(Fault::AnswerBeforeSync, Rule::NothingLost, Takeover::Gone, Bounds::new(1, 0, 1, 0)),
    finding(Fault::ShowBeforeSync, Rule::SeenIsDurable, Takeover::Gone, Bounds::new(1, 0, 1, 0)),
    finding(Fault::FrozenDroppedBeforeCommit, Rule::DoneIsNotClaimed, Takeover::Gone, Bounds::new(2, 0, 0, 1)),
    finding(Fault::FrozenDroppedBeforePublish, Rule::SeenWasSo, Takeover::Gone, Bounds::new(1, 0, 0, 1)),
    finding(Fault::SegmentVoidTooEarly, Rule::NothingLost, Takeover::Gone, Bounds::new(2, 0, 1, 1)),
    finding(Fault::HolderAfterPublish, Rule::LiveSeenLive, Takeover::Gone, Bounds::new(1, 0, 0, 0)),
    finding(Fault::DropRemovesNewerHolder, Rule::OneLiveLease, Takeover::GoneOrExpired, Bounds::new(3, 1, 0, 0)),
    finding(Fault::FenceResetAtReopening, Rule::FencesRise, Takeover::Gone, Bounds::new(2, 1, 1, 0)),
    finding(Fault::TimeResetAtReopening, Rule::TimeForward, Takeover::Gone, Bounds::new(1, 1, 1, 0)),
    finding(Fault::HoldersKeptAtReopening, Rule::AnswersFollow, Takeover::Gone, Bounds::new(2, 0, 1, 0)),
    finding(Fault::FrameNotWhole, Rule::NothingLost, Takeover::Gone, Bounds::new(2, 0, 1, 0)),
    finding(Fault::RecoveryTrustsPageCache, Rule::NothingLost, Takeover::Gone, Bounds::new(2, 0, 2, 0)),
    finding(Fault::RecoveryEndsEarly, Rule::NothingLost, Takeover::Gone, Bounds::new(2, 0, 2, 0)),
    finding(Fault::CopiesLeftBehind, Rule::NothingLost, Takeover::Gone, Bounds::new(1, 0, 1, 1)),
    finding(Fault::ExpiredCopyEndsSearch, Rule::NothingLost, Takeover::Gone, Bounds::new(2, 1, 2, 0)),
    finding(Fault::OldestCopyAnswers, Rule::ReplaysExact, Takeover::Gone, Bounds::new(2, 0, 0, 2)),
    finding(Fault::TombstonePassedOver, Rule::AnswersFollow, Takeover::Gone, Bounds::new(1, 0, 0, 1)),
    finding(Fault::RemovalWithoutTime, Rule::TimeForward, Takeover::Gone, Bounds::new(1, 1, 1, 1)),
    finding(Fault::BatchBlindToItself, Rule::OneLiveLease, Takeover::Gone, Bounds::new(2, 0, 0, 0)),
    finding(Fault::FenceNotCompared, Rule::StaleRefused, Takeover::Expired, Bounds::new(2, 1, 0, 0)),
    finding(Fault::ReleaseHidesInterruption, Rule::InterruptionShown, Takeover::Gone, Bounds::new(4, 0, 0, 0)),
    finding(Fault::ReleaseFreesInterrupted, Rule::NeverMeansNever, Takeover::Never, Bounds::new(4, 0, 0, 0)),
];

const fn finding(fault: Fault, rule: Rule, policy: Takeover, bounds: Bounds) -> Finding {
    Finding {
        fault,
        rule,
        policy,
        bounds,
    }
}

impl Finding {
    /// Looks for it, breadth first. If it is not there, so many states were seen.
    pub fn look(&self) -> Result<(), usize> {
        let protocol = Protocol {
            setting: Setting {
                policies: [self.policy; KEYS],
                fault: Some(self.fault),
            },
            bounds: self.bounds,
        };
        let when = HasDiscoveries::AnyOf([self.rule.name()].into());
        let checked = protocol.checker().finish_when(when).spawn_bfs().join();
        match checked.discovery(self.rule.name()) {
            Some(_) => Ok(()),
            None => Err(checked.unique_state_count()),
        }
    }
}
