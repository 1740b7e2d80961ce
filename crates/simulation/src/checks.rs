//! The invariants, checked at every step by true time, and the tally of a run. The broker must not break one of
//! them; where anything else runs, it is counted how often.
//!
//! | | is checked |
//! | --- | --- |
//! | I1, I2, I6 | where a call arrives upstream |
//! | I3 | where a write of the record is carried out |
//! | I4, I7 | where a request is answered |
//! | I5 | where a login leaves |
//! | I8 | by the plans with an outage, which say how many logins there may be |

use super::{
    figures::Figures,
    plans::{Plan, SECOND},
    strategy::Strategy,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use protocol::{Effect, Call, Policy, Account, Generation};

/// What a run has seen so far.
pub struct Checks {
    plan: Plan,
    strategy: Strategy,
    seed: u64,
    login_budget: usize,
    login_arrivals_ms: VecDeque<u64>,
    /// By account: the highest generation so far, and which access token each generation names.
    highest: Vec<Option<Generation>>,
    named: HashMap<(usize, Generation), String>,
    leased: Vec<bool>,
    conflicts_of_lease: Vec<usize>,
    pub tally: Tally,
    pub figures: Figures,
}

/// What a run is judged by.
#[derive(Default)]
pub struct Tally {
    pub requests: u64,
    /// Requests that got no token, by reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// Those of them whose instance had known the account.
    pub warm_failures: u64,
    /// Tokens handed out that were dead upstream.
    pub dead_tokens: u64,
    /// By account: logins and refreshes that arrived upstream.
    pub logins: Vec<u64>,
    pub refreshes: Vec<u64>,
    /// What was lost on the way and may cost a login to repair.
    pub losses: u64,
    /// Conflicting writes, for each lease that was given back or has lapsed.
    pub conflicts: Vec<usize>,
    pub longest_wait_ms: u64,
    /// The most logins that arrived within 60 s.
    pub most_logins_in_a_minute: usize,
    /// Answers 429, to whatever call.
    pub limited: u64,
    /// Logins that brought a pair while an earlier token of the account was alive.
    pub needless_logins: u64,
    /// How often each invariant was broken, where that is allowed.
    pub broken: BTreeMap<&'static str, u64>,
}

impl Checks {
    pub fn new(plan: Plan, strategy: Strategy, policy: &Policy, seed: u64) -> Self {
        Self {
            plan,
            strategy,
            seed,
            login_budget: policy.login_budget,
            login_arrivals_ms: VecDeque::new(),
            highest: vec![None; plan.accounts],
            named: HashMap::new(),
            leased: vec![false; plan.accounts],
            conflicts_of_lease: vec![0; plan.accounts],
            tally: Tally {
                logins: vec![0; plan.accounts],
                refreshes: vec![0; plan.accounts],
                ..Tally::default()
            },
            figures: Figures::default(),
        }
    }

    /// Fails the run if this does not hold, and says how to see it again: the crate knows by which command.
    pub fn require(&self, holds: bool, what: impl FnOnce() -> String) {
        let Self { plan, strategy, seed, .. } = self;
        let (name, command) = (plan.name, crate::command(plan, *seed));
        assert!(holds, "{}\nplan {name}, {}, seed {seed}; again: {command}", what(), strategy.name());
    }

    /// Fails the run if the broker breaks an invariant.
    pub fn hold(&mut self, invariant: &'static str, holds: bool, what: impl FnOnce() -> String) {
        if self.strategy == Strategy::Broker {
            self.require(holds, || format!("{invariant}: {}", what()));
        } else if !holds {
            *self.tally.broken.entry(invariant).or_default() += 1;
        }
    }

    /// I1 and I6, where a call arrives upstream.
    pub fn call_arrives(&mut self, account: usize, call: &Call, now_ms: u64) {
        match call {
            Call::Login(_) => self.tally.logins[account] += 1,
            Call::Refresh { .. } => self.tally.refreshes[account] += 1,
            Call::Revoke(_) | Call::Probe { .. } => {}
        }
        if !matches!(call, Call::Login(_)) {
            return;
        }
        self.login_arrivals_ms.retain(|at_ms| at_ms + 60 * SECOND > now_ms);
        self.login_arrivals_ms.push_back(now_ms);
        self.figures.login(now_ms);
        let (in_a_minute, budget) = (self.login_arrivals_ms.len(), self.login_budget);
        let most = &mut self.tally.most_logins_in_a_minute;
        *most = in_a_minute.max(*most);
        self.hold("I1", in_a_minute <= budget, || format!("{in_a_minute} logins within 60 s at {now_ms}"));
        let (logins, allowed) = (self.tally.logins(), self.tally.logins.len() as u64 + self.tally.losses);
        self.hold("I6", logins <= allowed, || format!("{logins} logins, where {allowed} explain themselves"));
    }

    /// I2, where a refresh token arrives.
    pub fn arrives_again(&mut self, again: bool, now_ms: u64) {
        self.hold("I2", !again, || format!("a refresh token arrived a second time at {now_ms}"));
    }

    /// I5, where a call leaves.
    pub fn call_leaves(&mut self, record: &Account, call: &Call) {
        if let Call::Login(credentials) = call {
            let rejected_secret = record.rejected_secret.as_ref() == Some(&credentials.version);
            self.hold("I5", !rejected_secret, || format!("the rejected_secret version {} is tried again", credentials.version));
        }
    }

    /// I3, where a write was carried out. Whether it brought a new pair.
    pub fn record_written(&mut self, account: usize, record: &Account) -> bool {
        let was_leased = std::mem::replace(&mut self.leased[account], record.lease.is_some());
        if was_leased {
            self.tally.conflicts.push(std::mem::take(&mut self.conflicts_of_lease[account]));
        }
        let Some(pair) = &record.pair else { return false };
        let token = pair.access_token.expose();
        let first = self.named.entry((account, pair.generation)).or_insert_with(|| token.to_owned()).clone();
        let unique = first == token;
        self.hold("I3", unique, || format!("generation {} names two pairs", pair.generation.0));
        let highest = self.highest[account];
        self.hold("I3", highest <= Some(pair.generation), || {
            format!("generation {} after {highest:?}", pair.generation.0)
        });
        self.highest[account] = Some(pair.generation);
        highest != Some(pair.generation)
    }

    pub fn write_conflicted(&mut self, account: usize) {
        self.conflicts_of_lease[account] += 1;
        self.figures.conflicts += 1;
    }

    /// Something that an effect needs is lost. While its flow renews, that may cost a login.
    pub fn lost(&mut self, renews: bool, effect: &Effect) {
        let matters = renews || matches!(effect, Effect::WriteAccount { .. } | Effect::Send { .. });
        self.tally.losses += u64::from(matters);
    }

    pub fn failed(&mut self, code: &'static str) {
        *self.tally.failures.entry(code).or_default() += 1;
    }

    pub fn waited(&mut self, wait_ms: u64) {
        self.tally.longest_wait_ms = self.tally.longest_wait_ms.max(wait_ms);
    }

    pub fn ended(&self) {
        println!("{} seed {}: {}", self.plan.name, self.seed, self.tally.line());
    }
}

impl Tally {
    pub fn logins(&self) -> u64 {
        self.logins.iter().sum()
    }

    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The part of the requests that was answered with a token that is alive.
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^53 requests")]
    pub fn availability(&self) -> f64 {
        1.0 - (self.failed() + self.dead_tokens) as f64 / self.requests.max(1) as f64
    }

    /// Conflicting writes for one lease, whatever came of it, at the 99th percentile.
    pub fn conflicts_p99(&self) -> usize {
        let mut sorted = self.conflicts.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0)
    }

    /// All of it in one line.
    pub fn line(&self) -> String {
        format!(
            "{} requests, availability {:.5} %, failures {:?} ({} warm), {} dead tokens, logins {:?}, refreshes {:?}, \
             {} losses, conflicts p99 {} (most {}, {} leases), longest wait {} ms",
            self.requests,
            100.0 * self.availability(),
            self.failures,
            self.warm_failures,
            self.dead_tokens,
            self.logins,
            self.refreshes,
            self.losses,
            self.conflicts_p99(),
            self.conflicts.iter().max().unwrap_or(&0),
            self.conflicts.len(),
            self.longest_wait_ms,
        )
    }
}
