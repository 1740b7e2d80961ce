//! Every guard is needed: with all of them the invariants hold; without any one, the checker finds a run that violates
//! one.

use crate::{
    check,
    model::Fleet,
    mutations::Guard,
    setting::{InitialRecord, Outage, REFRESHABLE, REPORT_LATEST, Setting, TOKEN},
};
use stateright::{Checker, HasDiscoveries, Model};
use std::time::Duration;
use token_broker_protocol::Intent;

/// Asserts that some run violates a property.
fn is_violated(property: &'static str, setting: Setting) {
    let found = HasDiscoveries::AllOf([property].into());
    let checker = Fleet::new(setting).checker().finish_when(found).spawn_bfs().join();
    let run = checker.discovery(property).unwrap_or_else(|| panic!("no run violates it: {property}"));
    println!(
        "{property}: violated by {} actions, found after {} states",
        run.into_actions().len(),
        checker.state_count()
    );
}

/// Asserts that a property holds with all guards, and is violated without any one of these.
fn rests_on<const N: usize>(guards: [Guard; N], property: &'static str, setting: &Setting) {
    check(&format!("with {guards:?}"), setting.clone(), &[]);
    for guard in guards {
        is_violated(property, Setting { without: Some(guard), ..setting.clone() });
    }
}

/// Two instances, one request each, and no faults.
fn undisturbed() -> Setting {
    Setting { faults: 0, pauses: 0, ..Setting::default() }
}

/// The same, with a pair that can be refreshed.
fn refreshing() -> Setting {
    Setting { records: vec![vec![REFRESHABLE]], ..undisturbed() }
}

/// Two instances that log in to one account each, and a budget for one login.
fn one_login_for_two() -> Setting {
    Setting {
        requests: vec![vec![(0, TOKEN)], vec![(1, TOKEN)]],
        records: vec![vec![InitialRecord::Absent; 2]],
        login_budget: 1,
        horizon: 100,
        ..undisturbed()
    }
}

#[test]
fn without_conditional_commit_an_older_pair_replaces_a_newer() {
    let setting = Setting { pauses: 1, ..undisturbed() };
    rests_on([Guard::ConditionalCommit], "I3: generations grow", &setting);
}

#[test]
fn without_conditional_acquire_a_refresh_token_is_sent_twice() {
    rests_on([Guard::ConditionalAcquire], "I2: a refresh token is sent once", &refreshing());
}

#[test]
fn without_conditional_permits_the_login_budget_is_exceeded() {
    rests_on([Guard::ConditionalPermit], "I1: logins per minute", &one_login_for_two());
}

#[test]
fn without_a_permit_before_login_the_budget_is_exceeded() {
    rests_on([Guard::PermitBeforeLogin], "I1: logins per minute", &one_login_for_two());
}

/// The first login leaves long after its permit was acquired, and travels as long as possible. The second one does not.
#[test]
fn without_fresh_permits_a_late_login_exceeds_the_budget() {
    let setting = Setting { clocks: vec![0, 2], faults: 1, pauses: 1, ..one_login_for_two() };
    rests_on([Guard::PermitFreshness, Guard::PermitDate], "I1: logins per minute", &setting);
}

/// The replies to two logins are lost. The third login would leave seconds later.
#[test]
fn without_a_share_one_account_takes_all_permits() {
    let setting =
        Setting { clocks: vec![0], requests: vec![vec![(0, TOKEN); 3]], faults: 2, ..undisturbed() };
    rests_on([Guard::PermitShare], "I1: an account's share of logins", &setting);
}

#[test]
fn without_damping_every_false_report_causes_a_renewal() {
    let mut requests = vec![(0, REPORT_LATEST); 6];
    requests[0] = (0, TOKEN);
    let setting = Setting { clocks: vec![0], requests: vec![requests], probes_lie: true, ..refreshing() };
    rests_on([Guard::Damping], "renewals are bounded", &setting);
}

#[test]
fn without_an_interval_every_operator_request_refreshes() {
    let setting = Setting { clocks: vec![0], requests: vec![vec![(0, Intent::Replace); 2]], ..refreshing() };
    rests_on([Guard::ReplaceInterval], "an operator's refresh once a minute", &setting);
}

/// After a crash, and after a lost reply.
#[test]
fn without_a_lasting_mark_a_refresh_token_is_sent_twice() {
    let setting = Setting { faults: 1, ..refreshing() };
    let guards = [Guard::ConsumedOnAcquire, Guard::ConsumedOnUnclear];
    rests_on(guards, "I2: a refresh token is sent once", &setting);
}

/// During an outage of the table, a pair is handed out that is never saved. The next pair replaces the same one.
#[test]
fn without_the_fence_two_pairs_share_a_generation() {
    let setting = Setting { faults: 1, outages: &[Outage::Table], ..undisturbed() };
    rests_on([Guard::FenceAsGeneration], "I3: a generation names one pair", &setting);
}

/// After a pair was withdrawn, there is no generation to continue from.
#[test]
fn without_the_fence_a_later_pair_has_a_lower_generation() {
    let setting = Setting { requests: vec![vec![(0, Intent::Revoke)], vec![(0, TOKEN)]], ..refreshing() };
    rests_on([Guard::FenceAsGeneration], "I3: generations grow", &setting);
}

#[test]
fn without_rejected_versions_refused_credentials_are_resent() {
    let setting = Setting { secrets: vec![false], ..undisturbed() };
    rests_on([Guard::RejectedSecret], "I5: a rejected secret is not sent", &setting);
}

#[test]
fn without_cooldown_every_request_calls_a_failing_upstream() {
    let setting = Setting { faults: 1, ..undisturbed() };
    rests_on([Guard::CooldownOnFailure], "I8: a cooldown is kept", &setting);
}

/// The lease has lapsed when the first login leaves, and its next holder has logged in.
#[test]
fn without_lease_time_left_a_paused_holder_logs_in_as_well() {
    let setting = Setting { pauses: 1, ..undisturbed() };
    rests_on([Guard::LeaseTimeLeft], "I6, I8: no needless login", &setting);
}

/// The clock of the instance that logs in is ahead, and so is the expiry that it writes.
#[test]
fn without_the_clock_margin_an_expired_token_is_handed_out() {
    let setting = Setting { clocks: vec![2, 0], lifetime: Duration::from_secs(600), ..undisturbed() };
    rests_on([Guard::ClockMargin], "I4: an answer is valid", &setting);
}

/// An instance whose clock is ahead drops the other one's permit too soon.
#[test]
fn without_the_stores_time_the_login_budget_is_exceeded() {
    let setting = Setting { clocks: vec![0, 30], dated: true, horizon: 70, pauses: 1, ..one_login_for_two() };
    rests_on([Guard::StoreTime], "I1: logins per minute", &setting);
}

/// The wall clock of the instance steps during its call, by less than the longest pause.
#[test]
fn without_steady_pauses_a_clock_step_delays_the_fleet() {
    let steps = Setting { clocks: vec![0], dated: true, steps: 1, step: 3_000, faults: 1, ..undisturbed() };
    let setting = Setting { requests: vec![vec![(0, TOKEN); 2]], horizon: 70, ..steps };
    rests_on([Guard::SteadyPauses], "I7: a pause begins now", &setting);
}
