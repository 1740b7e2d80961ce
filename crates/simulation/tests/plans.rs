//! A fleet in a simulated world: the production code of the core, driven through weeks of requests, faults and
//! crashes in seconds, and judged by true time at every step. One seed gives one run, to the last event.
//!
//! `SIMULATION_SEED=7` runs that seed, `SIMULATION_SEEDS=20` the seeds from 1 to 20.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stdout, reason = "one line a run, for whoever wants the figures")]

mod fleet;

use fleet::{
    checks::{Checks, Tally},
    plans::{self, Plan},
    strategy::Strategy,
    world::World,
};

/// Runs a plan with each of the seeds, and judges each run.
fn run(plan: Plan, judge: impl Fn(&Checks)) {
    for seed in seeds(plan.runs) {
        let checks = World::new(plan, seed).run();
        checks.ended();
        judge(&checks);
    }
}

fn seeds(runs: u64) -> Vec<u64> {
    match number_from_environment("SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number_from_environment("SIMULATION_SEEDS").unwrap_or(runs)).collect(),
    }
}

#[expect(clippy::disallowed_methods, reason = "whoever runs this chooses the seeds")]
fn number_from_environment(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a seed is a number"))
}

/// What makes a run again. A plan is named like its test.
fn command(plan: &Plan, seed: u64) -> String {
    format!("SIMULATION_SEED={seed} cargo test --test simulation -- --exact {}", plan.name)
}

/// The schedule tries every five minutes, and each try may have been carried out: a login for each, and two.
const LOGINS_IN_AN_HOUR: u64 = 14;

/// Whatever went wrong, hardly anybody noticed.
fn available(checks: &Checks) {
    let availability = checks.tally.availability();
    checks.require(availability >= 0.9999, || format!("available: {:.4} %", 100.0 * availability));
}

/// An instance that knew the account answered from memory.
fn memory_serves(checks: &Checks) {
    let failed = checks.tally.warm_failures;
    checks.require(failed == 0, || format!("{failed} requests failed on instances that knew the account"));
}

/// At most so many logins for each account.
fn logins(checks: &Checks, most: u64) {
    let logins = &checks.tally.logins;
    checks.require(logins.iter().all(|number| *number <= most), || format!("logins: {logins:?}"));
}

fn few_conflicts(checks: &Checks) {
    let conflicts = checks.tally.conflicts_p99();
    checks.require(conflicts <= 5, || format!("{conflicts} conflicting writes for one renewal"));
}

fn short_waits(checks: &Checks) {
    let wait_ms = checks.tally.longest_wait_ms;
    checks.require(wait_ms <= 20_000, || format!("somebody waited for {wait_ms} ms"));
}

/// What holds where nothing goes wrong, or nothing that a caller may notice.
fn unnoticed(checks: &Checks, most_logins: u64) {
    available(checks);
    memory_serves(checks);
    logins(checks, most_logins);
    few_conflicts(checks);
    short_waits(checks);
}

#[test]
fn one_seed_gives_one_run() {
    let [first, second] = [0, 1].map(|_| World::new(plans::SECRETS, 1).run().tally.line());
    assert_eq!(first, second);
}

#[test]
fn a_faultless_month() {
    run(plans::CALM, |checks| {
        unnoticed(checks, 1);
        checks.require(checks.tally.failed() == 0, || "every request is answered".to_owned());
    });
}

#[test]
fn a_month_without_the_schedule() {
    run(plans::UNMAINTAINED, |checks| unnoticed(checks, 1));
}

#[test]
fn hourly_tokens_without_the_schedule() {
    run(plans::UNMAINTAINED_HOURLY, |checks| unnoticed(checks, 1));
}

#[test]
fn a_herd_at_each_expiry() {
    run(plans::HERDS, |checks| unnoticed(checks, 1));
}

#[test]
fn whoever_renews_for_the_herd_dies() {
    run(plans::DEAD_HOLDERS, |checks| {
        // Such a herd goes for the lease twice, the second time when it lapses.
        let conflicts = checks.tally.conflicts_p99();
        checks.require(conflicts <= 10, || format!("{conflicts} conflicting writes for one lease"));
        short_waits(checks);
    });
}

#[test]
fn the_table_is_down_for_an_hour() {
    run(plans::TABLE_DOWN, |checks| unnoticed(checks, 1));
}

#[test]
fn the_table_throttles_for_an_hour() {
    run(plans::TABLE_THROTTLES, |checks| unnoticed(checks, 2));
}

#[test]
fn the_table_loses_replies_for_an_hour() {
    run(plans::TABLE_LOSES_REPLIES, |checks| unnoticed(checks, 2));
}

#[test]
fn the_secrets_are_down_for_an_hour() {
    run(plans::SECRETS_DOWN, |checks| unnoticed(checks, 1));
}

#[test]
fn the_upstream_is_unreachable_for_an_hour() {
    run(plans::UPSTREAM_UNREACHABLE, |checks| unnoticed(checks, 1));
}

#[test]
fn the_upstream_fails_for_an_hour() {
    run(plans::UPSTREAM_FAILS, |checks| unnoticed(checks, LOGINS_IN_AN_HOUR));
}

#[test]
fn the_upstream_hangs_for_an_hour() {
    run(plans::UPSTREAM_HANGS, |checks| unnoticed(checks, LOGINS_IN_AN_HOUR));
}

#[test]
fn the_upstream_loses_replies_for_an_hour() {
    run(plans::UPSTREAM_LOSES_REPLIES, |checks| unnoticed(checks, LOGINS_IN_AN_HOUR));
}

#[test]
fn the_upstream_limits_for_an_hour() {
    run(plans::UPSTREAM_LIMITS, |checks| unnoticed(checks, 1));
}

#[test]
fn a_neighbour_uses_up_the_logins() {
    run(plans::NEIGHBOUR, few_conflicts);
}

#[test]
fn sessions_are_revoked() {
    run(plans::REVOCATIONS, few_conflicts);
}

#[test]
fn secrets_are_rotated() {
    run(plans::SECRETS, few_conflicts);
}

#[test]
fn instances_are_stopped_and_die() {
    run(plans::PAUSES, few_conflicts);
}

#[test]
fn one_login_a_minute_for_all() {
    run(plans::ONE_LOGIN, |_| {});
}

#[test]
fn everything_at_once() {
    run(plans::EVERYTHING, |_| {});
}

#[test]
fn everything_at_once_on_hourly_tokens() {
    run(plans::EVERYTHING_HOURLY, |_| {});
}

#[test]
fn the_table_is_down_at_noon() {
    run(plans::TABLE_DOWN_AT_NOON, |checks| {
        memory_serves(checks);
        logins(checks, 1);
        short_waits(checks);
    });
}

/// Puts a fleet through a plan, and then the three others through what came upon it. Whatever is drawn of a run
/// agrees with what was counted.
fn compared(plan: Plan, judge: impl Fn(Strategy, &Checks)) {
    for seed in seeds(plan.runs) {
        let (broker, script) = World::new(plan, seed).run_recorded();
        let requests = broker.tally.requests;
        let other = |strategy| (strategy, World::instead(strategy, plan, seed, &script).run());
        for (strategy, checks) in Strategy::OTHERS.into_iter().map(other).chain([(Strategy::Broker, broker)])
        {
            let Checks { tally, figures, .. } = &checks;
            println!("{}: {} {:?}", strategy.name(), tally.line(), tally.broken);
            let asked = tally.requests;
            checks.require(asked == requests, || format!("asked {asked} times, the broker {requests}"));
            // A few may be under way when the plan is over.
            let ended = figures.waits_ms.len() as u64 + tally.failed();
            let all = (requests - 5..=requests).contains(&ended);
            checks.require(all, || format!("{ended} of {requests} requests ended"));
            let (drawn, logins) = (figures.logins_by_minute.values().sum::<u32>(), tally.logins());
            checks.require(u64::from(drawn) == logins, || format!("{drawn} logins drawn of {logins}"));
            judge(strategy, &checks);
        }
    }
}

const LIMIT: usize = 10;

#[test]
fn a_herd_without_the_broker_meets_the_limit() {
    compared(plans::SMALL_HERDS, |strategy, checks| {
        let Tally { most_logins_in_a_minute: most, limited, needless_logins, broken, .. } = &checks.tally;
        let counted = [checks.tally.logins(), *limited, checks.tally.failed(), *needless_logins];
        let told = || {
            format!("{most} logins within 60 s; logins, 429s, failures, needless: {counted:?}; {broken:?}")
        };
        match strategy {
            Strategy::EachForItself | Strategy::SharedCache => {
                checks.require(*most > LIMIT && counted.iter().all(|number| *number > 0), told);
                // Who shares no token spends none twice.
                checks.require(broken.contains_key("I2") == (strategy == Strategy::SharedCache), told);
            }
            Strategy::LockWithoutFence | Strategy::Broker => {
                checks.require(counted == [1, 0, 0, 0] && broken.is_empty(), told);
            }
        }
    });
}

#[test]
fn a_lock_without_a_fence_does_not_outlast_a_pause() {
    compared(plans::SHORT_PAUSES, |strategy, checks| {
        let broken = &checks.tally.broken;
        let holds = match strategy {
            Strategy::LockWithoutFence => broken.contains_key("I2") && broken.contains_key("I3"),
            Strategy::Broker => broken.is_empty(),
            _ => true,
        };
        checks.require(holds, || format!("broken: {broken:?}"));
    });
}
