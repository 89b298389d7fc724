//! Damage at rest that no promise covers: how often it goes unseen.
//!
//! A store that was not closed has no seal. One bit is flipped in the last frame of its journal, in
//! redb's choice of its root, or anywhere in its base, and what the store then shows is counted. Bytes
//! that never were are a violation even here. A damaged page can make redb panic within a panic, which
//! ends the process: so the cases run in one of their own, and the next one goes on behind the case that
//! ended it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use firstclaim::internals::Engine;
use firstclaim::internals::record::{Record, Takeover};
use firstclaim::{Error, ManualClock};

use super::{Effort, Report};
use crate::disk::{Image, SECTOR, SimDisk};
use crate::random::Random;
use crate::world::{Acked, Setting, Step, World, key, options};

/// The option under which the program runs cases for its parent.
pub const CHILD: &str = "--rates-of";

/// Where a bit is flipped, and in how many of a hundred cases.
const PLACES: [(&str, u64); 3] = [("last frame", 20), ("root", 20), ("base", 60)];
/// The header of redb's file: its choice of the root, and both candidates.
const ROOT_BYTES: u64 = 320;

/// What became of a case, from good to bad.
const OUTCOMES: [(&str, &str); 6] = [
    ("unharmed", "unharmed"),
    ("refused", "did not open"),
    ("seen", "showed damage at once"),
    ("late", "looked older before verification alone"),
    ("unseen", "looked older for good"),
    ("ended", "ended by redb"),
];

/// Flips as many bits as the effort says, one at a time, and counts.
pub fn run(effort: Effort) -> Report {
    let mut report = Report::default();
    for (place, percent) in PLACES {
        let cases = effort.cases * percent / 100;
        let mut counts = BTreeMap::new();
        let mut done = 0;
        while done < cases && !(effort.first_only && report.violations > 0) {
            let (outcomes, ended) = run_child(place, effort.seed, done, cases);
            done += outcomes.len() as u64;
            for outcome in outcomes {
                if OUTCOMES.iter().all(|(word, _)| *word != outcome) {
                    report.violate(format!("{place}: {outcome}; seed {}", effort.seed));
                }
                *counts.entry(outcome).or_insert(0) += 1;
            }
            if ended && done < cases {
                done += 1;
                *counts.entry("ended".to_owned()).or_insert(0) += 1;
            }
        }
        report.cases += done;
        let counted = OUTCOMES.iter().filter_map(|(word, meaning)| {
            let count: &u64 = counts.get(*word)?;
            Some(format!("{count} {meaning}"))
        });
        let counted: Vec<String> = counted.collect();
        report
            .notes
            .push(format!("{place} {done}: {}", counted.join(", ")));
    }
    report
}

/// The outcomes of the cases from `first` on, up to the one that ended the process, if one did.
fn run_child(place: &str, seed: u64, first: u64, end: u64) -> (Vec<String>, bool) {
    let program = std::env::current_exe().expect("the program has a path");
    let numbers = [seed, first, end].map(|n| n.to_string());
    let child = Command::new(program)
        .args([CHILD, place])
        .args(numbers)
        .stderr(Stdio::null())
        .output()
        .expect("the program can be run again");
    let text = String::from_utf8_lossy(&child.stdout);
    let outcomes = text.lines().map(str::to_owned).collect();
    (outcomes, !child.status.success())
}

/// Runs the cases that the parent asks for, and prints a line for each.
pub fn run_as_child(mut args: impl Iterator<Item = String>) -> ExitCode {
    let place = args.next().unwrap_or_default();
    let numbers: Vec<u64> = args.filter_map(|arg| arg.parse().ok()).collect();
    let [seed, first, end] = numbers[..] else {
        return ExitCode::FAILURE;
    };
    let store = Killed::new();
    for case in first..end {
        let mut random = Random::new(seed.wrapping_mul(1 << 32).wrapping_add(case));
        let (file, bit) = store.bit(&place, &mut random);
        let mut image = store.image.clone();
        image.flip(&file, bit);
        let outcome = match store.outcome(image) {
            Ok(outcome) => outcome.to_owned(),
            Err(what) => format!("{file}, bit {bit}: {what}"),
        };
        println!("{outcome}");
        let _ = std::io::stdout().flush();
    }
    ExitCode::SUCCESS
}

/// A killed store: much in its base, some in its journal.
struct Killed {
    image: Image,
    clock: ManualClock,
    acked: Acked,
    /// Every record that ever was, by its key.
    history: Vec<(String, Arc<Record>)>,
}

const SETTING: Setting = Setting {
    journal_bytes: 64 * 1024,
    transaction_records: 64,
    ..Setting::SMALL
};

impl Killed {
    fn new() -> Self {
        let clock = ManualClock::new();
        let world = World::open(Image::default(), SETTING, clock.clone());
        let mut world = world.expect("a new store opens");
        let mut history = Vec::new();
        for step in [
            Step::Burst(40),
            Step::Claim(0, Takeover::Never),
            Step::Checkpoint,
            Step::Save(0),
            Step::Burst(40),
            Step::Claim(1, Takeover::Gone),
            Step::Checkpoint,
            Step::Complete(1),
            Step::Complete(0),
            Step::Claim(2, Takeover::Gone),
            Step::Burst(4),
            Step::Complete(2),
        ] {
            world.act(step).expect("an undisturbed step succeeds");
            let records = world.acked.records.iter();
            history.extend(records.map(|(name, record)| (name.clone(), record.clone())));
        }
        Killed {
            image: world.disk.image(),
            clock,
            acked: world.acked.clone(),
            history,
        }
    }

    fn bit(&self, place: &str, random: &mut Random) -> (String, u64) {
        let base = "base.redb".to_owned();
        let len = self.image.bytes(&base).len() as u64;
        match place {
            "root" => (base, random.below(8 * ROOT_BYTES)),
            "base" => (base, 8 * ROOT_BYTES + random.below(8 * (len - ROOT_BYTES))),
            _ => {
                let (segment, begin, end) = self.last_frame();
                (segment, 8 * begin + random.below(8 * (end - begin)))
            }
        }
    }

    /// The last frame: its segment, and where it begins and ends (docs/format.md).
    fn last_frame(&self) -> (String, u64, u64) {
        let mut last = (0, String::new(), 0, 0);
        for (name, _) in self.image.files() {
            let bytes = self.image.bytes(&name);
            for at in (0..bytes.len()).step_by(SECTOR) {
                let frame = &bytes[at..];
                if !frame.starts_with(b"fcfr") {
                    continue;
                }
                let len = u32::from_le_bytes(frame[4..8].try_into().expect("four bytes"));
                let batch = u64::from_le_bytes(frame[8..16].try_into().expect("eight bytes"));
                if batch > last.0 {
                    last = (batch, name.clone(), at as u64, u64::from(len));
                }
            }
        }
        let (_, name, begin, len) = last;
        (name, begin, begin + len)
    }

    /// # Errors
    /// What is wrong beyond what damage at rest may do.
    fn outcome(&self, image: Image) -> Result<&'static str, String> {
        let disk = SimDisk::over(image);
        let engine = match Engine::open(disk.as_disk(), options(SETTING, &self.clock)) {
            Ok(engine) => engine,
            Err(Error::Corrupt { .. } | Error::Io(_) | Error::Format { .. }) => {
                return Ok("refused");
            }
            Err(other) => return Err(format!("opening: {other}")),
        };
        let before = self.look(&engine)?;
        let verified = engine.verify().is_ok();
        let after = self.look(&engine)?;
        Ok(match (before.is_older, after.is_older) {
            (_, true) => "unseen",
            (true, false) => "late",
            (false, false) if verified && !before.is_damaged => "unharmed",
            (false, false) => "seen",
        })
    }

    fn look(&self, engine: &Engine) -> Result<Looked, String> {
        let mut looked = Looked::default();
        for (name, record) in &self.acked.records {
            let found = match engine.peek(&key(name)) {
                Ok(found) => found.map(|(found, _)| found),
                Err(Error::Corrupt { .. } | Error::Io(_)) => {
                    looked.is_damaged = true;
                    continue;
                }
                Err(other) => return Err(format!("{name}: {other}")),
            };
            let ever = |found: &Arc<Record>| {
                let mut all = self.history.iter();
                all.any(|(of, record)| of == name && record == found)
            };
            match found {
                Some(found) if found == *record => {}
                Some(found) if !ever(&found) => return Err(format!("{name} is {found:?}")),
                _ => looked.is_older = true,
            }
        }
        Ok(looked)
    }
}

/// What the keys of a store look like.
#[derive(Debug, Default)]
struct Looked {
    /// A key is vacant, or shows an earlier record.
    is_older: bool,
    /// A key says that it is damaged.
    is_damaged: bool,
}
