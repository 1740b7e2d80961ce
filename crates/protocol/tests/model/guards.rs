//! What each guard is for: the same fleet with it, in which everything holds, and without it, in which the
//! checker finds the run that breaks.

use crate::{
    REFRESHABLE, check,
    model::Fleet,
    mutations::Guard,
    setting::{Beginning, Setting, TOKEN},
};
use protocol::{Intent, Target};
use stateright::{Checker, HasDiscoveries, Model};
use std::time::Duration;

/// Looks for a run that breaks a property.
fn breaks(property: &'static str, setting: Setting) {
    let found = HasDiscoveries::AllOf([property].into());
    let checker = Fleet::new(setting).checker().finish_when(found).spawn_bfs().join();
    let run = checker.discovery(property).unwrap_or_else(|| panic!("nothing breaks it: {property}"));
    println!(
        "{property}: broken by {} actions, found after {} states",
        run.into_actions().len(),
        checker.state_count()
    );
}

/// Shows that a property holds with a guard, and breaks without.
fn rests_on(guard: Guard, property: &'static str, setting: Setting) {
    check(&format!("with {guard:?}"), setting.clone(), &[]);
    breaks(property, Setting { without: Some(guard), ..setting });
}

/// Two instances, one request each, nothing that goes wrong.
fn in_order() -> Setting {
    Setting { faults: 0, pauses: 0, ..Setting::default() }
}

/// The same, with a pair that can be refreshed.
fn refreshing() -> Setting {
    Setting { beginnings: vec![vec![REFRESHABLE]], ..in_order() }
}

/// Two instances that log in to one account each, and a budget for one of them.
fn one_login_for_two() -> Setting {
    Setting {
        requests: vec![vec![(0, TOKEN)], vec![(1, TOKEN)]],
        beginnings: vec![vec![Beginning::Nothing; 2]],
        budget: 1,
        horizon: 100,
        ..in_order()
    }
}

#[test]
fn without_the_conditional_commit_an_older_pair_overwrites_a_newer_one() {
    let setting = Setting { pauses: 1, ..in_order() };
    rests_on(Guard::ConditionalCommit, "I3: generations grow", setting);
}

#[test]
fn without_the_conditional_acquire_two_instances_send_one_refresh_token() {
    rests_on(Guard::ConditionalAcquire, "I2: a refresh token is sent once", refreshing());
}

#[test]
fn without_the_conditional_debit_two_instances_take_the_last_login() {
    rests_on(Guard::ConditionalDebit, "I1: logins in any minute", one_login_for_two());
}

#[test]
fn without_a_debit_before_it_a_login_is_not_counted_and_another_one_follows() {
    rests_on(Guard::DebitBeforeLogin, "I1: logins in any minute", one_login_for_two());
}

/// The first login leaves long after its debit, and travels as long as can be. The second one does not.
#[test]
fn without_the_freshness_of_debits_a_paused_login_arrives_in_the_minute_of_a_later_one() {
    let setting = Setting { clocks: vec![0, 2], faults: 1, pauses: 1, ..one_login_for_two() };
    rests_on(Guard::DebitFreshness, "I1: logins in any minute", setting);
}

#[test]
fn without_the_mark_of_the_acquiring_write_a_crash_has_a_refresh_token_sent_again() {
    let setting = Setting { faults: 1, ..refreshing() };
    rests_on(Guard::SpentOnAcquire, "I2: a refresh token is sent once", setting);
}

#[test]
fn without_the_mark_of_an_unclear_outcome_a_lost_reply_has_a_refresh_token_sent_again() {
    let setting = Setting { faults: 1, ..refreshing() };
    rests_on(Guard::SpentOnUnclear, "I2: a refresh token is sent once", setting);
}

/// While the table is out of reach, a pair is handed out that is saved nowhere. The next one replaces the
/// same pair.
#[test]
fn without_the_fence_as_generation_two_pairs_have_one_name() {
    let setting = Setting { faults: 1, outages: true, ..in_order() };
    rests_on(Guard::FenceAsGeneration, "I3: a generation is one pair", setting);
}

/// Once a pair is withdrawn, there is none to count on from.
#[test]
fn without_the_fence_as_generation_a_later_pair_has_a_lower_number() {
    let revoke = vec![(0, Intent::Revoke(Target::NotSeen))];
    let setting = Setting { requests: vec![revoke, vec![(0, TOKEN)]], ..refreshing() };
    rests_on(Guard::FenceAsGeneration, "I3: generations grow", setting);
}

#[test]
fn without_the_parked_version_refused_credentials_are_sent_again() {
    let setting = Setting { secrets: vec![false], ..in_order() };
    rests_on(Guard::ParkedVersion, "I5: a rejected_secret version rests", setting);
}

#[test]
fn without_the_cooldown_every_request_calls_an_upstream_that_fails() {
    let setting = Setting { faults: 1, ..in_order() };
    rests_on(Guard::CooldownOnFailure, "I8: a failing upstream is left alone", setting);
}

/// The lease has lapsed when the first login leaves, and somebody else has logged in.
#[test]
fn without_time_left_of_the_lease_a_paused_instance_logs_in_beside_the_next_holder() {
    let setting = Setting { pauses: 1, ..in_order() };
    rests_on(Guard::LeaseTimeLeft, "I6, I8: no needless login", setting);
}

/// The clock of the instance that logs in is ahead, and so is the expiry that it writes down.
#[test]
fn without_the_clock_margin_a_token_is_handed_out_for_longer_than_it_lives() {
    let life = Duration::from_secs(600);
    let setting = Setting { clocks: vec![2, 0], life, ..in_order() };
    rests_on(Guard::ClockMargin, "I4: what is handed out lives", setting);
}

/// Not a guard, but what I1 rests on besides: the instance that is ahead takes the other one's debit for lapsed.
#[test]
fn with_clocks_further_apart_than_the_margin_the_budget_is_exceeded() {
    let setting = Setting { clocks: vec![0, 30], horizon: 70, pauses: 1, ..one_login_for_two() };
    breaks("I1: logins in any minute", setting);
}
