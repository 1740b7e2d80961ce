//! One instance of the function: its clock, its memory, and the one invocation that it works on.

use super::strategy::Client;
use fastrand::Rng;
use protocol::{Request, Memory, Timestamp};

/// An instance. One that nobody asks costs nothing.
pub struct Instance {
    /// Drawn anew at each birth, so that a message to a dead instance is told from one to its successor.
    pub life: u64,
    /// How far its clock is ahead. Any two differ by the margin at most.
    pub clock_ahead_ms: i64,
    /// What it remembers, by account.
    pub memories: Vec<Cache>,
    /// Until when a 429 keeps it from sending, where there is no broker.
    pub retry_until: Option<Timestamp>,
    pub job: Option<Job>,
}

/// One invocation.
pub struct Job {
    pub account: usize,
    pub ask: Request,
    pub client: Client,
    /// When the request arrived, by true time: it may have waited for an instance since.
    pub arrived_ms: u64,
    /// When the caller is gone, by true time.
    pub deadline_ms: u64,
    /// What is lost from now on may cost a login to repair.
    pub renews: bool,
    /// Accounts that a maintenance has still to look at.
    pub rest: Vec<usize>,
    /// Whether nothing was known of the account when the request came.
    pub began_cold: bool,
    /// Whether the instance was stopped on the way: its caller waits for that, not for the protocol.
    pub stopped: bool,
}

impl Instance {
    pub fn born(life: u64, accounts: usize, margin_ms: i64, rng: &mut Rng) -> Self {
        let clock_ahead_ms = rng.i64(-margin_ms / 2..=margin_ms / 2);
        let memories = vec![Cache::default(); accounts];
        Self { life, clock_ahead_ms, memories, retry_until: None, job: None }
    }

    pub fn clock(&self, true_ms: u64) -> Timestamp {
        Timestamp::from_millis(true_ms.saturating_add_signed(self.clock_ahead_ms))
    }

    pub fn true_ms(&self, clock: Timestamp) -> u64 {
        clock.as_millis().saturating_add_signed(-self.clock_ahead_ms)
    }

    /// Keeps what a request has learned. Of an account that does not exist nothing is kept.
    pub fn remember(&mut self, account: usize, memory: &Cache) {
        let known = memory.copy.as_ref().is_some_and(|copy| copy.account.version.0 != 0);
        self.memories[account] = if known { memory.clone() } else { Cache::default() };
    }
}
