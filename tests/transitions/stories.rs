//! What only shows over several steps: histories that must not be forgotten, and moving ends.

use std::sync::Arc;
use std::time::Duration;

use firstclaim::internals::Timestamp;
use firstclaim::internals::record::{Fence, Holder, Previous, Record, State};
use firstclaim::internals::transition::{Command, Refusal, Reply, Terms, Write, step};
use firstclaim::{Fingerprint, Takeover};

use crate::rows::{POLICIES, at};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A key's life, one command after another.
struct Story {
    record: Option<Record>,
    holder: Holder,
    now: Timestamp,
    fences: u64,
}

impl Story {
    fn new() -> Self {
        Story {
            record: None,
            holder: Holder::Gone,
            now: at(1_000),
            fences: 0,
        }
    }

    /// Gives the command and writes what the step says. Every step gets a fence of its own.
    fn tell(&mut self, command: Command) -> Result<Reply, Refusal> {
        self.fences += 1;
        let next_fence = Fence::from_u64(self.fences);
        let step = step(
            self.record.as_ref(),
            self.holder,
            &command,
            self.now,
            next_fence,
        )?;
        match step.write {
            Write::Keep => {}
            Write::Put(record) => self.record = Some(record),
            Write::Delete => self.record = None,
        }
        if step.reply == Reply::Claimed {
            self.holder = Holder::Alive;
        }
        Ok(step.reply)
    }

    fn claim(&mut self, takeover: Takeover) -> Result<Reply, Refusal> {
        self.tell(Command::Claim(Terms {
            lease_for: MINUTE,
            retain_for: HOUR,
            takeover,
            fingerprint: None,
        }))
    }

    fn resolve(&mut self) -> Result<Reply, Refusal> {
        self.tell(Command::Resolve { lease_for: MINUTE })
    }

    fn complete(&mut self, fence: Fence) -> Result<Reply, Refusal> {
        self.tell(Command::Complete {
            fence,
            response: Arc::from(&b"done"[..]),
            retain_for: None,
        })
    }

    fn release(&mut self) -> Result<Reply, Refusal> {
        let reply = self.tell(Command::Release {
            fence: self.fence(),
        });
        self.holder = Holder::Gone;
        reply
    }

    fn drop_lease(&mut self) {
        self.holder = Holder::Gone;
    }

    fn wait(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
    }

    fn record(&self) -> &Record {
        self.record.as_ref().expect("the key has a record")
    }

    fn fence(&self) -> Fence {
        self.record().fence
    }
}

const CLAIMED: Result<Reply, Refusal> = Ok(Reply::Claimed);
const INTERRUPTED: Result<Reply, Refusal> = Ok(Reply::InFlight { interrupted: true });

#[test]
fn a_release_on_a_key_never_interrupted_leaves_it_claimable_under_every_policy() {
    for policy in POLICIES {
        let mut story = Story::new();
        assert_eq!(story.claim(policy), CLAIMED);
        assert_eq!(story.record().previous(), Previous::None);
        story.release().unwrap();
        assert_eq!(story.claim(policy), CLAIMED, "{policy:?}");
        assert_eq!(story.record().attempt, 2);
        assert_eq!(story.record().previous(), Previous::Released);
    }
}

#[test]
fn a_release_after_an_interruption_goes_back_to_that_interruption() {
    let mut story = Story::new();
    assert_eq!(story.claim(Takeover::Expired), CLAIMED); // 1000 s to 1060 s
    story.drop_lease();
    story.wait(Duration::from_secs(10));
    assert_eq!(story.resolve(), CLAIMED);
    story.wait(Duration::from_secs(10));
    story.release().unwrap();

    let record = story.record();
    assert_eq!(record.since, at(1_000));
    assert_eq!(record.state, State::InFlight { ends_at: at(1_060) });
    assert_eq!(record.attempt, 2);

    // Under `Expired` the first lease's end counts again, to the microsecond.
    story.now = Timestamp::from_micros(at(1_060).as_micros() - 1);
    assert_eq!(story.claim(Takeover::Expired), INTERRUPTED);
    story.now = at(1_060);
    assert_eq!(story.claim(Takeover::Expired), CLAIMED);
    assert_eq!(story.record().attempt, 3);
    assert_eq!(story.record().previous(), Previous::Interrupted);
}

#[test]
fn a_release_after_an_interruption_does_not_open_a_key_under_never() {
    let mut story = Story::new();
    assert_eq!(story.claim(Takeover::Never), CLAIMED);
    story.drop_lease();
    assert_eq!(story.resolve(), CLAIMED);
    story.release().unwrap();
    assert_eq!(story.claim(Takeover::Never), INTERRUPTED);
    story.wait(10_000 * HOUR);
    assert_eq!(
        story.claim(Takeover::Never),
        INTERRUPTED,
        "it does not expire"
    );
    assert_eq!(story.resolve(), CLAIMED);
    assert_eq!(story.record().attempt, 3);
}

#[test]
fn a_released_lease_is_refused_wherever_the_release_led() {
    for interrupted in [false, true] {
        let mut story = Story::new();
        assert_eq!(story.claim(Takeover::Gone), CLAIMED);
        if interrupted {
            story.drop_lease();
            assert_eq!(story.claim(Takeover::Gone), CLAIMED);
        }
        let released = story.fence();
        story.release().unwrap();
        assert_eq!(story.complete(released), Err(Refusal::Fenced));
        let again = Command::Release { fence: released };
        assert_eq!(story.tell(again), Err(Refusal::Fenced));
    }
}

#[test]
fn previous_stays_interrupted_from_the_first_interruption_on() {
    let mut story = Story::new();
    assert_eq!(story.claim(Takeover::Gone), CLAIMED);
    story.drop_lease();
    for attempt in 2..20 {
        assert_eq!(story.claim(Takeover::Gone), CLAIMED);
        assert_eq!(story.record().attempt, attempt);
        assert_eq!(story.record().previous(), Previous::Interrupted);
        if attempt % 2 == 0 {
            story.release().unwrap();
        } else {
            story.drop_lease();
        }
    }
}

#[test]
fn a_release_goes_back_to_the_latest_of_several_interruptions() {
    let mut story = Story::new();
    assert_eq!(story.claim(Takeover::Gone), CLAIMED); // from 1000 s
    story.drop_lease();
    story.wait(MINUTE);
    assert_eq!(story.claim(Takeover::Gone), CLAIMED); // from 1060 s
    story.drop_lease();
    story.wait(MINUTE);
    assert_eq!(story.claim(Takeover::Gone), CLAIMED); // from 1120 s
    story.release().unwrap();
    assert_eq!(story.record().since, at(1_060));
    assert_eq!(story.record().state, State::InFlight { ends_at: at(1_120) });
}

#[test]
fn a_late_holder_completes_unless_it_was_replaced() {
    for policy in POLICIES {
        let mut story = Story::new();
        assert_eq!(story.claim(policy), CLAIMED);
        let slow = story.fence();
        story.wait(1_000 * HOUR);
        let replaced = match policy {
            Takeover::GoneOrExpired | Takeover::Expired => true,
            Takeover::Gone | Takeover::Never => false,
            other => panic!("no expectation for {other:?}"),
        };
        assert_eq!(story.claim(policy) == CLAIMED, replaced, "{policy:?}");
        let late = story.complete(slow);
        assert_eq!(late == Err(Refusal::Fenced), replaced, "{policy:?}");
        assert_eq!(late == Ok(Reply::Changed), !replaced, "{policy:?}");
    }
}

#[test]
fn expiry_moves_with_renewal_but_never_nearer() {
    let mut story = Story::new();
    assert_eq!(story.claim(Takeover::Gone), CLAIMED);
    assert_eq!(story.record().expires_at, at(1_060 + 3_600));
    let fence = story.fence();
    let renew = |lease_for| Command::Renew { fence, lease_for };

    story.tell(renew(2 * HOUR)).unwrap();
    assert_eq!(story.record().state, State::InFlight { ends_at: at(8_200) });
    assert_eq!(story.record().expires_at, at(8_200 + 3_600));

    story.tell(renew(MINUTE)).unwrap();
    assert_eq!(story.record().state, State::InFlight { ends_at: at(1_060) });
    assert_eq!(story.record().expires_at, at(8_200 + 3_600));
}

#[test]
fn an_interruption_is_forgotten_with_its_record() {
    let mut story = Story::new();
    assert_eq!(story.claim(Takeover::Gone), CLAIMED);
    story.drop_lease();
    story.wait(MINUTE + HOUR);
    assert_eq!(story.claim(Takeover::Gone), CLAIMED);
    assert_eq!(story.record().attempt, 1);
    assert_eq!(story.record().previous(), Previous::None);
    assert_eq!(story.record().recovery_point, None);
}

#[test]
fn a_retention_of_zero_is_over_at_once() {
    let mut story = Story::new();
    assert_eq!(story.claim(Takeover::Gone), CLAIMED);
    let done = Command::Complete {
        fence: story.fence(),
        response: Arc::from(&b""[..]),
        retain_for: Some(Duration::ZERO),
    };
    story.tell(done).unwrap();
    assert_eq!(story.claim(Takeover::Gone), CLAIMED);
    assert_eq!(story.record().attempt, 1);
}

#[test]
fn times_and_attempts_at_the_end_of_their_range_saturate() {
    let mut story = Story::new();
    story.now = Timestamp::from_micros(u64::MAX - 1);
    assert_eq!(story.claim(Takeover::Gone), CLAIMED);
    assert_eq!(story.record().expires_at, Timestamp::from_micros(u64::MAX));
    story.drop_lease();
    let worn = Record {
        attempt: u32::MAX,
        fingerprint: Some(Fingerprint::from([0; 32])),
        ..story.record().clone()
    };
    story.record = Some(worn);
    assert_eq!(story.resolve(), CLAIMED);
    assert_eq!(story.record().attempt, u32::MAX);
}
