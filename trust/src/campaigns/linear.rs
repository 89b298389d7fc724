//! Histories of threads that call a real store, through kills and power cuts, checked key by key.

mod history;
mod life;
mod model;
mod naive;
mod search;
mod witness;
mod workload;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use self::history::{Op, What};
use self::life::Life;
use self::search::{Verdict, check, check_counting};
use self::witness::{check_fences, locked};
use super::{Effort, Report};

/// Small histories on which the search is compared with one that tries every order.
const SMALL_HISTORIES: u64 = 20_000;
/// Of a history that is shown, the last lines.
const MOST_LINES: usize = 60;

#[derive(Debug, Default)]
struct Totals {
    report: Report,
    calls: u64,
    kills: u64,
    cuts: u64,
    closings: u64,
    unknown: u64,
    undecided: u64,
    /// The most configurations that the search of one key visited.
    most_configurations: usize,
}

/// Lives through histories, two at a time on two cores, each with its own threads.
pub fn run(effort: Effort) -> Report {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let numbers = AtomicU64::new(0);
    let totals = Mutex::new(Totals::default());
    let crossed = naive::cross_check(effort.seed, SMALL_HISTORIES);
    if let Some(differing) = crossed.differing {
        locked(&totals).report.violate(differing);
    }
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while !effort.is_done(&locked(&totals).report) {
                    let number = numbers.fetch_add(1, Ordering::SeqCst);
                    if number >= effort.cases {
                        break;
                    }
                    live_and_check(effort.seed, number, &totals);
                }
            });
        }
    });
    let mut totals = totals
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    totals.report.notes = vec![
        format!(
            "{} calls by 8 threads, {} kills, {} power cuts, {} closings, {} outcomes unknown",
            totals.calls, totals.kills, totals.cuts, totals.closings, totals.unknown
        ),
        format!(
            "{} undecided of at most {} configurations a key",
            totals.undecided, totals.most_configurations
        ),
        format!(
            "search and naive search compared on {} + {} small histories that are and are not \
             linearizable",
            crossed.linearizable, crossed.not
        ),
    ];
    totals.report
}

fn live_and_check(seed: u64, number: u64, totals: &Mutex<Totals>) {
    let own_seed = seed.wrapping_add(number);
    let lived = Life::of(own_seed);
    let (mut undecided, mut most) = (0, 0);
    let checked = match &lived {
        Ok((life, lived)) => lived
            .clone()
            .and_then(|()| check_fences(&life.events))
            .and_then(|()| check_keys(life, &mut undecided, &mut most)),
        Err(what) => Err(what.clone()),
    };
    let mut totals = locked(totals);
    totals.report.cases += 1;
    if let Ok((life, _)) = &lived {
        totals.calls += life.calls;
        totals.kills += life.kills;
        totals.cuts += life.cuts;
        totals.closings += life.closings;
        totals.unknown += life.unknown;
    }
    totals.undecided += undecided;
    totals.most_configurations = totals.most_configurations.max(most);
    if let Err(what) = checked {
        totals.report.violate(format!(
            "history {number} of seed {seed}: {what}\n  the same workload, interleaved anew: \
             .ci/campaigns linear --seed {own_seed} --cases 1"
        ));
    }
}

fn check_keys(life: &Life, undecided: &mut u64, most: &mut usize) -> Result<(), String> {
    let histories = life
        .witness
        .histories(life.keys, &life.events, &life.at_risk);
    for (key, ops) in histories.iter().enumerate() {
        let (verdict, configurations) = check_counting(ops);
        *most = configurations.max(*most);
        match verdict {
            Verdict::Linearizable => {}
            Verdict::Violation { .. } => return Err(explain(key, ops)),
            Verdict::Undecided => {
                *undecided += 1;
                return Err(explain(key, ops));
            }
        }
    }
    Ok(())
}

/// The shortest beginning of a history that no order explains, for a reader.
fn explain(key: usize, ops: &[Op]) -> String {
    let mut rets: Vec<u64> = ops.iter().map(|op| op.ret).collect();
    rets.sort_unstable();
    let first = rets.partition_point(|ret| check(&beginning(ops, *ret)) == Verdict::Linearizable);
    let at = rets.get(first).copied().unwrap_or(u64::MAX);
    let short = beginning(ops, at);
    let mut text = format!("no order explains what was answered on key {key} up to {at}");
    match check(&short) {
        Verdict::Violation { taken, key } => {
            text += &format!("\n  {taken} at most can be put in order, to end at {key:?}");
        }
        _ => text += "\n  undecided: there were too many configurations",
    }
    let hidden = short.len().saturating_sub(MOST_LINES);
    if hidden > 0 {
        text += &format!("\n  ({hidden} earlier operations)");
    }
    for op in &short[hidden..] {
        let mark = if op.ret == at { " <--" } else { "" };
        text += &format!("\n  {op}{mark}");
    }
    text
}

/// What had begun by `moment`; what was not over yet may have had its effect or not.
fn beginning(ops: &[Op], moment: u64) -> Vec<Op> {
    let begun = ops.iter().filter(|op| op.call <= moment);
    let begun = begun.filter(|op| op.ret <= moment || op.what != What::End);
    begun
        .map(|op| Op {
            is_optional: op.is_optional || op.ret > moment,
            ..op.clone()
        })
        .collect()
}
