//! How a fleet comes by its tokens: through the broker, or as people do it without one.

use super::baselines::{LEAST_LEFT, Today};
use protocol::{Request, Effect, Event, Flow, Memory, Lookup, Policy, AccountName, Pair, Draw, Timestamp};

/// What runs on every instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The production code.
    Broker,
    /// Every instance keeps a pair of its own.
    EachForItself,
    /// One pair in the table for all. Whoever finds it expired renews it, and writes what comes.
    SharedCache,
    /// The same under a lock that lapses. What is renewed is saved whoever has the lock by then.
    LockWithoutFence,
}

impl Strategy {
    /// What people do without the broker.
    pub const OTHERS: [Self; 3] = [Self::EachForItself, Self::SharedCache, Self::LockWithoutFence];

    /// As a reader of tables and legends knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broker => "the broker",
            Self::EachForItself => "each for itself",
            Self::SharedCache => "a shared cache",
            Self::LockWithoutFence => "a lock without a fence",
        }
    }

    /// When a pair is renewed.
    pub fn due_at(self, policy: &Policy, account: &AccountName, pair: &Pair) -> Timestamp {
        match self {
            Self::Broker => policy.due_at(account, pair),
            _ => pair.expires_at.minus(LEAST_LEFT),
        }
    }

    /// What memory alone says to a request.
    pub fn recall(self, memory: &Memory, ask: &Request, policy: &Policy, now: Timestamp, draw: Draw) -> Lookup {
        match self {
            Self::Broker => memory.look_up(ask, policy, now, draw),
            _ => Today::recall(memory, ask, policy, now),
        }
    }
}

/// One request that memory could not answer.
pub enum Client {
    Broker(Flow),
    Today(Today),
}

impl Client {
    pub fn new(strategy: Strategy, ask: Request, memory: Memory, retry_until: Option<Timestamp>) -> Self {
        match strategy {
            Strategy::Broker => Self::Broker(Flow::new(ask, memory)),
            _ => Self::Today(Today::new(strategy, ask, memory, retry_until)),
        }
    }

    pub fn step(&mut self, policy: &Policy, event: Event, now: Timestamp, draw: Draw) -> Effect {
        match self {
            Self::Broker(flow) => flow.step(policy, event, now, draw),
            Self::Today(today) => today.step(policy, event, now, draw),
        }
    }

    /// Until when a 429 keeps the instance from sending, for any account. The broker's fleet has its ledger for that.
    pub fn retry_until(&self) -> Option<Timestamp> {
        match self {
            Self::Broker(_) => None,
            Self::Today(today) => today.retry_until,
        }
    }

    /// What the instance has learnt.
    pub fn memory(&self) -> &Memory {
        match self {
            Self::Broker(flow) => flow.memory(),
            Self::Today(today) => today.memory(),
        }
    }
}
