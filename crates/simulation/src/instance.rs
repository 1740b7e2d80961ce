//! One instance of the function: its clock, its cache, and its current invocation.

use crate::strategy::Client;
use fastrand::Rng;
use protocol::{Cache, Policy, Request, Timestamp, millis};

pub(crate) struct Instance {
    /// Differs for every instance that ever lived. It tells a message for a dead instance from one for its successor.
    pub(crate) life: u64,
    /// How far its clock is ahead of true time. Any two clocks differ by the tolerated margin at most.
    clock_ahead_ms: i64,
    /// By account.
    pub(crate) caches: Vec<Cache>,
    /// A baseline sends nothing before this instant, because of a 429.
    pub(crate) retry_until: Option<Timestamp>,
    pub(crate) invocation: Option<Invocation>,
}

pub(crate) struct Invocation {
    pub(crate) account: usize,
    pub(crate) request: Request,
    pub(crate) client: Client,
    /// When the request arrived, by true time. It may have waited for an instance since.
    pub(crate) arrived_ms: u64,
    /// When the caller is gone, by true time.
    pub(crate) deadline_ms: u64,
    /// A loss may cost a login from now on.
    pub(crate) renews: bool,
    /// The accounts that a maintenance has still to do.
    pub(crate) remaining: Vec<usize>,
    /// The cache held nothing of the account when the request came.
    pub(crate) began_cold: bool,
    /// The instance was stopped on the way, so the caller's wait says nothing about the protocol.
    pub(crate) stopped: bool,
}

impl Instance {
    pub(crate) fn new(life: u64, accounts: usize, policy: &Policy, rng: &mut Rng) -> Self {
        let half_margin_ms = (millis(policy.clock_margin) / 2).cast_signed();
        let clock_ahead_ms = rng.i64(-half_margin_ms..=half_margin_ms);
        let caches = vec![Cache::default(); accounts];
        Self { life, clock_ahead_ms, caches, retry_until: None, invocation: None }
    }

    /// What its clock shows at an instant of true time.
    pub(crate) fn clock(&self, true_ms: u64) -> Timestamp {
        Timestamp::from_millis(true_ms.saturating_add_signed(self.clock_ahead_ms))
    }

    /// True time when its clock shows this.
    pub(crate) fn true_ms(&self, clock: Timestamp) -> u64 {
        clock.as_millis().saturating_add_signed(-self.clock_ahead_ms)
    }

    /// Keeps what a request has learned, but nothing of an account without a record.
    pub(crate) fn keep(&mut self, account: usize, cache: &Cache) {
        let known = cache.record.as_ref().is_some_and(|cached| cached.account.version.0 != 0);
        self.caches[account] = if known { cache.clone() } else { Cache::default() };
    }
}
