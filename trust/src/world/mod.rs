//! A store under test, and what it has acknowledged.

mod acked;
mod demand;

pub use self::acked::Acked;
pub use self::demand::Demand;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firstclaim::internals::record::{Fence, Holder, Takeover};
use firstclaim::internals::transition::{Command, Refusal, Reply, Terms, Write, step};
use firstclaim::internals::{Answer, Engine, EngineOptions, RecordKey, Request};
use firstclaim::{Durability, Error, Limits, ManualClock};

use crate::disk::{Fate, Image, SimDisk};

/// The keys that single commands go to.
pub const KEYS: [&str; 3] = ["a", "b", "c"];

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub durability: Durability,
    pub journal_bytes: u64,
    /// Few, so that a checkpoint can be cut between its transactions.
    pub transaction_records: usize,
    /// Where its records lie.
    pub hash_seed: u64,
}

impl Setting {
    pub const SMALL: Setting = Setting {
        durability: Durability::PowerLoss,
        journal_bytes: 16 * 1024,
        transaction_records: 2,
        hash_seed: 1,
    };
}

/// One thing done to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Claim(usize, Takeover),
    Complete(usize),
    Renew(usize),
    Save(usize),
    Release(usize),
    /// The guard is dropped.
    Drop(usize),
    Forget(usize),
    Resolve(usize),
    /// Several keys in one batch: claims of those that are free.
    Batch,
    /// Many other keys, claimed and done, so that segments turn over.
    Burst(usize),
    /// Many other keys, claimed and left behind.
    Leave(usize),
    Checkpoint,
    Sweep,
    /// The process is killed and the store opened again.
    Kill,
    /// Time passes, in seconds.
    Advance(u64),
}

/// A store on a simulated disk.
pub struct World {
    pub disk: SimDisk,
    pub clock: ManualClock,
    pub setting: Setting,
    pub engine: Engine,
    pub acked: Acked,
    leases: BTreeMap<usize, Answer>,
    bursts: usize,
    /// The states since the beginning of the step, one for each acknowledgement.
    trail: Vec<Acked>,
    /// How many acknowledgements there were in the step; shared with what watches the disk.
    acks: Arc<AtomicUsize>,
    /// The states since the last checkpoint was over, and those of the latest step.
    history: Vec<Acked>,
    /// The latest step was a checkpoint: what came before it is durable.
    checkpointed: bool,
    /// The state as it is if the commands whose outcome was not established did happen.
    unknown: Option<Acked>,
}

/// The disk at one moment of a step.
pub struct Moment {
    pub image: Image,
    /// How many acknowledgements of the step had been given.
    pub acks: usize,
}

/// What a step left: the moments within it, and whether it ended in an error.
pub struct Passed {
    pub moments: Vec<Moment>,
    pub error: Option<Error>,
    /// The states before, between and after the acknowledgements.
    trail: Vec<Acked>,
}

impl Passed {
    /// The states that a stop at this moment may leave: what was acknowledged, and that with the
    /// commit that was under way.
    pub fn allowed(&self, moment: &Moment) -> Vec<&Acked> {
        self.trail.iter().skip(moment.acks).take(2).collect()
    }
}

pub fn options(setting: Setting, clock: &ManualClock) -> EngineOptions {
    EngineOptions {
        durability: setting.durability,
        limits: Limits {
            response_bytes: 2048,
            recovery_point_bytes: 512,
            ..Limits::default()
        },
        journal_bytes: setting.journal_bytes,
        base_cache_bytes: 1 << 20,
        transaction_records: setting.transaction_records,
        hash_seed: Some(setting.hash_seed),
        clock: Arc::new(clock.clone()),
    }
}

pub fn key(name: &str) -> RecordKey {
    RecordKey::new(b"tenant", name.as_bytes(), 255).expect("a valid name")
}

pub fn terms(takeover: Takeover) -> Terms {
    Terms {
        lease_for: Duration::from_secs(30),
        retain_for: Duration::from_secs(300),
        takeover,
        fingerprint: None,
    }
}

pub fn request(name: &str, command: Command) -> Request {
    Request::new(key(name), command)
}

impl World {
    /// A new store on `image`, which must be empty.
    pub fn open(image: Image, setting: Setting, clock: ManualClock) -> Result<Self, Error> {
        Self::reopen(image, setting, clock, Acked::default())
    }

    /// A store on `image`, where `acked` was acknowledged.
    pub fn reopen(
        image: Image,
        setting: Setting,
        clock: ManualClock,
        acked: Acked,
    ) -> Result<Self, Error> {
        let disk = SimDisk::over(image);
        let engine = Engine::open(disk.as_disk(), options(setting, &clock))?;
        Ok(World {
            disk,
            clock,
            setting,
            engine,
            leases: BTreeMap::new(),
            bursts: 0,
            trail: Vec::new(),
            acks: Arc::default(),
            history: vec![acked.clone()],
            acked,
            checkpointed: false,
            unknown: None,
        })
    }

    /// Does a step, and gives the disk as it was before every operation that `pick` picks, by its
    /// number within the step.
    pub fn step(&mut self, step: Step, pick: impl Fn(u64) -> bool + Send + 'static) -> Passed {
        let moments: Arc<Mutex<Vec<Moment>>> = Arc::default();
        let (seen, acks) = (moments.clone(), self.acks.clone());
        self.trail = vec![self.acked.clone()];
        self.acks.store(0, Ordering::SeqCst);
        let mut number = 0;
        self.disk.set_plan(move |op, _, image| {
            if op != crate::disk::Op::Read {
                if pick(number) {
                    seen.lock().expect("no panic").push(Moment {
                        image: image.clone(),
                        acks: acks.load(Ordering::SeqCst),
                    });
                }
                number += 1;
            }
            Fate::Happens
        });
        let error = self.act(step).err();
        self.disk.clear_plan();
        let mut moments = std::mem::take(&mut *moments.lock().expect("no panic"));
        moments.push(Moment {
            image: self.disk.image(),
            acks: self.acks.load(Ordering::SeqCst),
        });
        let trail = std::mem::take(&mut self.trail);
        if std::mem::take(&mut self.checkpointed) {
            self.history.clear();
        }
        self.checkpointed = step == Step::Checkpoint && error.is_none();
        self.history.extend(trail.iter().cloned());
        Passed {
            moments,
            error,
            trail,
        }
    }

    /// The states that a power cut may leave under [`Durability::ProcessCrash`].
    pub fn history(&self) -> Vec<&Acked> {
        self.history.iter().collect()
    }

    fn note(&mut self, name: &str, answer: &Answer) {
        self.acked.note(name, answer);
        self.trail.push(self.acked.clone());
        self.acks.fetch_add(1, Ordering::SeqCst);
    }

    /// Does a step under whatever plan the disk has.
    pub fn act(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::Claim(k, takeover) => {
                let answer = self.commit(KEYS[k], Command::Claim(terms(takeover)))?;
                self.keep(k, answer);
            }
            Step::Resolve(k) => {
                let lease_for = Duration::from_secs(30);
                let answer = self.commit(KEYS[k], Command::Resolve { lease_for })?;
                self.keep(k, answer);
            }
            Step::Complete(k) => {
                let Some(fence) = self.fence_of(k) else {
                    return Ok(());
                };
                let response = format!("{k} {fence} done").into_bytes().into();
                self.on_lease(
                    k,
                    Command::Complete {
                        fence,
                        response,
                        retain_for: None,
                    },
                    true,
                )?;
            }
            Step::Release(k) => {
                let Some(fence) = self.fence_of(k) else {
                    return Ok(());
                };
                self.on_lease(k, Command::Release { fence }, true)?;
            }
            Step::Renew(k) => {
                let Some(fence) = self.fence_of(k) else {
                    return Ok(());
                };
                let lease_for = Duration::from_secs(45);
                self.on_lease(k, Command::Renew { fence, lease_for }, false)?;
            }
            Step::Save(k) => {
                let Some(fence) = self.fence_of(k) else {
                    return Ok(());
                };
                let point = format!("{fence} saved").into_bytes().into();
                self.on_lease(k, Command::Save { fence, point }, false)?;
            }
            Step::Drop(k) => drop(self.leases.remove(&k)),
            Step::Forget(k) => match self.commit(KEYS[k], Command::Forget { held: false }) {
                Err(Error::Held) => {}
                other => drop(other?),
            },
            Step::Batch => self.batch()?,
            Step::Burst(count) => self.burst(count)?,
            Step::Leave(count) => self.leave(count)?,
            Step::Checkpoint => self.engine.checkpoint()?,
            Step::Sweep => drop(self.engine.sweep()?),
            Step::Kill => self.kill()?,
            Step::Advance(secs) => self.clock.advance(Duration::from_secs(secs)),
        }
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Error> {
        self.leases.clear();
        // What the killed process still has in hand must not reach the disk.
        self.disk = self.disk.fork();
        let options = options(self.setting, &self.clock);
        self.engine = Engine::open(self.disk.as_disk(), options)?;
        Ok(())
    }

    fn batch(&mut self) -> Result<(), Error> {
        let names: Vec<String> = (0..4).map(|n| format!("batch{n}")).collect();
        let claims: Vec<Request> = names
            .iter()
            .map(|name| request(name, Command::Claim(terms(Takeover::Gone))))
            .collect();
        let answers = self.engine.commit(&claims);
        if matches!(answers[0], Err(Error::Indeterminate)) {
            let all = names.iter().zip(&claims);
            self.note_unknown(all.map(|(name, request)| (name.as_str(), &request.command)));
        }
        // All or nothing: the acknowledgements of a batch come together.
        for ((name, claim), answer) in names.iter().zip(&claims).zip(answers) {
            self.check_answer(name, &claim.command, &answer);
            self.acked.note(name, &answer?);
        }
        self.trail.push(self.acked.clone());
        self.acks.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn burst(&mut self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            self.bursts += 1;
            let name = format!("burst{:04}", self.bursts);
            let answer = self.commit(&name, Command::Claim(terms(Takeover::Gone)))?;
            let fence = answer.record.as_ref().map(|r| r.fence);
            let complete = Command::Complete {
                fence: fence.unwrap_or(Fence::from_u64(0)),
                response: vec![self.bursts as u8; 1200].into(),
                retain_for: None,
            };
            self.commit(&name, complete)?;
        }
        Ok(())
    }

    fn leave(&mut self, count: usize) -> Result<(), Error> {
        for _ in 0..count {
            self.bursts += 1;
            let name = format!("left{:04}", self.bursts);
            drop(self.commit(&name, Command::Claim(terms(Takeover::Gone)))?);
        }
        Ok(())
    }

    fn commit(&mut self, name: &str, command: Command) -> Result<Answer, Error> {
        let mut answers = self.engine.commit(&[request(name, command.clone())]);
        let answer = answers.pop().expect("one answer for one request");
        if matches!(answer, Err(Error::Indeterminate)) {
            self.note_unknown([(name, &command)].into_iter());
        }
        self.check_answer(name, &command, &answer);
        let answer = answer?;
        if answer.reply != Reply::Vacant {
            self.note(name, &answer);
        }
        Ok(answer)
    }

    /// Notes an answer that does not follow from what was acknowledged before.
    fn check_answer(&mut self, name: &str, command: &Command, answer: &Result<Answer, Error>) {
        let given = answer.as_ref().ok().and_then(|a| a.record.as_ref());
        let fence = given.map_or(Fence::from_u64(self.acked.fence + 1), |record| record.fence);
        let record = self.acked.records.get(name);
        let holder = self.holder(name);
        let expected = step(
            record.map(Arc::as_ref),
            holder,
            command,
            self.engine.now(),
            fence,
        );
        let fits = match (answer, &expected) {
            (Ok(answer), Ok(expected)) => {
                let after = match &expected.write {
                    Write::Put(record) => Some(record),
                    Write::Keep => record.map(Arc::as_ref),
                    Write::Delete => None,
                };
                let is_vacant = answer.reply == Reply::Vacant;
                answer.reply == expected.reply && (is_vacant || given.map(Arc::as_ref) == after)
            }
            (Ok(_), Err(_)) => false,
            (Err(Error::Fenced), _) => expected == Err(Refusal::Fenced),
            (Err(Error::Held), _) => expected == Err(Refusal::Held),
            (Err(Error::AlreadyCompleted), _) => expected == Err(Refusal::AlreadyCompleted),
            // Trouble, which is no answer.
            (Err(_), _) => true,
        };
        if !fits {
            let what = format!("{name}, {command:?}: {answer:?} instead of {expected:?}");
            self.acked.wrong.get_or_insert(what);
        }
    }

    /// The key's holder, as far as this world knows: who has a lease on the record in force.
    fn holder(&self, name: &str) -> Holder {
        let current = self.acked.records.get(name).map(|record| record.fence);
        let held = self.leases.values().any(|lease| {
            current.is_some() && lease.record.as_ref().map(|record| record.fence) == current
        });
        if held { Holder::Alive } else { Holder::Gone }
    }

    /// What the open store shows that was not acknowledged; errors that `is_excused` excuses show
    /// nothing.
    pub fn wrong_shown(&self, is_excused: impl Fn(&Error) -> bool) -> Option<String> {
        let holder = |name: &str| self.holder(name);
        self.acked.wrong_shown(&self.engine, holder, is_excused)
    }

    /// Works out what commands, whose outcome was not established, would have made.
    fn note_unknown<'c>(&mut self, commands: impl Iterator<Item = (&'c str, &'c Command)>) {
        let mut perhaps = self.acked.clone();
        for (name, command) in commands {
            let record = perhaps.records.get(name);
            let holder = self.holder(name);
            let next = Fence::from_u64(perhaps.fence + 1);
            let record = record.map(Arc::as_ref);
            let Ok(step) = step(record, holder, command, self.engine.now(), next) else {
                continue;
            };
            match step.write {
                Write::Put(record) => {
                    perhaps.records.insert(name.to_owned(), Arc::new(record));
                    perhaps.worked_out.insert(name.to_owned());
                }
                Write::Delete => drop(perhaps.records.remove(name)),
                Write::Keep => {}
            }
        }
        self.unknown.get_or_insert(perhaps);
    }

    /// The state if the commands whose outcome was not established did happen, if there are any.
    pub fn with_unknown(&self) -> Option<Acked> {
        self.unknown.clone()
    }

    fn on_lease(&mut self, k: usize, command: Command, ends: bool) -> Result<(), Error> {
        match self.commit(KEYS[k], command) {
            Ok(_) if ends => drop(self.leases.remove(&k)),
            Ok(_) => {}
            Err(Error::Fenced | Error::AlreadyCompleted) => drop(self.leases.remove(&k)),
            Err(other) => return Err(other),
        }
        Ok(())
    }

    fn keep(&mut self, k: usize, answer: Answer) {
        if answer.holding.is_some() {
            self.leases.insert(k, answer);
        }
    }

    fn fence_of(&self, k: usize) -> Option<Fence> {
        let record = self.leases.get(&k)?.record.as_ref();
        record.map(|record| record.fence)
    }
}
