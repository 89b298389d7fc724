//! A run: every group's engines started and filled, then the cells, each round by all of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::Options;
use crate::cell::Row;
use crate::child::Engine;
use crate::engines::ALL;
use crate::plan::{self, Contestant, Group};

pub fn run(options: &Options, directory: &Path) -> Result<Vec<Row>> {
    let mut groups = if options.quick {
        plan::quick()
    } else {
        plan::full()
    };
    if let Some(name) = &options.group {
        groups.retain(|group| group.name == name);
        ensure!(!groups.is_empty(), "no group {name}");
    }
    if let Some(names) = &options.engines {
        if let Some(unknown) = names.iter().find(|name| !ALL.contains(&name.as_str())) {
            bail!("no engine {unknown}; there are {}", ALL.join(", "));
        }
        for group in &mut groups {
            let is_named = |c: &Contestant| names.iter().any(|name| name == c.engine);
            group.contestants.retain(is_named);
        }
    }
    if options.live_keys > 0 {
        for group in &mut groups {
            group
                .contestants
                .retain(|c| c.live_keys == options.live_keys);
        }
    }
    for group in &mut groups {
        let work = options.work.as_deref();
        group.cells.retain(|cell| {
            work.is_none_or(|work| work == cell.work.name())
                && options
                    .clients
                    .is_none_or(|clients| clients == cell.clients)
        });
    }
    groups.retain(|group| !group.cells.is_empty() && !group.contestants.is_empty());
    ensure!(!groups.is_empty(), "no such cell");
    let mut rows = Vec::new();
    for mut group in groups {
        group.rounds = options.rounds.unwrap_or(group.rounds);
        run_group(&group, &directory.join("stores"), &mut rows)?;
    }
    Ok(rows)
}

fn run_group(group: &Group, directory: &Path, rows: &mut Vec<Row>) -> Result<()> {
    let mut engines = Vec::new();
    for (n, contestant) in group.contestants.iter().enumerate() {
        let Contestant { engine, live_keys } = *contestant;
        eprintln!("{}: {engine}, filling with {live_keys} keys", group.name);
        let directory = directory.join(format!("{n}-{engine}"));
        // Of an earlier run, perhaps.
        let _ = fs::remove_dir_all(&directory);
        let mut started = Engine::start(engine, &directory, live_keys)?;
        match started.wait_ready().context(engine)? {
            None => engines.push((contestant, started)),
            Some(why) => eprintln!("{engine}: not run: {why}"),
        }
    }
    for cell in &group.cells {
        for round in 1..=group.rounds {
            for (contestant, engine) in &mut engines {
                let row = engine.measure(*cell, round).context(contestant.engine)?;
                eprintln!(
                    "{} {} by {}, round {round} of {}: {} beside {} {:.0}/s, p50 {:.1} µs, p99 {:.1} µs",
                    group.name,
                    row.work,
                    row.clients,
                    group.rounds,
                    row.engine,
                    row.live_keys,
                    row.ops_per_s,
                    row.p50_us,
                    row.p99_us,
                );
                rows.push(row);
            }
        }
    }
    drop(engines);
    fs::remove_dir_all(directory)?;
    Ok(())
}
