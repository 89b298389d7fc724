//! Stores made step by step, with everything they ever acknowledged.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use firstclaim::internals::record::{Fence, Record, Takeover};
use firstclaim::internals::transition::{Command, Terms};
use firstclaim::internals::{Engine, EngineOptions, Request};
use firstclaim::{Clock, Error, ManualClock};

use crate::damage::{Files, files_of};
use crate::faults::{FaultDisk, Op};
use crate::segment;
use crate::steps;

/// What every key has; a key without a record is vacant.
pub type State = BTreeMap<String, Arc<Record>>;

const HOUR: Duration = Duration::from_secs(60 * 60);
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// A store as its process left it.
pub struct Made {
    pub files: Files,
    /// The states since the base was last written: the base's, then one after every frame.
    pub states: Vec<State>,
    /// The frames, in order, whole.
    pub log: Vec<Logged>,
    /// Every record that every key ever had.
    pub had: BTreeMap<String, Vec<Arc<Record>>>,
    /// The highest fence that was given.
    pub fence: u64,
    clock: ManualClock,
}

/// A frame as it lies in its segment.
pub struct Logged {
    pub file: String,
    pub at: usize,
    pub content: Vec<u8>,
}

impl Made {
    /// What was acknowledged.
    pub fn acknowledged(&self) -> &State {
        self.states.last().expect("at least the base's")
    }

    /// Options for an opening a second later: in one second a store gives fewer fences than the
    /// clock has microseconds, so that fences rise whatever was lost.
    pub fn options(&self) -> EngineOptions {
        let clock = ManualClock::at(self.clock.now());
        clock.advance(Duration::from_secs(1));
        small(&clock)
    }

    /// What `engine` shows of every key that ever was.
    ///
    /// # Errors
    /// The first error of a look-up.
    pub fn shown(&self, engine: &Engine) -> Result<State, Error> {
        let mut shown = State::new();
        for name in self.had.keys() {
            if let Some((record, _)) = engine.peek(&steps::key(name))? {
                shown.insert(name.clone(), record);
            }
        }
        Ok(shown)
    }

    /// Panics unless `record` is one that the key had.
    pub fn check_had(&self, name: &str, record: &Arc<Record>) {
        assert!(
            self.had.get(name).is_some_and(|had| had.contains(record)),
            "{name} never was {record:?}"
        );
    }
}

/// Segments as short as they may be, so that they turn over soon.
fn small(clock: &ManualClock) -> EngineOptions {
    EngineOptions {
        journal_bytes: 16 * 1024,
        ..steps::options(clock)
    }
}

/// A store being made.
pub struct Maker {
    disk: FaultDisk,
    clock: ManualClock,
    engine: Engine,
    states: Vec<State>,
    had: BTreeMap<String, Vec<Arc<Record>>>,
    fence: u64,
}

impl Maker {
    pub fn new() -> Self {
        let (disk, clock) = (FaultDisk::new(), ManualClock::new());
        let engine = Engine::open(Arc::new(disk.clone()), small(&clock));
        Maker {
            engine: engine.expect("a new store opens"),
            disk,
            clock,
            states: vec![State::new()],
            had: BTreeMap::new(),
            fence: 0,
        }
    }

    /// Carries the commands out in one frame, and drops the leases.
    pub fn commit(&mut self, commands: Vec<(&str, Command)>) -> Fence {
        let (names, commands): (Vec<&str>, Vec<Command>) = commands.into_iter().unzip();
        let requests = names.iter().zip(commands).map(|(name, command)| Request::new(steps::key(name), command));
        let answers = self.engine.commit(&requests.collect::<Vec<_>>());
        let mut state = self.states.last().cloned().unwrap_or_default();
        for (name, answer) in names.into_iter().zip(answers) {
            let had = self.had.entry(name.to_owned()).or_default();
            match answer.expect("an undisturbed command succeeds").record {
                Some(record) => {
                    self.fence = self.fence.max(record.fence.as_u64());
                    had.push(record.clone());
                    state.insert(name.to_owned(), record);
                }
                None => drop(state.remove(name)),
            }
        }
        self.states.push(state);
        Fence::from_u64(self.fence)
    }

    pub fn claim(&mut self, name: &str, takeover: Takeover) -> Fence {
        self.commit(vec![(name, claim(takeover))])
    }

    /// Claims and completes with that many bytes.
    pub fn done(&mut self, name: &str, bytes: usize) {
        let fence = self.claim(name, Takeover::Gone);
        let response: Vec<u8> = name.bytes().cycle().take(bytes).collect();
        let complete = Command::Complete {
            fence,
            response: response.into(),
            retain_for: None,
        };
        self.commit(vec![(name, complete)]);
    }

    pub fn save(&mut self, name: &str, fence: Fence, bytes: usize) {
        let point = vec![b'p'; bytes].into();
        self.commit(vec![(name, Command::Save { fence, point })]);
    }

    pub fn release(&mut self, name: &str, fence: Fence) {
        self.commit(vec![(name, Command::Release { fence })]);
    }

    pub fn forget(&mut self, name: &str) {
        self.commit(vec![(name, Command::Forget { held: false })]);
    }

    pub fn checkpoint(&mut self) {
        self.engine.checkpoint().expect("nothing disturbs it");
    }

    /// A checkpoint that cannot write the base: its records stay in the journal, which goes on in
    /// another segment.
    pub fn checkpoint_in_vain(&mut self) {
        self.disk.fail(ErrorKind::Other, |event| {
            event.op == Op::Write && event.file.starts_with("base")
        });
        self.engine
            .checkpoint()
            .expect_err("the base cannot be written");
        self.disk.clear();
    }

    pub fn advance(&mut self, hours: u32) {
        self.clock.advance(hours * HOUR);
    }

    /// The process is killed and another opens the store.
    pub fn reopen(&mut self) {
        let content = self.disk.content().snapshot();
        self.disk = FaultDisk::over(content);
        let engine = Engine::open(Arc::new(self.disk.clone()), small(&self.clock));
        self.engine = engine.expect("what a kill leaves opens");
    }

    pub fn closed(self) -> Made {
        self.engine.close().expect("nothing disturbs it");
        self.killed(1)
    }

    /// As a kill leaves it while the base lacks what is in the latest `segments` segments.
    pub fn killed(self, segments: usize) -> Made {
        let files = files_of(&self.disk.content().snapshot());
        let log = logged(&files, segments);
        // Frames without changes only name the next segment.
        let changing = log.iter().filter(|(_, changes)| *changes > 0).count();
        let mut states = self.states.iter().rev().take(changing + 1).rev().cloned();
        let mut since = vec![states.next().expect("at least the first")];
        for (_, changes) in &log {
            let after = match changes {
                0 => since.last().cloned(),
                _ => states.next(),
            };
            since.push(after.expect("a state for every frame"));
        }
        Made {
            files,
            states: since,
            log: log.into_iter().map(|(logged, _)| logged).collect(),
            had: self.had,
            fence: self.fence,
            clock: self.clock,
        }
    }
}

impl Default for Maker {
    fn default() -> Self {
        Self::new()
    }
}

pub fn claim(takeover: Takeover) -> Command {
    Command::Claim(Terms {
        lease_for: HOUR,
        retain_for: RETENTION,
        takeover,
        fingerprint: None,
    })
}

/// The frames of the latest `segments` segments, in order, with their numbers of changes.
fn logged(files: &Files, segments: usize) -> Vec<(Logged, u32)> {
    // Names are in the order of their numbers.
    let named = files
        .iter()
        .filter(|(name, _)| name.starts_with("journal-0"));
    let latest: Vec<_> = named.rev().take(segments).collect();
    let frames = latest.into_iter().rev().flat_map(|(file, bytes)| {
        segment::frames(bytes).into_iter().map(move |frame| {
            let logged = Logged {
                file: file.clone(),
                at: frame.at,
                content: bytes[frame.at..frame.at + frame.len].to_vec(),
            };
            (logged, frame.changes)
        })
    });
    frames.collect()
}
