//! Larger fleets, and more that goes wrong, than there is time for at every change.

use crate::{
    model::Fleet,
    report,
    setting::{Beginning, Setting, TOKEN},
};
use stateright::{Checker, Model};

/// Depth first, since what is still to be looked at would not fit the memory otherwise.
fn check(name: &str, setting: Setting) {
    let checker = Fleet::new(setting).checker().spawn_dfs().join();
    report(name, &checker);
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
fn two_accounts() {
    let setting = Setting {
        clocks: vec![2, 0],
        requests: vec![vec![(0, TOKEN); 2], vec![(1, TOKEN), (0, TOKEN)]],
        beginnings: vec![vec![Beginning::Nothing; 2]],
        budget: 1,
        faults: 1,
        pauses: 1,
        horizon: 100,
        ..Setting::default()
    };
    check("two accounts", setting);
}
