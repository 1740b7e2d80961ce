//! The invariants hold in every state of every configuration.

use crate::{
    check,
    setting::{Behaviour, Initial, SecretValue, Setting, TOKEN},
};
use token_broker_protocol::Intent;

const SERVERS: [Behaviour; 6] = [
    Behaviour::STRICT,
    Behaviour::LENIENT,
    Behaviour::STATIC,
    Behaviour::GRACEFUL,
    Behaviour::NEWEST_ONLY,
    Behaviour { kills_access: true, ..Behaviour::STRICT },
];

#[test]
fn for_each_server_after_a_fault() {
    for server in SERVERS {
        check(&format!("{server:?}"), Setting { server, pauses: 0, ..Setting::default() }, &[]);
    }
}

#[test]
#[ignore = "takes minutes"]
fn for_each_server_after_a_fault_and_a_pause() {
    for server in SERVERS {
        check(&format!("pause, {server:?}"), Setting { server, ..Setting::default() }, &[]);
    }
}

#[test]
fn after_two_faults() {
    for server in [Behaviour::STRICT, Behaviour::GRACEFUL, Behaviour::NEWEST_ONLY] {
        check(
            &format!("two faults, {server:?}"),
            Setting { server, faults: 2, pauses: 0, ..Setting::default() },
            &[],
        );
    }
}

#[test]
fn for_each_server_from_its_first_token_on() {
    for server in SERVERS {
        let setting = Setting { server, initial: Initial::Absent, ..Setting::default() };
        check(&format!("bootstrap, {server:?}"), setting, &[]);
    }
}

#[test]
fn for_each_server_with_a_pair_that_could_not_be_saved() {
    for server in SERVERS {
        let setting = Setting { server, initial: Initial::Unsaved(100), pauses: 0, ..Setting::default() };
        check(&format!("unsaved, {server:?}"), setting, &[]);
    }
}

#[test]
fn for_each_server_with_a_token_in_doubt() {
    for server in SERVERS {
        let setting = Setting { server, initial: Initial::InDoubt(60), pauses: 0, ..Setting::default() };
        check(&format!("in doubt, {server:?}"), setting, &[]);
    }
}

#[test]
fn with_unequal_clocks_and_deadlines() {
    for server in [Behaviour::STRICT, Behaviour::NEWEST_ONLY] {
        let (clocks, patience) = (vec![2, 0], vec![12, 28]);
        let setting = Setting { server, clocks, patience, pauses: 0, ..Setting::default() };
        check(&format!("unequal, {server:?}"), setting, &[]);
    }
}

#[test]
#[ignore = "takes a minute"]
fn with_three_instances() {
    let (clocks, patience, requests) = (vec![0; 3], vec![28; 3], vec![vec![TOKEN]; 3]);
    let setting = Setting { clocks, patience, requests, pauses: 0, ..Setting::default() };
    check("three instances", setting, &[]);
}

#[test]
fn while_the_table_fails() {
    for server in [Behaviour::STRICT, Behaviour::GRACEFUL] {
        let setting = Setting { server, table_fails: true, pauses: 0, ..Setting::default() };
        check(&format!("table, {server:?}"), setting, &[]);
    }
}

#[test]
fn while_the_table_fails_before_the_first_pair() {
    for server in [Behaviour::STATIC, Behaviour::NEWEST_ONLY] {
        let setting =
            Setting { server, initial: Initial::Absent, table_fails: true, pauses: 0, ..Setting::default() };
        check(&format!("bootstrap, table, {server:?}"), setting, &[]);
    }
}

const fn secret(bootstrap: usize, right_client: bool) -> SecretValue {
    SecretValue { bootstrap, right_client }
}

#[test]
fn while_the_secret_changes() {
    let changes = [
        vec![secret(0, true), secret(1, true)],
        vec![secret(0, false), secret(0, true)],
        vec![secret(0, true), secret(1, false), secret(0, true)],
        vec![secret(0, true), secret(1, true), secret(0, true)],
    ];
    for secrets in changes {
        let setting = Setting { secrets: secrets.clone(), pauses: 0, ..Setting::default() };
        check(&format!("{secrets:?}"), setting, &[]);
    }
}

#[test]
fn when_an_operator_has_the_grant_revoked() {
    let requests = vec![vec![TOKEN], vec![Intent::RevokeConfirmed]];
    let setting = Setting { requests, pauses: 1, ..Setting::default() };
    check("revoked", setting, &[]);
}
