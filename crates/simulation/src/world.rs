//! The world: true time, one queue of events, one generator of chance, and all that takes part.

use super::{
    checks::Checks,
    faults::{Fault, Faults, Window},
    instance::Instance,
    messages::Message,
    load::Load,
    plans::{DAY, HOUR, Happening, MINUTE, Plan, SECOND, When},
    secrets::Secrets,
    store::Store,
    strategy::Strategy,
    upstream::Upstream,
};
use fastrand::Rng;
use std::{collections::BTreeMap, time::Duration};
use protocol::{Effect, Event, Policy, AccountName, Generation};

/// When every run starts: the instants of the protocol are milliseconds of the Unix epoch.
pub const START_MS: u64 = 1_800_000_000_000;

pub struct World {
    pub plan: Plan,
    pub strategy: Strategy,
    pub policy: Policy,
    pub rng: Rng,
    pub now_ms: u64,
    /// By time, and by sequence among those of the same time.
    queue: BTreeMap<(u64, u64), What>,
    sequence: u64,
    pub names: Vec<AccountName>,
    pub store: Store,
    pub secrets: Secrets,
    pub upstream: Upstream,
    pub faults: Faults,
    pub instances: Vec<Instance>,
    pub lives: u64,
    pub holder_died_ms: u64,
    pub load: Load,
    pub checks: Checks,
    /// When all faults are over, and what they left behind has passed.
    pub settled_ms: u64,
}

/// What came upon the broker's fleet in a run, for others to be put through the same.
pub struct Script {
    requests: Vec<Request>,
    windows: Vec<Window>,
}

/// One event.
pub enum What {
    /// The load brings its next request.
    Arrival,
    /// A request for an account arrives, or looks for an instance again.
    Request(Request),
    /// The schedule's five minutes are over.
    Maintenance,
    /// All instances are asked at once, if the pair is still of that generation.
    Herd {
        account: usize,
        generation: Generation,
    },
    /// An instance that was stopped before an effect goes on.
    Performs {
        who: Address,
        effect: Effect,
    },
    /// A message arrives at the store, the secrets or the upstream.
    Reaches(Box<Message>),
    /// A reply arrives at an instance.
    Returns {
        who: Address,
        event: Event,
    },
    /// An instance that was stopped before a step goes on.
    Steps {
        who: Address,
        event: Event,
    },
    /// Another instance takes the place of one.
    Churn,
    Happening(Happening),
}

/// One life of one instance.
#[derive(Clone, Copy)]
pub struct Address {
    pub index: usize,
    pub life: u64,
}

#[derive(Clone, Copy)]
pub struct Request {
    pub account: usize,
    pub arrived_ms: u64,
    pub min_ttl: Duration,
    /// The instance that it has to go to, where a plan wants each to be asked.
    pub to: Option<usize>,
}

impl World {
    /// The broker's fleet.
    pub fn new(plan: Plan, seed: u64) -> Self {
        let mut world = Self::empty(plan, Strategy::Broker, seed);
        world.at(START_MS, What::Arrival);
        world.at(START_MS + 5 * MINUTE, What::Maintenance);
        world.set_out();
        world
    }

    /// A fleet that does something else about the same requests, at the same time, under the same faults.
    pub fn instead(strategy: Strategy, plan: Plan, seed: u64, script: &Script) -> Self {
        let mut world = Self::empty(plan, strategy, seed);
        // Who shares a pair meets the faults of its due time at its own. Where each has one, there is no such time.
        if strategy == Strategy::EachForItself {
            world.faults.windows.clone_from(&script.windows);
        }
        world.set_out();
        script.requests.iter().for_each(|request| world.ask(*request));
        world
    }

    fn empty(plan: Plan, strategy: Strategy, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let policy = Policy { login_budget: plan.login_budget, ..default_policy() };
        let margin_ms = i64::try_from(policy.clock_margin.as_millis()).unwrap();
        let instances: Vec<_> = (0..plan.instances)
            .map(|index| Instance::born(index as u64, plan.accounts, margin_ms, &mut rng))
            .collect();
        let mut windows: Vec<_> = plan
            .faults
            .iter()
            .filter_map(|planned| match planned.from {
                When::At(from_ms) => Some(window(planned.fault, START_MS + from_ms, planned.lasts_ms)),
                When::Due => None,
            })
            .collect();
        for _ in 0..plan.drawn_faults {
            let fault = Fault::ALL[rng.usize(..Fault::ALL.len())];
            let from_ms = START_MS + rng.u64(..(plan.days.max(3) - 2) * DAY);
            windows.push(window(fault, from_ms, rng.u64(MINUTE..HOUR)));
        }
        let names = ["default", "sales", "support"];
        Self {
            plan,
            strategy,
            policy,
            now_ms: START_MS,
            queue: BTreeMap::new(),
            sequence: 0,
            names: names.iter().take(plan.accounts).map(|name| AccountName::parse(name).unwrap()).collect(),
            store: Store::new(plan.accounts, strategy),
            secrets: Secrets::new(plan.accounts),
            upstream: Upstream::new(plan.token_life_ms, plan.slides, plan.varies),
            faults: Faults { windows },
            lives: instances.len() as u64,
            holder_died_ms: 0,
            instances,
            load: Load::new(plan.accounts),
            checks: Checks::new(plan, strategy, &policy, seed),
            settled_ms: START_MS,
            rng,
        }
    }

    /// What is known to come when the run begins.
    fn set_out(&mut self) {
        self.at(START_MS, What::Churn);
        for (after_ms, happening) in self.plan.happenings {
            self.at(START_MS + after_ms, What::Happening(*happening));
        }
        self.settle();
    }

    /// Runs to the end of the plan.
    pub fn run(self) -> Checks {
        self.run_recorded().0
    }

    /// The same, and what came upon the fleet.
    pub fn run_recorded(mut self) -> (Checks, Script) {
        let end_ms = START_MS + self.plan.days * DAY;
        while let Some(((at_ms, _), what)) = self.queue.pop_first() {
            if at_ms > end_ms {
                break;
            }
            self.now_ms = at_ms;
            self.happen(what);
        }
        (self.checks, Script { requests: self.load.brought, windows: self.faults.windows })
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrival => self.arrival(),
            What::Request(request) => self.take_request(request),
            What::Maintenance => self.maintenance(),
            What::Herd { account, generation } => self.herd(account, generation),
            What::Performs { who, effect } => self.perform(who, effect),
            What::Reaches(message) => self.deliver(*message),
            What::Returns { who, event } => self.return_to(who, event),
            What::Steps { who, event } => self.step(who, event),
            What::Churn => self.churn(),
            What::Happening(happening) => self.all(happening),
        }
    }

    pub fn at(&mut self, at_ms: u64, what: What) {
        self.sequence += 1;
        self.queue.insert((at_ms, self.sequence), what);
    }

    pub fn after(&mut self, span_ms: u64, what: What) {
        self.at(self.now_ms + span_ms, what);
    }

    /// Pairs of a new generation tell when they are due and when they end; plans hang on that. The herds of
    /// other strategies are in their script.
    pub fn pair_saved(&mut self, account: usize) {
        let Some(pair) = self.store.accounts[account].pair.clone() else { return };
        if self.plan.herds && self.strategy == Strategy::Broker {
            let herd = What::Herd { account, generation: pair.generation };
            self.at(pair.expires_at.as_millis().max(self.now_ms), herd);
        }
        let planned_in_all = self.plan.faults.len() + self.plan.drawn_faults;
        let first = account == 0 && self.faults.windows.len() < planned_in_all;
        let due_ms = self.strategy.due_at(&self.policy, &self.names[account], &pair).as_millis();
        for planned in self.plan.faults.iter().filter(|_| first) {
            if let When::Due = planned.from {
                let from_ms = due_ms.saturating_sub(5 * MINUTE);
                self.faults.windows.push(window(planned.fault, from_ms, planned.lasts_ms));
            }
        }
        self.settle();
    }

    /// What faults leave behind: a message that is under way for a minute at most; then a lease, a pause after
    /// a 429 (a tenth longer than a minute) or the ledger's debits. Where the budget does not suffice for all
    /// accounts at once, these take turns.
    fn settle(&mut self) {
        let happened_ms = self.plan.happenings.iter().map(|(after_ms, _)| START_MS + after_ms).max();
        let last_ms = self.faults.ends_at_ms().max(happened_ms.unwrap_or(0));
        let turns = self.plan.accounts.div_ceil(self.plan.login_budget) as u64;
        self.settled_ms = last_ms + MINUTE + turns * 90 * SECOND;
    }

    fn all(&mut self, happening: Happening) {
        match happening {
            Happening::Revoked => self.upstream.revoke_all(),
            Happening::RightSecret => self.secrets.rotate(true),
            Happening::WrongSecret => self.secrets.rotate(false),
        }
        // Each account may have to log in once for this, and for each refusal that it meets.
        self.checks.tally.losses += self.plan.accounts as u64;
    }

    /// An idle instance goes, and another comes in its place.
    fn churn(&mut self) {
        let index = self.rng.usize(..self.instances.len());
        if self.instances[index].job.is_none() {
            self.replace(index);
        }
        let mean_ms = self.plan.instance_life_ms / self.instances.len() as u64;
        let gap_ms = self.rng.u64(1..=2 * mean_ms);
        self.after(gap_ms, What::Churn);
    }

    pub fn replace(&mut self, index: usize) {
        let margin_ms = i64::try_from(self.policy.clock_margin.as_millis()).unwrap();
        self.instances[index] = Instance::born(self.lives, self.plan.accounts, margin_ms, &mut self.rng);
        self.lives += 1;
    }
}

fn window(fault: Fault, from_ms: u64, lasts_ms: u64) -> Window {
    Window { from_ms, until_ms: from_ms + lasts_ms, fault }
}

/// What an operator gets who sets nothing.
fn default_policy() -> Policy {
    Policy {
        login_budget: 5,
        refresh_ahead: Duration::from_secs(86_400),
        max_ttl: Duration::from_secs(900),
        memory_ttl: Duration::from_secs(30),
        upstream_timeout: Duration::from_secs(5),
        lease: Duration::from_secs(15),
        clock_margin: Duration::from_secs(2),
    }
}
