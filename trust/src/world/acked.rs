//! What a store has acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firstclaim::Error;
use firstclaim::internals::record::{Holder, Record};
use firstclaim::internals::transition::Reply;
use firstclaim::internals::{Answer, Engine, Timestamp};

use super::key;

/// Everything that was acknowledged.
#[derive(Debug, Clone, Default)]
pub struct Acked {
    pub records: BTreeMap<String, Arc<Record>>,
    /// The highest fence that was given.
    pub fence: u64,
    /// Keys whose records were worked out rather than told, so that their fences are not known.
    pub(super) worked_out: BTreeSet<String>,
    /// An answer that should not have been given.
    pub wrong: Option<String>,
}

impl Acked {
    /// The record of a key at `now`, if no holder is alive.
    pub(super) fn live(&self, name: &str, now: Timestamp) -> Option<&Arc<Record>> {
        let record = self.records.get(name)?;
        (!record.is_expired(Holder::Gone, now)).then_some(record)
    }

    /// Whether what was found is what this state says.
    pub(super) fn fits(&self, name: &str, found: Option<&Arc<Record>>, now: Timestamp) -> bool {
        match (found, self.live(name, now)) {
            (Some(found), Some(expected)) if self.worked_out.contains(name) => {
                let expected = Record {
                    fence: found.fence,
                    ..(**expected).clone()
                };
                **found == expected
            }
            (found, expected) => found == expected,
        }
    }

    pub(super) fn note(&mut self, name: &str, answer: &Answer) {
        match &answer.record {
            Some(record) => {
                let fence = record.fence.as_u64();
                if answer.reply == Reply::Claimed && fence <= self.fence {
                    self.wrong.get_or_insert(format!(
                        "{name} was given fence {fence} after {}",
                        self.fence
                    ));
                }
                self.fence = self.fence.max(record.fence.as_u64());
                self.records.insert(name.to_owned(), record.clone());
                self.worked_out.remove(name);
            }
            None => {
                self.records.remove(name);
            }
        }
    }

    /// What the engine shows that this state does not say; errors that `is_excused` excuses show
    /// nothing.
    pub fn wrong_shown(
        &self,
        engine: &Engine,
        holder: impl Fn(&str) -> Holder,
        is_excused: impl Fn(&Error) -> bool,
    ) -> Option<String> {
        let now = engine.now();
        self.records.iter().find_map(|(name, record)| {
            let expected = (!record.is_expired(holder(name), now)).then_some(record);
            match engine.peek(&key(name)) {
                Ok(found) => {
                    let found = found.map(|(found, _)| found);
                    (found.as_ref() != expected)
                        .then(|| format!("{name} shows {found:?} instead of {expected:?}"))
                }
                Err(error) => (!is_excused(&error)).then(|| format!("{name}: {error}")),
            }
        })
    }
}
