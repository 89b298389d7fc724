//! What acknowledgements demand of every recovery.

use std::sync::Arc;

use firstclaim::ManualClock;
use firstclaim::internals::Engine;
use firstclaim::internals::record::{Record, State, Takeover};
use firstclaim::internals::transition::{Command, Reply};

use super::{Acked, Setting, key, options, request, terms};
use crate::disk::{Image, Keep, SimDisk};

/// What one recovery must show: one of these states, whole.
pub struct Demand<'a> {
    pub allowed: &'a [&'a Acked],
    pub setting: Setting,
    pub clock: &'a ManualClock,
}

impl Demand<'_> {
    /// Opens `image` and compares; then once more after a cut that keeps nothing.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self, image: &Image) -> Result<(), String> {
        if let Some(wrong) = self.allowed.iter().find_map(|acked| acked.wrong.clone()) {
            return Err(wrong);
        }
        let disk = SimDisk::over(image.clone());
        let shown = {
            let engine = self.reopen(&disk)?;
            self.which(&engine)?
        };
        // An outcome once shown is not unsaid by a later cut.
        let after_cut = SimDisk::over(disk.image().cut(Keep::None));
        let engine = self.reopen(&after_cut)?;
        let again = self.which(&engine)?;
        if !same_state(self.allowed[shown], self.allowed[again], &engine) {
            return Err(format!(
                "state {shown} was shown, and {again} after a later cut"
            ));
        }
        self.check_going_on(&engine, &after_cut)
    }

    fn reopen(&self, disk: &SimDisk) -> Result<Engine, String> {
        Engine::open(disk.as_disk(), options(self.setting, self.clock))
            .map_err(|error| format!("does not open: {error}"))
    }

    /// Which of the allowed states the engine shows.
    fn which(&self, engine: &Engine) -> Result<usize, String> {
        let mut wrong = Vec::new();
        for (n, acked) in self.allowed.iter().enumerate() {
            match difference(engine, acked, self.allowed) {
                None => return Ok(n),
                Some(what) => wrong.push(what),
            }
        }
        wrong.dedup();
        Err(wrong.join("; or "))
    }

    /// The store goes on: fences rise, the base is whole, files stay bounded.
    fn check_going_on(&self, engine: &Engine, disk: &SimDisk) -> Result<(), String> {
        let told = self
            .allowed
            .iter()
            .map(|acked| acked.fence)
            .min()
            .unwrap_or(0);
        let command = Command::Claim(terms(Takeover::Gone));
        let mut answers = engine.commit(&[request("fresh", command)]);
        let answer = answers
            .pop()
            .expect("one answer")
            .map_err(|e| format!("claim: {e}"))?;
        let fence = answer.record.map_or(0, |record| record.fence.as_u64());
        if answer.reply != Reply::Claimed || fence <= told {
            return Err(format!("fence {fence} after {told} was given"));
        }
        engine
            .verify()
            .map_err(|error| format!("verify: {error}"))?;
        let files = disk.image().files();
        let segments = files
            .iter()
            .filter(|(name, _)| name.starts_with("journal-"));
        if segments.count() > 4 {
            return Err(format!("too many segments: {files:?}"));
        }
        Ok(())
    }
}

fn same_state(a: &Acked, b: &Acked, engine: &Engine) -> bool {
    let names = a.records.keys().chain(b.records.keys());
    let now = engine.now();
    names
        .into_iter()
        .all(|name| a.live(name, now) == b.live(name, now))
}

/// How the engine differs from a state, if it does.
fn difference(engine: &Engine, acked: &Acked, all: &[&Acked]) -> Option<String> {
    let now = engine.now();
    let mut names: Vec<&String> = all.iter().flat_map(|a| a.records.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let expected = acked.live(name, now);
        match engine.peek(&key(name)) {
            Ok(found) => {
                let found = found.map(|(record, _)| record);
                if !acked.fits(name, found.as_ref(), now) {
                    return Some(format!(
                        "{name}: {} instead of {}",
                        short(found.as_ref()),
                        short(expected)
                    ));
                }
            }
            Err(error) => return Some(format!("{name}: {error}")),
        }
    }
    None
}

fn short(record: Option<&Arc<Record>>) -> String {
    match record {
        None => "vacant".to_owned(),
        Some(record) => {
            let state = match &record.state {
                State::InFlight { ends_at } => format!("in flight to {}", ends_at.as_micros()),
                State::Released => "released".to_owned(),
                State::Done { response, .. } => format!("done with {} bytes", response.len()),
            };
            format!(
                "{state} (fence {}, attempt {})",
                record.fence, record.attempt
            )
        }
    }
}
