//! The invariants hold in every state of every configuration.

use crate::{
    check,
    setting::{FIRST, InitialRecord, REFRESHABLE, Setting, TOKEN},
};
use std::time::Duration;
use token_broker_protocol::Intent;

const REFRESH_REFUSED: InitialRecord = InitialRecord::Pair { seconds_left: 30, access: true, refresh: false };
const FRESH: InitialRecord = InitialRecord::Pair { seconds_left: 500_000, access: true, refresh: true };
const DEAD: InitialRecord = InitialRecord::Pair { seconds_left: 500_000, access: false, refresh: true };
const DUE: InitialRecord = InitialRecord::Pair { seconds_left: 3_600, access: true, refresh: true };
const REPORT: Intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(FIRST) };

#[test]
fn after_a_fault_and_a_pause() {
    let setting = Setting { faults: 1, pauses: 1, ..Setting::default() };
    let sights =
        ["a lease recognised after a lost reply", "a delayed write that is applied", "an orphan recorded"];
    check("a fault and a pause", setting, &sights);
}

#[test]
fn after_two_faults() {
    let setting = Setting { faults: 2, pauses: 0, ..Setting::default() };
    let sights = ["a takeover after a lapsed lease", "a saved pair recognised after a lost reply"];
    check("two faults", setting, &sights);
}

#[test]
fn after_two_pauses() {
    let setting = Setting { faults: 0, pauses: 2, ..Setting::default() };
    check("two pauses", setting, &["a takeover after a lapsed lease", "an orphan recorded"]);
}

#[test]
fn with_two_requests_per_instance() {
    let setting = Setting {
        clocks: vec![2, 0],
        requests: vec![vec![(0, TOKEN); 2]; 2],
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("two requests each", setting, &["a takeover after a lapsed lease"]);
}

#[test]
fn with_three_instances() {
    let setting = Setting {
        clocks: vec![0; 3],
        requests: vec![vec![(0, TOKEN)]; 3],
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("three instances", setting, &["a takeover after a lapsed lease"]);
}

#[test]
fn during_an_outage_of_the_table() {
    let setting = Setting {
        clocks: vec![0],
        requests: vec![vec![(0, TOKEN); 3]],
        faults: 1,
        outages: true,
        ..Setting::default()
    };
    let sights = ["a pair that cannot be saved", "a pending write that is applied later"];
    check("an outage", setting, &sights);
}

#[test]
fn for_two_accounts_that_share_the_limiter() {
    let setting = Setting {
        clocks: vec![2, 0],
        requests: vec![vec![(0, TOKEN)], vec![(1, TOKEN); 2]],
        records: vec![vec![InitialRecord::Absent; 2]],
        login_budget: 1,
        faults: 1,
        pauses: 0,
        horizon: 100,
        ..Setting::default()
    };
    check("two accounts", setting, &["a login that the limiter refuses"]);
}

#[test]
fn for_a_pair_that_has_run_out() {
    let records = vec![vec![REFRESHABLE], vec![REFRESH_REFUSED]];
    for (faults, pauses) in [(1, 0), (0, 1)] {
        let setting = Setting { records: records.clone(), faults, pauses, ..Setting::default() };
        check("refresh", setting, &["a refused refresh that leads to a login"]);
    }
}

/// Tokens that live for less than a caller may keep one, and expire within the run.
#[test]
fn for_pairs_with_a_short_life() {
    for (faults, pauses) in [(1, 0), (0, 1)] {
        let setting = Setting {
            clocks: vec![2, 0],
            requests: vec![vec![(0, TOKEN); 2], vec![(0, TOKEN)]],
            lifetime: Duration::from_secs(20),
            faults,
            pauses,
            ..Setting::default()
        };
        check("short lives", setting, &["a pair that is renewed"]);
    }
}

#[test]
fn for_a_pair_that_is_due() {
    let records = vec![vec![DUE]];
    let setting = Setting { records, early_refresh: true, faults: 1, pauses: 1, ..Setting::default() };
    check("due", setting, &["an orphan recorded"]);
}

#[test]
fn when_credentials_are_refused() {
    let setting = Setting { secrets: vec![false, true], faults: 1, pauses: 0, ..Setting::default() };
    check("refused credentials", setting, &["a secret version rejected"]);
}

#[test]
fn while_an_operator_revokes() {
    let setting = Setting {
        requests: vec![vec![(0, Intent::Revoke)], vec![(0, TOKEN)]],
        records: vec![vec![REFRESHABLE], vec![REFRESH_REFUSED]],
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("revocation", setting, &["a pair withdrawn"]);
}

/// While the pair is revoked, its refresh is refused, and so is the login that follows. If the operator did not wait
/// for the lease, another instance could log in beside its holder, after the refusal was recorded.
#[test]
fn while_an_operator_revokes_and_credentials_are_refused() {
    let setting = Setting {
        clocks: vec![0; 3],
        requests: vec![vec![(0, Intent::Revoke)], vec![(0, TOKEN)], vec![(0, TOKEN)]],
        records: vec![vec![REFRESH_REFUSED]],
        secrets: vec![false],
        faults: 0,
        pauses: 0,
        ..Setting::default()
    };
    check("revocation, refused", setting, &["a pair withdrawn", "a secret version rejected"]);
}

#[test]
fn when_callers_report_a_rejected_token() {
    let setting = Setting {
        requests: vec![vec![(0, REPORT)], vec![(0, REPORT)]],
        records: vec![vec![FRESH], vec![DEAD]],
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("reports", setting, &["a token found alive", "a token found dead"]);
}

#[test]
fn while_an_operator_and_the_schedule_renew() {
    let setting = Setting {
        requests: vec![vec![(0, Intent::Replace)], vec![(0, Intent::Maintain)]],
        records: vec![vec![DUE]],
        faults: 1,
        pauses: 1,
        ..Setting::default()
    };
    check("replace, maintain", setting, &["a lease lost"]);
}
