//! Every Nth operation fails, once and for good, until a run has no Nth operation any more.
//!
//! For each kind of operation, and for syncs in each of the three ways that a sync can fail; in the
//! work of an open store, and in opening and closing one. After the run the power is cut, keeping none
//! or all, and the store must show what was acknowledged, or that with the one command whose outcome
//! was not established.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use firstclaim::internals::Engine;
use firstclaim::internals::record::{Holder, Takeover};
use firstclaim::{Error, ManualClock};

use super::{Effort, Report};
use crate::disk::{FailedSync, Fate, Image, Keep, Op, SimDisk};
use crate::world::{Acked, Demand, Setting, Step, World, options};

const ERROR: Fate = Fate::Fails(ErrorKind::Other);
/// A read that gives fewer bytes than asked.
const SHORT: Fate = Fate::Fails(ErrorKind::UnexpectedEof);

const KINDS: [(Op, Fate); 11] = [
    (Op::Read, ERROR),
    (Op::Read, SHORT),
    (Op::Write, ERROR),
    (Op::SetLen, ERROR),
    (Op::Sync, Fate::FailsSync(FailedSync::Dropped)),
    (Op::Sync, Fate::FailsSync(FailedSync::Clean)),
    (Op::Sync, Fate::FailsSync(FailedSync::Dirty)),
    (Op::Create, ERROR),
    (Op::Rename, ERROR),
    (Op::Remove, ERROR),
    (Op::SyncDir, ERROR),
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

/// One fault: the `n`th operation of a kind, or all from it on.
#[derive(Debug, Clone, Copy)]
struct Fault {
    op: Op,
    fate: Fate,
    n: u64,
    for_good: bool,
}

impl Fault {
    /// Whether an operation may answer so.
    fn explains(&self, error: &Error) -> bool {
        match error {
            Error::Indeterminate | Error::Poisoned | Error::Io(_) => true,
            // A file that ends too early is damaged.
            Error::Corrupt { .. } => self.fate == SHORT,
            _ => false,
        }
    }
}

/// What is tried with a fault; tells whether the fault came to pass.
type Try<'t> = dyn FnMut(Fault, &mut Report) -> bool + 't;

/// Runs every loop to its end; the effort's cases are not a limit here.
pub fn run(effort: Effort) -> Report {
    let mut report = Report::default();
    each_fault(effort, &mut report, &mut try_work);
    for closed in [false, true] {
        let world = worked(closed);
        each_fault(effort, &mut report, &mut |fault, report| {
            try_opening(&world, fault, report)
        });
    }
    report
}

fn each_fault(effort: Effort, report: &mut Report, try_fault: &mut Try<'_>) {
    for (op, fate) in KINDS {
        for for_good in [false, true] {
            for n in 0.. {
                if effort.first_only && report.violations > 0 {
                    return;
                }
                let fault = Fault {
                    op,
                    fate,
                    n,
                    for_good,
                };
                report.cases += 1;
                if !try_fault(fault, report) {
                    break;
                }
            }
        }
    }
}

/// Works with a new store under the fault.
fn try_work(fault: Fault, report: &mut Report) -> bool {
    let clock = ManualClock::new();
    let mut world = World::open(Image::default(), Setting::SMALL, clock.clone())
        .expect("a new store opens on a disk without faults");
    let hit = fail_at(&world.disk, fault);
    let mut note = |what: String| report.violate(format!("{fault:?}, {what}"));
    for step in WORK {
        if let Err(error) = world.act(step)
            && !fault.explains(&error)
        {
            note(format!("{step:?}: {error}"));
        }
        let wrong = world.wrong_shown(|error| fault.explains(error));
        wrong
            .into_iter()
            .for_each(|wrong| note(format!("after {step:?}: {wrong}")));
    }
    world.disk.clear_plan();
    if let Err(error) = world.engine.verify()
        && !fault.explains(&error)
    {
        note(format!("verification: {error}"));
    }
    let wrong = world.wrong_shown(|error| fault.explains(error));
    wrong
        .into_iter()
        .for_each(|wrong| note(format!("verified: {wrong}")));
    check_after(&world, &world.disk.image(), &format!("{fault:?}"), report);
    hit.load(Ordering::SeqCst)
}

/// A store that has worked, and was closed or is about to be killed.
fn worked(closed: bool) -> World {
    let clock = ManualClock::new();
    let mut world = World::open(Image::default(), Setting::SMALL, clock.clone())
        .expect("a new store opens on a disk without faults");
    for step in WORK {
        world.act(step).expect("no fault, no error");
    }
    if closed {
        world.engine.close().expect("no fault, no error");
    }
    world
}

/// Opens and closes a store under the fault, and looks at what it shows, before and after a
/// verification that nothing disturbs.
fn try_opening(world: &World, fault: Fault, report: &mut Report) -> bool {
    let disk = SimDisk::over(world.disk.image());
    let hit = fail_at(&disk, fault);
    let what = format!("opening with {fault:?}");
    let mut note = |found: String| report.violate(format!("{what}: {found}"));
    match Engine::open(disk.as_disk(), options(world.setting, &world.clock)) {
        Ok(engine) => {
            let shown = || {
                let nobody = |_: &str| Holder::Gone;
                let explains = |error: &Error| fault.explains(error);
                world.acked.wrong_shown(&engine, nobody, explains)
            };
            shown().into_iter().for_each(&mut note);
            if let Err(error) = engine.close()
                && !fault.explains(&error)
            {
                note(error.to_string());
            }
        }
        Err(error) if fault.explains(&error) => {}
        Err(error) => note(error.to_string()),
    }
    disk.clear_plan();
    check_after(world, &disk.image(), &what, report);
    if fault.for_good {
        return hit.load(Ordering::SeqCst);
    }
    // Once more, and now it stays open.
    let disk = SimDisk::over(world.disk.image());
    fail_at(&disk, fault);
    let opened = Engine::open(disk.as_disk(), options(world.setting, &world.clock));
    disk.clear_plan();
    if let Ok(engine) = opened {
        let verified = engine.verify();
        let nobody = |_: &str| Holder::Gone;
        let wrong = world
            .acked
            .wrong_shown(&engine, nobody, |error| fault.explains(error));
        if let Some(wrong) = wrong {
            report.violate(format!("{what}, verified {verified:?}: {wrong}"));
        }
    }
    hit.load(Ordering::SeqCst)
}

/// Makes the disk fail; what is given back tells whether it has.
fn fail_at(disk: &SimDisk, fault: Fault) -> Arc<AtomicBool> {
    let Fault {
        op,
        fate,
        n,
        for_good,
    } = fault;
    disk.fail_from(move |at| at == op, n, for_good, fate)
}

/// What the store shows now, and after a kill and a power cut.
fn check_after(world: &World, image: &Image, what: &str, report: &mut Report) {
    let with_unknown = world.with_unknown();
    let allowed: Vec<&Acked> = std::iter::once(&world.acked).chain(&with_unknown).collect();
    let demand = Demand {
        allowed: &allowed,
        setting: world.setting,
        clock: &world.clock,
    };
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
