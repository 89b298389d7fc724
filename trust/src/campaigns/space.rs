//! A simulated disk that is full at the Nth sector, for every N, and then has space again.
//!
//! While it is full, calls that must write say `NoSpace` and nothing else; replays go on. With
//! space the store resumes without being reopened, and all that was acknowledged is there.

use firstclaim::internals::record::Takeover;
use firstclaim::{Error, ManualClock};

use super::{Effort, Report};
use crate::disk::Image;
use crate::world::{Acked, Demand, Setting, Step, World};

const WORK: [Step; 14] = [
    Step::Claim(0, Takeover::Gone),
    Step::Complete(0),
    Step::Claim(1, Takeover::Never),
    Step::Burst(9),
    Step::Checkpoint,
    Step::Save(1),
    Step::Burst(12),
    Step::Checkpoint,
    Step::Batch,
    Step::Burst(12),
    Step::Advance(400),
    Step::Sweep,
    Step::Burst(12),
    Step::Checkpoint,
];

/// Sectors from one capacity to the next.
const STRIDE: usize = 3;

/// Every capacity between what opening needs and what the work needs.
pub fn run(effort: Effort) -> Report {
    let mut report = Report::default();
    let made = World::open(Image::default(), Setting::SMALL, ManualClock::new())
        .expect("a new store opens");
    let mut capacity = used(&made.disk.image());
    loop {
        let was_full = try_capacity(capacity, &mut report);
        if !was_full || (effort.first_only && report.violations > 0) {
            break;
        }
        capacity += STRIDE;
    }
    report
}

fn used(image: &Image) -> usize {
    let files = image.files();
    files
        .iter()
        .map(|(_, len)| len.div_ceil(512) as usize)
        .sum()
}

/// Works with that much space; false if it was enough.
fn try_capacity(capacity: usize, report: &mut Report) -> bool {
    let mut world = World::open(Image::default(), Setting::SMALL, ManualClock::new())
        .expect("a new store opens");
    world.disk.set_capacity(Some(capacity));
    let mut was_full = false;
    for step in WORK {
        match world.act(step) {
            Ok(()) => {}
            Err(Error::NoSpace) => was_full = true,
            Err(other) => report.violate(format!("{capacity} sectors, {step:?}: {other}")),
        }
    }
    world.disk.set_capacity(None);
    report.cases += 1;
    // What waited is done, and new work too, after at most the pause between tries.
    std::thread::sleep(std::time::Duration::from_millis(if was_full {
        205
    } else {
        0
    }));
    for step in [Step::Checkpoint, Step::Burst(2), Step::Checkpoint] {
        if let Err(error) = world.act(step) {
            report.violate(format!(
                "{capacity} sectors, with space again, {step:?}: {error}"
            ));
        }
    }
    let allowed: [&Acked; 1] = [&world.acked];
    let demand = Demand {
        allowed: &allowed,
        setting: world.setting,
        clock: &world.clock,
    };
    if let Err(what) = demand.check(&world.disk.image()) {
        report.violate(format!(
            "{capacity} sectors: {what}; repeat: .ci/campaigns space"
        ));
    }
    was_full
}
