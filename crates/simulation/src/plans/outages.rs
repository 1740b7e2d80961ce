//! One dependency at a time is down for an hour.

use super::super::faults::Fault;
use super::{CALM, DAY, HOUR, Plan, Planned, When};

/// A month with one dependency down for the hour in which the pair is due. Without the table an instance serves
/// what it remembers, and one that was born since cannot serve at all: so this fleet is of instances that live
/// for a day and are asked every few minutes.
pub const TABLE_DOWN: Plan = Plan {
    name: "the_table_is_down_for_an_hour",
    accounts: 1,
    instances: 50,
    instance_life_ms: DAY,
    faults: &[when_due(Fault::StoreDown)],
    ..CALM
};
pub const TABLE_THROTTLES: Plan = Plan {
    name: "the_table_throttles_for_an_hour",
    faults: &[when_due(Fault::StoreThrottles)],
    ..TABLE_DOWN
};
pub const TABLE_LOSES_REPLIES: Plan = Plan {
    name: "the_table_loses_replies_for_an_hour",
    faults: &[when_due(Fault::StoreLosesReplies)],
    ..TABLE_DOWN
};
pub const SECRETS_DOWN: Plan =
    upstream_fault("the_secrets_are_down_for_an_hour", &[when_due(Fault::SecretsDown)]);
pub const UPSTREAM_UNREACHABLE: Plan =
    upstream_fault("the_upstream_is_unreachable_for_an_hour", &[when_due(Fault::UpstreamUnreachable)]);
pub const UPSTREAM_FAILS: Plan =
    upstream_fault("the_upstream_fails_for_an_hour", &[when_due(Fault::UpstreamFails)]);
pub const UPSTREAM_HANGS: Plan =
    upstream_fault("the_upstream_hangs_for_an_hour", &[when_due(Fault::UpstreamHangs)]);
pub const UPSTREAM_LOSES_REPLIES: Plan =
    upstream_fault("the_upstream_loses_replies_for_an_hour", &[when_due(Fault::UpstreamLosesReplies)]);
pub const UPSTREAM_LIMITS: Plan =
    upstream_fault("the_upstream_limits_for_an_hour", &[when_due(Fault::UpstreamLimits)]);

/// An hour without the table for a large fleet, at the busiest time of day: instances that live for half a day,
/// many of which have not been asked yet when it begins, or are born while it lasts.
pub const TABLE_DOWN_AT_NOON: Plan = Plan {
    name: "the_table_is_down_at_noon",
    accounts: 1,
    faults: &[Planned { fault: Fault::StoreDown, from: When::At(6 * DAY + 12 * HOUR), lasts_ms: HOUR }],
    ..CALM
};

const fn when_due(fault: Fault) -> Planned {
    Planned { fault, from: When::Due, lasts_ms: HOUR }
}

const fn upstream_fault(name: &'static str, faults: &'static [Planned]) -> Plan {
    Plan { name, instances: 1_000, faults, accounts: 1, ..CALM }
}
