//! Configurations of the model: the fleet, its requests, and the faults.

use crate::mutations::Guard;
use std::time::Duration;
use token_broker_protocol::{Generation, Intent, Policy, Timestamp};

/// When every run begins. All instants of the model are whole seconds.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_000_000_000);
/// The generation of a record's initial pair.
pub(crate) const FIRST: Generation = Generation(7);
/// An ordinary request.
pub(crate) const TOKEN: Intent = Intent::Token { min_ttl: Duration::from_secs(60), rejected: None };

/// A placeholder for the generation of the instance's last answer.
pub(crate) const LATEST: Generation = Generation(u64::MAX);
/// A request that reports the token which the instance last answered with.
pub(crate) const REPORT_LATEST: Intent =
    Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(LATEST) };

/// A pair that expires within the run and can be refreshed.
pub(crate) const REFRESHABLE: InitialRecord =
    InitialRecord::Pair { seconds_left: 30, access: true, refresh: true };

/// One configuration of the model.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// How many seconds the wall clock of each instance is ahead.
    pub(crate) clocks: Vec<i64>,
    /// Whether the store dates its replies, so that instances correct their clocks.
    pub(crate) dated: bool,
    /// How often the wall clock of an instance may step in one run, and by how many seconds.
    pub(crate) steps: u8,
    pub(crate) step: i64,
    /// The requests that each instance gets one after another, as account and intent.
    pub(crate) requests: Vec<Vec<(usize, Intent)>>,
    /// The records of all accounts, for each of the initial states.
    pub(crate) records: Vec<Vec<InitialRecord>>,
    /// Whether the upstream accepts each version of the secrets.
    pub(crate) secrets: Vec<bool>,
    /// Faults in one run: lost and delayed writes, lost replies, failed reads, crashes.
    pub(crate) faults: u8,
    /// How often time may pass in one run while an instance has something to do.
    pub(crate) pauses: u8,
    /// How often another login of the same user may end all sessions of an account in one run.
    pub(crate) lost_sessions: u8,
    /// Outages that may begin at any moment and last for any time. Each is a fault.
    pub(crate) outages: &'static [Outage],
    /// Logins that the fleet may send in a minute.
    pub(crate) login_budget: usize,
    /// How long an access token lives.
    pub(crate) lifetime: Duration,
    /// The refresh token that a refresh returns.
    pub(crate) successor: Successor,
    /// Whether probes find every token dead.
    pub(crate) probes_lie: bool,
    /// Whether every request is selected for early refresh, or none.
    pub(crate) early_refresh: bool,
    /// No pause ends later than this many seconds after the start.
    pub(crate) horizon: u64,
    /// The guard that is removed, to show what it prevents.
    pub(crate) without: Option<Guard>,
}

/// What an outage of the table refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outage {
    /// Reads and writes.
    Table,
    /// Writes only, as after a lost permission.
    Writes,
}

/// The refresh token that comes with a refreshed access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Successor {
    /// A new one. The old one is consumed.
    New,
    /// The one that was sent.
    Same,
    /// None. The one that was sent stays valid.
    Absent,
}

/// The record of an account at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InitialRecord {
    Absent,
    Pair {
        seconds_left: u64,
        /// Whether the upstream still accepts the access token.
        access: bool,
        /// Whether the upstream still accepts the refresh token.
        refresh: bool,
    },
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            clocks: vec![2, 0],
            dated: false,
            steps: 0,
            step: 0,
            requests: vec![vec![(0, TOKEN)]; 2],
            records: vec![vec![InitialRecord::Absent]],
            secrets: vec![true],
            faults: 1,
            pauses: 1,
            lost_sessions: 0,
            outages: &[],
            login_budget: 3,
            lifetime: Duration::from_secs(7 * 86_400),
            successor: Successor::New,
            probes_lie: false,
            early_refresh: false,
            horizon: 80,
            without: None,
        }
    }
}

impl Setting {
    pub(crate) fn policy(&self) -> Policy {
        let clock_margin = match self.without {
            Some(Guard::ClockMargin) => Duration::ZERO,
            _ => Policy::DEFAULT.clock_margin,
        };
        let lease = match self.without {
            Some(Guard::LeaseTimeLeft) => Duration::from_secs(600),
            _ => Policy::DEFAULT.lease,
        };
        Policy { login_budget: self.login_budget, clock_margin, lease, ..Policy::DEFAULT }
    }

    /// The largest difference between two corrected clocks. A date leaves a second open.
    pub(crate) fn clock_difference(&self) -> Duration {
        if self.dated {
            return Duration::from_secs(1);
        }
        let ahead = self.clocks.iter().max().copied().unwrap_or_default();
        Duration::from_secs(ahead.abs_diff(self.clocks.iter().min().copied().unwrap_or_default()))
    }

    /// Whether any request of an instance satisfies a condition.
    pub(crate) fn has(&self, fits: impl Fn(Intent) -> bool) -> bool {
        self.requests.iter().flatten().any(|(_, intent)| fits(*intent))
    }

    /// Whether the instances can be exchanged for each other. Then it is enough to check the runs in which they begin
    /// in order.
    pub(crate) fn instances_are_alike(&self) -> bool {
        let same_clocks = self.clocks.windows(2).all(|two| two[0] == two[1]);
        same_clocks && self.requests.windows(2).all(|two| two[0] == two[1])
    }
}
