//! Every Nth operation fails, once and for good, until a run has no Nth operation any more.
//!
//! For each kind of operation, and for syncs in each of the three ways that a sync can fail. After
//! the run the power is cut, keeping none or all, and the store must show what was acknowledged,
//! or that with the one command whose outcome was not established.

use firstclaim::internals::record::Takeover;
use firstclaim::{Error, ManualClock};

use super::{Effort, Report};
use crate::disk::{FailedSync, Fate, Image, Keep, Op};
use crate::world::{Acked, Demand, Setting, Step, World};

const KINDS: [(Op, Option<FailedSync>); 10] = [
    (Op::Read, None),
    (Op::Write, None),
    (Op::SetLen, None),
    (Op::Sync, Some(FailedSync::Dropped)),
    (Op::Sync, Some(FailedSync::Clean)),
    (Op::Sync, Some(FailedSync::Dirty)),
    (Op::Create, None),
    (Op::Rename, None),
    (Op::Remove, None),
    (Op::SyncDir, None),
];

/// Touches everything: all commands, full segments, checkpoints, sweeps.
const WORK: [Step; 22] = [
    Step::Claim(0, Takeover::Gone),
    Step::Complete(0),
    Step::Claim(1, Takeover::Never),
    Step::Save(1),
    Step::Checkpoint,
    Step::Renew(1),
    Step::Drop(1),
    Step::Resolve(1),
    Step::Release(1),
    Step::Batch,
    Step::Burst(9),
    Step::Forget(0),
    Step::Claim(0, Takeover::Expired),
    Step::Checkpoint,
    Step::Complete(0),
    Step::Advance(400),
    Step::Sweep,
    Step::Claim(2, Takeover::GoneOrExpired),
    Step::Burst(9),
    Step::Complete(2),
    Step::Checkpoint,
    Step::Claim(0, Takeover::Gone),
];

/// Runs every loop to its end; the effort's cases are not a limit here.
pub fn run(effort: Effort) -> Report {
    let mut report = Report::default();
    for (op, way) in KINDS {
        for for_good in [false, true] {
            let mut n = 0;
            while try_nth(op, way, n, for_good, &mut report) {
                n += 1;
                if effort.first_only && report.violations > 0 {
                    return report;
                }
            }
        }
    }
    report
}

/// Fails the `n`th operation of a kind; false once the run has none.
fn try_nth(op: Op, way: Option<FailedSync>, n: u64, for_good: bool, report: &mut Report) -> bool {
    let clock = ManualClock::new();
    let mut world = World::open(Image::default(), Setting::SMALL, clock.clone())
        .expect("a new store opens on a disk without faults");
    let hit = fail_from(&world, op, way, n, for_good);
    let what = format!("{op:?} {n} {way:?}, for good {for_good}");
    for step in WORK {
        let Err(error) = world.act(step) else {
            continue;
        };
        match error {
            Error::Indeterminate | Error::Poisoned | Error::Io(_) => {}
            other => report.violate(format!("{what}, {step:?}: {other}")),
        }
    }
    world.disk.clear_plan();
    report.cases += 1;
    check_after(&world, &what, report);
    hit.load(std::sync::atomic::Ordering::SeqCst)
}

fn fail_from(
    world: &World,
    op: Op,
    way: Option<FailedSync>,
    n: u64,
    for_good: bool,
) -> std::sync::Arc<std::sync::atomic::AtomicBool> {
    let hit = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let noted = hit.clone();
    let mut seen = 0;
    world.disk.set_plan(move |at, _, _| {
        if at != op {
            return Fate::Happens;
        }
        seen += 1;
        let fails = if for_good { seen > n } else { seen == n + 1 };
        if !fails {
            return Fate::Happens;
        }
        noted.store(true, std::sync::atomic::Ordering::SeqCst);
        match way {
            Some(way) => Fate::FailsSync(way),
            None => Fate::Fails(std::io::ErrorKind::Other),
        }
    });
    hit
}

/// What the store shows now, and after a kill and a power cut.
fn check_after(world: &World, what: &str, report: &mut Report) {
    let with_unknown = world.with_unknown();
    let allowed: Vec<&Acked> = std::iter::once(&world.acked).chain(&with_unknown).collect();
    let demand = Demand {
        allowed: &allowed,
        setting: world.setting,
        clock: &world.clock,
    };
    let image = world.disk.image();
    for (how, image) in [
        ("kill", image.clone()),
        ("cut, none kept", image.cut(Keep::None)),
        ("cut, all kept", image.cut(Keep::All)),
    ] {
        if let Err(wrong) = demand.check(&image) {
            report.violate(format!(
                "{what}, {how}: {wrong}; repeat: .ci/campaigns faults"
            ));
        }
    }
}
