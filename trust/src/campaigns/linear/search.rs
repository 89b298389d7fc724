//! Whether the answers on one key can be put in an order that the model explains.
//!
//! A search after Wing and Gong, *Testing and verifying concurrent objects* (1993), that visits no
//! configuration twice, after Lowe, *Testing for linearizability* (2017). A configuration is the
//! set of operations taken so far and the key after them. Keys can be checked one by one because a
//! history is linearizable if it is so for every object: Herlihy and Wing, *Linearizability: a
//! correctness condition for concurrent objects* (1990), theorem 1.

use std::collections::HashSet;

use super::history::{Op, What};
use super::model::Key;

/// A search that visits more configurations gives up.
const MOST_CONFIGURATIONS: usize = 200_000;

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    /// No order explains the answers; the longest that came near takes so many operations and
    /// leaves the key like this.
    Violation {
        taken: usize,
        key: Box<Key>,
    },
    /// There were too many configurations.
    Undecided,
}

/// Searches for an order of `ops`, which are sorted by their calls.
pub fn check(ops: &[Op]) -> Verdict {
    check_counting(ops).0
}

/// As [`check`]; also tells how many configurations were visited.
pub fn check_counting(ops: &[Op]) -> (Verdict, usize) {
    let mut search = Search {
        ops,
        seen: HashSet::new(),
        furthest: (0, Key::default()),
    };
    let verdict = match search.goes_on(Taken::none_of(ops.len()), Key::default()) {
        Ok(true) => Verdict::Linearizable,
        Ok(false) => Verdict::Violation {
            taken: search.furthest.0,
            key: Box::new(search.furthest.1),
        },
        Err(TooMany) => Verdict::Undecided,
    };
    (verdict, search.seen.len())
}

struct TooMany;

struct Search<'o> {
    ops: &'o [Op],
    seen: HashSet<(Taken, Key)>,
    furthest: (usize, Key),
}

impl Search<'_> {
    /// Whether the operations that are left can follow.
    fn goes_on(&mut self, mut taken: Taken, mut key: Key) -> Result<bool, TooMany> {
        loop {
            if self.seen.len() >= MOST_CONFIGURATIONS {
                return Err(TooMany);
            }
            if !self.seen.insert((taken.clone(), key.clone())) {
                return Ok(false);
            }
            if taken.count() > self.furthest.0 {
                self.furthest = (taken.count(), key.clone());
            }
            let ops = self.ops;
            if (0..ops.len()).all(|at| taken.has(at) || ops[at].is_optional) {
                return Ok(true);
            }
            let mut branches = Vec::new();
            let mut at_once = None;
            for at in self.minimal(&taken) {
                // The earlier a checkpoint, the more may be lost, and so explained: later is never
                // better, and one that need not have been is best left out.
                let is_checkpoint = ops[at].what == What::Checkpoint;
                if is_checkpoint && ops[at].is_optional {
                    continue;
                }
                let nexts = key.after(&ops[at]);
                // What fits now and changes nothing, now or later, can as well come now: there is
                // nothing to choose.
                if nexts.contains(&key) && key.is_never_changed_by(&ops[at]) {
                    at_once = Some((at, key.clone()));
                    break;
                }
                if is_checkpoint {
                    at_once = nexts.into_iter().next().map(|next| (at, next));
                    break;
                }
                branches.extend(nexts.into_iter().map(|next| (at, next)));
            }
            if let Some((at, next)) = at_once {
                self.take(&mut taken, at);
                key = next;
                continue;
            }
            // What was over first most likely came first, and what has no outcome had no effect.
            branches.sort_by_key(|(at, _)| (ops[*at].is_optional, ops[*at].ret));
            let Some((last_at, last)) = branches.pop() else {
                return Ok(false);
            };
            for (at, next) in branches {
                let mut then = taken.clone();
                self.take(&mut then, at);
                if self.goes_on(then, next)? {
                    return Ok(true);
                }
            }
            self.take(&mut taken, last_at);
            key = last;
        }
    }

    /// The operations that may come next: no other that is left was over before they began.
    fn minimal(&self, taken: &Taken) -> Vec<usize> {
        let mut first_ret = u64::MAX;
        let mut all = Vec::new();
        for (at, op) in self.ops.iter().enumerate().skip(taken.full) {
            if op.call > first_ret {
                break;
            }
            if !taken.has(at) {
                all.push(at);
                if !op.is_optional {
                    first_ret = first_ret.min(op.ret);
                }
            }
        }
        all.retain(|at| self.ops[*at].call <= first_ret);
        all
    }

    fn take(&self, taken: &mut Taken, at: usize) {
        taken.add(at);
        if self.ops[at].what == What::End {
            // What had no effect by now has none.
            (0..at).for_each(|before| taken.add(before));
        }
    }
}

/// A set of operations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Taken {
    bits: Vec<u64>,
    /// All before this one are in it.
    full: usize,
}

impl Taken {
    fn none_of(ops: usize) -> Self {
        Taken {
            bits: vec![0; ops.div_ceil(64)],
            full: 0,
        }
    }

    fn has(&self, at: usize) -> bool {
        self.bits
            .get(at / 64)
            .is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    fn add(&mut self, at: usize) {
        self.bits[at / 64] |= 1 << (at % 64);
        while self.has(self.full) {
            self.full += 1;
        }
    }

    fn count(&self) -> usize {
        self.bits
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }
}
