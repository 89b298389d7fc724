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
const CAMPAIGNS: [Campaign; 9] = [
    ("exhaustive", campaigns::exhaustive::run, 1),
    ("random", campaigns::random::run, 250_000),
    ("faults", campaigns::faults::run, 1),
    ("space", campaigns::space::run, 1),
    ("flips", campaigns::flips::run, 20_000),
    ("rates", campaigns::rates::run, 2_000),
    ("fills", campaigns::fills::run, 1),
    ("linear", campaigns::linear::run, 4_000),
    ("protocol", campaigns::protocol::run, 1),
];

/// What was asked for.
#[derive(Default)]
struct Wish {
    /// None for all.
    names: Vec<String>,
    seed: Option<u64>,
    cases: Option<u64>,
    long: bool,
    first_only: bool,
}

impl Wish {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut wish = Wish::default();
        while let Some(arg) = args.next() {
            let mut number = || {
                let number = args.next().and_then(|n| n.parse().ok());
                number.ok_or_else(|| format!("{arg} needs a number"))
            };
            match arg.as_str() {
                "--seed" => wish.seed = Some(number()?),
                "--cases" => wish.cases = Some(number()?),
                "--long" => wish.long = true,
                "--first-only" => wish.first_only = true,
                name if CAMPAIGNS.iter().any(|(known, ..)| *known == name) => {
                    wish.names.push(arg);
                }
                _ => return Err(format!("no campaign or option is called {arg}")),
            }
        }
        Ok(wish)
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if_eq(campaigns::rates::CHILD).is_some() {
        return campaigns::rates::run_as_child(args);
    }
    let wish = match Wish::parse(args) {
        Ok(wish) => wish,
        Err(problem) => {
            let names = CAMPAIGNS.map(|(name, ..)| name).join(" ");
            eprintln!("trust: {problem}");
            eprintln!("campaigns: {names}");
            eprintln!("options: --seed N, --cases N, --long, --first-only");
            return ExitCode::from(2);
        }
    };
    let seed = wish.seed.unwrap_or(1);
    // What is contained on purpose need not be shown.
    if std::env::var_os("TRUST_PANICS").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let mut all_clean = true;
    for (name, run, usual) in CAMPAIGNS {
        if !wish.names.is_empty() && !wish.names.iter().any(|n| n == name) {
            continue;
        }
        let effort = Effort {
            seed,
            cases: wish.cases.unwrap_or(usual * if wish.long { 10 } else { 1 }),
            first_only: wish.first_only,
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
