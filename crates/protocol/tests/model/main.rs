//! The production code of the protocol under a model checker: every interleaving of a small fleet, with
//! every instance dying or pausing anywhere, and every write and reply lost, late or misreported.
//!
//! | module | is about |
//! | --- | --- |
//! | [`setting`] | what is checked: how many instances, for what, and how much may go wrong |
//! | [`world`], [`instance`] | one state |
//! | [`environment`] | performing effects, and all that can become of them |
//! | [`model`] | which actions there are, and what each leads to |
//! | [`timing`] | how time passes |
//! | [`judging`] | what may be sent, and what may be answered |
//! | [`liveness`] | that the next request is served |
//! | [`guards`] | what each guard is for |
//! | [`removal`] | how a guard is taken away |
//! | [`larger`] | larger fleets, for a longer wait |
//!
//! Time is the only thing that is not exhaustive. It passes in whole seconds, and from one instant that makes
//! a difference to the next.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says how much it has looked at"
)]

mod environment;
mod guards;
mod instance;
mod invariants;
mod larger;
mod liveness;
mod model;
mod mutations;
mod setting;
mod timing;
mod world;

use model::Fleet;
use protocol::{Intent, Target};
use setting::{Beginning, FIRST, Setting, TOKEN};
use stateright::{Checker, Model};
use std::time::Duration;

const REFRESHABLE: Beginning = Beginning::Pair { left: 30, access: true, refresh: true };
const REFUSED: Beginning = Beginning::Pair { left: 30, access: true, refresh: false };
const FRESH: Beginning = Beginning::Pair { left: 500_000, access: true, refresh: true };
const DEAD: Beginning = Beginning::Pair { left: 500_000, access: false, refresh: true };
const DUE: Beginning = Beginning::Pair { left: 3_600, access: true, refresh: true };
const REJECTED: Intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(FIRST) };

/// Checks a configuration to its end. All of `sights` have to be seen, to show that it gets that far.
fn check(name: &str, setting: Setting, sights: &[&str]) {
    let checker = Fleet::new(setting).checker().spawn_bfs().join();
    report(name, &checker);
    let seen = checker.model().sights.lock().unwrap().clone();
    for sight in sights {
        assert!(seen.contains(sight), "{name} never comes to: {sight}");
    }
}

/// All of it was gone through, and nothing was found.
fn report(name: &str, checker: &impl Checker<Fleet>) {
    println!(
        "{name}: {} states, {} of them different, at most {} actions deep",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

#[test]
fn two_instances_with_a_fault_and_a_pause() {
    let setting = Setting { faults: 1, pauses: 1, ..Setting::default() };
    let sights = ["a lease recognised after a lost reply", "a late write that counts", "an orphan revoked"];
    check("a fault and a pause", setting, &sights);
}

#[test]
fn two_instances_with_two_faults() {
    let setting = Setting { faults: 2, pauses: 0, ..Setting::default() };
    let sights = ["a takeover after a lapsed lease", "a saved pair recognised after a lost reply"];
    check("two faults", setting, &sights);
}

#[test]
fn two_instances_with_two_pauses() {
    let setting = Setting { faults: 0, pauses: 2, ..Setting::default() };
    check("two pauses", setting, &["a takeover after a lapsed lease", "an orphan revoked"]);
}

#[test]
fn two_instances_that_come_again() {
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
fn three_instances() {
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
fn one_instance_that_comes_again() {
    let setting = Setting {
        clocks: vec![0],
        requests: vec![vec![(0, TOKEN); 3]],
        faults: 1,
        outages: true,
        ..Setting::default()
    };
    check(
        "an outage",
        setting,
        &["a pair that could not be saved", "an pending_write pair that was saved later"],
    );
}

#[test]
fn two_accounts_share_the_ledger() {
    let setting = Setting {
        clocks: vec![2, 0],
        requests: vec![vec![(0, TOKEN)], vec![(1, TOKEN); 2]],
        beginnings: vec![vec![Beginning::Nothing; 2]],
        budget: 1,
        faults: 1,
        pauses: 0,
        horizon: 100,
        ..Setting::default()
    };
    check("two accounts", setting, &["a login that the limiter refused"]);
}

#[test]
fn a_pair_at_its_end() {
    let beginnings = vec![vec![REFRESHABLE], vec![REFUSED]];
    for (faults, pauses) in [(1, 0), (0, 1)] {
        let setting = Setting { beginnings: beginnings.clone(), faults, pauses, ..Setting::default() };
        check("refresh", setting, &["a refused refresh that goes on to a login"]);
    }
}

/// Tokens that live for less than a caller may keep one, and end within the run.
#[test]
fn pairs_that_do_not_live_long() {
    for (faults, pauses) in [(1, 0), (0, 1)] {
        let setting = Setting {
            clocks: vec![2, 0],
            requests: vec![vec![(0, TOKEN); 2], vec![(0, TOKEN)]],
            life: Duration::from_secs(20),
            faults,
            pauses,
            ..Setting::default()
        };
        check("short lives", setting, &["a pair that is renewed"]);
    }
}

#[test]
fn a_pair_that_is_due() {
    let setting =
        Setting { beginnings: vec![vec![DUE]], eager: true, faults: 1, pauses: 1, ..Setting::default() };
    check("due", setting, &["an orphan revoked"]);
}

#[test]
fn credentials_that_are_refused() {
    let setting = Setting { secrets: vec![false, true], faults: 1, pauses: 0, ..Setting::default() };
    check("wrong credentials", setting, &["a version rejected_secret"]);
}

#[test]
fn a_revocation_and_a_renewal() {
    let setting = Setting {
        requests: vec![vec![(0, Intent::Revoke(Target::NotSeen))], vec![(0, TOKEN)]],
        beginnings: vec![vec![REFRESHABLE], vec![REFUSED]],
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("revocation", setting, &["a pair withdrawn"]);
}

/// The refresh is refused as the pair is revoked, and so is the login that follows: an operator who did not
/// wait for the lease would let another one log in beside its holder, after the refusal was recorded.
#[test]
fn a_revocation_and_refused_credentials() {
    let setting = Setting {
        clocks: vec![0; 3],
        requests: vec![vec![(0, Intent::Revoke(Target::NotSeen))], vec![(0, TOKEN)], vec![(0, TOKEN)]],
        beginnings: vec![vec![REFUSED]],
        secrets: vec![false],
        faults: 0,
        pauses: 0,
        ..Setting::default()
    };
    check("revocation, refused", setting, &["a pair withdrawn", "a version rejected_secret"]);
}

#[test]
fn a_rejected_generation() {
    let setting = Setting {
        requests: vec![vec![(0, REJECTED)], vec![(0, REJECTED)]],
        beginnings: vec![vec![FRESH], vec![DEAD]],
        faults: 1,
        pauses: 0,
        ..Setting::default()
    };
    check("rejected", setting, &["a verdict: alive", "a verdict: dead"]);
}

#[test]
fn an_operator_and_the_schedule() {
    let setting = Setting {
        requests: vec![
            vec![(0, Intent::Replace(Target::NotSeen))],
            vec![(0, Intent::Maintain { revoked: false })],
        ],
        beginnings: vec![vec![DUE]],
        faults: 1,
        pauses: 1,
        ..Setting::default()
    };
    check("replace, maintain", setting, &["a pair that was overtaken"]);
}
