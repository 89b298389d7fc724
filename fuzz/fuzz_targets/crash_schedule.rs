//! Reads bytes as steps of a store on a simulated disk, and as where the power is cut: at which
//! operation of a step, what of the unsynced survives, and where recovery is cut again. Every
//! recovery must show what was acknowledged: the oracle is that of the trust suite.
//!
//! Input: setting, then steps, each a byte, what it is on, and its cut if it has one.

#![no_main]

use firstclaim::internals::Engine;
use firstclaim::internals::record::Takeover;
use firstclaim::{Clock, Durability, ManualClock};
use firstclaim_fuzz::disk::{Fate, Image, Keep, Op, SimDisk};
use firstclaim_fuzz::input::Input;
use firstclaim_fuzz::panics::contained;
use firstclaim_fuzz::world::{Acked, Demand, KEYS, Passed, Setting, Step, World, options};
use libfuzzer_sys::fuzz_target;

const MOST_STEPS: usize = 32;
/// A cut costs two openings and more.
const MOST_CUTS: usize = 4;
/// Beyond this the moment is the end of the step.
const MOST_OPERATIONS: u8 = 48;

const POLICIES: [Takeover; 4] = [
    Takeover::Gone,
    Takeover::GoneOrExpired,
    Takeover::Expired,
    Takeover::Never,
];

fuzz_target!(|bytes: &[u8]| contained(|| run(&mut Input::new(bytes))));

fn run(input: &mut Input<'_>) {
    let setting = Setting {
        durability: match input.byte() % 3 {
            0 | 1 => Durability::PowerLoss,
            _ => Durability::ProcessCrash,
        },
        journal_bytes: *input.pick(&[16 * 1024, 24 * 1024, 64 * 1024]),
        ..Setting::SMALL
    };
    let clock = ManualClock::new();
    let mut world = World::open(Image::default(), setting, clock).expect("a new store opens");
    let mut cuts = 0;
    for _ in 0..MOST_STEPS {
        if input.is_empty() || cuts == MOST_CUTS {
            break;
        }
        let (what, on) = (input.byte(), input.byte());
        let is_cut = on >= 128;
        cuts += usize::from(is_cut);
        if what % 26 == 25 {
            cuts += 1;
            world = restarted(&world, keep(input));
            continue;
        }
        let at = input.clone().byte() % (MOST_OPERATIONS + 8);
        let step = step(what, on);
        let passed = world.step(step, move |n| is_cut && n == u64::from(at));
        if let Some(error) = &passed.error {
            panic!("{step:?}: {error}");
        }
        if is_cut {
            input.byte();
            cut(&world, &passed, input);
        }
    }
    drop(restarted(&world, Keep::None));
}

fn step(what: u8, on: u8) -> Step {
    let k = usize::from(on) % KEYS.len();
    let policy = POLICIES[usize::from(on / 4) % POLICIES.len()];
    match what % 26 {
        0..=4 => Step::Claim(k, policy),
        5..=8 => Step::Complete(k),
        9 => Step::Renew(k),
        10 => Step::Save(k),
        11 | 12 => Step::Release(k),
        13 | 14 => Step::Drop(k),
        15 => Step::Forget(k),
        16 => Step::Resolve(k),
        17 => Step::Batch,
        18 => Step::Burst(1 + usize::from(on % 12)),
        19 | 20 => Step::Checkpoint,
        21 => Step::Sweep,
        _ => Step::Advance(1 + 2 * u64::from(on)),
    }
}

fn keep(input: &mut Input<'_>) -> Keep {
    match input.byte() {
        0..32 => Keep::None,
        32..64 => Keep::All,
        64..96 => Keep::AllButLast,
        _ => Keep::Some(u64::from(input.byte()) << 8 | u64::from(input.byte())),
    }
}

/// Cuts at the first moment of the step that is there, by a kill and by a power cut, and, if the
/// input says so, again in the recovery.
fn cut(world: &World, passed: &Passed, input: &mut Input<'_>) {
    let moment = &passed.moments[0];
    let allowed = passed.allowed(moment);
    let after_cut = match world.setting.durability {
        Durability::PowerLoss => allowed.clone(),
        Durability::ProcessCrash => world.history(),
    };
    let killed = input.byte().is_multiple_of(4);
    let (image, allowed) = match killed {
        true => (moment.image.clone(), allowed),
        false => (moment.image.cut(keep(input)), after_cut.clone()),
    };
    check(world, &image, &allowed);
    if let again @ 64.. = input.byte() {
        let crashed = crashed_in_recovery(world, &image, again - 64);
        // A power cut after a kill takes what only the kill had kept.
        check(world, &crashed.cut(keep(input)), &after_cut);
    }
}

fn check(world: &World, image: &Image, allowed: &[&Acked]) {
    let demand = Demand {
        allowed,
        setting: world.setting,
        clock: &world.clock,
    };
    if let Err(what) = demand.check(image) {
        panic!("{what}");
    }
}

/// The disk after a recovery whose changes fail from the `n`th on.
fn crashed_in_recovery(world: &World, image: &Image, n: u8) -> Image {
    let disk = SimDisk::over(image.clone());
    let mut left = n;
    disk.set_plan(move |op, _, _| {
        if op == Op::Read {
            return Fate::Happens;
        }
        match left.checked_sub(1) {
            None => Fate::Fails(std::io::ErrorKind::Other),
            Some(fewer) => {
                left = fewer;
                Fate::Happens
            }
        }
    });
    drop(Engine::open(
        disk.as_disk(),
        options(world.setting, &world.clock),
    ));
    disk.image()
}

/// The store after a stop between two steps, where only one state is allowed.
fn restarted(world: &World, keep: Keep) -> World {
    let image = world.disk.image();
    let image = match world.setting.durability {
        Durability::PowerLoss => image.cut(keep),
        Durability::ProcessCrash => image,
    };
    check(world, &image, &[&world.acked]);
    let clock = ManualClock::at(world.clock.now());
    World::reopen(image, world.setting, clock, world.acked.clone()).expect("it opened before")
}
