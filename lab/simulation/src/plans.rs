//! The plans: load, faults and incidents of each run.

mod grants;
mod half_broken;
mod outages;

use crate::{DAY, HOUR, MINUTE, SECOND, faults::Fault};
use protocol::{Counts, LoginLimit, LoginLimits, Per};
use std::time::Duration;

/// What happens in a run. All times count from its start.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the switches are independent of each other")]
pub struct Plan {
    /// The name of the plan, of its test and of its chart.
    pub name: &'static str,
    /// The number of runs in the tests, with the seeds from 1.
    pub runs: u64,
    /// How long a run lasts.
    pub days: u64,
    /// The number of accounts.
    pub accounts: usize,
    /// The number of instances at any time.
    pub instances: usize,
    pub(crate) login_budget: usize,
    /// The limit of a provider other than Convirza. It counts refreshes too.
    pub(crate) limit: Option<LoginLimit>,
    /// The accounts have grants that only a person can renew, at a server that rotates refresh tokens and detects their
    /// second use. How long it accepts one again all the same.
    pub(crate) grace_ms: Option<u64>,
    /// How long an instance lives on average.
    pub(crate) instance_life_ms: u64,
    /// Single requests. One in 500 comes with a burst of up to a fifth of the fleet.
    pub(crate) requests_a_day: u64,
    pub(crate) token_life_ms: u64,
    /// Each use of an access token extends it.
    pub(crate) sliding_expiry: bool,
    /// The upstream's answers vary as far as its documentation allows.
    pub(crate) varied_answers: bool,
    /// The schedule asks for maintenance every five minutes.
    pub(crate) maintained: bool,
    /// All instances get a request at the instant when a pair expires.
    pub(crate) herds: bool,
    /// A caller sometimes reports a token that is alive.
    pub(crate) false_reports: bool,
    pub(crate) faults: &'static [PlannedFault],
    /// Additional fault windows of any kind, of up to an hour each. None begins in the last two days.
    pub(crate) drawn_faults: usize,
    pub(crate) incidents: &'static [(u64, Incident)],
    pub(crate) clocks: Clocks,
}

/// The clocks of three instances in four. The others are right, and so are those of the baselines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clocks {
    /// Within half of the tolerated margin.
    Right,
    /// Up to 110 minutes off, ahead or behind.
    FarOff,
    /// The same, and they step every 37 minutes.
    Step,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannedFault {
    pub(crate) fault: Fault,
    pub(crate) start: Start,
    pub(crate) lasts_ms: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    /// This long after the start of the run.
    At(u64),
    /// Five minutes before the first pair of the first account is due.
    Due,
}

/// Something that happens to the whole fleet at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incident {
    /// All sessions are revoked upstream.
    SessionsRevoked,
    /// All secrets get a new version, with the right password.
    RightPassword,
    /// All secrets get a new version, with a wrong password.
    WrongPassword,
    /// The user of the first account logs in elsewhere, which ends the fleet's session.
    RivalLogsIn,
    /// A person consents to a new grant for an account.
    PersonConsents(usize),
}

impl Plan {
    /// Nothing goes wrong for a month: 1,000 instances, three accounts, some 430,000 requests.
    pub const CALM: Self = Self {
        name: "a_faultless_month",
        runs: 1,
        days: 30,
        accounts: 3,
        instances: 1_000,
        login_budget: 5,
        limit: None,
        grace_ms: None,
        instance_life_ms: 12 * HOUR,
        requests_a_day: 12_000,
        token_life_ms: 7 * DAY,
        sliding_expiry: false,
        varied_answers: false,
        maintained: true,
        herds: false,
        false_reports: false,
        faults: &[],
        drawn_faults: 0,
        incidents: &[],
        clocks: Clocks::Right,
    };

    /// The schedule is switched off, so callers renew the pairs.
    pub const UNMAINTAINED: Self =
        Self { name: "a_month_without_the_schedule", maintained: false, ..Self::CALM };

    /// The same with tokens that live for an hour. There are enough renewals for percentiles.
    pub const UNMAINTAINED_HOURLY: Self = Self {
        name: "hourly_tokens_without_the_schedule",
        days: 10,
        requests_a_day: 40_000,
        token_life_ms: HOUR,
        ..Self::UNMAINTAINED
    };

    /// A thundering herd: no request until the pair expires, then one on each of 1,000 instances at once.
    pub const HERDS: Self = Self {
        name: "a_herd_at_each_expiry",
        days: 5,
        accounts: 1,
        requests_a_day: 1,
        token_life_ms: HOUR,
        maintained: false,
        herds: true,
        ..Self::CALM
    };

    /// The same, and the first instance that renews dies, before or after its call is sent.
    pub const DEAD_HOLDERS: Self = Self {
        name: "the_holder_dies_in_a_herd",
        days: 3,
        faults: &[PlannedFault { fault: Fault::HoldersDie, start: Start::At(HOUR / 2), lasts_ms: 2 * DAY }],
        ..Self::HERDS
    };

    /// Another client behind the same address uses up the logins when the fleet needs them: in its first hour, and
    /// after all sessions were revoked.
    pub const NEIGHBOUR: Self = Self {
        name: "a_neighbour_uses_up_the_logins",
        days: 5,
        faults: &[
            PlannedFault { fault: Fault::Neighbour, start: Start::At(0), lasts_ms: HOUR },
            PlannedFault { fault: Fault::Neighbour, start: Start::At(2 * DAY), lasts_ms: HOUR },
        ],
        incidents: &[(2 * DAY + MINUTE, Incident::SessionsRevoked)],
        ..Self::CALM
    };

    /// Sessions are revoked, sometimes while a pair is being renewed. Some callers report live tokens.
    pub const REVOCATIONS: Self = Self {
        name: "sessions_are_revoked",
        days: 10,
        sliding_expiry: true,
        false_reports: true,
        incidents: &[
            (DAY, Incident::SessionsRevoked),
            (2 * DAY, Incident::SessionsRevoked),
            (2 * DAY + 10 * SECOND, Incident::SessionsRevoked),
            (3 * DAY + HOUR, Incident::SessionsRevoked),
            (6 * DAY + HOUR, Incident::SessionsRevoked),
        ],
        ..Self::CALM
    };

    /// Secrets are rotated, once to a wrong password just before it is needed.
    pub const SECRETS: Self = Self {
        name: "secrets_are_rotated",
        days: 6,
        incidents: &[
            (DAY, Incident::RightPassword),
            (2 * DAY, Incident::WrongPassword),
            (2 * DAY + MINUTE, Incident::SessionsRevoked),
            (2 * DAY + HOUR, Incident::WrongPassword),
            (2 * DAY + 2 * HOUR, Incident::RightPassword),
            (3 * DAY, Incident::SessionsRevoked),
        ],
        ..Self::CALM
    };

    /// Instances are stopped beyond their leases and die, while hourly tokens are renewed all the time.
    pub const PAUSES: Self = Self {
        name: "instances_are_stopped_and_die",
        days: 4,
        requests_a_day: 60_000,
        token_life_ms: HOUR,
        maintained: false,
        faults: &[
            PlannedFault { fault: Fault::Pauses, start: Start::At(0), lasts_ms: 3 * DAY },
            PlannedFault { fault: Fault::Kills, start: Start::At(DAY), lasts_ms: DAY },
        ],
        ..Self::CALM
    };

    /// Three accounts that need logins all the time share one login a minute. Requests arrive late, replies are lost,
    /// and instances are stopped after they acquired a permit.
    pub const ONE_LOGIN: Self = Self {
        name: "one_login_a_minute_for_all",
        runs: 2,
        days: 2,
        login_budget: 1,
        requests_a_day: 60_000,
        token_life_ms: 20 * SECOND,
        maintained: false,
        faults: &[
            PlannedFault { fault: Fault::UpstreamHangs, start: Start::At(0), lasts_ms: 40 * HOUR },
            PlannedFault { fault: Fault::Pauses, start: Start::At(HOUR), lasts_ms: 30 * HOUR },
            PlannedFault { fault: Fault::StoreLosesReplies, start: Start::At(8 * HOUR), lasts_ms: 20 * HOUR },
        ],
        ..Self::CALM
    };

    /// All faults at random, with tokens that live for a week.
    pub const EVERYTHING: Self = Self {
        name: "everything_at_once",
        runs: 4,
        days: 15,
        sliding_expiry: true,
        varied_answers: true,
        false_reports: true,
        drawn_faults: 150,
        incidents: &[
            (DAY, Incident::SessionsRevoked),
            (3 * DAY, Incident::RightPassword),
            (4 * DAY, Incident::SessionsRevoked),
            (5 * DAY, Incident::WrongPassword),
            (5 * DAY + HOUR, Incident::SessionsRevoked),
            (5 * DAY + 3 * HOUR, Incident::RightPassword),
            (9 * DAY, Incident::SessionsRevoked),
        ],
        ..Self::CALM
    };

    /// All faults at random, with hourly tokens and without the schedule.
    pub const EVERYTHING_HOURLY: Self = Self {
        name: "everything_at_once_on_hourly_tokens",
        runs: 4,
        days: 5,
        requests_a_day: 60_000,
        token_life_ms: HOUR,
        maintained: false,
        drawn_faults: 60,
        incidents: &[(DAY, Incident::SessionsRevoked), (2 * DAY, Incident::SessionsRevoked)],
        ..Self::EVERYTHING
    };

    /// Three clocks in four are up to 110 minutes off, and sessions are revoked. Only for a test.
    pub const CLOCKS_OFF: Self = Self {
        name: "clocks_are_far_off",
        runs: 2,
        days: 3,
        instances: 100,
        requests_a_day: 20_000,
        token_life_ms: HOUR,
        incidents: &[(DAY / 2, Incident::SessionsRevoked)],
        clocks: Clocks::FarOff,
        ..Self::CALM
    };

    /// The same, and they step. Only for a test.
    pub const CLOCKS_STEP: Self =
        Self { name: "clocks_are_far_off_and_step", clocks: Clocks::Step, ..Self::CLOCKS_OFF };

    /// Zoho's limit: ten token requests in ten minutes, refreshes included. Sessions are revoked, and instances are stopped.
    /// Only for a test.
    pub const TEN_REQUESTS: Self = Self {
        name: "ten_token_requests_in_ten_minutes",
        runs: 2,
        days: 2,
        accounts: 2,
        instances: 100,
        requests_a_day: 40_000,
        token_life_ms: 6 * MINUTE,
        limit: Some(LoginLimit {
            requests: 10,
            window: Duration::from_secs(600),
            counts: Counts::All,
            per: Per::Host,
        }),
        faults: &[PlannedFault { fault: Fault::Pauses, start: Start::At(10 * HOUR), lasts_ms: 10 * HOUR }],
        incidents: &[(DAY / 2, Incident::SessionsRevoked), (DAY, Incident::SessionsRevoked)],
        ..Self::CALM
    };

    /// A herd that is small enough for the baselines to finish quickly. Only for a test.
    pub const SMALL_HERDS: Self =
        Self { name: "a_herd_without_the_broker_meets_the_limit", instances: 300, days: 1, ..Self::HERDS };

    /// Instances are stopped for a day, with tokens that live for ten minutes. Only for a test.
    pub const SHORT_PAUSES: Self = Self {
        name: "a_lock_without_a_fence_does_not_outlast_a_pause",
        days: 1,
        token_life_ms: 10 * MINUTE,
        ..Self::PAUSES
    };

    /// The plans of `cargo figures`, in the order of the table.
    pub const ALL: [Self; 28] = [
        Self::CALM,
        Self::UNMAINTAINED,
        Self::UNMAINTAINED_HOURLY,
        Self::HERDS,
        Self::DEAD_HOLDERS,
        Self::TABLE_DOWN,
        Self::TABLE_DOWN_AT_NOON,
        Self::TABLE_THROTTLES,
        Self::TABLE_LOSES_REPLIES,
        Self::SECRETS_DOWN,
        Self::UPSTREAM_UNREACHABLE,
        Self::UPSTREAM_FAILS,
        Self::UPSTREAM_HANGS,
        Self::UPSTREAM_LOSES_REPLIES,
        Self::UPSTREAM_LIMITS,
        Self::WRITES_REFUSED,
        Self::SLOW_LIMITER,
        Self::RIVAL,
        Self::LIES,
        Self::LOGINS_FORBIDDEN,
        Self::THOUSAND_ACCOUNTS,
        Self::NEIGHBOUR,
        Self::REVOCATIONS,
        Self::SECRETS,
        Self::PAUSES,
        Self::ONE_LOGIN,
        Self::EVERYTHING,
        Self::EVERYTHING_HOURLY,
    ];

    /// The limits of the broker's settings.
    pub(crate) fn limits(&self) -> LoginLimits {
        let by_host = self.limit.map(|limit| (HOST.to_owned(), limit));
        LoginLimits::new(HOST.to_owned(), None, by_host.into_iter().collect())
    }
}

/// The simulated upstream.
const HOST: &str = "upstream.example";
