//! Larger fleets and more faults. They take too long to be checked at every change.

use crate::{
    model::Fleet,
    report,
    setting::{InitialRecord, Setting, TOKEN},
};
use stateright::{Checker, Model};
use std::time::Instant;

/// Depth first: with breadth first, the states that are still to be visited would not fit into memory.
fn check(name: &str, setting: Setting) {
    let begun = Instant::now();
    let checker = Fleet::new(setting).checker().spawn_dfs().join();
    report(name, &checker, begun);
}

#[test]
#[ignore = "takes minutes, in release; see docs/PROTOCOL.md"]
fn three_instances_with_a_fault_and_a_pause() {
    let setting = Setting { clocks: vec![0; 3], requests: vec![vec![(0, TOKEN)]; 3], ..Setting::default() };
    check("three instances", setting);
}

#[test]
#[ignore = "takes minutes, in release; see docs/PROTOCOL.md"]
fn two_instances_with_two_faults_and_a_pause() {
    let setting = Setting { faults: 2, ..Setting::default() };
    check("two faults and a pause", setting);
}

#[test]
#[ignore = "takes minutes, in release; see docs/PROTOCOL.md"]
fn two_accounts_with_two_requests_per_instance() {
    let setting = Setting {
        clocks: vec![2, 0],
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
