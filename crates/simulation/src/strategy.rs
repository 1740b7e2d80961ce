//! How a fleet obtains its tokens: through the broker, or with a common design without it.

use crate::baselines::{Baseline, SHORTEST_TTL};
use protocol::{AccountName, Cache, Context, Event, Flow, Lookup, Pair, Policy, Request, Step, Timestamp};

/// What runs on every instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The production code.
    Broker,
    /// Every instance has a pair of its own.
    EachForItself,
    /// The table holds one pair for all. An instance that finds it expired renews it and overwrites it.
    SharedCache,
    /// A shared cache with a lock that lapses. The new pair is saved even if another instance holds the lock by then.
    LockWithoutFence,
}

impl Strategy {
    /// The common designs without the broker.
    pub const BASELINES: [Self; 3] = [Self::EachForItself, Self::SharedCache, Self::LockWithoutFence];

    /// The name in tables and legends.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "the broker",
            Self::EachForItself => "each for itself",
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

    /// What the cache alone says to a request.
    pub(crate) fn look_up(self, cache: &Cache, request: &Request, cx: Context<'_>) -> Lookup {
        match self {
            Self::Broker => cache.look_up(request, cx),
            _ => Baseline::look_up(cache, request, cx),
        }
    }
}

/// One request that the cache could not answer.
pub(crate) enum Client {
    Broker(Flow),
    Baseline(Baseline),
}

impl Client {
    pub(crate) fn new(
        strategy: Strategy,
        request: Request,
        cache: Cache,
        retry_until: Option<Timestamp>,
    ) -> Self {
        match strategy {
            Strategy::Broker => Self::Broker(Flow::new(request, cache)),
            _ => Self::Baseline(Baseline::new(strategy, request, cache, retry_until)),
        }
    }

    pub(crate) fn begin(&mut self, cx: Context<'_>) -> Step {
        match self {
            Self::Broker(flow) => flow.begin(cx),
            Self::Baseline(baseline) => baseline.begin(cx),
        }
    }

    pub(crate) fn step(&mut self, cx: Context<'_>, event: Event) -> Step {
        match self {
            Self::Broker(flow) => flow.step(cx, event),
            Self::Baseline(baseline) => baseline.step(cx, event),
        }
    }

    /// No call of this instance before then, for any account, because of a 429. The broker has its login rate limiter
    /// for that.
    pub(crate) fn retry_until(&self) -> Option<Timestamp> {
        match self {
            Self::Broker(_) => None,
            Self::Baseline(baseline) => baseline.retry_until(),
        }
    }

    /// What the instance knows now.
    pub(crate) fn cache(&self) -> &Cache {
        match self {
            Self::Broker(flow) => flow.cache(),
            Self::Baseline(baseline) => baseline.cache(),
        }
    }
}
