//! The invariants, checked by true time. `docs/PROTOCOL.md` explains them.
//!
//! If the broker breaks one, the run panics. If a baseline does, the violation is counted.
//!
//! | invariants | checked |
//! | --- | --- |
//! | I1, I2, I6 | when a call arrives upstream |
//! | I3 | when a write of the record is applied |
//! | I4, I7 | when a request is answered |
//! | I5 | when a login is sent |
//! | single flight | when a process of the broker begins an effect, and when a request ends |
//! | deadline | when a request of a process that was not stopped ends |
//! | I8 | after a plan with an outage, which says how many logins are allowed |

use crate::{Figures, SECOND, Simulation, Strategy, Tally, world::START_MS};
use protocol::{Account, Call, Effect, Generation, Holder, LoginLimit, LoginLimiter, Policy, millis};
use std::collections::{HashMap, HashSet, VecDeque};

/// Checks one run, and counts.
pub struct Checks {
    simulation: Simulation,
    strategy: Strategy,
    login_budget: usize,
    limit: Option<LoginLimit>,
    login_arrivals_ms: VecDeque<u64>,
    /// The highest generation so far, by account.
    highest: Vec<Option<Generation>>,
    /// The access token of each generation.
    tokens: HashMap<(usize, Generation), String>,
    leased: Vec<bool>,
    /// The permits that were ever written.
    permits: HashSet<Holder>,
    conflicts_of_lease: Vec<usize>,
    /// The counts.
    pub tally: Tally,
    /// The data of the charts.
    pub figures: Figures,
}

impl Checks {
    pub(crate) fn new(simulation: &Simulation, strategy: Strategy, policy: &Policy) -> Self {
        let accounts = simulation.plan.accounts;
        Self {
            simulation: simulation.clone(),
            strategy,
            login_budget: simulation.plan.limit.map_or(policy.login_budget, |limit| limit.requests),
            limit: simulation.plan.limit,
            login_arrivals_ms: VecDeque::new(),
            highest: vec![None; accounts],
            tokens: HashMap::new(),
            leased: vec![false; accounts],
            permits: HashSet::new(),
            conflicts_of_lease: vec![0; accounts],
            tally: Tally {
                logins_by_account: vec![0; accounts],
                refreshes_by_account: vec![0; accounts],
                failed_by_account: vec![0; accounts],
                renewals_ms: vec![Vec::new(); accounts],
                permits_ms: vec![Vec::new(); accounts],
                ..Tally::default()
            },
            figures: Figures::default(),
        }
    }

    /// Fails the run unless the condition holds, and prints the command that repeats it.
    ///
    /// # Panics
    /// If the condition does not hold.
    pub fn require(&self, holds: bool, message: impl FnOnce() -> String) {
        let Simulation { plan, seed, command } = &self.simulation;
        assert!(
            holds,
            "{}\nplan {}, {}, seed {seed}; repeat it with: {command}",
            message(),
            plan.name,
            self.strategy.name()
        );
    }

    /// The plan, the seed and the tally in one line.
    pub fn summary(&self) -> String {
        format!("{} seed {}: {}", self.simulation.plan.name, self.simulation.seed, self.tally.line())
    }

    /// Fails the run if the broker breaks an invariant. Counts the violation of a baseline.
    pub(crate) fn hold(&mut self, invariant: &'static str, holds: bool, message: impl FnOnce() -> String) {
        if self.strategy == Strategy::Broker {
            self.require(holds, || format!("{invariant}: {}", message()));
        } else if !holds {
            *self.tally.broken.entry(invariant).or_default() += 1;
        }
    }

    /// I1 and I6, when a call arrives upstream.
    pub(crate) fn call_arrives(&mut self, account: usize, call: &Call, now_ms: u64) {
        match call {
            Call::Login(_) => self.tally.logins_by_account[account] += 1,
            Call::Refresh(..) => self.tally.refreshes_by_account[account] += 1,
            Call::Revoke(..) | Call::Probe(_) => {}
        }
        let counts =
            matches!(call, Call::Login(_)) || self.limit.is_some() && matches!(call, Call::Refresh(..));
        if !counts {
            return;
        }
        let window_ms = self.limit.map_or(60 * SECOND, |limit| millis(limit.window));
        self.login_arrivals_ms.retain(|at_ms| at_ms + window_ms > now_ms);
        self.login_arrivals_ms.push_back(now_ms);
        self.figures.login(now_ms);
        let (in_a_minute, budget) = (self.login_arrivals_ms.len(), self.login_budget);
        let most = &mut self.tally.most_logins_in_a_minute;
        *most = in_a_minute.max(*most);
        self.hold("I1", in_a_minute <= budget, || {
            format!("{in_a_minute} logins within {window_ms} ms at {now_ms}")
        });
        let logins = self.tally.logins();
        let allowed = self.tally.logins_by_account.len() as u64 + self.tally.losses;
        self.hold("I6", logins <= allowed, || format!("{logins} logins; the losses explain {allowed}"));
    }

    /// The upstream issues a new pair.
    pub(crate) fn pair_issued(&mut self, account: usize, now_ms: u64) {
        self.tally.renewals_ms[account].push(now_ms - START_MS);
    }

    /// I2, when a refresh token arrives upstream.
    pub(crate) fn refresh_token_arrives(&mut self, again: bool, now_ms: u64) {
        self.hold("I2", !again, || format!("a refresh token arrived a second time at {now_ms}"));
    }

    /// I5, when a call is sent.
    pub(crate) fn call_is_sent(&mut self, record: &Account, call: &Call) {
        if let Call::Login(credentials) = call {
            let rejected = record.rejected_secret.as_ref().map(|rejected| &rejected.version)
                == Some(&credentials.version);
            let message = || format!("the rejected secret version {} is tried again", credentials.version);
            self.hold("I5", !rejected, message);
        }
    }

    /// I3, when a write of the record is applied. Returns whether it holds a new pair.
    pub(crate) fn record_is_written(&mut self, account: usize, record: &Account) -> bool {
        let was_leased = std::mem::replace(&mut self.leased[account], record.lease.is_some());
        if was_leased {
            self.tally.conflicts.push(std::mem::take(&mut self.conflicts_of_lease[account]));
        }
        let Some(pair) = &record.pair else { return false };
        let token = pair.access_token.expose();
        let first = self.tokens.entry((account, pair.generation)).or_insert_with(|| token.to_owned()).clone();
        let unique = first == token;
        self.hold("I3", unique, || format!("generation {} names two pairs", pair.generation.0));
        let highest = self.highest[account];
        self.hold("I3", highest <= Some(pair.generation), || {
            format!("generation {} after {highest:?}", pair.generation.0)
        });
        self.highest[account] = Some(pair.generation);
        highest != Some(pair.generation)
    }

    pub(crate) fn write_conflicts(&mut self, account: usize) {
        self.conflicts_of_lease[account] += 1;
        self.figures.conflicts += 1;
    }

    /// A request or its reply was lost. That may cost a login if its invocation renews, or if it changes something.
    pub(crate) fn lost(&mut self, renews: bool, effect: &Effect) {
        let may_cost = renews || matches!(effect, Effect::WriteAccount { .. } | Effect::Send { .. });
        self.tally.losses += u64::from(may_cost);
    }

    pub(crate) fn failed(&mut self, account: usize, code: &'static str) {
        *self.tally.failures.entry(code).or_default() += 1;
        self.tally.failed_by_account[account] += 1;
    }

    /// A request waited, for a token or for an error with this code.
    pub(crate) fn waited(&mut self, wait_ms: u64, code: Option<&'static str>) {
        self.tally.longest_wait_ms = self.tally.longest_wait_ms.max(wait_ms);
        if let Some(code) = code {
            let longest_ms = self.tally.longest_failures_ms.entry(code).or_default();
            *longest_ms = wait_ms.max(*longest_ms);
        }
    }

    /// A request waited for a token that existed when it arrived.
    pub(crate) fn held_back(&mut self, wait_ms: u64) {
        self.tally.longest_hold_ms = self.tally.longest_hold_ms.max(wait_ms);
    }

    /// A run of the schedule has ended.
    pub(crate) fn maintained(&mut self, took_ms: u64, postponed: usize) {
        self.tally.longest_maintenance_ms = self.tally.longest_maintenance_ms.max(took_ms);
        self.tally.postponed = self.tally.postponed.max(postponed);
    }

    /// Notes the permit that a write of the limiter adds. No account holds more than its share.
    pub(crate) fn permits_are_written(&mut self, account: usize, limiter: &LoginLimiter, now_ms: u64) {
        // Other limits are shared by need: an account that is alone may hold all permits.
        let share = if self.limit.is_some() { self.login_budget } else { self.login_budget.div_ceil(2) };
        for permit in &limiter.permits {
            if self.permits.insert(permit.holder) {
                self.tally.permits_ms[account].push(now_ms - START_MS);
            }
            let alike = limiter.permits.iter().filter(|other| other.account == permit.account);
            let held = alike.count();
            self.hold("I1", held <= share, || format!("{} holds {held} permits of {share}", permit.account));
        }
    }
}
