//! Long random workloads, cut at random moments in random ways, and again in recovery, or with a sync
//! that fails there.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use firstclaim::Durability;
use firstclaim::ManualClock;
use firstclaim::internals::Engine;
use firstclaim::internals::record::Takeover;

use super::{Effort, Report};
use crate::disk::{FailedSync, Fate, Image, Keep, Op, SimDisk};
use crate::random::Random;
use crate::world::{Acked, Demand, KEYS, Moment, Passed, Setting, Step, World, options};

const STEPS: u64 = 40;
/// Of the moments of a step, one in so many is tried.
const MOMENT_IN: u64 = 4;
/// So many ways of keeping what was not synced, at each moment tried.
const WAYS: u64 = 3;
/// Of the images, one in so many is cut again in recovery.
const AGAIN_IN: u64 = 2;
/// Of these, in one in so many a sync fails instead.
const FAILED_SYNC_IN: u64 = 3;

/// Runs seeds until there are enough images.
pub fn run(effort: Effort) -> Report {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds = AtomicU64::new(effort.seed);
    let total = Mutex::new((Report::default(), Again::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !effort.is_done(&locked(&total).0) {
                    let seed = seeds.fetch_add(1, Ordering::SeqCst);
                    let (one, again) = run_seed(seed, effort.first_only);
                    let mut total = locked(&total);
                    total.0.add(one);
                    total.1.crashes += again.crashes;
                    total.1.failed_syncs += again.failed_syncs;
                }
            });
        }
    });
    let (mut report, again) = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.notes.push(format!(
        "{} with a second crash and {} with a failed sync in recovery",
        again.crashes, again.failed_syncs
    ));
    report
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many images were cut again.
#[derive(Debug, Clone, Copy, Default)]
struct Again {
    crashes: u64,
    failed_syncs: u64,
}

/// One workload.
fn run_seed(seed: u64, first_only: bool) -> (Report, Again) {
    let mut random = Random::new(seed);
    let mut case = Case {
        seed,
        report: Report::default(),
        again: Again::default(),
        at: (0, 0),
        tried: HashSet::new(),
    };
    let setting = Setting {
        durability: *random.pick(&[
            Durability::PowerLoss,
            Durability::PowerLoss,
            Durability::ProcessCrash,
        ]),
        journal_bytes: *random.pick(&[16 * 1024, 24 * 1024, 64 * 1024]),
        transaction_records: *random.pick(&[1, 3, 2048]),
        hash_seed: random.next(),
    };
    let clock = ManualClock::new();
    let mut world = match World::open(Image::default(), setting, clock) {
        Ok(world) => world,
        Err(error) => {
            case.report.violate(format!("seed {seed}: {error}"));
            return (case.report, case.again);
        }
    };
    for number in 0..STEPS {
        let step = any_step(&mut random);
        let salt = random.next();
        let passed = world.step(step, move |n| Random::new(salt ^ n).chance(MOMENT_IN));
        let error = passed.error.as_ref().map(ToString::to_string);
        if let Some(error) = error.or(world.acked.wrong.clone()) {
            case.report
                .violate(format!("seed {seed}, {step:?}: {error}"));
            break;
        }
        for moment in &passed.moments {
            case.at = (number, moment.acks);
            case.try_moment(&world, &passed, moment, step, &mut random);
        }
        if first_only && case.report.violations > 0 {
            break;
        }
    }
    (case.report, case.again)
}

fn any_step(random: &mut Random) -> Step {
    let policies = [
        Takeover::Gone,
        Takeover::GoneOrExpired,
        Takeover::Expired,
        Takeover::Never,
    ];
    let k = random.below(KEYS.len() as u64) as usize;
    match random.below(25) {
        0..=4 => Step::Claim(k, *random.pick(&policies)),
        5..=7 => Step::Complete(k),
        8 => Step::Renew(k),
        9 => Step::Save(k),
        10 | 11 => Step::Release(k),
        12 | 13 => Step::Drop(k),
        14 => Step::Forget(k),
        15 => Step::Resolve(k),
        16 => Step::Batch,
        17 => Step::Burst(1 + random.below(12) as usize),
        18 | 19 => Step::Checkpoint,
        20 => Step::Sweep,
        21 => Step::Kill,
        _ => Step::Advance(1 + random.below(200)),
    }
}

struct Case {
    seed: u64,
    report: Report,
    again: Again,
    /// The step of the workload, and the acknowledgements in it: what a demand depends on.
    at: (u64, usize),
    /// Digests of the images tried, each with its demand, so that equal ones are tried once.
    tried: HashSet<(u64, (u64, usize), usize)>,
}

impl Case {
    fn try_moment(
        &mut self,
        world: &World,
        passed: &Passed,
        moment: &Moment,
        step: Step,
        random: &mut Random,
    ) {
        let allowed = passed.allowed(moment);
        // The process is killed: all is visible still.
        self.try_image(world, &allowed, &moment.image, step, "kill", random);
        let history;
        let allowed = match world.setting.durability {
            Durability::PowerLoss => allowed,
            Durability::ProcessCrash => {
                history = world.history();
                history
            }
        };
        for way in 0..WAYS {
            let keep = match way {
                0 => *random.pick(&[Keep::None, Keep::All, Keep::AllButLast]),
                _ => Keep::Some(random.next()),
            };
            let image = moment.image.cut(keep);
            self.try_image(world, &allowed, &image, step, &format!("{keep:?}"), random);
        }
    }

    fn try_image(
        &mut self,
        world: &World,
        allowed: &[&Acked],
        image: &Image,
        step: Step,
        how: &str,
        random: &mut Random,
    ) {
        // An image that was allowed before something was acknowledged may not be so afterwards.
        if !self.tried.insert((image.digest(), self.at, allowed.len())) {
            return;
        }
        let demand = Demand {
            allowed,
            setting: world.setting,
            clock: &world.clock,
        };
        self.report.cases += 1;
        if let Err(what) = demand.check(image) {
            self.note(step, how, &what);
        }
        if !random.chance(AGAIN_IN) {
            return;
        }
        let fails_a_sync = random.chance(FAILED_SYNC_IN);
        let Some(crashed) = crash_in_recovery(image, &demand, fails_a_sync, random) else {
            return;
        };
        self.report.cases += 1;
        match fails_a_sync {
            true => self.again.failed_syncs += 1,
            false => self.again.crashes += 1,
        }
        // Under `ProcessCrash` a kill only left unsynced frames; a cut in recovery may take them, as
        // long as nothing was answered yet.
        let cut_after_kill = how == "kill" && world.setting.durability == Durability::ProcessCrash;
        let history;
        let demand = Demand {
            allowed: if cut_after_kill {
                history = world.history();
                &history
            } else {
                allowed
            },
            ..demand
        };
        if let Err(what) = demand.check(&crashed) {
            self.note(step, &format!("{how}, and again in recovery"), &what);
        }
    }

    fn note(&mut self, step: Step, how: &str, what: &str) {
        self.report.violate(format!(
            "seed {}, {step:?}, {how}: {what}; repeat: .ci/campaigns random --seed {} --cases 1",
            self.seed, self.seed
        ));
    }
}

/// The image after a recovery that was cut short at a random operation, or in which a sync failed,
/// and then a power cut or, after the failed sync, perhaps none. None if it was over before that.
fn crash_in_recovery(
    image: &Image,
    demand: &Demand<'_>,
    fails_a_sync: bool,
    random: &mut Random,
) -> Option<Image> {
    let disk = SimDisk::over(image.clone());
    let hit = if fails_a_sync {
        let ways = [FailedSync::Dropped, FailedSync::Clean, FailedSync::Dirty];
        let fate = Fate::FailsSync(*random.pick(&ways));
        disk.fail_from(|op| op == Op::Sync, random.below(12), false, fate)
    } else {
        let fate = Fate::Fails(std::io::ErrorKind::Other);
        disk.fail_from(|op| op != Op::Read, random.below(30), true, fate)
    };
    drop(Engine::open(
        disk.as_disk(),
        options(demand.setting, demand.clock),
    ));
    if !hit.load(Ordering::SeqCst) {
        return None;
    }
    let keep = match random.below(if fails_a_sync { 4 } else { 3 }) {
        0 => Keep::None,
        1 => Keep::All,
        2 => Keep::Some(random.next()),
        _ => return Some(disk.image()),
    };
    Some(disk.image().cut(keep))
}
