//! The rows of the tables: the states a record may be in, and the instants that belong to them.

use std::sync::Arc;
use std::time::Duration;

use firstclaim::internals::Timestamp;
use firstclaim::internals::record::{Fence, Holder, Interruption, Record, State};
use firstclaim::internals::transition::{Command, Refusal, Step, Terms, step};
use firstclaim::{Fingerprint, Takeover};

/// The columns.
pub const POLICIES: [Takeover; 4] = [
    Takeover::Gone,
    Takeover::GoneOrExpired,
    Takeover::Expired,
    Takeover::Never,
];

/// The current fence of every record here, and the one that the next lease would get.
pub const FENCE: Fence = Fence::from_u64(40);
pub const NEXT: Fence = Fence::from_u64(50);

/// The attempt began at 1000 s with a lease of 60 s; the record's retention is an hour.
pub const BEGAN: Timestamp = at(1_000);
pub const LEASE_ENDS: Timestamp = at(1_060);
pub const UNFINISHED_EXPIRES: Timestamp = at(4_660);
/// A done record was completed at 1030 s.
pub const COMPLETED: Timestamp = at(1_030);
pub const DONE_EXPIRES: Timestamp = at(4_630);
/// Long after everything.
pub const LONG_AFTER: Timestamp = at(1_000_000_000);

pub const RETENTION: Duration = Duration::from_secs(3_600);
pub const RESPONSE: &[u8] = b"charged";
pub const POINT: &[u8] = b"card charged, mail not sent";
pub const NEW_POINT: &[u8] = b"mail sent";

/// The fingerprints a record may have, and one that none has.
pub const FINGERPRINTS: [Option<[u8; 32]>; 2] = [None, Some([1; 32])];
pub const STRANGE: Option<[u8; 32]> = Some([2; 32]);

/// What a call asks for: other durations than those of the record.
pub struct Call {
    pub lease_for: Duration,
    pub retain_for: Duration,
}
pub const CALL: Call = Call {
    lease_for: Duration::from_secs(30),
    retain_for: Duration::from_secs(7),
};

pub const fn at(secs: u64) -> Timestamp {
    Timestamp::from_micros(secs * 1_000_000)
}

/// The last instant before `time`.
const fn just_before(time: Timestamp) -> Timestamp {
    Timestamp::from_micros(time.as_micros() - 1)
}

/// A state of a record at a time. `Live` and `Over` speak of the lease, `Expired` of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    Vacant,
    AliveLive,
    AliveOver,
    AliveExpired,
    GoneLive,
    GoneOver,
    GoneExpired,
    Released,
    ReleasedExpired,
    Done,
    DoneExpired,
}

impl Row {
    /// The first and the last instant at which a record is in this row.
    fn span(self) -> [Timestamp; 2] {
        match self {
            Row::Vacant => [at(0), LONG_AFTER],
            Row::AliveLive | Row::GoneLive => [BEGAN, just_before(LEASE_ENDS)],
            Row::AliveOver | Row::GoneOver => [LEASE_ENDS, just_before(UNFINISHED_EXPIRES)],
            Row::AliveExpired | Row::GoneExpired => [UNFINISHED_EXPIRES, LONG_AFTER],
            Row::Released => [BEGAN, just_before(UNFINISHED_EXPIRES)],
            Row::ReleasedExpired => [UNFINISHED_EXPIRES, LONG_AFTER],
            Row::Done => [COMPLETED, just_before(DONE_EXPIRES)],
            Row::DoneExpired => [DONE_EXPIRES, LONG_AFTER],
        }
    }

    /// Whose holder the row speaks of; where it speaks of none, both must give the same answer.
    fn holders(self) -> &'static [Holder] {
        match self {
            Row::AliveLive | Row::AliveOver | Row::AliveExpired => &[Holder::Alive],
            Row::GoneLive | Row::GoneOver | Row::GoneExpired => &[Holder::Gone],
            _ => &[Holder::Alive, Holder::Gone],
        }
    }

    fn state(self) -> Option<State> {
        match self {
            Row::Vacant => None,
            Row::Released | Row::ReleasedExpired => Some(State::Released),
            Row::Done | Row::DoneExpired => Some(State::Done {
                completed_at: COMPLETED,
                response: Arc::from(RESPONSE),
            }),
            _ => Some(State::InFlight {
                ends_at: LEASE_ENDS,
            }),
        }
    }
}

/// How the attempts before the record's latest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// There were none.
    Fresh,
    /// One, released after it had saved a recovery point.
    ReleasedOnce,
    /// Two, the latest of which was cut short.
    CutShort,
}

/// When the attempt that `History::CutShort` tells of began, and when its lease ended.
pub const CUT: Interruption = Interruption {
    since: at(900),
    ends_at: at(960),
};

/// One cell of a table, at one instant.
#[derive(Debug, Clone)]
pub struct Case {
    pub record: Option<Record>,
    pub holder: Holder,
    pub now: Timestamp,
    pub history: History,
    pub fingerprint: Option<[u8; 32]>,
}

impl Case {
    /// Every case of a cell: instants, holders, histories and fingerprints.
    pub fn all(row: Row, policy: Takeover) -> Vec<Case> {
        let mut cases = Vec::new();
        for now in row.span() {
            for &holder in row.holders() {
                for history in [History::Fresh, History::ReleasedOnce, History::CutShort] {
                    for fingerprint in FINGERPRINTS {
                        cases.push(Case {
                            record: record(row, policy, history, fingerprint),
                            holder,
                            now,
                            history,
                            fingerprint,
                        });
                    }
                }
            }
        }
        cases
    }

    /// The record, where the cell has one.
    pub fn record(&self) -> &Record {
        self.record.as_ref().expect("this cell has a record")
    }

    /// A claim with the terms of `CALL`.
    pub fn claim(&self, takeover: Takeover, fingerprint: Option<[u8; 32]>) -> Command {
        Command::Claim(Terms {
            lease_for: CALL.lease_for,
            retain_for: CALL.retain_for,
            takeover,
            fingerprint: fingerprint.map(Fingerprint::from),
        })
    }

    /// What the code under test makes of it.
    pub fn step(&self, command: &Command) -> Result<Step, Refusal> {
        step(self.record.as_ref(), self.holder, command, self.now, NEXT)
    }
}

fn record(
    row: Row,
    takeover: Takeover,
    history: History,
    fingerprint: Option<[u8; 32]>,
) -> Option<Record> {
    let state = row.state()?;
    let done = matches!(state, State::Done { .. });
    let (attempt, interrupted, point) = match history {
        History::Fresh => (1, None, None),
        History::ReleasedOnce => (2, None, Some(POINT)),
        History::CutShort => (3, Some(CUT), Some(POINT)),
    };
    Some(Record {
        fence: FENCE,
        attempt,
        takeover,
        retain_for: RETENTION,
        fingerprint: fingerprint.map(Fingerprint::from),
        since: BEGAN,
        expires_at: if done {
            DONE_EXPIRES
        } else {
            UNFINISHED_EXPIRES
        },
        interrupted,
        recovery_point: point.map(Arc::from),
        state,
    })
}
