//! The counts of a run.

use std::collections::BTreeMap;

/// What the tests and the table compare.
#[derive(Default)]
pub struct Tally {
    /// Requests for a token.
    pub requests: u64,
    /// Requests that got no token, by error code.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// Requests that got no token, by account.
    pub failed_by_account: Vec<u64>,
    /// Failures on instances that had the account in their cache.
    pub warm_failures: u64,
    /// Tokens handed out that were dead upstream.
    pub dead_tokens: u64,
    /// Logins that arrived upstream, by account.
    pub logins_by_account: Vec<u64>,
    /// Refreshes that arrived upstream, by account.
    pub(crate) refreshes_by_account: Vec<u64>,
    /// When the upstream gave new pairs, in milliseconds of the run, by account.
    pub(crate) renewals_ms: Vec<Vec<u64>>,
    /// When login permits were acquired, in milliseconds of the run, by account.
    pub(crate) permits_ms: Vec<Vec<u64>>,
    /// Requests and replies that were lost, each of which may cost a login to repair.
    pub(crate) losses: u64,
    /// Conflicting writes, for each lease that was released or has lapsed.
    pub(crate) conflicts: Vec<usize>,
    /// The longest wait of a request whose instance was not stopped.
    pub longest_wait_ms: u64,
    /// The longest wait for a token that existed when the request arrived.
    pub longest_hold_ms: u64,
    /// The longest waits of failed requests, by error code.
    pub(crate) longest_failures_ms: BTreeMap<&'static str, u64>,
    /// The longest run of the schedule.
    pub longest_maintenance_ms: u64,
    /// The most accounts that one run of the schedule left for the next.
    pub postponed: usize,
    /// The most logins that arrived within 60 s.
    pub most_logins_in_a_minute: usize,
    /// Replies 429, to any call.
    pub limited: u64,
    /// Logins that obtained a pair while an earlier token of the account was alive.
    pub needless_logins: u64,
    /// Refresh tokens of grants that were sent again within the grace period.
    pub sent_within_grace: u64,
    /// Refresh tokens of grants that were sent again after the access token had ended.
    pub sent_as_last_resort: u64,
    /// Grants that the upstream ended because a refresh token was used twice.
    pub grants_ended: u64,
    /// Violations of each invariant, for baselines.
    pub broken: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Logins that arrived upstream.
    pub fn logins(&self) -> u64 {
        self.logins_by_account.iter().sum()
    }

    /// Refreshes that arrived upstream.
    pub fn refreshes(&self) -> u64 {
        self.refreshes_by_account.iter().sum()
    }

    /// New pairs that the upstream gave to an account within a part of the run.
    pub fn renewals(&self, account: usize, from_ms: u64, until_ms: u64) -> usize {
        count(&self.renewals_ms, account, from_ms, until_ms)
    }

    /// Login permits that an account acquired within a part of the run.
    pub fn permits(&self, account: usize, from_ms: u64, until_ms: u64) -> usize {
        count(&self.permits_ms, account, from_ms, until_ms)
    }

    /// The longest wait of a request that failed with this code.
    pub fn longest_failure_ms(&self, code: &'static str) -> u64 {
        self.longest_failures_ms.get(code).copied().unwrap_or(0)
    }

    /// Requests that got no token.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The fraction of the requests that got a live token.
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 requests")]
    pub fn availability(&self) -> f64 {
        1.0 - (self.failed() + self.dead_tokens) as f64 / self.requests.max(1) as f64
    }

    /// Conflicting writes for one lease, at the 99th percentile.
    pub fn conflicts_p99(&self) -> usize {
        let mut sorted = self.conflicts.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0)
    }

    /// The tally in one line.
    pub fn line(&self) -> String {
        format!(
            "{} requests, availability {:.5} %, failures {:?} ({} warm), {} dead tokens, logins {}, refreshes {}, \
             {} losses, conflicts p99 {} (most {}, {} leases), longest wait {} ms",
            self.requests,
            100.0 * self.availability(),
            self.failures,
            self.warm_failures,
            self.dead_tokens,
            by_account(&self.logins_by_account),
            by_account(&self.refreshes_by_account),
            self.losses,
            self.conflicts_p99(),
            self.conflicts.iter().max().unwrap_or(&0),
            self.conflicts.len(),
            self.longest_wait_ms,
        )
    }
}

fn count(times_ms: &[Vec<u64>], account: usize, from_ms: u64, until_ms: u64) -> usize {
    let within = |at_ms: &&u64| (from_ms..until_ms).contains(*at_ms);
    times_ms.get(account).map_or(0, |times| times.iter().filter(within).count())
}

/// The number of each account, or the sum if there are many accounts.
fn by_account(numbers: &[u64]) -> String {
    match numbers.len() {
        0..10 => format!("{numbers:?}"),
        accounts => format!("{} of {accounts} accounts", numbers.iter().sum::<u64>()),
    }
}
