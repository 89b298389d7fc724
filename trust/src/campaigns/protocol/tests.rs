//! The model holds, and can fail: every broken variant is found, by the rule that it breaks.

use super::bounds::{Bounds, POLICIES};
use super::fault::FINDINGS;
use super::model::Protocol;
use super::rules::Rule;
use super::state::Setting;
use super::{demand_faults, explore};

#[test]
fn the_protocol_itself_breaks_no_rule() {
    for policies in POLICIES {
        let setting = Setting {
            policies,
            fault: None,
        };
        for bounds in [
            Bounds::new(1, 1, 1, 1).in_all_orders(),
            Bounds::new(2, 1, 1, 0),
        ] {
            let report = explore(Protocol { setting, bounds });
            assert_eq!(report.violations, 0, "{:?}", report.first);
        }
    }
}

#[test]
fn every_fault_is_found_by_the_rule_that_it_breaks() {
    let report = demand_faults();
    assert_eq!(report.violations, 0, "{:?}", report.first);
}

#[test]
fn every_rule_is_broken_by_a_fault() {
    for rule in Rule::ALL {
        let breaks = |finding: &super::fault::Finding| finding.rule == rule;
        assert!(FINDINGS.iter().any(breaks), "{rule:?}");
    }
}
