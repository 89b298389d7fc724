//! After a kill: opens the store, and holds what it finds against what is known.

use std::collections::BTreeMap;

use firstclaim::{Claim, Peek, Store, Unfinished, UnfinishedState};

use crate::child::{self, TENANT, fence_of};
use crate::knowledge::{Knowledge, Known};
use crate::line::{Ending, Key};
use crate::random::Random;

/// How many unfinished keys an inspection takes over.
const TAKEN_OVER: usize = 30;

/// One opening of a killed child's store.
pub(crate) struct Inspection<'a> {
    store: &'a Store,
    unfinished: BTreeMap<Key, Unfinished>,
}

impl<'a> Inspection<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        let mut unfinished = BTreeMap::new();
        for record in store.tenant(TENANT).unfinished().unwrap() {
            let key = String::from_utf8(record.key().to_vec()).unwrap();
            assert_ne!(
                record.state(),
                UnfinishedState::InFlight,
                "{key} has a holder, who was killed"
            );
            let twice = unfinished.insert(key, record);
            assert!(twice.is_none(), "listed twice: {twice:?}");
        }
        Inspection { store, unfinished }
    }

    /// Compares what is in the store with what is known: every unfinished key, every key reported
    /// on lately, and about `sample` of the others. What is seen is known then.
    pub(crate) fn check(&self, knowledge: &mut Knowledge, sample: u64, random: &mut Random) {
        let keys = knowledge.keys.len() as u64 + 1;
        for (key, known) in &mut knowledge.keys {
            let due = knowledge.touched.contains(key) || self.unfinished.contains_key(key);
            if due || random.within(0..keys) < sample {
                *known = self.check_key(key, *known);
            }
        }
        for (key, record) in &self.unfinished {
            knowledge.highest_fence = knowledge.highest_fence.max(record.fence().as_u64());
            knowledge.keys.entry(key.clone()).or_insert_with(|| {
                // Claimed, but the kill came before the report.
                assert_eq!(record.attempt(), 1, "{key} is unknown");
                known_of(record, false)
            });
        }
    }

    /// What is in the store under `key`, which must be what is known or what may have followed.
    fn check_key(&self, key: &Key, known: Known) -> Known {
        let peek = self.store.peek(TENANT, key).unwrap();
        let Some(peek) = peek else {
            panic!("{key} is vacant, and was {known:?}");
        };
        if let Peek::Done(response) = peek {
            assert!(
                !self.unfinished.contains_key(key),
                "{key} is done, and unfinished"
            );
            let fence = fence_of(key, response.bytes());
            match known {
                Known::Done { fence: by } if by == fence => {}
                Known::Claimed {
                    fence: by,
                    ending: Some(Ending::Complete),
                    ..
                } if by == fence => {}
                _ => panic!("{key} was completed under {fence}, and was {known:?}"),
            }
            return Known::Done { fence };
        }
        let Some(record) = self.unfinished.get(key) else {
            panic!("{key} is {peek:?}, not listed as unfinished, and was {known:?}");
        };
        let saved = self.check_unfinished(key, record, known);
        assert!(
            !saved || has_point(record, key),
            "{key} lost its recovery point: {record:?}"
        );
        known_of(record, saved)
    }

    /// An unfinished record is the one known, or one that may have followed. Returns whether its
    /// holder is known to have saved a recovery point.
    fn check_unfinished(&self, key: &Key, record: &Unfinished, known: Known) -> bool {
        let (fence, attempt, saved, endings) = match known {
            Known::Claimed {
                fence,
                attempt,
                saved,
                ending: None,
            } => (fence, attempt, saved, vec![]),
            Known::Claimed {
                fence,
                attempt,
                saved,
                ending: Some(ending),
            } => (fence, attempt, saved, vec![ending]),
            Known::Ended {
                fence,
                attempt,
                saved,
                released,
            } => {
                let ending = if released {
                    Ending::Release
                } else {
                    Ending::Drop
                };
                (fence, attempt, saved, vec![ending])
            }
            Known::Done { .. } => panic!("{key} was done, and is {record:?}"),
        };
        let may_have = |ending| endings.contains(&ending);
        let released = record.state() == UnfinishedState::Released;
        match (record.fence().as_u64(), record.attempt()) {
            found if found == (fence, attempt) => {
                let is_sure = matches!(known, Known::Ended { .. });
                assert!(
                    !released || may_have(Ending::Release),
                    "{key} was {known:?}"
                );
                assert!(
                    !is_sure || released == may_have(Ending::Release),
                    "{key} was {known:?}"
                );
                saved
            }
            // Released after an interruption: interrupted again, under a fence that nobody holds.
            (higher, same)
                if higher > fence
                    && same == attempt
                    && attempt > 1
                    && may_have(Ending::Release) =>
            {
                assert!(!released, "{key} hides an interruption: {record:?}");
                false
            }
            // The next holder was killed before it could tell.
            (higher, next)
                if higher > fence
                    && next == attempt + 1
                    && (may_have(Ending::Release) || may_have(Ending::Drop)) =>
            {
                assert!(
                    !released,
                    "{key} was released by a holder who never told: {record:?}"
                );
                false
            }
            _ => panic!("{key} was {known:?}, and is {record:?}"),
        }
    }

    /// Fences rise above every one that was ever reported, and what is in the store can be used:
    /// takes over some of the unfinished keys, and completes most of them.
    pub(crate) fn go_on(&self, knowledge: &mut Knowledge, life: u64, random: &mut Random) {
        self.probe_fence(knowledge, life);
        let mut keys: Vec<&Key> = self.unfinished.keys().collect();
        random.shuffle(&mut keys);
        for key in keys.into_iter().take(TAKEN_OVER) {
            let record = &self.unfinished[key];
            let Claim::Claimed(lease) = self.store.claim(TENANT, key).unwrap() else {
                panic!("{key} has no holder, and was not claimed");
            };
            let (fence, attempt) = (lease.fence().as_u64(), lease.attempt());
            assert_eq!(attempt, record.attempt() + 1, "the next attempt on {key}");
            assert_eq!(lease.recovery_point(), record.recovery_point());
            assert!(
                fence > knowledge.highest_fence,
                "fence {fence} was given after {}",
                knowledge.highest_fence
            );
            knowledge.highest_fence = fence;
            let known = if random.chance(75) {
                lease.complete(child::response(key, fence)).unwrap();
                Known::Done { fence }
            } else {
                Known::Ended {
                    fence,
                    attempt,
                    saved: false,
                    released: false,
                }
            };
            knowledge.keys.insert(key.clone(), known);
        }
    }

    fn probe_fence(&self, knowledge: &mut Knowledge, life: u64) {
        let probe = format!("probe-{life}");
        let Claim::Claimed(lease) = self.store.claim(child::SHORT_LIVED, probe).unwrap() else {
            panic!("the key of life {life}'s probe is new");
        };
        let fence = lease.fence().as_u64();
        assert!(
            fence > knowledge.highest_fence,
            "fence {fence} was given after {}",
            knowledge.highest_fence
        );
        knowledge.highest_fence = fence;
        lease
            .complete_for("", std::time::Duration::from_millis(1))
            .unwrap();
    }
}

fn known_of(record: &Unfinished, saved: bool) -> Known {
    Known::Ended {
        fence: record.fence().as_u64(),
        attempt: record.attempt(),
        saved,
        released: record.state() == UnfinishedState::Released,
    }
}

fn has_point(record: &Unfinished, key: &str) -> bool {
    record.recovery_point() == Some(&child::point(key, record.fence().as_u64()))
}
