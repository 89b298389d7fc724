//! The protocol as a model: every order of its steps, within bounds, by a model checker.
//!
//! Three clients and a reader use two keys. The clients claim, resolve, forget, renew, release,
//! complete and drop; calls gather in the queue while a batch is committed; a commit writes a
//! frame, syncs it, shows it and answers; checkpoints freeze, write the base a transaction a key,
//! publish and let go; sweeps remove what has expired; time passes; the process is killed or the
//! power cut at every step, also in recovery, with the unsynced frame lost, kept or only in the
//! page cache, and the clock may be set back meanwhile. What is decided is decided by the store's
//! own `step`. Each of the four policies is the policy of one key of one of the runs.
//!
//! The bounds: so many leases given, ticks of the clock, crashes and checkpoints, see
//! [`bounds`]; calls are not bounded otherwise. A lease runs for one tick, and so long is a
//! response kept. Clients are alike, so states that differ only in which of them does what are one
//! state. Calls that wait are not in a state: a commit takes any batch that clients might have
//! sent, since a call has no effect before. Not in the model: limits and waits that run out,
//! recovery points, fingerprints, damage, failing disks, `ProcessCrash`.
//!
//! The checker is stateright, depth first: of a state it keeps 64 bits. The model can fail: for
//! every [`Fault`](fault::Fault) the campaign demands that a small space shows it.

mod batch;
mod bounds;
mod fault;
mod model;
mod record;
mod rules;
mod state;
mod store;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use stateright::{Checker, HasDiscoveries, Model};

use self::bounds::{LONG, POLICIES, USUAL};
use self::fault::FINDINGS;
use self::model::Protocol;
use self::state::Setting;
use super::{Effort, Report};

const THREADS: usize = 2;

/// Explores whole spaces; the effort's cases are no limit, but many ask for the larger ones too.
pub fn run(effort: Effort) -> Report {
    let mut report = demand_faults();
    let more: &[_] = if effort.cases > 1 { &LONG } else { &[] };
    for bounds in USUAL.iter().chain(more) {
        for policies in POLICIES {
            if effort.first_only && report.violations > 0 {
                return report;
            }
            report.add(explore(Protocol {
                setting: Setting {
                    policies,
                    fault: None,
                },
                bounds: *bounds,
            }));
        }
    }
    report
}

/// Every fault must be found, or the rules would mean nothing.
fn demand_faults() -> Report {
    let mut report = Report::default();
    for finding in &FINDINGS {
        if let Err(states) = finding.look() {
            let fault = finding.fault;
            report.violate(format!("{fault:?} was not found in {states} states"));
        }
    }
    let (all, missed) = (FINDINGS.len() as u64, report.violations);
    let found = all - missed;
    report
        .notes
        .push(format!("{found} of {all} model faults found"));
    report
}

/// Explores one space to its end, or to the first violation.
fn explore(protocol: Protocol) -> Report {
    let mut report = Report::default();
    let Protocol { setting, bounds } = protocol;
    let policies = setting.policies;
    let checker = protocol.checker().threads(THREADS);
    let checked = checker.finish_when(HasDiscoveries::Any).spawn_dfs().join();
    report.cases = checked.unique_state_count() as u64;
    for (name, path) in checked.discoveries() {
        let mut steps = String::new();
        for action in path.into_actions() {
            let _ = write!(steps, " {action:?}");
        }
        report.violate(format!("not so: {name}: {policies:?}, {bounds}:{steps}"));
    }
    report.notes.push(format!(
        "{} states by {} steps under {policies:?} ({bounds})",
        checked.unique_state_count(),
        checked.state_count(),
    ));
    report
}
