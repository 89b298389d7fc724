//! What must hold, told from what was acknowledged and not from what the store believes.

use firstclaim::internals::record::{Holder, Previous, Takeover};
use firstclaim::internals::transition::Reply;

use super::fault::Fault;
use super::record::{Brief, Call, Decision, Entry, KEYS, Stage, decide};

/// A rule; a state in which one is broken is the end of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    OneLiveLease,
    FencesRise,
    DoneIsNotClaimed,
    ReplaysExact,
    NothingLost,
    StaleRefused,
    InterruptionShown,
    NeverMeansNever,
    SeenIsDurable,
    SeenWasSo,
    LiveSeenLive,
    TimeForward,
    AnswersFollow,
}

impl Rule {
    #[cfg(test)]
    pub const ALL: [Rule; 13] = [
        Rule::OneLiveLease,
        Rule::FencesRise,
        Rule::DoneIsNotClaimed,
        Rule::ReplaysExact,
        Rule::NothingLost,
        Rule::StaleRefused,
        Rule::InterruptionShown,
        Rule::NeverMeansNever,
        Rule::SeenIsDurable,
        Rule::SeenWasSo,
        Rule::LiveSeenLive,
        Rule::TimeForward,
        Rule::AnswersFollow,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Rule::OneLiveLease => "at most one live lease per key",
            Rule::FencesRise => "fences strictly increase",
            Rule::DoneIsNotClaimed => "a done, unexpired key is never claimed",
            Rule::ReplaysExact => "a replay is what was completed",
            Rule::NothingLost => "nothing acknowledged is lost over a crash",
            Rule::StaleRefused => "stale holders are refused",
            Rule::InterruptionShown => "an interruption is shown by every later lease",
            Rule::NeverMeansNever => "under Never, what was cut short is only resolved",
            Rule::SeenIsDurable => "a reader never sees what is not durable",
            Rule::SeenWasSo => "a reader sees what was so while it read",
            Rule::LiveSeenLive => "a live holder is never seen as gone",
            Rule::TimeForward => "time is never behind what was persisted",
            Rule::AnswersFollow => "an answer is what the decision makes of what is true",
        }
    }
}

/// What is true of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// The record as it was last acknowledged. It stays when it expires or is swept, so that it is
    /// still known to be unexpired should time be set back.
    pub entry: Entry,
    /// An attempt was cut short in this record's life.
    pub interrupted: bool,
}

/// The truth about all keys.
pub type Truth = [Known; KEYS];

/// One decision, as the rules see it.
pub struct Case {
    pub call: Call,
    pub policy: Takeover,
    pub now: u8,
    /// What the store found, and decided on.
    pub found: Entry,
    /// What is true.
    pub before: Known,
    /// Whether the guard of the record's fence is out.
    pub holder: Holder,
    /// The highest fence that anyone was told.
    pub told: u8,
    pub next_fence: u8,
    pub fault: Option<Fault>,
}

impl Case {
    /// The truth after a decision, or the rule that it breaks.
    pub fn judge(&self, decision: Decision) -> Result<Known, Rule> {
        if decision.said == Ok(Reply::Claimed) {
            self.judge_lease(decision.write.flatten())?;
        }
        if decision.said == Ok(Reply::Done) && self.found != self.before.entry {
            return Err(Rule::ReplaysExact);
        }
        if let (Some(lease), Ok(_)) = (self.call.lease(), decision.said) {
            let current = |brief: Brief| match brief.stage {
                Stage::InFlight { .. } => brief.fence == lease.fence,
                Stage::Done { response } => response == lease.fence && decision.write.is_none(),
                Stage::Released => false,
            };
            if !self.before.entry.is_some_and(current) {
                return Err(Rule::StaleRefused);
            }
        }
        let expected = decide(
            self.before.entry,
            self.policy,
            self.holder,
            self.call,
            self.now,
            self.next_fence,
            self.fault,
        );
        // The same decision, whatever it is, on what is true. A sweep may find nothing to remove.
        if decision != expected && !matches!(self.call, Call::Expire(_)) {
            return Err(Rule::AnswersFollow);
        }
        Ok(self.after(decision))
    }

    fn judge_lease(&self, given: Entry) -> Result<(), Rule> {
        let Some(given) = given else {
            return Err(Rule::AnswersFollow);
        };
        if given.fence <= self.told {
            return Err(Rule::FencesRise);
        }
        let Some(before) = self.live() else {
            return Ok(());
        };
        match before.stage {
            Stage::Done { .. } => return Err(Rule::DoneIsNotClaimed),
            Stage::InFlight { ends_at } if self.holder == Holder::Alive => {
                let late = self.now >= ends_at;
                if !late || !matches!(self.policy, Takeover::GoneOrExpired | Takeover::Expired) {
                    return Err(Rule::OneLiveLease);
                }
            }
            _ => {}
        }
        let was_cut = self.before.interrupted || before.is_in_flight();
        if was_cut && given.previous(self.policy) != Previous::Interrupted {
            return Err(Rule::InterruptionShown);
        }
        if was_cut && self.policy == Takeover::Never && matches!(self.call, Call::Claim(_)) {
            return Err(Rule::NeverMeansNever);
        }
        Ok(())
    }

    fn after(&self, decision: Decision) -> Known {
        let Some(entry) = decision.write else {
            return self.before;
        };
        let cut = self.live().is_some_and(|before| {
            let taken_over = decision.said == Ok(Reply::Claimed) && before.is_in_flight();
            self.before.interrupted || taken_over
        });
        Known {
            entry,
            // Of no interest once done: what comes after is another record's life.
            interrupted: cut && entry.is_some_and(|brief| !brief.is_done()),
        }
    }

    fn live(&self) -> Entry {
        let entry = self.before.entry;
        entry.filter(|brief| !brief.is_expired(self.policy, self.holder, self.now))
    }
}

/// Whether two entries look the same at `now`, nobody holding them.
pub fn look_the_same(a: Entry, b: Entry, policy: Takeover, now: u8) -> bool {
    let live = |e: Entry| e.filter(|brief| !brief.is_expired(policy, Holder::Gone, now));
    live(a) == live(b)
}
