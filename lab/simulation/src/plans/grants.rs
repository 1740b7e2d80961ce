//! Grants that only a person can renew, at a server that ends a grant if a refresh token is used twice.

use super::{Plan, PlannedFault, Start};
use crate::{HOUR, MINUTE, faults::Fault};

impl Plan {
    /// Calls fail in every way, with a grace period of ten minutes. No grant may be lost. Only for a test.
    pub const GRANT_IN_DOUBT: Self =
        Self { name: "a_grant_in_doubt", grace_ms: Some(10 * MINUTE), ..Self::LOST_GRANT };

    /// Without a grace period, some are. A person consents again half an hour after the record says so. Only for a test.
    pub const LOST_GRANT: Self = Self {
        name: "a_lost_grant",
        runs: 2,
        days: 2,
        accounts: 4,
        instances: 50,
        instance_life_ms: HOUR,
        requests_a_day: 40_000,
        token_life_ms: 20 * MINUTE,
        grace_ms: Some(0),
        faults: &[
            from(HOUR, Fault::UpstreamFlaky, 36 * HOUR),
            from(6 * HOUR, Fault::Kills, 4 * HOUR),
            from(12 * HOUR, Fault::Pauses, 4 * HOUR),
            from(18 * HOUR, Fault::StoreLosesReplies, 4 * HOUR),
            from(24 * HOUR, Fault::SecretsDown, HOUR / 2),
        ],
        ..Self::CALM
    };
}

const fn from(from_ms: u64, fault: Fault, lasts_ms: u64) -> PlannedFault {
    PlannedFault { fault, start: Start::At(from_ms), lasts_ms }
}
