//! What a store should answer: a reference model, written from the design's words alone.
//!
//! One map of records and one clock. Nothing is ever removed because it expired, nothing is ever
//! written anywhere, and a reopening only means that every holder is gone; so the model has none
//! of the store's machinery in which an answer could be lost.

mod answer;
mod record;
mod time;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use firstclaim::Takeover;

pub use answer::{Answer, Refused, Row, Standing};
use record::{Holder, Record, Stage};
use time::Time;

/// A tenant and a key.
pub type Name = (String, String);

/// The terms of a claim.
#[derive(Debug, Clone)]
pub struct Ask {
    pub fingerprint: Option<[u8; 32]>,
    pub lease_for: Duration,
    pub retain_for: Duration,
    pub takeover: Takeover,
}

/// The state of a whole store.
#[derive(Debug)]
pub struct Model {
    pub time: Time,
    records: BTreeMap<Name, Record>,
    highest_fence: u64,
    response_limit: usize,
    point_limit: usize,
}

impl Model {
    pub fn new(clock: SystemTime, response_limit: usize, point_limit: usize) -> Self {
        Model {
            time: Time::new(clock),
            records: BTreeMap::new(),
            highest_fence: 0,
            response_limit,
            point_limit,
        }
    }

    pub fn claim(&mut self, name: &Name, ask: &Ask) -> Answer {
        let now = self.time.now();
        let Some(record) = live(&mut self.records, name, now) else {
            let record = Record::first(ask, now);
            let answer = record.claimed();
            self.records.insert(name.clone(), record);
            self.time.persist();
            return answer;
        };
        if record.fingerprint != ask.fingerprint {
            return Answer::Refused(Refused::FingerprintMismatch);
        }
        if !record.gives_a_lease(now) {
            return record.standing(now);
        }
        record.next_attempt(now, ask.lease_for);
        self.time.persist();
        record.claimed()
    }

    pub fn resolve(&mut self, name: &Name, lease_for: Duration) -> Answer {
        let now = self.time.now();
        let Some(record) = live(&mut self.records, name, now) else {
            return Answer::Vacant;
        };
        if record.is_held(now) || matches!(record.stage, Stage::Done { .. }) {
            return record.standing(now);
        }
        record.next_attempt(now, lease_for);
        self.time.persist();
        record.claimed()
    }

    /// Tells the model which fence came with the lease that it has just answered with.
    pub fn given(&mut self, name: &Name, fence: u64) {
        let before = self.highest_fence;
        assert!(fence > before, "fence {fence} was given after {before}");
        self.highest_fence = fence;
        self.records.get_mut(name).expect("just claimed").fence = Some(fence);
    }

    /// A fence that the store showed: every later one must be higher.
    pub fn saw_fence(&mut self, fence: u64) {
        self.highest_fence = self.highest_fence.max(fence);
    }

    pub fn complete(
        &mut self,
        name: &Name,
        fence: u64,
        bytes: &[u8],
        retain_for: Option<Duration>,
    ) -> Answer {
        let now = self.time.now();
        if bytes.len() > self.response_limit {
            if let Some(record) = held(&mut self.records, name, fence, now) {
                record.completion_failed();
            }
            return Answer::Refused(Refused::TooLarge);
        }
        let Some(record) = current(&mut self.records, name, fence, now) else {
            return Answer::Refused(Refused::Fenced);
        };
        match &record.stage {
            Stage::Done { bytes: first, .. } if first == bytes => Answer::Changed,
            Stage::Done { .. } => Answer::Refused(Refused::AlreadyCompleted),
            Stage::Released => Answer::Refused(Refused::Fenced),
            Stage::InFlight { .. } => {
                record.complete(now, bytes, retain_for);
                self.time.persist();
                Answer::Changed
            }
        }
    }

    /// Answers with the lease's new end, too.
    pub fn renew(&mut self, name: &Name, fence: u64, lease_for: Duration) -> (Answer, SystemTime) {
        let now = self.time.now();
        let Some(record) = held(&mut self.records, name, fence, now) else {
            return (Answer::Refused(Refused::Fenced), now);
        };
        record.run_until(now + lease_for);
        self.time.persist();
        (Answer::Changed, now + lease_for)
    }

    pub fn save(&mut self, name: &Name, fence: u64, point: &[u8]) -> Answer {
        if point.len() > self.point_limit {
            return Answer::Refused(Refused::TooLarge);
        }
        let now = self.time.now();
        let Some(record) = held(&mut self.records, name, fence, now) else {
            return Answer::Refused(Refused::Fenced);
        };
        record.point = Some(point.to_vec());
        self.time.persist();
        Answer::Changed
    }

    pub fn release(&mut self, name: &Name, fence: u64) -> Answer {
        let now = self.time.now();
        let Some(record) = held(&mut self.records, name, fence, now) else {
            return Answer::Refused(Refused::Fenced);
        };
        record.release();
        self.time.persist();
        Answer::Changed
    }

    /// The guard is dropped: without I/O, so nothing is persisted.
    pub fn drop_lease(&mut self, name: &Name, fence: u64) {
        let now = self.time.now();
        if let Some(record) = held(&mut self.records, name, fence, now) {
            record.drop_guard();
        }
    }

    /// `even_held` is `forget_held`. Forgetting what is vacant changes nothing.
    pub fn forget(&mut self, name: &Name, even_held: bool) -> Answer {
        let now = self.time.now();
        let Some(record) = live(&mut self.records, name, now) else {
            return Answer::Vacant;
        };
        if record.is_held(now) && !even_held {
            return Answer::Refused(Refused::Held);
        }
        self.records.remove(name);
        self.time.persist();
        Answer::Changed
    }

    pub fn peek(&self, name: &Name) -> Answer {
        let now = self.time.now();
        match self.records.get(name) {
            Some(record) if !record.has_expired(now) => record.standing(now),
            _ => Answer::Vacant,
        }
    }

    /// In the order of the names.
    pub fn unfinished(&self) -> Vec<Row> {
        let now = self.time.now();
        let live = self
            .records
            .iter()
            .filter(|(_, record)| !record.has_expired(now));
        live.filter_map(|(name, record)| record.row(name, now))
            .collect()
    }

    /// The store was closed, or killed, and opened again with the clock at `clock`; it says that
    /// it is `told`. Nobody holds anything any more.
    pub fn reopened(&mut self, clock: SystemTime, told: SystemTime) {
        self.time.reopened(clock, told);
        for record in self.records.values_mut() {
            if let Stage::InFlight { holder, .. } = &mut record.stage {
                *holder = Holder::Gone;
            }
        }
    }
}

fn live<'a>(
    records: &'a mut BTreeMap<Name, Record>,
    name: &Name,
    now: SystemTime,
) -> Option<&'a mut Record> {
    records
        .get_mut(name)
        .filter(|record| !record.has_expired(now))
}

fn current<'a>(
    records: &'a mut BTreeMap<Name, Record>,
    name: &Name,
    fence: u64,
    now: SystemTime,
) -> Option<&'a mut Record> {
    live(records, name, now).filter(|record| record.fence == Some(fence))
}

fn held<'a>(
    records: &'a mut BTreeMap<Name, Record>,
    name: &Name,
    fence: u64,
    now: SystemTime,
) -> Option<&'a mut Record> {
    current(records, name, fence, now)
        .filter(|record| matches!(record.stage, Stage::InFlight { .. }))
}
