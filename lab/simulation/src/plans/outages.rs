//! One dependency is down for an hour.

use super::{Plan, PlannedFault, Start};
use crate::{DAY, HOUR, faults::Fault};

impl Plan {
    /// The table is down for the hour in which the pair is due. Meanwhile, instances answer from their caches, and an
    /// instance that starts in that hour cannot answer at all. So these instances live for a day, and each gets a
    /// request every few minutes.
    pub const TABLE_DOWN: Self = Self {
        name: "the_table_is_down_for_an_hour",
        accounts: 1,
        instances: 50,
        instance_life_ms: DAY,
        faults: &[when_due(Fault::StoreDown)],
        ..Self::CALM
    };

    /// The table throttles in that hour.
    pub const TABLE_THROTTLES: Self = Self {
        name: "the_table_throttles_for_an_hour",
        faults: &[when_due(Fault::StoreThrottles)],
        ..Self::TABLE_DOWN
    };

    /// The table loses replies in that hour.
    pub const TABLE_LOSES_REPLIES: Self = Self {
        name: "the_table_loses_replies_for_an_hour",
        faults: &[when_due(Fault::StoreLosesReplies)],
        ..Self::TABLE_DOWN
    };

    /// A large fleet loses its table at the busiest time of day. These instances live for half a day. Many have had no
    /// request before the outage, or start during it.
    pub const TABLE_DOWN_AT_NOON: Self = Self {
        name: "the_table_is_down_at_noon",
        accounts: 1,
        faults: &[PlannedFault {
            fault: Fault::StoreDown,
            start: Start::At(6 * DAY + 12 * HOUR),
            lasts_ms: HOUR,
        }],
        ..Self::CALM
    };

    /// Secrets Manager is down for the hour in which the pair is due.
    pub const SECRETS_DOWN: Self =
        outage("the_secrets_are_down_for_an_hour", &[when_due(Fault::SecretsDown)]);

    /// The upstream is unreachable in that hour.
    pub const UPSTREAM_UNREACHABLE: Self =
        outage("the_upstream_is_unreachable_for_an_hour", &[when_due(Fault::UpstreamUnreachable)]);

    /// The upstream answers 500 in that hour.
    pub const UPSTREAM_FAILS: Self =
        outage("the_upstream_fails_for_an_hour", &[when_due(Fault::UpstreamFails)]);

    /// The upstream never answers in that hour.
    pub const UPSTREAM_HANGS: Self =
        outage("the_upstream_hangs_for_an_hour", &[when_due(Fault::UpstreamHangs)]);

    /// The upstream's replies are lost in that hour.
    pub const UPSTREAM_LOSES_REPLIES: Self =
        outage("the_upstream_loses_replies_for_an_hour", &[when_due(Fault::UpstreamLosesReplies)]);

    /// The upstream answers 429 in that hour.
    pub const UPSTREAM_LIMITS: Self =
        outage("the_upstream_limits_for_an_hour", &[when_due(Fault::UpstreamLimits)]);
}

const fn when_due(fault: Fault) -> PlannedFault {
    PlannedFault { fault, start: Start::Due, lasts_ms: HOUR }
}

const fn outage(name: &'static str, faults: &'static [PlannedFault]) -> Plan {
    Plan { name, instances: 1_000, faults, accounts: 1, ..Plan::CALM }
}
