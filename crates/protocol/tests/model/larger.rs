//! Larger fleets and more faults, which take too long to check at every change.

use crate::{
    model::Fleet,
    report,
    setting::{InitialRecord, Outage, REFRESHABLE, REPORT_LATEST, Setting, Successor, TOKEN},
};
use stateright::{Checker, Model};
use std::time::Duration;

/// Depth first: with breadth first, the states to visit would not fit into memory.
fn check(name: &str, setting: Setting) {
    let checker = Fleet::new(setting).checker().spawn_dfs().join();
    report(name, &checker);
}

#[test]
#[ignore = "takes half a minute, in release"]
fn three_instances_with_a_pause() {
    let setting = Setting {
        clocks: vec![0; 3],
        requests: vec![vec![(0, TOKEN)]; 3],
        faults: 0,
        pauses: 1,
        ..Setting::default()
    };
    check("three instances, a pause", setting);
}

#[test]
#[ignore = "takes more than ten minutes, in release"]
fn three_instances_with_a_fault_and_a_pause() {
    let setting = Setting {
        clocks: vec![0; 3],
        requests: vec![vec![(0, TOKEN)]; 3],
        horizon: 40,
        ..Setting::default()
    };
    check("three instances, a fault and a pause", setting);
}

#[test]
#[ignore = "takes more than ten minutes, in release"]
fn two_instances_with_two_faults_and_a_pause() {
    let setting = Setting { faults: 2, ..Setting::default() };
    check("two faults and a pause", setting);
}

#[test]
#[ignore = "takes more than ten minutes, in release"]
fn two_accounts_with_two_requests_per_instance() {
    let setting = Setting {
        requests: vec![vec![(0, TOKEN); 2], vec![(1, TOKEN), (0, TOKEN)]],
        records: vec![vec![InitialRecord::Absent; 2]],
        login_budget: 1,
        faults: 1,
        pauses: 1,
        horizon: 100,
        ..Setting::default()
    };
    check("two accounts", setting);
}

#[test]
#[ignore = "takes half a minute, in release"]
fn two_pauses_while_credentials_are_refused() {
    let setting = Setting { secrets: vec![false, true], faults: 0, pauses: 2, ..Setting::default() };
    check("refused credentials", setting);
}

#[test]
#[ignore = "takes half a minute, in release"]
fn two_instances_whose_writes_are_refused() {
    let setting = Setting {
        requests: vec![vec![(0, TOKEN); 2], vec![(0, TOKEN)]],
        records: vec![vec![REFRESHABLE]],
        outages: &[Outage::Writes],
        pauses: 0,
        horizon: 20,
        ..Setting::default()
    };
    check("writes refused", setting);
}

#[test]
#[ignore = "takes more than ten minutes, in release"]
fn two_instances_whose_sessions_are_lost() {
    let setting = Setting {
        requests: vec![vec![(0, TOKEN), (0, REPORT_LATEST)]; 2],
        records: vec![vec![InitialRecord::Absent], vec![REFRESHABLE]],
        lost_sessions: 2,
        faults: 0,
        pauses: 1,
        ..Setting::default()
    };
    check("lost sessions", setting);
}

#[test]
#[ignore = "takes more than ten minutes, in release"]
fn two_instances_and_a_refresh_token_that_lives_on() {
    let setting = Setting {
        requests: vec![vec![(0, TOKEN); 2], vec![(0, TOKEN)]],
        records: vec![vec![REFRESHABLE]],
        lifetime: Duration::from_secs(20),
        successor: Successor::Same,
        ..Setting::default()
    };
    check("the same refresh token", setting);
}
