//! The model can fail: every broken variant is found, by the rule that it breaks.

use firstclaim::internals::record::Takeover;
use stateright::{Checker, HasDiscoveries, Model};

use super::fault::Fault;
use super::rules::Rule;
use super::state::Setting;
use super::{Bounds, POLICIES, Protocol, explore};

const SMALL: Bounds = Bounds::new(2, 1, 1, 1);

/// Demands that the variant breaks the rule within the bounds.
#[track_caller]
fn finds(fault: Fault, rule: Rule, bounds: Bounds) {
    finds_under([Takeover::Gone; 2], fault, rule, bounds);
}

#[track_caller]
fn finds_under(policies: [Takeover; 2], fault: Fault, rule: Rule, bounds: Bounds) {
    let fault = Some(fault);
    let protocol = Protocol {
        setting: Setting { policies, fault },
        bounds,
    };
    let when = HasDiscoveries::AnyOf([rule.name()].into());
    let checked = protocol.checker().finish_when(when).spawn_bfs().join();
    assert!(
        checked.discovery(rule.name()).is_some(),
        "{fault:?} was not found in {} states",
        checked.unique_state_count()
    );
}

#[test]
fn the_protocol_itself_breaks_no_rule() {
    for policies in POLICIES {
        let protocol = Protocol {
            setting: Setting {
                policies,
                fault: None,
            },
            bounds: Bounds::new(2, 1, 1, 0).in_all_orders(),
        };
        let report = explore(protocol);
        assert_eq!(report.violations, 0, "{:?}", report.first);
    }
}

#[test]
fn an_answer_before_the_sync_is_lost() {
    finds(Fault::AnswerBeforeSync, Rule::SeenIsDurable, SMALL);
    finds(Fault::AnswerBeforeSync, Rule::NothingLost, SMALL);
}

#[test]
fn a_done_key_is_claimed_if_frozen_is_dropped_early() {
    for fault in [
        Fault::FrozenDroppedBeforeCommit,
        Fault::FrozenDroppedBeforePublish,
    ] {
        finds(fault, Rule::DoneIsNotClaimed, SMALL);
    }
}

#[test]
fn a_segment_that_is_void_too_early_loses_what_the_base_lacks() {
    finds(Fault::SegmentVoidTooEarly, Rule::NothingLost, SMALL);
    finds(Fault::RecoveryEndsEarly, Rule::NothingLost, Bounds::new(2, 1, 2, 0));
}

#[test]
fn a_holder_registered_late_is_seen_as_gone() {
    finds(Fault::HolderAfterPublish, Rule::LiveSeenLive, SMALL);
}

#[test]
fn a_late_drop_that_removes_the_newer_holder_makes_two_leases() {
    let policies = [Takeover::GoneOrExpired; 2];
    let (fault, rule) = (Fault::DropRemovesNewerHolder, Rule::OneLiveLease);
    finds_under(policies, fault, rule, Bounds::new(3, 1, 0, 0));
}

#[test]
fn fences_that_begin_anew_are_given_twice() {
    let bounds = Bounds::new(2, 1, 1, 0);
    finds(Fault::FenceResetAtReopening, Rule::FencesRise, bounds);
}

#[test]
fn recovery_from_the_page_cache_tears_a_batch() {
    let bounds = Bounds::new(2, 0, 2, 0);
    finds(Fault::RecoveryTrustsPageCache, Rule::NothingLost, bounds);
}

#[test]
fn an_older_copy_comes_back() {
    finds(Fault::CopiesLeftBehind, Rule::NothingLost, Bounds::new(1, 0, 1, 1));
}

#[test]
fn an_expired_copy_that_ends_the_search_hides_the_answer() {
    let bounds = Bounds::new(2, 1, 2, 0);
    finds(Fault::ExpiredCopyEndsSearch, Rule::NothingLost, bounds);
}

#[test]
fn a_tombstone_that_is_passed_over_hides_nothing() {
    finds(Fault::TombstonePassedOver, Rule::AnswersFollow, SMALL);
}

#[test]
fn what_was_swept_is_missed_when_time_is_set_back() {
    finds(Fault::RemovalWithoutTime, Rule::NothingLost, SMALL);
}

#[test]
fn a_batch_blind_to_itself_gives_two_leases() {
    finds(Fault::BatchBlindToItself, Rule::OneLiveLease, SMALL);
}

#[test]
fn a_fence_that_is_not_compared_lets_stale_holders_in() {
    let policies = [Takeover::Expired; 2];
    finds_under(policies, Fault::FenceNotCompared, Rule::StaleRefused, SMALL);
}

#[test]
fn a_release_can_hide_an_interruption() {
    let bounds = Bounds::new(4, 0, 0, 0);
    finds(Fault::ReleaseHidesInterruption, Rule::InterruptionShown, bounds);
}
