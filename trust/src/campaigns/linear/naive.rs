//! The search checked against one that tries every order, on small random histories.

use std::sync::Arc;
use std::time::Duration;

use firstclaim::internals::Timestamp;
use firstclaim::internals::record::{Fence, Holder, Takeover};
use firstclaim::internals::transition::{Command, Terms};

use super::history::{Asked, Op, Seen, What};
use super::model::Key;
use super::search::{self, Verdict};
use crate::random::Random;

/// Histories that both checkers looked at.
#[derive(Debug, Default)]
pub struct CrossCheck {
    pub linearizable: u64,
    pub not: u64,
    /// The first on which they differ.
    pub differing: Option<String>,
}

/// Makes `count` histories, half of them changed at random, and checks each in both ways.
pub fn cross_check(seed: u64, count: u64) -> CrossCheck {
    let mut random = Random::new(seed);
    let mut found = CrossCheck::default();
    for number in 0..count {
        let mut ops = small_history(&mut random);
        let is_changed = number % 2 == 1;
        if is_changed {
            change(&mut ops, &mut random);
        }
        let expected = every_order(&ops, &mut vec![false; ops.len()], &Key::default());
        let verdict = search::check(&ops);
        let agrees = (verdict == Verdict::Linearizable) == expected;
        if (!agrees || (!is_changed && !expected)) && found.differing.is_none() {
            let lines: Vec<String> = ops.iter().map(|op| format!("\n    {op}")).collect();
            found.differing = Some(format!(
                "small history {number} of seed {seed}: every order says {expected}, the search \
                 {verdict:?}{}",
                lines.concat()
            ));
        }
        match expected {
            true => found.linearizable += 1,
            false => found.not += 1,
        }
    }
    found
}

/// Whether what is not `taken` can follow in any order: nothing is remembered or left out.
fn every_order(ops: &[Op], taken: &mut Vec<bool>, key: &Key) -> bool {
    if (0..ops.len()).all(|at| taken[at] || ops[at].is_optional) {
        return true;
    }
    for at in 0..ops.len() {
        let waits = |other: usize| !taken[other] && ops[other].is_before(&ops[at]);
        let ended = |other: usize| {
            taken[other] && ops[other].what == What::End && ops[at].call < ops[other].call
        };
        if taken[at] || (0..ops.len()).any(|other| waits(other) || ended(other)) {
            continue;
        }
        taken[at] = true;
        let fits = key.after(&ops[at]);
        if fits.iter().any(|next| every_order(ops, taken, next)) {
            return true;
        }
        taken[at] = false;
    }
    false
}

/// Up to 7 operations in an order that the model explains, with intervals that overlap.
fn small_history(random: &mut Random) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    let mut key = Key::default();
    let (mut now, mut fence, mut given, mut floor) = (0, 10, vec![Fence::from_u64(1)], 0);
    let is_at_risk = random.chance(3);
    for number in 1..=3 + random.below(5) {
        let at = number * 10;
        let before = now;
        now += if random.chance(3) { 1 } else { 0 };
        let mut times = vec![time(now)];
        if before < now && random.chance(2) {
            times.insert(0, time(before));
        }
        let mut op = Op {
            call: (at.saturating_sub(random.below(30))).max(floor),
            ret: at + random.below(30),
            times,
            what: What::End,
            is_optional: false,
            is_at_risk,
        };
        match random.below(12) {
            0 => {
                (op.call, op.ret, floor) = (at, at, at + 1);
                for earlier in &mut ops {
                    earlier.ret = earlier.ret.min(at - 1);
                }
            }
            1 => op.what = What::Drop(*random.pick(&given)),
            2 => op.what = What::CompleteFailed(*random.pick(&given)),
            3 if random.chance(2) => op.what = What::Checkpoint,
            _ => {
                fence += 1;
                let asked = any_question(random, &given);
                let next = Fence::from_u64(fence);
                let holder = key.holders_at(time(now));
                let (mut seen, _) = key.ask(&asked, time(now), holder, next, is_at_risk);
                if matches!(seen, Seen::Lease { .. }) {
                    given.push(next);
                }
                if random.chance(6) {
                    op.is_optional = true;
                    if random.chance(2) {
                        seen = Seen::Unknown;
                    }
                }
                op.what = What::Ask(asked, seen);
            }
        }
        // An operation without an outcome may or may not have had its effect.
        if !(op.is_optional && random.chance(2)) {
            let nexts = key.after(&op);
            if nexts.is_empty() {
                continue;
            }
            key = random.pick(&nexts).clone();
        }
        ops.push(op);
    }
    ops.sort_by_key(|op| op.call);
    ops
}

fn any_question(random: &mut Random, given: &[Fence]) -> Asked {
    let seconds = |random: &mut Random| Duration::from_secs(1 + random.below(2));
    let fence = *random.pick(given);
    let bytes: Arc<[u8]> = (*random.pick(&[b"x", b"y"])).as_slice().into();
    Asked::Command(match random.below(13) {
        0..=3 => Command::Claim(Terms {
            lease_for: seconds(random),
            retain_for: seconds(random),
            takeover: *random.pick(&[Takeover::Gone, Takeover::Expired, Takeover::Never]),
            fingerprint: None,
        }),
        4 | 5 => Command::Complete {
            fence,
            response: bytes,
            retain_for: None,
        },
        6 => Command::Renew {
            fence,
            lease_for: seconds(random),
        },
        7 => Command::Save {
            fence,
            point: bytes,
        },
        8 => Command::Release { fence },
        9 => Command::Resolve {
            lease_for: seconds(random),
        },
        10 => Command::Forget {
            held: random.chance(2),
        },
        11 => return Asked::Unfinished,
        _ => return Asked::Peek,
    })
}

/// Changes an answer, swaps two, narrows an interval or ends the run; the result may or may not be
/// explicable.
fn change(ops: &mut Vec<Op>, random: &mut Random) {
    if ops.is_empty() {
        return;
    }
    let (at, other) = (
        random.below(ops.len() as u64) as usize,
        random.below(ops.len() as u64) as usize,
    );
    let borrowed = match &ops[other].what {
        What::Ask(_, seen) => Some(seen.clone()),
        _ => None,
    };
    match (random.below(7), &mut ops[at].what) {
        (5 | 6, _) => end_at(ops, at, random),
        (0, _) => {
            ops.remove(at);
        }
        (1, _) => ops[at].ret = ops[at].call,
        (2, _) => ops[at].call = ops[at].ret,
        (3, What::Ask(_, seen)) => *seen = borrowed.unwrap_or(Seen::Vacant),
        (_, What::Ask(_, Seen::Lease { attempt, .. } | Seen::InFlight { attempt, .. })) => {
            *attempt += 1;
        }
        (_, What::Ask(_, seen)) => *seen = borrowed.unwrap_or(Seen::Changed),
        (_, _) => {
            ops.remove(at);
        }
    }
    ops.sort_by_key(|op| op.call);
}

/// Ends the run while operation `at` is under way, so that its outcome is not established.
fn end_at(ops: &mut Vec<Op>, at: usize, random: &mut Random) {
    for op in &mut *ops {
        (op.call, op.ret) = (2 * op.call, 2 * op.ret);
    }
    let moment = ops[at].call + 1;
    for op in &mut *ops {
        if op.call < moment && moment < op.ret {
            op.is_optional = true;
            if let What::Ask(_, seen) = &mut op.what
                && random.chance(2)
            {
                *seen = Seen::Unknown;
            }
        }
    }
    ops.push(Op {
        call: moment,
        ret: moment,
        what: What::End,
        is_optional: false,
        ..ops[at].clone()
    });
}

fn time(secs: u64) -> Timestamp {
    Timestamp::from_micros((1_000_000_000 + secs) * 1_000_000)
}

impl Key {
    /// What the holder is at `now`.
    fn holders_at(&self, now: Timestamp) -> Holder {
        self.holders(now, &[now])[0]
    }
}
