//! Variants of the protocol that are broken in one place: the model must find each.

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Callers are answered, and readers shown, before the frame is synced.
    AnswerBeforeSync,
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
    /// Reopening reads frames that are only in the page cache, and does not write them again.
    RecoveryTrustsPageCache,
    /// Reopening takes every transaction of the base for the last.
    RecoveryEndsEarly,
    /// A checkpoint leaves older copies of a key in their generations.
    CopiesLeftBehind,
    /// With that, an expired copy ends the search in the base. One copy a key is the first
    /// defence, so the second is missed only where the first is gone.
    ExpiredCopyEndsSearch,
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
}
