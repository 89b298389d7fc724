//! Runs campaigns against firstclaim: `trust NAME… [--seed N] [--cases N] [--long]`.

mod campaigns;
mod disk;
mod random;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use campaigns::{Effort, Report};

type Campaign = (&'static str, fn(Effort) -> Report, u64);

/// Every campaign with its number of cases in CI.
const CAMPAIGNS: [Campaign; 7] = [
    ("exhaustive", campaigns::exhaustive::run, 1),
    ("random", campaigns::random::run, 250_000),
    ("faults", campaigns::faults::run, 1),
    ("space", campaigns::space::run, 1),
    ("flips", campaigns::flips::run, 20_000),
    ("rates", campaigns::rates::run, 2_000),
    ("fills", campaigns::fills::run, 1),
    ("linear", campaigns::linear::run, 4_000),
];

fn main() -> ExitCode {
    let mut names = Vec::new();
    let (mut seed, mut cases, mut long, mut first_only) = (1, None, false, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == campaigns::rates::CHILD {
            return campaigns::rates::run_as_child(args);
        }
        let mut number = || args.next().and_then(|n| n.parse::<u64>().ok());
        match arg.as_str() {
            "--seed" => seed = number().unwrap_or(seed),
            "--cases" => cases = number(),
            "--long" => long = true,
            "--first-only" => first_only = true,
            name => names.push(name.to_owned()),
        }
    }
    // What is contained on purpose need not be shown.
    if std::env::var_os("TRUST_PANICS").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let mut all_clean = true;
    for (name, run, usual) in CAMPAIGNS {
        if !names.is_empty() && !names.iter().any(|n| n == name) {
            continue;
        }
        let effort = Effort {
            seed,
            cases: cases.unwrap_or(usual * if long { 10 } else { 1 }),
            first_only,
        };
        let begin = Instant::now();
        let report = run(effort);
        all_clean &= report.violations == 0;
        println!(
            "{name}: {} cases, {} violations{} ({:.0} s, seed {seed})",
            report.cases,
            report.violations,
            report
                .notes
                .iter()
                .map(|note| format!(", {note}"))
                .collect::<String>(),
            begin.elapsed().as_secs_f64()
        );
        if let Some(first) = &report.first {
            println!("  first: {first}");
        }
    }
    if all_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
