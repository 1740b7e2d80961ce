//! Partial failures: reads without writes, writes that take too long, wrong verdicts and refusals.

use super::{Incident, Plan, PlannedFault, Start};
use crate::{DAY, HOUR, MINUTE, faults::Fault};

impl Plan {
    /// When the faults of these plans begin.
    pub const BREAKS_AT: u64 = 6 * HOUR;
    /// When the faults that make pairs die young begin again. This time the pair is half an hour old; before, it was
    /// six hours old.
    pub const BREAKS_AGAIN_AT: u64 = 12 * HOUR;

    /// The table refuses writes for two hours. Tokens live for an hour, so the pair runs out meanwhile. Every other
    /// caller reports its token.
    pub const WRITES_REFUSED: Self = Self {
        name: "the_table_refuses_writes_for_two_hours",
        faults: &[lasting(Fault::StoreWritesDown, 2 * HOUR), lasting(Fault::Lies, 2 * HOUR)],
        token_life_ms: HOUR,
        ..Self::BUSY_DAY
    };

    /// All sessions are revoked while writes of the login rate limiter take 2.1 to 3 s: longer than a permit is fresh.
    pub const SLOW_LIMITER: Self = Self {
        name: "the_login_limiter_is_slow_for_an_hour",
        faults: &[lasting(Fault::LimiterSlow, HOUR)],
        incidents: &[(Self::BREAKS_AT + MINUTE, Incident::SessionsRevoked)],
        ..Self::BUSY_DAY
    };

    /// The user of the first account logs in elsewhere. Whenever the fleet logs in again, so does the user.
    pub const RIVAL: Self = Self {
        name: "a_rival_ends_our_sessions_for_an_hour",
        faults: &[lasting(Fault::Rival, HOUR), again(Fault::Rival)],
        incidents: &[
            (Self::BREAKS_AT, Incident::RivalLogsIn),
            (Self::BREAKS_AGAIN_AT - HOUR / 2, Incident::SessionsRevoked),
            (Self::BREAKS_AGAIN_AT, Incident::RivalLogsIn),
        ],
        ..Self::BUSY_DAY
    };

    /// Every other caller reports its live token, and every probe reports it as dead.
    pub const LIES: Self = Self {
        name: "callers_and_probes_lie_for_an_hour",
        faults: &[lasting(Fault::Lies, HOUR), again(Fault::Lies)],
        incidents: &[(Self::BREAKS_AGAIN_AT - HOUR / 2, Incident::SessionsRevoked)],
        ..Self::BUSY_DAY
    };

    /// All sessions are revoked, and logins are refused with 400 or 403.
    pub const LOGINS_FORBIDDEN: Self = Self {
        name: "logins_are_forbidden_for_an_hour",
        faults: &[lasting(Fault::LoginsForbidden, HOUR)],
        incidents: &[(Self::BREAKS_AT + MINUTE, Incident::SessionsRevoked)],
        ..Self::BUSY_DAY
    };

    /// A thousand accounts share one address, and so one login budget: at first, and after all sessions were revoked.
    pub const THOUSAND_ACCOUNTS: Self = Self {
        name: "a_thousand_accounts_share_one_address",
        days: 2,
        accounts: 1_000,
        instances: 100,
        instance_life_ms: 6 * HOUR,
        requests_a_day: 100_000,
        token_life_ms: DAY,
        incidents: &[(16 * HOUR, Incident::SessionsRevoked)],
        ..Self::CALM
    };

    /// Four processes serve many requests at the same time. Callers hang up, ports panic, processes are stopped, and
    /// replies are lost. Only for a test.
    pub const CROWDED: Self = Self {
        name: "requests_share_processes_that_fail",
        runs: 3,
        accounts: 2,
        instances: 4,
        token_life_ms: 10 * MINUTE,
        maintained: true,
        false_reports: true,
        faults: &[
            PlannedFault { fault: Fault::HangUps, start: Start::At(HOUR), lasts_ms: 8 * HOUR },
            PlannedFault { fault: Fault::Panics, start: Start::At(2 * HOUR), lasts_ms: 8 * HOUR },
            PlannedFault { fault: Fault::StoreLosesReplies, start: Start::At(3 * HOUR), lasts_ms: 2 * HOUR },
            PlannedFault { fault: Fault::UpstreamHangs, start: Start::At(6 * HOUR), lasts_ms: HOUR },
            PlannedFault { fault: Fault::Pauses, start: Start::At(8 * HOUR), lasts_ms: 4 * HOUR },
            PlannedFault { fault: Fault::Kills, start: Start::At(12 * HOUR), lasts_ms: 2 * HOUR },
        ],
        ..Self::BUSY_DAY
    };

    /// One day with two requests a second, for 50 instances.
    const BUSY_DAY: Self = Self { days: 1, instances: 50, requests_a_day: 200_000, ..Self::CALM };
}

const fn again(fault: Fault) -> PlannedFault {
    PlannedFault { fault, start: Start::At(Plan::BREAKS_AGAIN_AT), lasts_ms: HOUR }
}

const fn lasting(fault: Fault, lasts_ms: u64) -> PlannedFault {
    PlannedFault { fault, start: Start::At(Plan::BREAKS_AT), lasts_ms }
}
