//! Bugs on purpose: the proof that the tests and campaigns find bugs.
//!
//! They exist only under `--cfg firstclaim_bugs`, where the environment variable `FIRSTCLAIM_BUG`
//! selects one by name. In every other build [`is`] is false and the compiler removes it.
//! `.ci/seeded-bugs` fails unless each is caught.

/// A mistake that somebody could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(firstclaim_shuttle, allow(dead_code))] // then the base is a stand-in
pub(crate) enum Bug {
    AnswerBeforeSync,
    NoSyncAtRotation,
    StaleFrameAccepted,
    TornTailAccepted,
    DamageTakenForTornTail,
    RecoveryTrustsPageCache,
    BaseBeforeSegmentSync,
    FenceResetAtReopening,
    FencePerKey,
    ExpiryOffByOne,
    SearchEndsAtExpiredCopy,
    TombstoneLost,
    FrozenDroppedEarly,
    ReaderIgnoresFreezes,
    VacancyOutlivesFreeze,
    HolderRegisteredLate,
    LateDropRemovesNewer,
    UndeliveredLeaseHeld,
    PoisonIgnored,
    OnePhaseBaseCommits,
    ClosedGenerationTakesPut,
    OldSegmentsNotVoided,
    ReleaseHidesInterruption,
    BatchIgnoresEarlierCommands,
    FailedCompleteForgotten,
    HandOverUnnoticed,
    WithdrawalIgnored,
    OthersNotWoken,
    ReaderKeepsItsTime,
    StaleFilterTrusted,
    CompletionDroppedWithFuture,
    WaiterLooksNoMore,
    GoneHolderUnnoticed,
}

/// Whether this run has that bug.
#[cfg(not(firstclaim_bugs))]
#[inline(always)]
pub(crate) const fn is(_: Bug) -> bool {
    false
}

/// Whether this run has that bug.
#[cfg(firstclaim_bugs)]
pub(crate) fn is(bug: Bug) -> bool {
    static SELECTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let selected = SELECTED.get_or_init(|| std::env::var("FIRSTCLAIM_BUG").ok());
    selected
        .as_ref()
        .is_some_and(|name| *name == format!("{bug:?}"))
}
