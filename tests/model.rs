//! The store does what the reference model of `kit` does, whatever is done to it.
//!
//! `PROPTEST_CASES` sets how many runs of operations are tried. A failure is shrunk to a short run
//! and printed, with the operation at which store and model part; `PROPTEST_RNG_SEED` repeats it.

mod kit;

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use firstclaim::Takeover;
use kit::model::Ask;
use kit::operation::{CLOCK_BACK_S, LEASES_S, NAMES, Operation, POLICIES, RETENTIONS_S, STEPS_US};
use kit::pair::perform_all;

/// Without `PROPTEST_CASES`.
const CASES: u32 = 128;
const OPERATIONS_A_CASE: usize = 150;

fn name() -> impl Strategy<Value = u8> {
    0..NAMES
}

/// An index of a lease that is out.
fn lease() -> impl Strategy<Value = u8> {
    any::<u8>()
}

/// A small number of answers: see `Pair` on which bytes they are.
fn answer() -> impl Strategy<Value = u8> {
    0..8_u8
}

fn seconds<const N: usize>(table: [u64; N]) -> impl Strategy<Value = Duration> {
    select(table.as_slice().to_vec()).prop_map(Duration::from_secs)
}

fn step_of_time() -> impl Strategy<Value = Duration> {
    select(STEPS_US.to_vec()).prop_map(Duration::from_micros)
}

/// Mostly of one request, so that other commands than the fingerprint's refusal are tried.
fn fingerprint() -> impl Strategy<Value = Option<[u8; 32]>> {
    option::weighted(0.1, (0..2_u8).prop_map(|byte| [byte; 32]))
}

fn policy() -> impl Strategy<Value = Takeover> {
    select(POLICIES.to_vec())
}

fn ask() -> impl Strategy<Value = Ask> {
    (
        fingerprint(),
        seconds(LEASES_S),
        seconds(RETENTIONS_S),
        policy(),
    )
        .prop_map(|(fingerprint, lease_for, retain_for, takeover)| Ask {
            fingerprint,
            lease_for,
            retain_for,
            takeover,
        })
}

/// What is done to keys.
fn on_a_key() -> impl Strategy<Value = Operation> {
    prop_oneof![
        12 => (name(), ask()).prop_map(|(name, ask)| Operation::Claim { name, ask }),
        2 => name().prop_map(|name| Operation::ClaimPlainly { name }),
        2 => (name(), ask(), option::of(answer()))
            .prop_map(|(name, ask, answer)| Operation::Run { name, ask, answer }),
        3 => name().prop_map(|name| Operation::Resolve { name }),
        3 => name().prop_map(|name| Operation::Peek { name }),
        1 => name().prop_map(|name| Operation::Forget { name }),
        1 => name().prop_map(|name| Operation::ForgetHeld { name }),
    ]
}

/// What is done with leases.
fn with_a_lease() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => (lease(), answer())
            .prop_map(|(lease, answer)| Operation::Complete { lease, answer }),
        2 => (lease(), answer(), seconds(RETENTIONS_S)).prop_map(|(lease, answer, retain_for)| {
            Operation::CompleteFor { lease, answer, retain_for }
        }),
        2 => lease().prop_map(|lease| Operation::CompleteTooLarge { lease }),
        2 => (lease(), seconds(LEASES_S))
            .prop_map(|(lease, lease_for)| Operation::Renew { lease, lease_for }),
        2 => (lease(), any::<u8>()).prop_map(|(lease, point)| Operation::Save { lease, point }),
        1 => lease().prop_map(|lease| Operation::SaveTooLarge { lease }),
        4 => lease().prop_map(|lease| Operation::Release { lease }),
        5 => lease().prop_map(|lease| Operation::Drop { lease }),
    ]
}

/// What happens to the store as a whole.
fn to_the_store() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => Just(Operation::Unfinished),
        2 => Just(Operation::Sweep),
        2 => Just(Operation::Checkpoint),
        1 => Just(Operation::Verify),
        12 => step_of_time().prop_map(|by| Operation::Advance { by }),
        2 => step_of_time().prop_map(|by| Operation::SetBack { by }),
        1 => (any::<u8>(), seconds(RETENTIONS_S))
            .prop_map(|(first, retain_for)| Operation::Burst { first, retain_for }),
        1 => seconds(CLOCK_BACK_S).prop_map(|clock_back| Operation::Reopen { clock_back }),
        1 => seconds(CLOCK_BACK_S).prop_map(|clock_back| Operation::Kill { clock_back }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => on_a_key(),
        5 => with_a_lease(),
        4 => to_the_store(),
    ]
}

fn config() -> ProptestConfig {
    let cases = std::env::var_os("PROPTEST_CASES")
        .is_none()
        .then_some(CASES);
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 4_000,
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    };
    ProptestConfig {
        cases: cases.unwrap_or(config.cases),
        ..config
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_store_answers_as_the_model_does(
        operations in vec(operation(), 1..OPERATIONS_A_CASE)
    ) {
        perform_all(operations);
    }
}

/// Too rare a meeting for chance: nothing is written between the sweep and the kill, so that the
/// sweep itself must have kept the time at which it found the record expired.
#[test]
fn what_was_swept_stays_gone_when_a_kill_meets_a_clock_set_back() {
    const SECOND: Duration = Duration::from_secs(1);
    perform_all([
        Operation::Claim {
            name: 0,
            ask: Ask {
                fingerprint: None,
                lease_for: SECOND,
                retain_for: SECOND,
                takeover: Takeover::Gone,
            },
        },
        Operation::Complete {
            lease: 0,
            answer: 1,
        },
        Operation::Checkpoint,
        Operation::Advance { by: 300 * SECOND },
        Operation::Sweep,
        Operation::Kill {
            clock_back: 3_600 * SECOND,
        },
        Operation::Peek { name: 0 },
    ]);
}
