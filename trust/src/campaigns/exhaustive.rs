//! Every workload of up to three steps over an alphabet, from several made stores, stopped at
//! every operation of its last step, with four ways of keeping what was not synced. Equal images
//! under equal demands are tried once.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use firstclaim::internals::record::Takeover;
use firstclaim::{Clock, ManualClock};

use super::{Effort, Report};
use crate::disk::{Fate, Image, Keep, Op};
use crate::world::{Acked, Demand, Setting, Step, World};

/// What a workload is made of.
const ALPHABET: [Step; 14] = [
    Step::Claim(0, Takeover::Gone),
    Step::Claim(0, Takeover::Never),
    Step::Claim(1, Takeover::Expired),
    Step::Complete(0),
    Step::Renew(0),
    Step::Save(0),
    Step::Release(0),
    Step::Drop(0),
    Step::Forget(0),
    Step::Resolve(0),
    Step::Batch,
    Step::Checkpoint,
    Step::Sweep,
    Step::Advance(400),
];

/// The longest workload.
const LONGEST: u32 = 3;

const WAYS: [Keep; 4] = [Keep::None, Keep::All, Keep::AllButLast, Keep::Some(7)];

/// Where a workload begins.
#[derive(Debug, Clone, Copy)]
enum Start {
    /// A new store.
    Fresh,
    /// Records are frozen, and the base does not have them yet.
    MidCheckpoint,
    /// Done records in several tables, some expired.
    Generations,
    /// Segments that were used before.
    Recycled,
}

const STARTS: [Start; 4] = [
    Start::Fresh,
    Start::MidCheckpoint,
    Start::Generations,
    Start::Recycled,
];

/// Tries them all; the effort's cases are not a limit here.
pub fn run(effort: Effort) -> Report {
    let mut report = Report::default();
    let mut workloads = 0u64;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for start in STARTS {
        let made = Made::of(start);
        let reports: Vec<(Report, u64)> = std::thread::scope(|scope| {
            let parts: Vec<_> = (0..threads)
                .map(|part| {
                    let made = &made;
                    scope.spawn(move || run_part(made, part, threads, effort.first_only))
                })
                .collect();
            let joined = parts.into_iter().map(|part| part.join());
            joined.map(|part| part.expect("no panic")).collect()
        });
        for (part, count) in reports {
            report.add(part);
            workloads += count;
        }
        if effort.first_only && report.violations > 0 {
            break;
        }
    }
    report.notes.push(format!(
        "{workloads} workloads from {} stores",
        STARTS.len()
    ));
    report
}

/// A made store: an image, what it acknowledged, and the time.
struct Made {
    start: Start,
    image: Image,
    acked: Acked,
    clock: ManualClock,
}

impl Made {
    fn of(start: Start) -> Self {
        let clock = ManualClock::new();
        let mut world = World::open(Image::default(), Setting::SMALL, clock.clone())
            .expect("a new store opens");
        let mut act = |step| world.act(step).expect("an undisturbed step succeeds");
        match start {
            Start::Fresh | Start::MidCheckpoint => {}
            Start::Generations => {
                for _ in 0..3 {
                    act(Step::Burst(3));
                    act(Step::Checkpoint);
                    act(Step::Advance(120));
                }
                act(Step::Claim(0, Takeover::Gone));
                act(Step::Complete(0));
                act(Step::Checkpoint);
            }
            Start::Recycled => {
                act(Step::Burst(20));
                act(Step::Claim(1, Takeover::Gone));
            }
        }
        Made {
            start,
            image: world.disk.image(),
            acked: world.acked.clone(),
            clock,
        }
    }

    fn world(&self) -> World {
        // Its own clock, at the same time.
        let clock = ManualClock::at(self.clock.now());
        let mut world = World::reopen(
            self.image.clone(),
            Setting::SMALL,
            clock,
            self.acked.clone(),
        )
        .expect("a made store opens");
        if matches!(self.start, Start::MidCheckpoint) {
            for step in [
                Step::Claim(0, Takeover::Gone),
                Step::Complete(0),
                Step::Claim(1, Takeover::Never),
            ] {
                world.act(step).expect("an undisturbed step succeeds");
            }
            world.disk.set_plan(|op, name, _| match op {
                Op::Write if name.starts_with("base") => Fate::Fails(std::io::ErrorKind::Other),
                _ => Fate::Happens,
            });
            world
                .act(Step::Checkpoint)
                .expect_err("the base cannot be written");
            world.disk.clear_plan();
        }
        world
    }
}

fn run_part(made: &Made, part: usize, parts: usize, first_only: bool) -> (Report, u64) {
    let mut report = Report::default();
    let mut tried = HashSet::new();
    let mut workloads = 0;
    for length in 1..=LONGEST {
        for number in 0..ALPHABET.len().pow(length) {
            if number % parts != part {
                continue;
            }
            workloads += 1;
            let workload: Vec<Step> = (0..length)
                .map(|at| ALPHABET[number / ALPHABET.len().pow(at) % ALPHABET.len()])
                .collect();
            try_workload(made, &workload, &mut tried, &mut report);
            if first_only && report.violations > 0 {
                return (report, workloads);
            }
        }
    }
    (report, workloads)
}

fn try_workload(made: &Made, workload: &[Step], tried: &mut HashSet<u64>, report: &mut Report) {
    let mut world = made.world();
    let (last, before) = workload.split_last().expect("not empty");
    for step in before {
        if let Err(error) = world.act(*step) {
            report.violate(format!("{:?}, {workload:?}: {error}", made.start));
            return;
        }
    }
    let passed = world.step(*last, |_| true);
    if let Some(error) = &passed.error {
        report.violate(format!("{:?}, {workload:?}: {error}", made.start));
    }
    for moment in &passed.moments {
        let allowed = passed.allowed(moment);
        let demand = Demand {
            allowed: &allowed,
            setting: world.setting,
            clock: &world.clock,
        };
        let cuts = WAYS.iter().map(|keep| moment.image.cut(*keep));
        for image in std::iter::once(moment.image.clone()).chain(cuts) {
            if !tried.insert(signature(&image, &demand)) {
                continue;
            }
            report.cases += 1;
            if let Err(what) = demand.check(&image) {
                report.violate(format!(
                    "{:?}, {workload:?}: {what}; repeat: .ci/campaigns exhaustive",
                    made.start
                ));
            }
        }
    }
}

/// The same for equal images under equal demands.
fn signature(image: &Image, demand: &Demand<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    image.digest().hash(&mut hasher);
    demand.clock.now().hash(&mut hasher);
    for acked in demand.allowed {
        format!("{acked:?}").hash(&mut hasher);
    }
    hasher.finish()
}
