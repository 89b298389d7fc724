//! What the model knows of one key, and what that means at a given time.

use std::time::{Duration, SystemTime};

use firstclaim::{Previous, Takeover};

use super::{Answer, Ask, Name, Row, Standing};

#[derive(Debug)]
pub struct Record {
    policy: Takeover,
    retain_for: Duration,
    pub fingerprint: Option<[u8; 32]>,
    attempt: u32,
    pub fence: Option<u64>,
    /// When the latest attempt began.
    since: SystemTime,
    /// When the record expires, if it can.
    expires_at: SystemTime,
    /// The latest attempt that was cut short: when it began, when its lease ended.
    cut_short: Option<(SystemTime, SystemTime)>,
    pub point: Option<Vec<u8>>,
    pub stage: Stage,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Stage {
    InFlight {
        ends_at: SystemTime,
        holder: Holder,
    },
    Released,
    Done {
        completed_at: SystemTime,
        bytes: Vec<u8>,
    },
}

/// Who holds the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The guard is out; it may have failed to complete.
    Guard {
        failed: bool,
    },
    /// The guard was dropped after a failed completion: the operation did run, so the lease counts
    /// as held to its end.
    HeldToItsEnd,
    Gone,
}

impl Record {
    pub fn first(ask: &Ask, now: SystemTime) -> Self {
        let ends_at = now + ask.lease_for;
        Record {
            policy: ask.takeover,
            retain_for: ask.retain_for,
            fingerprint: ask.fingerprint,
            attempt: 1,
            fence: None,
            since: now,
            expires_at: ends_at + ask.retain_for,
            cut_short: None,
            point: None,
            stage: Stage::InFlight {
                ends_at,
                holder: Holder::Guard { failed: false },
            },
        }
    }

    /// A further lease. One on a record in flight is a takeover: the attempt before was cut short.
    pub fn next_attempt(&mut self, now: SystemTime, lease_for: Duration) {
        if let Stage::InFlight { ends_at, .. } = self.stage {
            self.cut_short = Some((self.since, ends_at));
        }
        self.attempt += 1;
        self.since = now;
        self.stage = Stage::InFlight {
            ends_at: now,
            holder: Holder::Guard { failed: false },
        };
        self.run_until(now + lease_for);
    }

    /// The lease's end moves either way, the record's expiry never nearer.
    pub fn run_until(&mut self, end: SystemTime) {
        if let Stage::InFlight { ends_at, .. } = &mut self.stage {
            *ends_at = end;
        }
        self.expires_at = self.expires_at.max(end + self.retain_for);
    }

    pub fn complete(&mut self, now: SystemTime, bytes: &[u8], retain_for: Option<Duration>) {
        self.expires_at = now + retain_for.unwrap_or(self.retain_for);
        self.stage = Stage::Done {
            completed_at: now,
            bytes: bytes.to_vec(),
        };
    }

    pub fn completion_failed(&mut self) {
        if let Stage::InFlight { holder, .. } = &mut self.stage {
            *holder = Holder::Guard { failed: true };
        }
    }

    /// The claim is undone: released, or cut short as it was before.
    pub fn release(&mut self) {
        self.stage = match self.cut_short {
            None => Stage::Released,
            Some((since, ends_at)) => {
                self.since = since;
                self.fence = None;
                Stage::InFlight {
                    ends_at,
                    holder: Holder::Gone,
                }
            }
        };
    }

    pub fn drop_guard(&mut self) {
        if let Stage::InFlight { holder, .. } = &mut self.stage {
            *holder = match holder {
                Holder::Guard { failed: true } => Holder::HeldToItsEnd,
                _ => Holder::Gone,
            };
        }
    }

    /// Whether the lease is out, or counts as if it were.
    pub fn is_held(&self, now: SystemTime) -> bool {
        matches!(self.stage, Stage::InFlight { .. }) && !self.holder_is_gone(now)
    }

    fn holder_is_gone(&self, now: SystemTime) -> bool {
        match self.stage {
            Stage::InFlight { ends_at, holder } => match holder {
                Holder::Guard { .. } => false,
                Holder::HeldToItsEnd => now >= ends_at,
                Holder::Gone => true,
            },
            _ => true,
        }
    }

    pub fn has_expired(&self, now: SystemTime) -> bool {
        let kept = match self.stage {
            Stage::InFlight { .. } => self.is_held(now) || self.policy == Takeover::Never,
            _ => false,
        };
        !kept && now >= self.expires_at
    }

    /// Whether a claim of the same request gets the lease.
    pub fn gives_a_lease(&self, now: SystemTime) -> bool {
        let gone = self.holder_is_gone(now);
        match self.stage {
            Stage::Released => true,
            Stage::Done { .. } => false,
            Stage::InFlight { ends_at, .. } => match self.policy {
                Takeover::Gone => gone,
                Takeover::GoneOrExpired => gone || now >= ends_at,
                Takeover::Expired => now >= ends_at,
                Takeover::Never => false,
                other => panic!("the model does not know {other:?}"),
            },
        }
    }

    pub fn claimed(&self) -> Answer {
        let Stage::InFlight { ends_at, .. } = self.stage else {
            panic!("only a record in flight was claimed");
        };
        let previous = match (self.cut_short, self.attempt) {
            (Some(_), _) => Previous::Interrupted,
            (None, 1) => Previous::None,
            (None, _) => Previous::Released,
        };
        Answer::Claimed {
            attempt: self.attempt,
            previous,
            point: self.point.clone(),
            ends_at,
        }
    }

    pub fn standing(&self, now: SystemTime) -> Answer {
        match &self.stage {
            Stage::Released => Answer::Released,
            Stage::InFlight { .. } => Answer::InFlight {
                since: self.since,
                attempt: self.attempt,
                interrupted: self.holder_is_gone(now),
            },
            Stage::Done {
                completed_at,
                bytes,
            } => Answer::Done {
                bytes: bytes.clone(),
                completed_at: *completed_at,
                expires_at: self.expires_at,
            },
        }
    }

    pub fn row(&self, name: &Name, now: SystemTime) -> Option<Row> {
        let standing = match self.stage {
            Stage::Done { .. } => return None,
            Stage::Released => Standing::Released,
            Stage::InFlight { .. } if self.holder_is_gone(now) => Standing::Interrupted,
            Stage::InFlight { .. } => Standing::InFlight,
        };
        Some(Row {
            name: name.clone(),
            standing,
            since: self.since,
            attempt: self.attempt,
            point: self.point.clone(),
            fence: self.fence,
        })
    }
}
