//! What the project wants to reach, held against the rows of a run.

use crate::cell::Row;
use crate::engines::RESPONSE;
use crate::report::median;

const OURS: &str = "firstclaim";
/// A tenant, a key and a response.
const PAYLOAD_BYTES: f64 = (9 + 36 + RESPONSE.len()) as f64;
/// The cache and four times a segment of the journal, as configured by default.
const CONFIGURED_BYTES: f64 = ((64 + 4 * 16) << 20) as f64;

/// A value and its bar.
pub struct Bar {
    pub what: String,
    pub value: f64,
    pub bar: f64,
    /// The value is to be at least the bar; else at most.
    pub at_least: bool,
}

impl Bar {
    pub fn is_met(&self) -> bool {
        if self.at_least {
            self.value >= self.bar
        } else {
            self.value <= self.bar
        }
    }
}

/// The rows of an engine in a cell.
#[derive(Clone, Copy)]
struct Of<'r> {
    rows: &'r [Row],
    work: &'r str,
    clients: usize,
    live_keys: u64,
    sustained: bool,
}

impl<'r> Of<'r> {
    fn by(self, engine: &str) -> Vec<&'r Row> {
        let fits = |row: &&Row| {
            row.engine == engine
                && row.work == self.work
                && row.clients == self.clients
                && row.live_keys == self.live_keys
                && row.is_sustained() == self.sustained
        };
        self.rows.iter().filter(fits).collect()
    }

    /// The median over the rounds of ours to theirs.
    fn ratio(self, theirs: &str, of: impl Fn(&Row) -> f64) -> Option<f64> {
        ratio(&self.by(OURS), &self.by(theirs), of)
    }
}

fn ratio(ours: &[&Row], theirs: &[&Row], of: impl Fn(&Row) -> f64) -> Option<f64> {
    let same_round = |row: &Row| theirs.iter().find(|other| other.round == row.round);
    let both: Vec<&Row> = ours
        .iter()
        .copied()
        .filter(|r| same_round(r).is_some())
        .collect();
    let ratio = |row: &Row| of(row) / same_round(row).map_or(f64::NAN, |other| of(other));
    (!both.is_empty()).then(|| median(&both, |row| ratio(row)))
}

fn speed(row: &Row) -> f64 {
    row.ops_per_s
}

/// The bars that these rows can be held against.
pub fn bars(rows: &[Row]) -> Vec<Bar> {
    let of = |work, clients, live_keys| Of {
        rows,
        work,
        clients,
        live_keys,
        sustained: false,
    };
    let mut bars = Vec::new();
    let mut add = |what: String, value: Option<f64>, bar: f64, at_least: bool| {
        bars.extend(value.map(|value| Bar {
            what,
            value,
            bar,
            at_least,
        }));
    };
    for work in ["claim", "cycle"] {
        for clients in [1, 8, 64] {
            let cell = of(work, clients, 100_000);
            let what = format!("{work} by {clients}");
            add(
                format!("{what}: of limit"),
                cell.ratio("limit", speed),
                0.8,
                true,
            );
            let p50 = cell.ratio("limit", |row| row.p50_us);
            add(format!("{what}: p50 to limit's"), p50, 1.3, false);
        }
        for (peer, clients, bar) in [
            ("redis", 1, 1.3),
            ("redis", 64, 2.5),
            ("postgres", 64, 8.0),
            ("fjall", 64, 2.0),
        ] {
            let value = of(work, clients, 100_000).ratio(peer, speed);
            add(format!("{work} by {clients}: to {peer}"), value, bar, true);
        }
    }
    for peer in ["sqlite", "redb"] {
        let value = of("cycle", 64, 1_000_000).ratio(peer, speed);
        add(
            format!("cycle by 64 beside 1 million: to {peer}"),
            value,
            20.0,
            true,
        );
    }
    let base = of("replay", 1, 100_000).ratio("redb", |row| row.p50_us);
    add(
        "replay from the base: p50 to a redb get's".into(),
        base,
        1.5,
        false,
    );
    for (what, work) in [
        ("replay from memory", "replay_recent"),
        ("in flight", "in_flight"),
    ] {
        let ours = of(work, 1, 100_000).by(OURS);
        let p50 = (!ours.is_empty()).then(|| median(&ours, |row| row.p50_us));
        add(format!("{what}: p50 in µs"), p50, 0.5, false);
    }
    let sustained = |live_keys| Of {
        sustained: true,
        ..of("cycle", 64, live_keys)
    };
    let million = sustained(1_000_000);
    add(
        "sustained: of limit".into(),
        million.ratio("limit", speed),
        0.6,
        true,
    );
    let p99 = million.ratio("limit", |row| row.p99_us);
    add("sustained: p99 to limit's".into(), p99, 4.0, false);
    let (ten_million, ten_thousand) = (sustained(10_000_000).by(OURS), sustained(10_000).by(OURS));
    let growth = ratio(&ten_million, &ten_thousand, speed);
    add(
        "sustained beside 10 million: of that beside 10,000".into(),
        growth,
        0.8,
        true,
    );
    let ours = million.by(OURS);
    if !ours.is_empty() {
        let bytes = median(&ours, |row| row.bytes_per_op) / PAYLOAD_BYTES;
        add(
            "sustained: bytes written to payload".into(),
            Some(bytes),
            8.0,
            false,
        );
    }
    if !ten_million.is_empty() {
        // The keys of the run itself are there too, until they are swept.
        let memory = median(&ten_million, |row| {
            (row.peak_rss_bytes as f64 - CONFIGURED_BYTES) / row.most_stored_keys as f64
        });
        let what = "memory beside 10 million, less what is configured: bytes a stored key";
        add(what.into(), Some(memory), 3.0, false);
    }
    bars
}
