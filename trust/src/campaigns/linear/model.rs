//! One key as the pure state machine has it, and what an operation makes of it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use firstclaim::UnfinishedState;
use firstclaim::internals::Timestamp;
use firstclaim::internals::record::{Fence, Holder, Record, State, Takeover};
use firstclaim::internals::transition::{Command, Reply, Write, step};

use super::history::{Asked, Op, Seen, What};

/// A fence that no lease carries: of a lease whose answer was lost, or of a record that a release
/// put back.
const NOBODYS: Fence = Fence::from_u64(0);

/// A key and the holder of its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Key {
    record: Option<Arc<Record>>,
    hold: Hold,
    /// A `complete` of the holder failed.
    complete_failed: bool,
    /// The time of the latest change. Changes are made one at a time, and time runs forward.
    changed_at: Timestamp,
    /// The highest fence given on this key.
    highest: u64,
    /// Where a power cut may take changes back: the records since the last one that is safe.
    at_risk: Vec<Option<Arc<Record>>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
enum Hold {
    #[default]
    Gone,
    Guard,
    /// Dropped after a `complete` that failed.
    Until(Timestamp),
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        if let Some(record) = &self.record {
            let is_done = record.response().is_some();
            (record.fence, record.attempt, record.expires_at, is_done).hash(hasher);
        }
        (self.hold, self.changed_at, self.highest, self.at_risk.len()).hash(hasher);
    }
}

impl Key {
    /// The keys that this one can be after `op`; none if the answer does not fit.
    pub fn after(&self, op: &Op) -> Vec<Key> {
        match &op.what {
            What::Ask(asked, seen) => self.after_asking(op, asked, seen),
            What::Drop(fence) => vec![self.dropped(*fence)],
            What::CompleteFailed(fence) => vec![Key {
                complete_failed: self.complete_failed || self.is_held_by(*fence),
                ..self.clone()
            }],
            What::Checkpoint => vec![Key {
                at_risk: Vec::new(),
                ..self.clone()
            }],
            What::End => self.ended(),
        }
    }

    /// Whether an operation that leaves the key as it is now would do so later too: its answer says
    /// so, or its fence has had its time.
    pub fn is_never_changed_by(&self, op: &Op) -> bool {
        let is_known = |fence: &Fence| fence.as_u64() <= self.highest;
        !op.is_optional
            && match &op.what {
                What::Ask(_, Seen::Lease { .. } | Seen::Unknown) => false,
                What::Ask(Asked::Command(Command::Complete { fence, .. }), Seen::Changed) => {
                    is_known(fence)
                }
                What::Ask(_, Seen::Changed) => false,
                What::Ask(..) => true,
                What::Drop(fence) | What::CompleteFailed(fence) => is_known(fence),
                What::Checkpoint => !op.is_at_risk,
                What::End => false,
            }
    }

    fn after_asking(&self, op: &Op, asked: &Asked, seen: &Seen) -> Vec<Key> {
        let next_fence = match seen {
            Seen::Lease { fence, .. } => *fence,
            _ => NOBODYS,
        };
        let mut all: Vec<Key> = Vec::new();
        for &now in &op.times {
            for holder in self.holders(now, &op.times) {
                let (answer, next) = self.ask(asked, now, holder, next_fence, op.is_at_risk);
                let fits = *seen == Seen::Unknown || self.fits(&answer, seen);
                let is_change = next.record != self.record;
                if !fits || (is_change && now < self.changed_at) {
                    continue;
                }
                // Of equal keys the one that changed earliest allows the most.
                if !all.iter().any(|other| other.differs_in_time_only(&next)) {
                    all.push(next);
                }
            }
        }
        all
    }

    /// What the holder may be found to be by one who reads the clock at `now`. A hold with an end
    /// is looked at a moment after the clock, and may by then have been swept.
    pub fn holders(&self, now: Timestamp, times: &[Timestamp]) -> Vec<Holder> {
        match self.hold {
            Hold::Gone => vec![Holder::Gone],
            Hold::Guard => vec![Holder::Alive],
            Hold::Until(end) if now >= end => vec![Holder::Gone],
            Hold::Until(end) if times.iter().all(|time| *time < end) => vec![Holder::Alive],
            Hold::Until(_) => vec![Holder::Alive, Holder::Gone],
        }
    }

    /// The answer to what is asked at `now`, and the key after it.
    pub fn ask(
        &self,
        asked: &Asked,
        now: Timestamp,
        holder: Holder,
        next_fence: Fence,
        is_at_risk: bool,
    ) -> (Seen, Key) {
        // Judged here too, so that a mistake of the state machine's own shows.
        let live = self.record.as_deref();
        let live = live.filter(|record| !has_expired(record, holder, now));
        let command = match asked {
            Asked::Peek => return (peeked(live, holder), self.clone()),
            Asked::Unfinished => return (listed(live, holder), self.clone()),
            Asked::Command(command) => command,
        };
        let step = match step(live, holder, command, now, next_fence) {
            Ok(step) => step,
            Err(refusal) => return (Seen::Refused(refusal), self.clone()),
        };
        let (after, next) = match step.write {
            Write::Keep => (live.cloned(), self.clone()),
            Write::Put(record) => {
                let next = self.put(Some(record.clone()), step.reply, now, is_at_risk);
                (Some(record), next)
            }
            Write::Delete => (None, self.put(None, step.reply, now, is_at_risk)),
        };
        (answered(step.reply, after.as_ref()), next)
    }

    fn put(&self, record: Option<Record>, reply: Reply, now: Timestamp, is_at_risk: bool) -> Key {
        let keeps_holder = match (&record, &self.record) {
            (Some(after), Some(before)) => {
                reply != Reply::Claimed
                    && after.fence == before.fence
                    && matches!(after.state, State::InFlight { .. })
            }
            _ => false,
        };
        let mut next = Key {
            record: record.map(Arc::new),
            changed_at: now,
            ..self.clone()
        };
        if is_at_risk && !next.at_risk.contains(&self.record) {
            next.at_risk.push(self.record.clone());
        }
        if !keeps_holder {
            next.complete_failed = false;
            next.hold = match reply {
                Reply::Claimed => Hold::Guard,
                _ => Hold::Gone,
            };
        }
        if let Some(record) = &next.record {
            next.highest = next.highest.max(record.fence.as_u64());
        }
        next
    }

    fn dropped(&self, fence: Fence) -> Key {
        let hold = match self.record.as_deref().map(|record| &record.state) {
            Some(State::InFlight { ends_at }) if self.is_held_by(fence) => {
                match self.complete_failed {
                    true => Hold::Until(*ends_at),
                    false => Hold::Gone,
                }
            }
            _ => self.hold,
        };
        Key {
            hold,
            ..self.clone()
        }
    }

    fn ended(&self) -> Vec<Key> {
        let mut kept = self.at_risk.clone();
        if !kept.contains(&self.record) {
            kept.push(self.record.clone());
        }
        let ended = |record| Key {
            record,
            hold: Hold::Gone,
            complete_failed: false,
            changed_at: self.changed_at,
            highest: self.highest,
            at_risk: Vec::new(),
        };
        kept.into_iter().map(ended).collect()
    }

    fn is_held_by(&self, fence: Fence) -> bool {
        let is_current = |record: &Arc<Record>| record.fence == fence;
        self.hold == Hold::Guard && self.record.as_ref().is_some_and(is_current)
    }

    /// Whether the store's answer is the model's. A lease's fence is the store's to choose, but must
    /// be above those that it gave before.
    fn fits(&self, expected: &Seen, seen: &Seen) -> bool {
        match (expected, seen) {
            (Seen::Lease { .. }, Seen::Lease { fence, .. }) => {
                fence.as_u64() > self.highest && expected == seen
            }
            (
                Seen::Listed {
                    state,
                    since,
                    attempt,
                    fence: NOBODYS,
                    point,
                },
                Seen::Listed { fence, .. },
            ) => {
                let expected = Seen::Listed {
                    state: *state,
                    since: *since,
                    attempt: *attempt,
                    fence: *fence,
                    point: point.clone(),
                };
                expected == *seen
            }
            _ => expected == seen,
        }
    }

    fn differs_in_time_only(&self, other: &Key) -> bool {
        let at_its_time = Key {
            changed_at: other.changed_at,
            ..self.clone()
        };
        at_its_time == *other
    }
}

/// The rule of `docs/guarantees.md`, written down a second time.
fn has_expired(record: &Record, holder: Holder, now: Timestamp) -> bool {
    let in_flight = matches!(record.state, State::InFlight { .. });
    let is_kept = holder == Holder::Alive || record.takeover == Takeover::Never;
    !(in_flight && is_kept) && now >= record.expires_at
}

fn answered(reply: Reply, record: Option<&Record>) -> Seen {
    match (reply, record) {
        (Reply::Changed, _) => Seen::Changed,
        (Reply::Claimed, Some(record)) => Seen::Lease {
            fence: record.fence,
            attempt: record.attempt,
            previous: record.previous(),
            point: record.recovery_point.as_deref().map(<[u8]>::to_vec),
            ends_at: match record.state {
                State::InFlight { ends_at } => ends_at,
                _ => record.since,
            },
        },
        (Reply::InFlight { interrupted }, Some(record)) => Seen::InFlight {
            since: record.since,
            attempt: record.attempt,
            interrupted,
        },
        (Reply::Done, Some(record)) => peeked(Some(record), Holder::Gone),
        _ => Seen::Vacant,
    }
}

fn peeked(record: Option<&Record>, holder: Holder) -> Seen {
    let Some(record) = record else {
        return Seen::Vacant;
    };
    match &record.state {
        State::InFlight { .. } => Seen::InFlight {
            since: record.since,
            attempt: record.attempt,
            interrupted: holder == Holder::Gone,
        },
        State::Released => Seen::Released,
        State::Done {
            completed_at,
            response,
        } => Seen::Done {
            bytes: response.to_vec(),
            completed_at: *completed_at,
            expires_at: record.expires_at,
        },
    }
}

fn listed(record: Option<&Record>, holder: Holder) -> Seen {
    let Some(record) = record else {
        return Seen::Vacant;
    };
    let state = match (&record.state, holder) {
        (State::Done { .. }, _) => return Seen::Vacant,
        (State::Released, _) => UnfinishedState::Released,
        (State::InFlight { .. }, Holder::Alive) => UnfinishedState::InFlight,
        (State::InFlight { .. }, Holder::Gone) => UnfinishedState::Interrupted,
    };
    Seen::Listed {
        state,
        since: record.since,
        attempt: record.attempt,
        fence: record.fence,
        point: record.recovery_point.as_deref().map(<[u8]>::to_vec),
    }
}
