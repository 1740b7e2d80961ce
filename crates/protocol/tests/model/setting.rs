//! What is checked: how many instances, what they are asked for, and how much may go wrong.

use crate::mutations::Guard;
use protocol::{Generation, Intent, Policy, Timestamp};
use std::time::Duration;

/// When every run begins. All instants of the model are whole seconds.
pub const START: Timestamp = Timestamp::from_millis(1_000_000_000);
/// The pair that a record may begin with.
pub const FIRST: Generation = Generation(7);
/// An ordinary request.
pub const TOKEN: Intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: None };

/// One configuration of the model.
#[derive(Clone, Debug)]
pub struct Setting {
    /// One entry for each instance: how far its clock is ahead, in seconds.
    pub clocks: Vec<u64>,
    /// For each instance, the requests that it gets one after another: the account, and what for.
    pub requests: Vec<Vec<(usize, Intent)>>,
    /// What the accounts begin with, in each of the initial states.
    pub beginnings: Vec<Vec<Beginning>>,
    /// For each version of the secrets, whether the upstream accepts it.
    pub secrets: Vec<bool>,
    /// What may go wrong in one run: lost and late writes, lost replies, failed reads, dead instances.
    pub faults: u8,
    /// How often, in one run, time may pass while some instance is in the midst of something.
    pub pauses: u8,
    /// Whether the table may be out of reach for a while, which is then the only fault.
    pub outages: bool,
    /// How many logins the fleet may send in a minute.
    pub budget: usize,
    /// How long an access token lives.
    pub life: Duration,
    /// Whether the draw falls on every request to renew a pair that is due, or on none.
    pub eager: bool,
    /// No time passes beyond this many seconds.
    pub horizon: u64,
    /// The guard that is taken away, to show what it is for.
    pub without: Option<Guard>,
}

/// What an account's record holds at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// There is none.
    Nothing,
    /// A pair that lives for that many seconds more.
    Pair {
        /// The rest of its life.
        left: u64,
        /// Whether the upstream still accepts the access token.
        access: bool,
        /// Whether the upstream still accepts the refresh token.
        refresh: bool,
    },
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            clocks: vec![0, 0],
            requests: vec![vec![(0, TOKEN)]; 2],
            beginnings: vec![vec![Beginning::Nothing]],
            secrets: vec![true],
            faults: 1,
            pauses: 1,
            outages: false,
            budget: 2,
            life: Duration::from_secs(7 * 86_400),
            eager: false,
            horizon: 40,
            without: None,
        }
    }
}

impl Setting {
    /// The operator's numbers: the usual ones, but for the budget.
    pub fn policy(&self) -> Policy {
        Policy {
            login_budget: self.budget,
            refresh_ahead: Duration::from_secs(86_400),
            max_ttl: Duration::from_secs(900),
            memory_ttl: Duration::from_secs(30),
            upstream_timeout: Duration::from_secs(5),
            lease: Duration::from_secs(15),
            clock_margin: Duration::from_secs(if self.without == Some(Guard::ClockMargin) { 0 } else { 2 }),
        }
    }

    /// The most that two clocks differ by.
    pub fn clocks_apart(&self) -> Duration {
        let furthest = self.clocks.iter().max().copied().unwrap_or_default();
        Duration::from_secs(furthest - self.clocks.iter().min().copied().unwrap_or_default())
    }

    /// Whether it makes no difference which instance does what, so that it is enough to look at the runs in
    /// which they begin in order.
    pub fn instances_are_alike(&self) -> bool {
        let same_clocks = self.clocks.windows(2).all(|two| two[0] == two[1]);
        same_clocks && self.requests.windows(2).all(|two| two[0] == two[1])
    }
}
