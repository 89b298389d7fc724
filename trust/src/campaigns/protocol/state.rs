//! A state of the model, and its steps.

use std::collections::BTreeSet;

use firstclaim::internals::record::{Holder, Takeover};
use firstclaim::internals::transition::Reply;

use super::batch::Batch;
use super::fault::Fault;
use super::record::{Call, Entry, KEYS, Key, Lease, decide};
use super::rules::{Case, Rule, Truth, look_the_same};
use super::store::{Disk, Frames, Layer, Memory};

/// What does not change: the keys' policies, and what is broken.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub policies: [Takeover; KEYS],
    pub fault: Option<Fault>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct State {
    pub disk: Disk,
    /// None while the store is not open.
    pub memory: Option<Memory>,
    /// While it is being recovered, the key to go on from.
    pub recovering: Option<Key>,
    pub now: u8,
    pub batch: Option<Batch>,
    /// What clients hold, sorted. Clients are alike, so it does not matter which.
    pub leases: Vec<Lease>,
    pub reader: Option<Reader>,
    pub truth: Truth,
    /// At a crash: what is true instead if the frame under way was kept.
    maybe: Option<Truth>,
    /// The highest fence a client was told.
    told: u8,
    /// The latest time that a frame shown, or a removal, has persisted.
    time_told: u8,
    pub crashes: u8,
    pub freezes: u8,
    pub broken: Option<Rule>,
}

/// A reader that did not find its key in memory, on its way to the base.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reader {
    key: Key,
    began: u8,
    /// What was so since it began.
    was: BTreeSet<Entry>,
}

/// What is left of a frame that is written and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// The power is cut, and it is lost.
    Lost,
    /// The power is cut, and it was on the disk.
    Kept,
    /// The process is killed: it is in the page cache.
    Cached,
}

impl State {
    /// A new, empty, open store.
    pub fn new() -> Self {
        State {
            memory: Some(Memory::default()),
            ..State::default()
        }
    }

    /// Takes all that waits, decides it in order, and writes the frame.
    pub fn commit(&mut self, setting: &Setting, calls: Vec<Call>) {
        let Some(mut memory) = self.memory.take() else {
            return;
        };
        let mut batch = Batch {
            answers: Vec::new(),
            frame: Frames::default(),
            after: self.truth,
            synced: false,
            shown: false,
            answered: false,
        };
        for call in calls {
            match self.stage(setting, &mut memory, &mut batch, call) {
                // A client that called without a lease and got none is as it was before.
                Ok(None) if call.lease().is_none() => {}
                Ok(answer) => batch.answers.push((call, answer)),
                Err(rule) => self.broken = Some(rule),
            }
        }
        // Whoever calls under a lease is waiting for the answer now.
        self.leases.retain(|lease| !batch.is_called_under(*lease));
        self.memory = Some(memory);
        batch.frame.time = self.now;
        batch.frame.fence = self.memory.as_ref().map_or(0, |memory| memory.fence);
        // Without a change there is nothing to write.
        batch.synced = batch.frame.entries == Layer::default();
        batch.shown = batch.synced;
        let unchanged = batch.synced;
        self.batch = Some(batch);
        if unchanged {
            self.answer(setting);
        }
    }

    fn stage(
        &self,
        setting: &Setting,
        memory: &mut Memory,
        batch: &mut Batch,
        call: Call,
    ) -> Result<Option<Lease>, Rule> {
        let (key, fault) = (call.key(), setting.fault);
        let policy = setting.policies[key];
        let earlier = batch.frame.entries[key];
        let found = match earlier.filter(|_| fault != Some(Fault::BatchBlindToItself)) {
            Some(entry) => entry,
            None => memory.find(&self.disk, key, self.now, fault),
        };
        let holder = found.map_or(Holder::Gone, |brief| memory.holder(key, brief.fence));
        let next_fence = memory.fence + 1;
        let decision = decide(found, policy, holder, call, self.now, next_fence, fault);
        let before = batch.after[key];
        let guard_is_out = before.entry.is_some_and(|brief| {
            let fence = brief.fence;
            let lease = Lease { key, fence };
            self.guard_is_out(lease) || batch.knows(lease)
        });
        let case = Case {
            call,
            policy,
            now: self.now,
            found,
            before,
            holder: alive_if(guard_is_out),
            told: batch.highest_fence().max(self.told),
            next_fence,
            fault,
        };
        batch.after[key] = case.judge(decision)?;
        if let Some(entry) = decision.write {
            batch.frame.entries[key] = Some(entry);
            memory.fence = memory.fence.max(entry.map_or(0, |brief| brief.fence));
        }
        Ok(match decision.said {
            Ok(Reply::Claimed) => {
                let lease = Lease {
                    key,
                    fence: next_fence,
                };
                if fault != Some(Fault::HolderAfterPublish) {
                    memory.register(key, lease.fence);
                }
                Some(lease)
            }
            Ok(_) if !call.ends_lease() => call.lease(),
            _ => None,
        })
    }

    /// Whether a client has the guard of a lease, calling or not.
    fn guard_is_out(&self, lease: Lease) -> bool {
        let is_in_batch = self.batch.as_ref().is_some_and(|b| b.knows(lease));
        self.leases.contains(&lease) || is_in_batch
    }

    fn true_holder(&self, lease: Lease) -> Holder {
        alive_if(self.guard_is_out(lease))
    }

    pub fn sync(&mut self) {
        if let Some(batch) = &mut self.batch {
            self.disk.current.append(&batch.frame);
            batch.synced = true;
            if batch.answered {
                self.batch = None;
            }
        }
    }

    /// Shows the batch to readers.
    pub fn show(&mut self, setting: &Setting) {
        let (Some(memory), Some(batch)) = (&mut self.memory, &mut self.batch) else {
            return;
        };
        memory.publish(&batch.frame.entries);
        let ending = batch.answers.iter().filter(|(call, _)| call.ends_lease());
        for lease in ending.filter_map(|(call, _)| call.lease()) {
            memory.unregister(lease.key, lease.fence, setting.fault);
        }
        batch.shown = true;
        self.truth = batch.after;
        self.time_told = self.time_told.max(batch.frame.time);
        if let Some(reader) = &mut self.reader {
            reader.was.insert(self.truth[reader.key].entry);
        }
    }

    pub fn answer(&mut self, setting: &Setting) {
        let (Some(memory), Some(batch)) = (&mut self.memory, &mut self.batch) else {
            return;
        };
        for (call, answer) in std::mem::take(&mut batch.answers) {
            match answer {
                Some(lease) => {
                    if call.asks() {
                        self.told = self.told.max(lease.fence);
                        memory.register(lease.key, lease.fence);
                    }
                    self.leases.push(lease);
                }
                None => {
                    // Its client has no more use for the guard.
                    if let Some(lease) = call.lease() {
                        memory.unregister(lease.key, lease.fence, setting.fault);
                    }
                }
            }
        }
        self.leases.sort_unstable();
        batch.answered = true;
        if batch.synced {
            self.batch = None;
        }
    }

    /// A client drops its guard.
    pub fn drop_lease(&mut self, setting: &Setting, lease: Lease) {
        self.leases.retain(|other| *other != lease);
        if let Some(memory) = &mut self.memory {
            memory.unregister(lease.key, lease.fence, setting.fault);
        }
    }

    pub fn freeze(&mut self) {
        if let Some(memory) = &mut self.memory {
            memory.freeze(&mut self.disk);
            self.freezes += 1;
            // A miss counts only if no freeze happened since: the reader starts over.
            self.reader = None;
        }
    }

    pub fn checkpoint(&mut self, setting: &Setting) {
        if let Some(memory) = &mut self.memory {
            memory.checkpoint(&mut self.disk, self.now, setting.fault);
        }
    }

    /// Drops the oldest generation that is over.
    pub fn sweep_done(&mut self, setting: &Setting) {
        self.disk.base.sweep(self.now, setting.fault);
        self.time_told = self.now;
    }

    pub fn begin_read(&mut self, key: Key) {
        self.reader = Some(Reader {
            key,
            began: self.now,
            was: BTreeSet::from([self.truth[key].entry]),
        });
    }

    pub fn end_read(&mut self, setting: &Setting) {
        let Some(reader) = self.reader.take() else {
            return;
        };
        let found = Memory::ask_base(&self.disk, reader.key, reader.began, setting.fault);
        let policy = setting.policies[reader.key];
        let was_so = reader.was.iter().any(|was| match (was, found) {
            (None, found) => found.is_none(),
            (Some(was), None) => {
                let lease = Lease {
                    key: reader.key,
                    fence: was.fence,
                };
                was.is_expired(policy, self.true_holder(lease), self.now)
            }
            (Some(was), Some(found)) => *was == found,
        });
        if !was_so {
            self.broken = Some(Rule::SeenWasSo);
        }
    }

    /// The process ends, and with it all that is in memory.
    pub fn crash(&mut self, setting: &Setting, cut: Cut) {
        let under_way = self.batch.take();
        let unsynced = under_way.as_ref().filter(|batch| !batch.synced);
        let frame = unsynced.map(|batch| batch.frame.clone());
        if let Some(frame) = frame.or(self.disk.cached.take()) {
            match cut {
                Cut::Lost => {}
                Cut::Kept if setting.fault == Some(Fault::FrameNotWhole) => {
                    self.disk.current.append(&frame.without_its_end());
                }
                Cut::Kept => self.disk.current.append(&frame),
                Cut::Cached => self.disk.cached = Some(frame),
            }
        }
        if self.memory.take().is_some() {
            let unshown = under_way.filter(|batch| !batch.shown);
            self.maybe = unshown.map(|batch| batch.after);
        }
        self.disk.forget_lists();
        self.recovering = None;
        self.leases.clear();
        self.reader = None;
        self.crashes += 1;
    }

    /// Recovery begins, at a time that the clock says: what was read is made durable.
    pub fn settle(&mut self, setting: &Setting, now: u8) {
        if setting.fault != Some(Fault::RecoveryTrustsPageCache) {
            self.disk.settle();
        }
        self.now = now;
        self.recovering = Some(0);
        if now < self.time_told {
            self.broken = Some(Rule::TimeForward);
        }
    }

    /// Recovery's next transaction; after the last the store is open.
    pub fn replay(&mut self, setting: &Setting) {
        let Some(from) = self.recovering else { return };
        match self.disk.replay(from, self.now, setting.fault) {
            Err(next) => self.recovering = Some(next),
            Ok(memory) => {
                self.recovering = None;
                self.judge_recovery(setting, &memory);
                self.memory = Some(memory);
            }
        }
    }

    /// What is there now must be what was acknowledged, or that with the whole frame under way.
    fn judge_recovery(&mut self, setting: &Setting, memory: &Memory) {
        let there = |key| memory.find(&self.disk, key, self.now, setting.fault);
        let is = |truth: &Truth| {
            (0..KEYS).all(|key| {
                let policy = setting.policies[key];
                look_the_same(there(key), truth[key].entry, policy, self.now)
            })
        };
        let maybe = self.maybe.take();
        match maybe.filter(|maybe| is(maybe)) {
            _ if is(&self.truth) => {}
            Some(maybe) => self.truth = maybe,
            None => self.broken = Some(Rule::NothingLost),
        }
    }

    /// Whether all that a reader would find in memory now is durable.
    pub fn shows_only_what_is_durable(&self, setting: &Setting) -> bool {
        let Some(memory) = &self.memory else {
            return true;
        };
        (0..KEYS).all(|key| {
            let Some(seen) = memory.overlay(key, setting.fault) else {
                return true;
            };
            let durable = self.disk.durable(key);
            let same = |a, b| look_the_same(a, b, setting.policies[key], self.now);
            let is_about_to_be_shown = self.batch.as_ref().is_some_and(|batch| {
                let is_next = same(durable, batch.after[key].entry);
                batch.synced && !batch.shown && is_next && same(seen, self.truth[key].entry)
            });
            is_about_to_be_shown || same(seen, durable)
        })
    }

    /// Whether a reader would find every holder that lives.
    pub fn shows_live_holders(&self, setting: &Setting) -> bool {
        let Some(memory) = &self.memory else {
            return true;
        };
        (0..KEYS).all(|key| {
            let seen = memory.overlay(key, setting.fault).flatten();
            seen.filter(|brief| brief.is_in_flight())
                .is_none_or(|brief| {
                    let fence = brief.fence;
                    let is_alive = memory.holder(key, fence) == Holder::Alive;
                    is_alive || !self.guard_is_out(Lease { key, fence })
                })
        })
    }
}

fn alive_if(guard_is_out: bool) -> Holder {
    if guard_is_out {
        Holder::Alive
    } else {
        Holder::Gone
    }
}
