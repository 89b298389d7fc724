//! The medians over the rounds, as a table.

use crate::bars::{self, Bar};
use crate::cell::Row;
use crate::engines::ALL;

/// The engine whose rows the others are compared with.
const LIMIT: &str = "limit";

/// What the rows of one cell and engine have in common.
pub type Group<'r> = Vec<&'r Row>;

pub fn median<T>(rows: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = rows.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The rows by cell, in the order measured, and within by engine.
pub fn groups(rows: &[Row]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let key = |row: &Row| {
        (
            row.work.clone(),
            row.clients,
            row.live_keys,
            row.seconds.to_bits(),
        )
    };
    for row in rows {
        let same =
            |group: &&mut Group<'_>| key(group[0]) == key(row) && group[0].engine == row.engine;
        match groups.iter_mut().find(same) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

/// Medians; the ratio is the median of the rounds' ratios to `limit`.
pub fn print(rows: &[Row]) {
    let groups = groups(rows);
    let mut last = None;
    for group in &groups {
        let first = group[0];
        let head = (first.work.clone(), first.clients, first.live_keys);
        if last.as_ref() != Some(&head) {
            println!(
                "\n{} by {} beside {} keys, {} s a round, medians of {} rounds",
                first.work,
                first.clients,
                first.live_keys,
                first.seconds,
                group.len()
            );
            println!(
                "{:<25}{:>12}{:>9}{:>11}{:>11}{:>11}{:>10}{:>10}{:>9}{:>9}",
                "",
                "a second",
                "of limit",
                "p50 µs",
                "p99 µs",
                "p99.9 µs",
                "bytes",
                "device",
                "CPU µs",
                "MiB"
            );
            last = Some(head);
        }
        println!(
            "{:<25}{:>12.0}{:>9}{:>11.1}{:>11.1}{:>11.1}{:>10.0}{:>10.0}{:>9.1}{:>9.0}",
            first.engine,
            median(group, |row| row.ops_per_s),
            ratio_to_limit(rows, group).map_or("-".to_owned(), |ratio| format!("{ratio:.3}")),
            median(group, |row| row.p50_us),
            median(group, |row| row.p99_us),
            median(group, |row| row.p999_us),
            median(group, |row| row.bytes_per_op),
            median(group, |row| row.device_bytes_per_op),
            median(group, |row| row.cpu_us_per_op),
            median(group, |row| row.peak_rss_bytes as f64 / (1 << 20) as f64),
        );
    }
    for engine in ALL {
        if !rows.iter().any(|row| row.engine == engine) {
            println!("{engine}: not run");
        }
    }
}

/// The median of the rounds' ratios of throughput.
fn ratio_to_limit(rows: &[Row], group: &[&Row]) -> Option<f64> {
    let same_round = |row: &Row| {
        rows.iter().find(|other| {
            other.engine == LIMIT
                && (&other.work, other.clients, other.live_keys, other.round)
                    == (&row.work, row.clients, row.live_keys, row.round)
                && other.seconds == row.seconds
        })
    };
    group.iter().all(|row| same_round(row).is_some()).then(|| {
        median(group, |row| {
            row.ops_per_s / same_round(row).map_or(f64::NAN, |limit| limit.ops_per_s)
        })
    })
}

/// Which bars the medians meet.
pub fn print_bars(rows: &[Row]) {
    let bars = bars::bars(rows);
    if !bars.is_empty() {
        println!();
    }
    bars.iter().for_each(print_bar);
}

pub fn print_bar(bar: &Bar) {
    println!(
        "{:<60}{:>9.2}  {} {:<5} {}",
        bar.what,
        bar.value,
        if bar.at_least { "at least" } else { "at most " },
        bar.bar,
        if bar.is_met() { "met" } else { "NOT MET" },
    );
}
