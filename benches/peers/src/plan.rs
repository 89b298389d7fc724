//! Which cells are measured: those that the bars are about, and enough beside them to see the shape of
//! each curve. The whole matrix would take hours.

use crate::cell::{Cell, Work};
use crate::engines::{ALL, TASKS};

/// Engines on filled stores, and the cells they go through together, round by round.
pub struct Group {
    pub name: &'static str,
    pub contestants: Vec<Contestant>,
    pub cells: Vec<Cell>,
    pub rounds: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct Contestant {
    pub engine: &'static str,
    pub live_keys: u64,
}

/// What traffic that is measured for a moment leaves is swept before the next;
const SHORT_RETENTION: f64 = 1.0;
/// but what is asked for is there as long as that takes.
const ASKED_RETENTION: f64 = 4.0;
/// In a sustained cell all that comes in also expires and is swept, within the minute.
const SUSTAINED_RETENTION: f64 = 20.0;

fn cells(work: Work, clients: &[usize], seconds: f64, retain_seconds: f64) -> Vec<Cell> {
    let cell = |&clients| Cell {
        work,
        clients,
        seconds,
        retain_seconds,
    };
    clients.iter().map(cell).collect()
}

fn short(work: Work, clients: &[usize], seconds: f64) -> Vec<Cell> {
    cells(work, clients, seconds, SHORT_RETENTION)
}

fn asked(work: Work, clients: &[usize]) -> Vec<Cell> {
    cells(work, clients, 0.5, ASKED_RETENTION)
}

fn each_with(engines: &[&'static str], live_keys: u64) -> Vec<Contestant> {
    let contestant = |&engine| Contestant { engine, live_keys };
    engines.iter().map(contestant).collect()
}

/// Those whose clients are threads.
fn threads() -> Vec<&'static str> {
    ALL.into_iter().filter(|name| *name != TASKS).collect()
}

/// All engines, small stores, under a minute.
pub fn quick() -> Vec<Group> {
    let of = |work| cells(work, &[1, 8, 64], 0.5, 1.0);
    vec![Group {
        name: "quick",
        contestants: each_with(&threads(), 2_000),
        cells: [of(Work::Claim), of(Work::Cycle)].concat(),
        rounds: 1,
    }]
}

/// The cells of docs/benchmarks.md.
pub fn full() -> Vec<Group> {
    vec![
        Group {
            name: "beside-100k",
            contestants: each_with(&threads(), 100_000),
            cells: [
                short(Work::Claim, &[1, 8, 64], 2.0),
                short(Work::Cycle, &[1, 8, 64], 2.0),
                asked(Work::Replay, &[1, 64]),
                asked(Work::ReplayRecent, &[1]),
                asked(Work::InFlight, &[1, 64]),
            ]
            .concat(),
            rounds: 5,
        },
        // Tasks beside threads: as many as there are connections.
        Group {
            name: "tasks",
            contestants: each_with(&["firstclaim", TASKS, "limit"], 100_000),
            cells: short(Work::Cycle, &[1, 64, 1000], 2.0),
            rounds: 5,
        },
        Group {
            name: "beside-1m",
            contestants: each_with(&threads(), 1_000_000),
            cells: short(Work::Cycle, &[1, 64], 5.0),
            rounds: 5,
        },
        Group {
            name: "sustained",
            contestants: [
                each_with(&["firstclaim", "limit"], 1_000_000),
                each_with(&["firstclaim"], 10_000),
                each_with(&["firstclaim"], 10_000_000),
            ]
            .concat(),
            cells: cells(Work::Cycle, &[64], 60.0, SUSTAINED_RETENTION),
            rounds: 5,
        },
    ]
}
