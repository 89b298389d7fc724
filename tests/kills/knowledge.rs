//! What the parent knows must be true of the store, from what the child reported.

use std::collections::{BTreeMap, BTreeSet};

use crate::line::{Ending, Key, Line};

/// What is known of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// A lease was given, and is not known to have ended.
    Claimed {
        fence: u64,
        attempt: u32,
        saved: bool,
        ending: Option<Ending>,
    },
    /// A lease was dropped or released: a next one may have been given, and not been reported.
    Ended {
        fence: u64,
        attempt: u32,
        saved: bool,
        released: bool,
    },
    /// Completed, under this fence.
    Done { fence: u64 },
}

/// What is known of all keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    pub(crate) keys: BTreeMap<Key, Known>,
    /// The keys that were reported on since the store was last inspected.
    pub(crate) touched: BTreeSet<Key>,
    /// No fence that is given from now on may be this or less.
    pub(crate) highest_fence: u64,
}

impl Knowledge {
    /// Adds one line of the child. `floor` is the highest fence known before that child began.
    ///
    /// Panics if the line cannot be true: two holders at once, a fence or an attempt that did not
    /// rise, a completion that is gone.
    pub(crate) fn learn(&mut self, line: &Line, floor: u64) {
        if let Some(key) = line.key() {
            self.touched.insert(key.clone());
        }
        match line {
            Line::Begin(_) | Line::End(_) => {}
            Line::Fence(fence) => self.learn_fence(*fence, floor),
            Line::Claimed(key, fence, attempt) => {
                self.learn_fence(*fence, floor);
                self.learn_claim(key, *fence, *attempt);
            }
            Line::Saved(key, fence) => match self.holder(key, *fence) {
                Known::Claimed { saved, .. } => *saved = true,
                other => panic!("{line} after {other:?}"),
            },
            Line::Ending(key, fence, how) => match self.holder(key, *fence) {
                Known::Claimed { ending, .. } => *ending = Some(*how),
                other => panic!("{line} after {other:?}"),
            },
            Line::Ended(key, fence, how) => self.learn_end(key, *fence, *how),
            Line::Replayed(key, fence) => self.learn_replay(key, *fence),
        }
    }

    fn learn_fence(&mut self, fence: u64, floor: u64) {
        assert!(fence > floor, "fence {fence} was given after {floor}");
        self.highest_fence = self.highest_fence.max(fence);
    }

    fn learn_claim(&mut self, key: &Key, fence: u64, attempt: u32) {
        let expected = match self.keys.get(key) {
            None => 1,
            Some(Known::Done { .. }) => panic!("{key} was done, and then claimed under {fence}"),
            // Ending, but not known to have ended: its end came before this claim.
            Some(Known::Claimed {
                fence: before,
                attempt,
                ending: Some(how),
                ..
            }) if *how != Ending::Complete && *before < fence => attempt + 1,
            Some(Known::Ended {
                fence: before,
                attempt,
                ..
            }) if *before < fence => attempt + 1,
            Some(other) => panic!("{key} was claimed under {fence} while it was {other:?}"),
        };
        assert_eq!(attempt, expected, "the attempt on {key} under {fence}");
        let claimed = Known::Claimed {
            fence,
            attempt,
            saved: false,
            ending: None,
        };
        self.keys.insert(key.clone(), claimed);
    }

    fn learn_end(&mut self, key: &Key, fence: u64, how: Ending) {
        let known = self
            .keys
            .get_mut(key)
            .unwrap_or_else(|| panic!("{key} ended unclaimed"));
        match (*known, how) {
            (
                Known::Claimed {
                    fence: current,
                    attempt,
                    saved,
                    ..
                },
                _,
            ) if current == fence => {
                *known = match how {
                    Ending::Complete => Known::Done { fence },
                    _ => {
                        let released = how == Ending::Release;
                        Known::Ended {
                            fence,
                            attempt,
                            saved,
                            released,
                        }
                    }
                };
            }
            // Somebody saw the answer before its holder could tell.
            (Known::Done { fence: current }, Ending::Complete) if current == fence => {}
            // The next holder was faster to tell.
            (Known::Claimed { fence: current, .. } | Known::Ended { fence: current, .. }, _)
                if current > fence && how != Ending::Complete => {}
            (Known::Done { fence: current }, _) if current > fence && how != Ending::Complete => {}
            (other, _) => panic!("{key} ended under {fence} by {how:?} while it was {other:?}"),
        }
    }

    fn learn_replay(&mut self, key: &Key, fence: u64) {
        let known = self
            .keys
            .get_mut(key)
            .unwrap_or_else(|| panic!("{key} replayed unclaimed"));
        match *known {
            Known::Done { fence: current } if current == fence => {}
            Known::Claimed {
                fence: current,
                ending: Some(Ending::Complete),
                ..
            } if current == fence => {
                *known = Known::Done { fence };
            }
            other => panic!("{key} was answered from {fence} while it was {other:?}"),
        }
    }

    fn holder(&mut self, key: &Key, fence: u64) -> &mut Known {
        let known = self
            .keys
            .get_mut(key)
            .unwrap_or_else(|| panic!("{key} was never claimed"));
        let is_held = matches!(known, Known::Claimed { fence: current, .. } if *current == fence);
        assert!(is_held, "{fence} acts on {key}, which is {known:?}");
        known
    }
}
