//! Single flipped bits in closed stores: damage at rest.
//!
//! No key looks vacant, since the seal tells of the damage before anything is answered: not after an
//! opening that was cut short either. Only where the seal itself is damaged a key might, until the
//! verification has passed over it. Wrong bytes, and panics that reach the caller, never at all.
//!
//! Now and then what was left in flight is then claimed and completed where the store allows it: after
//! another opening it is done, or said to be damaged, and not to be claimed again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use firstclaim::internals::Engine;
use firstclaim::internals::record::{Record, Takeover};
use firstclaim::internals::transition::Command;
use firstclaim::{Error, ManualClock};

use super::{Effort, Report};
use crate::disk::{Fate, Image, Op, SimDisk};
use crate::random::Random;
use crate::world::{Setting, Step, World, key, options, request, terms};

const SEAL: &str = "base.seal";
const RESPONSE: &[u8] = b"done in the end";

const SETTING: Setting = Setting {
    journal_bytes: 64 * 1024,
    ..Setting::SMALL
};

/// A closed store and what it holds.
struct Made {
    image: Image,
    clock: ManualClock,
    records: BTreeMap<String, Arc<Record>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    cut_short: u64,
    refused_to_open: u64,
    vacant_before: u64,
    corrupt: u64,
    unharmed: u64,
    /// Of what was left in flight, and still done after another opening.
    completed: u64,
}

/// Flips as many bits as the effort says, one at a time.
pub fn run(effort: Effort) -> Report {
    let mut report = Report::default();
    let mut counts = Counts::default();
    let stores = [made(3), made(40), made(400)];
    let mut random = Random::new(effort.seed);
    while !effort.is_done(&report) {
        let store = random.pick(&stores);
        let files = store.image.files();
        let total: u64 = files.iter().map(|(_, len)| len * 8).sum();
        // Every bit of every file is as likely, but most of all of them in the base: the journal
        // of a closed store is void.
        let bit = random.below(total);
        let (name, bit) = if random.chance(8) {
            place(&files, bit)
        } else {
            in_base(&files, bit)
        };
        report.cases += 1;
        if std::env::var_os("TRUST_PANICS").is_some() {
            eprintln!("case {} {name} bit {bit}", report.cases);
        }
        let mut image = store.image.clone();
        image.flip(&name, bit);
        if name != SEAL && random.chance(4) {
            counts.cut_short += 1;
            image = cut_short(store, image, random.below(40));
        }
        let tried = catch_unwind(AssertUnwindSafe(|| {
            try_flipped(store, image, name != SEAL, random.chance(8), &mut counts)
        }));
        let what = match tried {
            Ok(Ok(())) => continue,
            Ok(Err(what)) => what,
            Err(_) => "a panic reached the caller".to_owned(),
        };
        report.violate(format!("{name}, bit {bit}: {what}; seed {}", effort.seed));
    }
    report.notes.push(format!(
        "{} after an opening that was cut short, {} did not open, {} showed damage, {} looked vacant before verification, {} unharmed; {} left in flight were completed",
        counts.cut_short,
        counts.refused_to_open,
        counts.corrupt,
        counts.vacant_before,
        counts.unharmed,
        counts.completed
    ));
    report
}

fn made(bursts: usize) -> Made {
    let clock = ManualClock::new();
    let mut world =
        World::open(Image::default(), SETTING, clock.clone()).expect("a new store opens");
    for step in [
        Step::Burst(bursts),
        Step::Checkpoint,
        Step::Advance(100),
        Step::Claim(0, Takeover::Never),
        Step::Save(0),
        Step::Claim(1, Takeover::Gone),
        Step::Complete(1),
        Step::Burst(bursts / 4),
        Step::Leave(bursts / 2),
    ] {
        world.act(step).expect("an undisturbed step succeeds");
    }
    world.engine.close().expect("an undisturbed store closes");
    Made {
        image: world.disk.image(),
        clock,
        records: world.acked.records.clone(),
    }
}

fn place(files: &[(String, u64)], mut bit: u64) -> (String, u64) {
    for (name, len) in files {
        if bit < len * 8 {
            return (name.clone(), bit);
        }
        bit -= len * 8;
    }
    (files[0].0.clone(), 0)
}

fn in_base(files: &[(String, u64)], bit: u64) -> (String, u64) {
    let base = files.iter().find(|(name, _)| name == "base.redb");
    let (name, len) = base.expect("a closed store has a base");
    (name.clone(), bit % (len * 8))
}

/// The image after an opening whose disk died; as it was if the opening did not come to that.
fn cut_short(store: &Made, image: Image, at: u64) -> Image {
    let disk = SimDisk::over(image.clone());
    let fate = Fate::Fails(std::io::ErrorKind::Other);
    disk.fail_from(|op| op != Op::Read, at, true, fate);
    match Engine::open(disk.as_disk(), options(SETTING, &store.clock)) {
        Ok(_) => image,
        Err(_) => disk.image(),
    }
}

/// What is sealed shows no key as vacant at any time, anything else not after a verification.
fn try_flipped(
    store: &Made,
    image: Image,
    is_sealed: bool,
    goes_on: bool,
    counts: &mut Counts,
) -> Result<(), String> {
    let disk = SimDisk::over(image);
    let engine = match Engine::open(disk.as_disk(), options(SETTING, &store.clock)) {
        Ok(engine) => engine,
        Err(Error::Corrupt { .. } | Error::Io(_) | Error::Format { .. }) => {
            counts.refused_to_open += 1;
            return Ok(());
        }
        Err(other) => return Err(format!("opening: {other}")),
    };
    let before = look(store, &engine)?;
    if is_sealed && before.vacant > 0 {
        return Err(format!("{} vacant though sealed", before.vacant));
    }
    counts.vacant_before += u64::from(before.vacant > 0);
    let verified = engine.verify();
    let after = look(store, &engine)?;
    if after.vacant > 0 {
        return Err(format!("{} vacant after {verified:?}", after.vacant));
    }
    if verified.is_ok() && after.corrupt > 0 {
        return Err(format!("{} corrupt though verified", after.corrupt));
    }
    counts.corrupt += u64::from(after.corrupt > 0 || verified.is_err());
    counts.unharmed += u64::from(after.corrupt == 0 && verified.is_ok());
    if !goes_on {
        return Ok(());
    }
    let completed = complete_what_is_left(store, &engine)?;
    // That it could not be written does not matter here.
    let _ = engine.close();
    drop(engine);
    let Ok(engine) = Engine::open(disk.as_disk(), options(SETTING, &store.clock)) else {
        return Ok(());
    };
    for name in completed {
        match engine.peek(&key(&name)) {
            Ok(Some((record, _))) if record.response() == Some(RESPONSE) => counts.completed += 1,
            Err(Error::Corrupt { .. } | Error::Io(_)) => {}
            other => return Err(format!("{name} was completed and is {other:?}")),
        }
    }
    Ok(())
}

/// Takes over and completes what was left in flight, where that can be done; which ones were.
fn complete_what_is_left(store: &Made, engine: &Engine) -> Result<Vec<String>, String> {
    let mut completed = Vec::new();
    let is_left = |(_, record): &(&String, &Arc<Record>)| {
        record.is_unfinished() && record.takeover == Takeover::Gone
    };
    for (name, _) in store.records.iter().filter(is_left) {
        let claim = Command::Claim(terms(Takeover::Gone));
        let Ok(claimed) = engine.commit(&[request(name, claim)]).remove(0) else {
            continue;
        };
        let Some(record) = &claimed.record else {
            return Err(format!("{name}: {claimed:?}"));
        };
        let complete = Command::Complete {
            fence: record.fence,
            response: RESPONSE.into(),
            retain_for: None,
        };
        if engine.commit(&[request(name, complete)])[0].is_ok() {
            completed.push(name.clone());
        }
    }
    Ok(completed)
}

#[derive(Debug, Default)]
struct Looked {
    vacant: u64,
    corrupt: u64,
}

fn look(store: &Made, engine: &Engine) -> Result<Looked, String> {
    let mut looked = Looked::default();
    for (name, record) in &store.records {
        match engine.peek(&key(name)) {
            Ok(Some((found, _))) if found == *record => {}
            Ok(Some((found, _))) => return Err(format!("{name} is {found:?}")),
            Ok(None) => looked.vacant += 1,
            Err(Error::Corrupt { .. } | Error::Io(_)) => looked.corrupt += 1,
            Err(other) => return Err(format!("{name}: {other}")),
        }
    }
    Ok(looked)
}
