//! firstclaim beside what else one would use for idempotency keys, and beside the least any durable
//! design could do: the same work, in one run, round by round.
//!
//! `cargo run --release -p peers -- --help`

#![allow(clippy::disallowed_methods)] // it reads clocks, and each engine has threads of its own

mod bars;
mod cell;
mod child;
mod engines;
mod key;
mod plan;
mod plot;
mod report;
mod run;
mod upkeep;
mod usage;

use std::path::PathBuf;

use anyhow::Result;
use lexopt::{Arg, Parser, ValueExt};

use crate::cell::Row;

const HELP: &str = "\
cargo run --release -p peers -- [OPTION]…
    --quick            claim and cycle by all engines on small stores, in under a minute
    --group NAME       only that group of cells: beside-100k, tasks, beside-1m, sustained
    --engines A,B      only those engines
    --work NAME        only that work: claim, cycle, replay, replay_recent, in_flight
    --clients N        only by so many clients
    --live N           only beside so many live keys
    --rounds N         so many rounds
    --upkeep           sweeping, and opening after a kill, of firstclaim alone
    --json FILE        the rows, one for each round, as a JSON list
    --from A,B         the rows that such files have, and nothing is measured
    --plots DIRECTORY  the medians as SVG
    --dir DIRECTORY    where the stores are made [target/peers]
PostgreSQL and Redis are measured while `benches/peers/servers.sh start` has them running.";

#[derive(Default)]
pub struct Options {
    quick: bool,
    upkeep: bool,
    group: Option<String>,
    engines: Option<Vec<String>>,
    work: Option<String>,
    clients: Option<usize>,
    rounds: Option<usize>,
    json: Option<PathBuf>,
    from: Option<Vec<PathBuf>>,
    plots: Option<PathBuf>,
    directory: Option<PathBuf>,
    /// Of a child that only fills a store of firstclaim's.
    fill: bool,
    /// Of a child.
    serve: Option<String>,
    /// 0 if not given.
    live_keys: u64,
}

fn options() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options::default();
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("quick") => options.quick = true,
            Arg::Long("upkeep") => options.upkeep = true,
            Arg::Long("group") => options.group = Some(parser.value()?.string()?),
            Arg::Long("engines") => options.engines = Some(list(parser.value()?.string()?)),
            Arg::Long("work") => options.work = Some(parser.value()?.string()?),
            Arg::Long("clients") => options.clients = Some(parser.value()?.parse()?),
            Arg::Long("rounds") => options.rounds = Some(parser.value()?.parse()?),
            Arg::Long("json") => options.json = Some(parser.value()?.into()),
            Arg::Long("from") => options.from = Some(list(parser.value()?.string()?)),
            Arg::Long("plots") => options.plots = Some(parser.value()?.into()),
            Arg::Long("dir") => options.directory = Some(parser.value()?.into()),
            Arg::Long("fill") => options.fill = true,
            Arg::Long("serve") => options.serve = Some(parser.value()?.string()?),
            Arg::Long("live") => options.live_keys = parser.value()?.parse()?,
            Arg::Long("help") => {
                println!("{HELP}");
                return Ok(None);
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}

/// The names between the commas.
fn list<T: From<String>>(names: String) -> Vec<T> {
    names
        .split(',')
        .map(|name| name.to_owned().into())
        .collect()
}

fn read(files: &[PathBuf]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for file in files {
        rows.extend(serde_json::from_slice::<Vec<Row>>(&std::fs::read(file)?)?);
    }
    Ok(rows)
}

fn main() -> Result<()> {
    let Some(options) = options()? else {
        return Ok(());
    };
    let directory = match &options.directory {
        Some(directory) => directory.clone(),
        None => "target/peers".into(),
    };
    if options.fill {
        return engines::firstclaim::fill(&directory, options.live_keys);
    }
    if let Some(engine) = options.serve {
        let filled = cell::Filled {
            engine,
            live_keys: options.live_keys,
        };
        return child::serve(&filled, &directory);
    }
    if options.upkeep {
        return upkeep::measure(&directory.join("upkeep"), options.rounds.unwrap_or(5));
    }
    let rows = match &options.from {
        Some(files) => read(files)?,
        None => run::run(&options, &directory)?,
    };
    report::print(&rows);
    report::print_bars(&rows);
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_string_pretty(&rows)?)?;
    }
    if let Some(plots) = &options.plots {
        plot::draw(&rows, plots)?;
    }
    Ok(())
}
