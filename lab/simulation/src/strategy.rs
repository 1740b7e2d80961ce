//! How a fleet obtains its tokens: through the broker, or with a common design without it.

use crate::baselines::SHORTEST_TTL;
use protocol::{AccountName, Pair, Policy, Timestamp};

/// What runs on every instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The production code.
    Broker,
    /// Every instance has its own pair.
    NoSharing,
    /// The table holds one pair for all. An instance that finds it expired renews it and overwrites it.
    SharedCache,
    /// A shared cache with a lock that lapses. The new pair is saved even if another instance holds the lock by then.
    LockWithoutFence,
}

impl Strategy {
    /// The common designs without the broker.
    pub const BASELINES: [Self; 3] = [Self::NoSharing, Self::SharedCache, Self::LockWithoutFence];

    /// The name in tables and legends.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "the broker",
            Self::NoSharing => "no sharing",
            Self::SharedCache => "a shared cache",
            Self::LockWithoutFence => "a lock without a fence",
        }
    }

    /// When a pair is due for renewal.
    pub(crate) fn due_at(self, policy: &Policy, account: &AccountName, pair: &Pair) -> Timestamp {
        match self {
            Self::Broker => policy.due_at(account, pair),
            _ => pair.expires_at.minus(SHORTEST_TTL),
        }
    }
}
