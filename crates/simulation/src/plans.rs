//! The plans: who asks how often, and what goes wrong when. All times count from the start of the run.

mod outages;

use super::faults::Fault;
pub use outages::{
    SECRETS_DOWN, TABLE_DOWN, TABLE_DOWN_AT_NOON, TABLE_LOSES_REPLIES, TABLE_THROTTLES, UPSTREAM_FAILS,
    UPSTREAM_HANGS, UPSTREAM_LIMITS, UPSTREAM_LOSES_REPLIES, UPSTREAM_UNREACHABLE,
};

pub const SECOND: u64 = 1_000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;

/// What a run is about. Numbers that a plan does not name are those of [`CALM`].
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each switches something of its own on")]
pub struct Plan {
    pub name: &'static str,
    /// How many runs, with the seeds from 1.
    pub runs: u64,
    pub days: u64,
    pub accounts: usize,
    pub login_budget: usize,
    pub instances: usize,
    /// How long an instance lives on average.
    pub instance_life_ms: u64,
    /// Single requests. One in 500 brings a burst of up to a fifth of the fleet with it.
    pub requests_a_day: u64,
    pub token_life_ms: u64,
    /// Whether each use of an access token renews it.
    pub slides: bool,
    /// Whether the upstream's answers vary as far as the documentation lets them.
    pub varies: bool,
    /// Whether the schedule asks for maintenance every five minutes.
    pub maintained: bool,
    /// All instances ask at the very instant at which a pair expires.
    pub herds: bool,
    /// Whether now and then a caller reports a token that is alive.
    pub false_reports: bool,
    pub faults: &'static [Planned],
    /// So many windows of any kind, of up to an hour, are drawn in addition. They spare the last two days.
    pub drawn_faults: usize,
    pub happenings: &'static [(u64, Happening)],
}

/// A window of a fault.
#[derive(Clone, Copy)]
pub struct Planned {
    pub fault: Fault,
    pub from: When,
    pub lasts_ms: u64,
}

#[derive(Clone, Copy)]
pub enum When {
    /// So long after the start.
    At(u64),
    /// Five minutes before the first account's first pair is due.
    Due,
}

/// What happens to the whole fleet at one instant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// All sessions are revoked upstream.
    Revoked,
    /// All secrets get a new version, with the right password.
    RightSecret,
    /// All secrets get a new version, with a wrong password.
    WrongSecret,
}

/// A month in which nothing goes wrong: a thousand instances, three accounts, some 430,000 requests.
pub const CALM: Plan = Plan {
    name: "a_faultless_month",
    runs: 1,
    days: 30,
    accounts: 3,
    login_budget: 5,
    instances: 1_000,
    instance_life_ms: 12 * HOUR,
    requests_a_day: 12_000,
    token_life_ms: 7 * DAY,
    slides: false,
    varies: false,
    maintained: true,
    herds: false,
    false_reports: false,
    faults: &[],
    drawn_faults: 0,
    happenings: &[],
};

/// The schedule is switched off: callers renew what is due.
pub const UNMAINTAINED: Plan = Plan { name: "a_month_without_the_schedule", maintained: false, ..CALM };

/// The same with tokens that live for an hour, for renewals enough to speak of percentiles.
pub const UNMAINTAINED_HOURLY: Plan = Plan {
    name: "hourly_tokens_without_the_schedule",
    days: 10,
    requests_a_day: 40_000,
    token_life_ms: HOUR,
    ..UNMAINTAINED
};

/// Nobody asks, and then all at once: a thousand instances at the very instant at which the pair ends.
pub const HERDS: Plan = Plan {
    name: "a_herd_at_each_expiry",
    days: 5,
    accounts: 1,
    requests_a_day: 1,
    token_life_ms: HOUR,
    maintained: false,
    herds: true,
    ..CALM
};

/// The same, and whoever is first to renew dies over it, after sending or before.
pub const DEAD_HOLDERS: Plan = Plan {
    name: "whoever_renews_for_the_herd_dies",
    days: 3,
    faults: &[Planned { fault: Fault::HoldersDie, from: When::At(HOUR / 2), lasts_ms: 2 * DAY }],
    ..HERDS
};

/// Somebody behind the same address uses up the logins when the fleet needs them: at its first hour, and
/// after all sessions were revoked.
pub const NEIGHBOUR: Plan = Plan {
    name: "a_neighbour_uses_up_the_logins",
    days: 5,
    faults: &[
        Planned { fault: Fault::Neighbour, from: When::At(0), lasts_ms: HOUR },
        Planned { fault: Fault::Neighbour, from: When::At(2 * DAY), lasts_ms: HOUR },
    ],
    happenings: &[(2 * DAY + MINUTE, Happening::Revoked)],
    ..CALM
};

/// Sessions are revoked, now and then while a pair is being renewed; some callers report tokens that live.
pub const REVOCATIONS: Plan = Plan {
    name: "sessions_are_revoked",
    days: 10,
    slides: true,
    false_reports: true,
    happenings: &[
        (DAY, Happening::Revoked),
        (2 * DAY, Happening::Revoked),
        (2 * DAY + 10 * SECOND, Happening::Revoked),
        (3 * DAY + HOUR, Happening::Revoked),
        (6 * DAY + HOUR, Happening::Revoked),
    ],
    ..CALM
};

/// Secrets are rotated, once to a wrong password just before it is needed.
pub const SECRETS: Plan = Plan {
    name: "secrets_are_rotated",
    days: 6,
    happenings: &[
        (DAY, Happening::RightSecret),
        (2 * DAY, Happening::WrongSecret),
        (2 * DAY + MINUTE, Happening::Revoked),
        (2 * DAY + HOUR, Happening::WrongSecret),
        (2 * DAY + 2 * HOUR, Happening::RightSecret),
        (3 * DAY, Happening::Revoked),
    ],
    ..CALM
};

/// Instances are stopped beyond their leases and die, while tokens of one hour are renewed all the time.
pub const PAUSES: Plan = Plan {
    name: "instances_are_stopped_and_die",
    days: 4,
    requests_a_day: 60_000,
    token_life_ms: HOUR,
    maintained: false,
    faults: &[
        Planned { fault: Fault::Pauses, from: When::At(0), lasts_ms: 3 * DAY },
        Planned { fault: Fault::Kills, from: When::At(DAY), lasts_ms: DAY },
    ],
    ..CALM
};

/// Three accounts that need logins all the time share one login a minute, while requests arrive late, replies
/// are lost and instances are stopped after they have paid.
pub const ONE_LOGIN: Plan = Plan {
    name: "one_login_a_minute_for_all",
    runs: 2,
    days: 2,
    login_budget: 1,
    requests_a_day: 60_000,
    token_life_ms: 20 * SECOND,
    maintained: false,
    faults: &[
        Planned { fault: Fault::UpstreamHangs, from: When::At(0), lasts_ms: 40 * HOUR },
        Planned { fault: Fault::Pauses, from: When::At(HOUR), lasts_ms: 30 * HOUR },
        Planned { fault: Fault::StoreLosesReplies, from: When::At(8 * HOUR), lasts_ms: 20 * HOUR },
    ],
    ..CALM
};

/// All of it, at random, on tokens that live as the upstream says.
pub const EVERYTHING: Plan = Plan {
    name: "everything_at_once",
    runs: 4,
    days: 15,
    slides: true,
    varies: true,
    false_reports: true,
    drawn_faults: 150,
    happenings: &[
        (DAY, Happening::Revoked),
        (3 * DAY, Happening::RightSecret),
        (4 * DAY, Happening::Revoked),
        (5 * DAY, Happening::WrongSecret),
        (5 * DAY + HOUR, Happening::Revoked),
        (5 * DAY + 3 * HOUR, Happening::RightSecret),
        (9 * DAY, Happening::Revoked),
    ],
    ..CALM
};

/// All of it, on tokens that live for an hour and without the schedule.
pub const EVERYTHING_HOURLY: Plan = Plan {
    name: "everything_at_once_on_hourly_tokens",
    runs: 4,
    days: 5,
    requests_a_day: 60_000,
    token_life_ms: HOUR,
    maintained: false,
    drawn_faults: 60,
    happenings: &[(DAY, Happening::Revoked), (2 * DAY, Happening::Revoked)],
    ..EVERYTHING
};

/// A herd that is small enough for those who send at once, too, to be done soon.
pub const SMALL_HERDS: Plan =
    Plan { name: "a_herd_without_the_broker_meets_the_limit", instances: 300, days: 1, ..HERDS };

/// Instances that are stopped, for a day of tokens that live for ten minutes.
pub const SHORT_PAUSES: Plan = Plan {
    name: "a_lock_without_a_fence_does_not_outlast_a_pause",
    days: 1,
    token_life_ms: 10 * MINUTE,
    ..PAUSES
};

/// All plans that are told of, in the order in which one reads of them.
pub const ALL: [Plan; 22] = [
    CALM,
    UNMAINTAINED,
    UNMAINTAINED_HOURLY,
    HERDS,
    DEAD_HOLDERS,
    TABLE_DOWN,
    TABLE_DOWN_AT_NOON,
    TABLE_THROTTLES,
    TABLE_LOSES_REPLIES,
    SECRETS_DOWN,
    UPSTREAM_UNREACHABLE,
    UPSTREAM_FAILS,
    UPSTREAM_HANGS,
    UPSTREAM_LOSES_REPLIES,
    UPSTREAM_LIMITS,
    NEIGHBOUR,
    REVOCATIONS,
    SECRETS,
    PAUSES,
    ONE_LOGIN,
    EVERYTHING,
    EVERYTHING_HOURLY,
];
