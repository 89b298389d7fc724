//! Every cell of the state machine's table, under every policy.
//!
//! The tables below are the design's, spelled out one row a state and one column a policy of the
//! *record*; `rows` says what each row is and at which instants it is tried, `outcomes` what each
//! word in a cell means, down to every field of the record written. Damage is not in them: a
//! damaged record is never decoded, so `step` never sees one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // that is how a test fails

mod outcomes;
mod rows;
mod stories;

use std::sync::Arc;

use firstclaim::Takeover;
use firstclaim::internals::record::Fence;
use firstclaim::internals::transition::Command;

use outcomes::Outcome::{self, *};
use rows::{CALL, Case, FENCE, NEXT, POLICIES, Row, Row::*};

/// A table: what becomes of a record in each row, under each policy of the record.
type Table = [(Row, [Outcome; 4]); 11];

/// Claimed means: `First` attempt, `Takeover`, or `Again` after a release.
#[rustfmt::skip]
const CLAIM: Table = [
    //                  Gone         GoneOrExpired  Expired      Never
    (Vacant,          [ First,       First,         First,       First       ]),
    (AliveLive,       [ InFlight,    InFlight,      InFlight,    InFlight    ]),
    (AliveOver,       [ InFlight,    TakenOver,     TakenOver,   InFlight    ]),
    (AliveExpired,    [ InFlight,    TakenOver,     TakenOver,   InFlight    ]),
    (GoneLive,        [ TakenOver,   TakenOver,     Interrupted, Interrupted ]),
    (GoneOver,        [ TakenOver,   TakenOver,     TakenOver,   Interrupted ]),
    (GoneExpired,     [ First,       First,         First,       Interrupted ]),
    (Released,        [ Again,       Again,         Again,       Again       ]),
    (ReleasedExpired, [ First,       First,         First,       First       ]),
    (Done,            [ Answered,    Answered,      Answered,    Answered    ]),
    (DoneExpired,     [ First,       First,         First,       First       ]),
];

/// A claim whose fingerprint is not the record's: refused wherever there is a record.
#[rustfmt::skip]
const CLAIM_OF_ANOTHER_REQUEST: Table = [
    //                  Gone         GoneOrExpired  Expired      Never
    (Vacant,          [ First,       First,         First,       First       ]),
    (AliveLive,       [ Mismatch,    Mismatch,      Mismatch,    Mismatch    ]),
    (AliveOver,       [ Mismatch,    Mismatch,      Mismatch,    Mismatch    ]),
    (AliveExpired,    [ Mismatch,    Mismatch,      Mismatch,    Mismatch    ]),
    (GoneLive,        [ Mismatch,    Mismatch,      Mismatch,    Mismatch    ]),
    (GoneOver,        [ Mismatch,    Mismatch,      Mismatch,    Mismatch    ]),
    (GoneExpired,     [ First,       First,         First,       Mismatch    ]),
    (Released,        [ Mismatch,    Mismatch,      Mismatch,    Mismatch    ]),
    (ReleasedExpired, [ First,       First,         First,       First       ]),
    (Done,            [ Mismatch,    Mismatch,      Mismatch,    Mismatch    ]),
    (DoneExpired,     [ First,       First,         First,       First       ]),
];

/// Completion with the current fence, and with the bytes of the record where that is done.
#[rustfmt::skip]
const COMPLETE: Table = [
    //                  Gone         GoneOrExpired  Expired      Never
    (Vacant,          [ Fenced,      Fenced,        Fenced,      Fenced      ]),
    (AliveLive,       [ Completed,   Completed,     Completed,   Completed   ]),
    (AliveOver,       [ Completed,   Completed,     Completed,   Completed   ]),
    (AliveExpired,    [ Completed,   Completed,     Completed,   Completed   ]),
    (GoneLive,        [ Completed,   Completed,     Completed,   Completed   ]),
    (GoneOver,        [ Completed,   Completed,     Completed,   Completed   ]),
    (GoneExpired,     [ Fenced,      Fenced,        Fenced,      Completed   ]),
    (Released,        [ Fenced,      Fenced,        Fenced,      Fenced      ]),
    (ReleasedExpired, [ Fenced,      Fenced,        Fenced,      Fenced      ]),
    (Done,            [ Unchanged,   Unchanged,     Unchanged,   Unchanged   ]),
    (DoneExpired,     [ Fenced,      Fenced,        Fenced,      Fenced      ]),
];

/// Renewal, saving and release with the current fence: `DoneSo`, each in its own way.
#[rustfmt::skip]
const RENEW_SAVE_RELEASE: Table = [
    //                  Gone         GoneOrExpired  Expired      Never
    (Vacant,          [ Fenced,      Fenced,        Fenced,      Fenced      ]),
    (AliveLive,       [ DoneSo,      DoneSo,        DoneSo,      DoneSo      ]),
    (AliveOver,       [ DoneSo,      DoneSo,        DoneSo,      DoneSo      ]),
    (AliveExpired,    [ DoneSo,      DoneSo,        DoneSo,      DoneSo      ]),
    (GoneLive,        [ DoneSo,      DoneSo,        DoneSo,      DoneSo      ]),
    (GoneOver,        [ DoneSo,      DoneSo,        DoneSo,      DoneSo      ]),
    (GoneExpired,     [ Fenced,      Fenced,        Fenced,      DoneSo      ]),
    (Released,        [ Fenced,      Fenced,        Fenced,      Fenced      ]),
    (ReleasedExpired, [ Fenced,      Fenced,        Fenced,      Fenced      ]),
    (Done,            [ Fenced,      Fenced,        Fenced,      Fenced      ]),
    (DoneExpired,     [ Fenced,      Fenced,        Fenced,      Fenced      ]),
];

#[rustfmt::skip]
const RESOLVE: Table = [
    //                  Gone         GoneOrExpired  Expired      Never
    (Vacant,          [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (AliveLive,       [ InFlight,    InFlight,      InFlight,    InFlight    ]),
    (AliveOver,       [ InFlight,    InFlight,      InFlight,    InFlight    ]),
    (AliveExpired,    [ InFlight,    InFlight,      InFlight,    InFlight    ]),
    (GoneLive,        [ TakenOver,   TakenOver,     TakenOver,   TakenOver   ]),
    (GoneOver,        [ TakenOver,   TakenOver,     TakenOver,   TakenOver   ]),
    (GoneExpired,     [ Nothing,     Nothing,       Nothing,     TakenOver   ]),
    (Released,        [ Again,       Again,         Again,       Again       ]),
    (ReleasedExpired, [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (Done,            [ Answered,    Answered,      Answered,    Answered    ]),
    (DoneExpired,     [ Nothing,     Nothing,       Nothing,     Nothing     ]),
];

#[rustfmt::skip]
const FORGET: Table = [
    //                  Gone         GoneOrExpired  Expired      Never
    (Vacant,          [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (AliveLive,       [ Held,        Held,          Held,        Held        ]),
    (AliveOver,       [ Held,        Held,          Held,        Held        ]),
    (AliveExpired,    [ Held,        Held,          Held,        Held        ]),
    (GoneLive,        [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (GoneOver,        [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (GoneExpired,     [ Nothing,     Nothing,       Nothing,     Forgotten   ]),
    (Released,        [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (ReleasedExpired, [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (Done,            [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (DoneExpired,     [ Nothing,     Nothing,       Nothing,     Nothing     ]),
];

#[rustfmt::skip]
const FORGET_HELD: Table = [
    //                  Gone         GoneOrExpired  Expired      Never
    (Vacant,          [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (AliveLive,       [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (AliveOver,       [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (AliveExpired,    [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (GoneLive,        [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (GoneOver,        [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (GoneExpired,     [ Nothing,     Nothing,       Nothing,     Forgotten   ]),
    (Released,        [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (ReleasedExpired, [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (Done,            [ Forgotten,   Forgotten,     Forgotten,   Forgotten   ]),
    (DoneExpired,     [ Nothing,     Nothing,       Nothing,     Nothing     ]),
];

/// Sweeping removes what has expired and touches nothing else.
#[rustfmt::skip]
const EXPIRE: Table = [
    //                  Gone         GoneOrExpired  Expired      Never
    (Vacant,          [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (AliveLive,       [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (AliveOver,       [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (AliveExpired,    [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (GoneLive,        [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (GoneOver,        [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (GoneExpired,     [ Removed,     Removed,       Removed,     Nothing     ]),
    (Released,        [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (ReleasedExpired, [ Removed,     Removed,       Removed,     Removed     ]),
    (Done,            [ Nothing,     Nothing,       Nothing,     Nothing     ]),
    (DoneExpired,     [ Removed,     Removed,       Removed,     Removed     ]),
];

/// Tries every cell of a table, at the first and the last instant of its row and with every
/// history the record may have, with the command that `ask` makes for the case.
fn check(table: &Table, ask: impl Fn(&Case) -> Command) {
    for (row, cells) in table {
        for (policy, cell) in POLICIES.into_iter().zip(cells) {
            for case in Case::all(*row, policy) {
                let command = ask(&case);
                assert_eq!(
                    case.step(&command),
                    cell.spelled_out(&case, &command),
                    "{row:?} under {policy:?} should be {cell:?}\n{case:?}\n{command:?}"
                );
            }
        }
    }
}

#[test]
fn a_claim_does_as_the_table_says_and_the_records_policy_decides() {
    for policy_of_call in POLICIES {
        check(&CLAIM, |case| case.claim(policy_of_call, case.fingerprint));
    }
}

#[test]
fn a_claim_of_another_request_is_refused_in_every_state() {
    for other in rows::FINGERPRINTS {
        check(&CLAIM_OF_ANOTHER_REQUEST, |case| {
            let other = if other == case.fingerprint {
                rows::STRANGE
            } else {
                other
            };
            case.claim(Takeover::Gone, other)
        });
    }
}

#[test]
fn completion_does_as_the_table_says() {
    for retain_for in [None, Some(CALL.retain_for)] {
        check(&COMPLETE, |_| Command::Complete {
            fence: FENCE,
            response: Arc::from(rows::RESPONSE),
            retain_for,
        });
    }
}

#[test]
fn completing_again_with_other_bytes_is_refused() {
    let [before @ .., (_, done), expired] = COMPLETE;
    assert_eq!(done, [Unchanged; 4]);
    let mut table = COMPLETE;
    table[before.len()] = (Done, [AlreadyCompleted; 4]);
    assert_eq!(table[before.len() + 1], expired);
    check(&table, |_| Command::Complete {
        fence: FENCE,
        response: Arc::from(&b"another answer"[..]),
        retain_for: None,
    });
}

#[test]
fn renewal_saving_and_release_do_as_the_table_says() {
    for command in commands_with(FENCE).into_iter().skip(1) {
        check(&RENEW_SAVE_RELEASE, |_| command.clone());
    }
}

#[test]
fn a_wrong_fence_is_refused_in_every_cell() {
    let fenced: Table = CLAIM.map(|(row, _)| (row, [Fenced; 4]));
    let (earlier, later) = (FENCE.as_u64() - 1, FENCE.as_u64() + 1);
    for wrong in [0, earlier, later, NEXT.as_u64(), u64::MAX] {
        for command in commands_with(Fence::from_u64(wrong)) {
            check(&fenced, |_| command.clone());
        }
    }
}

#[test]
fn resolve_does_as_the_table_says() {
    check(&RESOLVE, |_| Command::Resolve {
        lease_for: CALL.lease_for,
    });
}

#[test]
fn forget_does_as_the_table_says() {
    check(&FORGET, |_| Command::Forget { held: false });
}

#[test]
fn forget_held_does_as_the_table_says() {
    check(&FORGET_HELD, |_| Command::Forget { held: true });
}

#[test]
fn expire_removes_only_what_has_expired() {
    check(&EXPIRE, |_| Command::Expire);
}

/// Every command that names a fence; completion first.
fn commands_with(fence: Fence) -> [Command; 4] {
    [
        Command::Complete {
            fence,
            response: Arc::from(rows::RESPONSE),
            retain_for: None,
        },
        Command::Renew {
            fence,
            lease_for: CALL.lease_for,
        },
        Command::Save {
            fence,
            point: Arc::from(rows::NEW_POINT),
        },
        Command::Release { fence },
    ]
}
