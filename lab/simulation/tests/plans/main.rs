//! Runs the simulated fleet through each plan and checks the tally of each run. The library checks the invariants at
//! every step.
//!
//! `SIMULATION_SEED=7` runs that seed, `SIMULATION_SEEDS=20` the seeds from 1 to 20. The test of a plan has the plan's name.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a seed that is no number ends the test; each run prints its tally"
)]

mod runs;

use runs::{compare, run, run_oauth, simulation};
use token_broker_simulation::{Checks, HOUR, MINUTE, Plan, SECOND, Strategy, Tally};

/// The first login, and one after an hour of failures: an early try may cost a login, and with a day left the next one
/// comes an hour later.
const LOGINS_WITH_A_FAILURE: u64 = 2;

fn available(checks: &Checks) {
    let availability = checks.tally.availability();
    checks.require(availability >= 0.9999, || format!("available: {:.4} %", 100.0 * availability));
}

/// An instance that knew the account answered from its cache.
fn served_from_cache(checks: &Checks) {
    let failed = checks.tally.warm_failures;
    checks.require(failed == 0, || format!("{failed} requests failed on instances that knew the account"));
}

/// The most logins that an account may need.
fn logins(checks: &Checks, most: u64) {
    let logins = &checks.tally.logins_by_account;
    checks.require(logins.iter().all(|number| *number <= most), || format!("logins: {logins:?}"));
}

fn few_conflicts(checks: &Checks) {
    let conflicts = checks.tally.conflicts_p99();
    checks.require(conflicts <= 5, || format!("{conflicts} conflicting writes for one renewal"));
}

fn short_waits(checks: &Checks) {
    let wait_ms = checks.tally.longest_wait_ms;
    checks.require(wait_ms <= 20_000, || format!("a caller waited for {wait_ms} ms"));
}

/// Callers notice nothing, whether or not something went wrong.
fn unnoticed(checks: &Checks, most_logins: u64) {
    available(checks);
    served_from_cache(checks);
    logins(checks, most_logins);
    few_conflicts(checks);
    short_waits(checks);
}

#[test]
fn one_seed_gives_one_run() {
    let [first, second] = [0, 1].map(|_| simulation(Plan::SECRETS, 1).broker().0.tally.line());
    assert_eq!(first, second);
}

#[test]
fn a_faultless_month() {
    run(Plan::CALM, |checks| {
        unnoticed(checks, 1);
        let failed = checks.tally.failed();
        checks.require(failed == 0, || format!("{failed} requests failed"));
    });
}

#[test]
fn a_month_without_the_schedule() {
    run(Plan::UNMAINTAINED, |checks| unnoticed(checks, 1));
}

#[test]
fn hourly_tokens_without_the_schedule() {
    run(Plan::UNMAINTAINED_HOURLY, |checks| unnoticed(checks, 1));
}

#[test]
fn a_herd_at_each_expiry() {
    run(Plan::HERDS, |checks| unnoticed(checks, 1));
}

#[test]
fn the_holder_dies_in_a_herd() {
    run(Plan::DEAD_HOLDERS, |checks| {
        // The herd contends for the lease twice, the second time when the first lease lapses.
        let conflicts = checks.tally.conflicts_p99();
        checks.require(conflicts <= 10, || format!("{conflicts} conflicting writes for one lease"));
        short_waits(checks);
    });
}

#[test]
fn the_table_is_down_for_an_hour() {
    run(Plan::TABLE_DOWN, |checks| unnoticed(checks, 1));
}

#[test]
fn the_table_throttles_for_an_hour() {
    run(Plan::TABLE_THROTTLES, |checks| unnoticed(checks, 2));
}

#[test]
fn the_table_loses_replies_for_an_hour() {
    run(Plan::TABLE_LOSES_REPLIES, |checks| unnoticed(checks, 2));
}

#[test]
fn the_secrets_are_down_for_an_hour() {
    run(Plan::SECRETS_DOWN, |checks| unnoticed(checks, 1));
}

#[test]
fn the_upstream_is_unreachable_for_an_hour() {
    run(Plan::UPSTREAM_UNREACHABLE, |checks| unnoticed(checks, 1));
}

#[test]
fn the_upstream_fails_for_an_hour() {
    run(Plan::UPSTREAM_FAILS, |checks| unnoticed(checks, LOGINS_WITH_A_FAILURE));
}

#[test]
fn the_upstream_hangs_for_an_hour() {
    run(Plan::UPSTREAM_HANGS, |checks| unnoticed(checks, LOGINS_WITH_A_FAILURE));
}

#[test]
fn the_upstream_loses_replies_for_an_hour() {
    run(Plan::UPSTREAM_LOSES_REPLIES, |checks| unnoticed(checks, LOGINS_WITH_A_FAILURE));
}

#[test]
fn the_upstream_limits_for_an_hour() {
    run(Plan::UPSTREAM_LIMITS, |checks| unnoticed(checks, 1));
}

#[test]
fn a_neighbour_uses_up_the_logins() {
    run(Plan::NEIGHBOUR, few_conflicts);
}

#[test]
fn sessions_are_revoked() {
    run(Plan::REVOCATIONS, few_conflicts);
}

#[test]
fn secrets_are_rotated() {
    run(Plan::SECRETS, few_conflicts);
}

#[test]
fn instances_are_stopped_and_die() {
    run(Plan::PAUSES, few_conflicts);
}

#[test]
fn one_login_a_minute_for_all() {
    run(Plan::ONE_LOGIN, |_| {});
}

#[test]
fn everything_at_once() {
    run(Plan::EVERYTHING, |_| {});
}

#[test]
fn everything_at_once_on_hourly_tokens() {
    run(Plan::EVERYTHING_HOURLY, |_| {});
}

#[test]
fn the_table_is_down_at_noon() {
    run(Plan::TABLE_DOWN_AT_NOON, |checks| {
        served_from_cache(checks);
        logins(checks, 1);
        short_waits(checks);
    });
}

/// New pairs of one account in the first 90 s after something broke, and in the rest of that hour.
fn renewals(checks: &Checks, account: usize, broken_ms: u64) -> [usize; 2] {
    let soon_ms = broken_ms + 90 * SECOND;
    [(broken_ms, soon_ms), (soon_ms, broken_ms + HOUR)]
        .map(|(from_ms, until_ms)| checks.tally.renewals(account, from_ms, until_ms))
}

/// The first deaths are believed at once, later ones after growing pauses. A pair that is older than two hours has not
/// died young, so its death does not count.
fn damped(checks: &Checks, account: usize) {
    for (broken_ms, most) in [(Plan::BREAKS_AGAIN_AT, 4), (Plan::BREAKS_AT, 5)] {
        let [soon, later] = renewals(checks, account, broken_ms);
        checks.require(soon <= most && later <= 6, || {
            format!("account {account} got {soon} new pairs in 90 s, and {later} in the rest of the hour")
        });
    }
}

#[test]
fn the_table_refuses_writes_for_two_hours() {
    run(Plan::WRITES_REFUSED, |checks| {
        let waits_ms = [checks.tally.longest_hold_ms, checks.tally.longest_failure_ms("store_unavailable")];
        checks.require(waits_ms[0] <= 4_000, || format!("a usable token was withheld: {waits_ms:?} ms"));
        checks.require(waits_ms[1] <= 8_000, || format!("a failure took long: {waits_ms:?} ms"));
        logins(checks, 1);
        // A request without a usable token tries for 2.5 s. The next ones of the instance do not.
        let (writes, failed) = (checks.figures.writes, checks.tally.failed());
        checks.require(writes <= 8 * failed, || format!("{writes} writes for {failed} failures"));
    });
}

#[test]
fn the_login_limiter_is_slow_for_an_hour() {
    run(Plan::SLOW_LIMITER, |checks| {
        // One login at first, and one when the limiter is fast again.
        logins(checks, 2);
        let revoked_ms = Plan::BREAKS_AT + MINUTE;
        let permits = |span_ms| {
            [0, 1, 2].map(|account| checks.tally.permits(account, revoked_ms, revoked_ms + span_ms))
        };
        let (soon, later) = (permits(30 * SECOND), permits(HOUR));
        checks.require(soon.iter().sum::<usize>() <= 5, || format!("permits in 30 s: {soon:?}"));
        // Each try costs a permit, and soon the tries are half a minute apart.
        checks
            .require(later.iter().all(|permits| *permits <= 90), || format!("permits in an hour: {later:?}"));
    });
}

#[test]
fn a_rival_ends_our_sessions_for_an_hour() {
    run(Plan::RIVAL, |checks| {
        damped(checks, 0);
        let failed = &checks.tally.failed_by_account;
        checks.require(failed.iter().skip(1).all(|number| *number == 0), || format!("failures: {failed:?}"));
        short_waits(checks);
    });
}

#[test]
fn callers_and_probes_lie_for_an_hour() {
    run(Plan::LIES, |checks| {
        (0..Plan::LIES.accounts).for_each(|account| damped(checks, account));
        // One login at first, and one after the sessions were revoked.
        logins(checks, 2);
        let failed = checks.tally.failed();
        checks.require(failed == 0, || format!("{failed} requests failed"));
        short_waits(checks);
    });
}

#[test]
fn logins_are_forbidden_for_an_hour() {
    run(Plan::LOGINS_FORBIDDEN, |checks| {
        // The first one, six tries in the hour, and the one after that.
        logins(checks, 8);
        short_waits(checks);
        few_conflicts(checks);
    });
}

#[test]
fn a_thousand_accounts_share_one_address() {
    run(Plan::THOUSAND_ACCOUNTS, |checks| {
        // One login at first, and one after the sessions were revoked. Each takes one permit.
        logins(checks, 2);
        let acquired = |account| checks.tally.permits(account, 0, u64::MAX);
        let permits: usize = (0..Plan::THOUSAND_ACCOUNTS.accounts).map(acquired).sum();
        checks.require(permits as u64 == checks.tally.logins(), || format!("{permits} permits"));
        let Tally { longest_maintenance_ms: maintenance_ms, postponed, .. } = checks.tally;
        let within_time = maintenance_ms <= 29_700 && postponed == 0;
        checks
            .require(within_time, || format!("maintenance took {maintenance_ms} ms, {postponed} postponed"));
        short_waits(checks);
    });
}

#[test]
fn requests_share_processes_that_fail() {
    run(Plan::CROWDED, few_conflicts);
}

/// Logins that the upstream accepts in a minute.
const LIMIT: usize = 10;

#[test]
fn a_herd_without_the_broker_meets_the_limit() {
    compare(Plan::SMALL_HERDS, |strategy, checks| {
        let Tally { most_logins_in_a_minute: most, limited, needless_logins, broken, .. } = &checks.tally;
        let counts = [checks.tally.logins(), *limited, checks.tally.failed(), *needless_logins];
        let message =
            || format!("{most} logins within 60 s; logins, 429s, failures, needless: {counts:?}; {broken:?}");
        match strategy {
            Strategy::NoSharing | Strategy::SharedCache => {
                checks.require(*most > LIMIT && counts.iter().all(|number| *number > 0), message);
                // Only a shared refresh token is sent twice.
                checks.require(broken.contains_key("I2") == (strategy == Strategy::SharedCache), message);
            }
            Strategy::LockWithoutFence | Strategy::Broker => {
                checks.require(counts == [1, 0, 0, 0] && broken.is_empty(), message);
            }
        }
    });
}

#[test]
fn a_lock_without_a_fence_does_not_outlast_a_pause() {
    compare(Plan::SHORT_PAUSES, |strategy, checks| {
        let broken = &checks.tally.broken;
        let holds = match strategy {
            Strategy::LockWithoutFence => broken.contains_key("I2") && broken.contains_key("I3"),
            Strategy::Broker => broken.is_empty(),
            _ => true,
        };
        checks.require(holds, || format!("broken: {broken:?}"));
    });
}

/// Wrong clocks break no invariant, as the library checks, and callers notice nothing.
#[test]
fn clocks_are_far_off() {
    run(Plan::CLOCKS_OFF, |checks| unnoticed(checks, 2));
}

#[test]
fn clocks_are_far_off_and_step() {
    run(Plan::CLOCKS_STEP, |checks| unnoticed(checks, 2));
}

/// Most renewals are refreshes, each with a permit. Two accounts that need five requests in ten minutes share ten.
#[test]
fn ten_token_requests_in_ten_minutes() {
    run_oauth(Plan::TEN_REQUESTS, |checks| {
        // The library checks the limit at each arrival. An instance that is stopped after it took a permit wastes it.
        let availability = checks.tally.availability();
        checks.require(availability >= 0.95, || format!("available: {:.4} %", 100.0 * availability));
    });
}

/// The library checks which token is sent again, that no grant ends within a grace period, and that callers are served
/// after the faults.
#[test]
fn a_grant_in_doubt() {
    run_oauth(Plan::GRANT_IN_DOUBT, |checks| {
        let Tally { sent_within_grace, grants_ended, dead_tokens, .. } = checks.tally;
        let healed = sent_within_grace > 100 && grants_ended == 0 && dead_tokens == 0;
        checks.require(healed, || {
            format!("{sent_within_grace} sent again, {grants_ended} ended, {dead_tokens} dead tokens")
        });
        // Instances are killed and stopped, and the table loses replies.
        let availability = checks.tally.availability();
        checks.require(availability >= 0.95, || format!("available: {:.4} %", 100.0 * availability));
    });
}

/// The library checks that each end has its lost reply, that a lost token is not sent, and that a new grant heals the
/// account.
#[test]
fn a_lost_grant() {
    run_oauth(Plan::LOST_GRANT, |checks| {
        let Tally { sent_within_grace, sent_as_last_resort, grants_ended, .. } = checks.tally;
        let lost = sent_as_last_resort > 10 && grants_ended > 10 && sent_within_grace == 0;
        checks.require(lost, || format!("{sent_as_last_resort} sent again, {grants_ended} ended"));
    });
}
