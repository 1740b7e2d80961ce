//! The world: true time, the event queue, the random number generator, and all parts of the world.

use crate::{
    Checks, DAY, HOUR, MINUTE, Plan, SECOND, Simulation, Strategy,
    broker_requests::{Ended, Requested},
    executor::Executor,
    faults::{Fault, FaultWindow, Faults},
    grants::Grants,
    instance::Instance,
    load::Load,
    messages::{Message, ReplyFate, ReplyTo},
    plans::{Incident, Start},
    ports::{Delivery, Reply},
    process::TaskId,
    secrets::{Secrets, Value},
    store::Store,
    upstream::Upstream,
};
use fastrand::Rng;
use protocol::{AccountName, Effect, Event, Generation, Policy};
use std::{collections::BTreeMap, time::Duration};

/// When every run starts, in milliseconds of the Unix epoch, like the instants of the protocol.
pub const START_MS: u64 = 1_800_000_000_000;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) strategy: Strategy,
    pub(crate) policy: Policy,
    pub(crate) rng: Rng,
    pub(crate) now_ms: u64,
    /// By time, then by order of insertion.
    queue: BTreeMap<(u64, u64), Occurrence>,
    inserted: u64,
    pub(crate) names: Vec<AccountName>,
    pub(crate) store: Store,
    pub(crate) secrets: Secrets,
    pub(crate) upstream: Upstream,
    pub(crate) faults: Faults,
    pub(crate) instances: Vec<Instance>,
    /// The requests that processes of the broker serve.
    pub(crate) executor: Executor<TaskId, Ended>,
    /// The number of tasks so far.
    pub(crate) tasks: u64,
    /// The instances that have ever lived.
    lives: u64,
    /// When an instance last died because it renewed.
    pub(crate) holder_died_ms: u64,
    pub(crate) load: Load,
    pub(crate) checks: Checks,
    pub(crate) grants: Grants,
    /// When all faults and their after-effects are over.
    pub(crate) settled_ms: u64,
}

/// What happened to the fleet in a run of the broker. It can be replayed against a baseline.
pub struct Trace {
    arrivals: Vec<Arrival>,
    faults: Vec<FaultWindow>,
}

/// An event in the queue.
pub(crate) enum Occurrence {
    /// The load generates its next arrival.
    Load,
    /// A request arrives, or tries again to find an idle instance.
    Arrival(Arrival),
    /// The schedule's next five minutes are over.
    Maintenance,
    /// Every instance gets a request, if the pair still has that generation.
    Herd {
        account: usize,
        generation: Generation,
    },
    /// A process asks for an effect, after it was stopped.
    Requested(Box<Requested>),
    /// A request for a list of all records arrives at the store.
    List {
        task: TaskId,
        reply: Reply,
    },
    /// Something other than the reply to an effect arrives at a process.
    Delivered {
        task: TaskId,
        reply: Reply,
        delivery: Box<Delivery>,
    },
    /// A process runs again, after it was stopped.
    Resumed(InstanceId),
    /// A request ends, after its process was stopped.
    Ended {
        task: TaskId,
        ended: Ended,
    },
    /// A baseline performs an effect, after it was stopped.
    Perform {
        id: InstanceId,
        effect: Effect,
    },
    /// A baseline takes its next step, after it was stopped.
    Step {
        id: InstanceId,
        event: Event,
    },
    /// A message arrives at the store or the upstream.
    Delivery(Box<Message>, ReplyFate),
    /// A reply arrives at an instance.
    Reply {
        to: ReplyTo,
        event: Event,
    },
    /// A new instance replaces another one.
    Churn,
    Incident(Incident),
}

/// One life of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstanceId {
    pub(crate) index: usize,
    pub(crate) life: u64,
}

/// A request as the load generates it.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) account: usize,
    pub(crate) arrived_ms: u64,
    pub(crate) min_ttl: Duration,
    /// The preferred instance, if the plan sends one request to each.
    pub(crate) instance: Option<usize>,
}

impl World {
    pub(crate) fn with_broker(simulation: &Simulation) -> Self {
        let mut world = Self::new(Strategy::Broker, simulation);
        world.at(START_MS, Occurrence::Load);
        world.at(START_MS + 5 * MINUTE, Occurrence::Maintenance);
        world.begin();
        world
    }

    /// A fleet without the broker, with the arrivals and faults of the broker's run.
    pub(crate) fn with_baseline(strategy: Strategy, simulation: &Simulation, trace: &Trace) -> Self {
        let mut world = Self::new(strategy, simulation);
        // A fault that begins when the shared pair is due begins at this strategy's own due time. Without a shared pair
        // there is no such time.
        if strategy == Strategy::NoSharing {
            world.faults.windows.clone_from(&trace.faults);
        }
        world.begin();
        trace.arrivals.iter().for_each(|arrival| world.schedule(*arrival));
        world
    }

    fn new(strategy: Strategy, simulation: &Simulation) -> Self {
        let plan = simulation.plan;
        let mut rng = Rng::with_seed(simulation.seed);
        let policy = Policy { login_budget: plan.login_budget, ..Policy::DEFAULT };
        let instances: Vec<_> = (0..plan.instances)
            .map(|index| Instance::new(index as u64, strategy, &plan, &policy, &mut rng))
            .collect();
        let mut upstream = Upstream::new(&plan);
        let secrets = Secrets::new((0..plan.accounts).map(|account| match plan.grace_ms {
            None => Value::Password(true),
            Some(grace_ms) => Value::Grant(upstream.consent(account), grace_ms),
        }));
        Self {
            plan,
            strategy,
            policy,
            now_ms: START_MS,
            queue: BTreeMap::new(),
            inserted: 0,
            names: (0..plan.accounts).map(account_name).collect(),
            executor: Executor::default(),
            tasks: 0,
            store: Store::new(plan.accounts, strategy),
            secrets,
            upstream,
            faults: Faults { windows: fault_windows(&plan, &mut rng) },
            lives: instances.len() as u64,
            holder_died_ms: 0,
            instances,
            load: Load::new(plan.accounts),
            checks: Checks::new(simulation, strategy, &policy),
            grants: Grants::default(),
            settled_ms: START_MS,
            rng,
        }
    }

    /// Inserts the occurrences whose time is known from the start.
    fn begin(&mut self) {
        self.at(START_MS, Occurrence::Churn);
        for (after_ms, incident) in self.plan.incidents {
            self.at(START_MS + after_ms, Occurrence::Incident(*incident));
        }
        self.update_settled_time();
    }

    /// Runs to the end of the plan.
    pub(crate) fn run(mut self) -> (Checks, Trace) {
        let end_ms = START_MS + self.plan.days * DAY;
        while let Some(((at_ms, _), occurrence)) = self.queue.pop_first() {
            if at_ms > end_ms {
                break;
            }
            self.now_ms = at_ms;
            self.handle(occurrence);
            self.run_ready_tasks();
        }
        (self.checks, Trace { arrivals: self.load.arrivals, faults: self.faults.windows })
    }

    fn handle(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Load => self.next_arrival(),
            Occurrence::Arrival(arrival) => self.dispatch(arrival),
            Occurrence::Maintenance => self.maintenance(),
            Occurrence::Herd { account, generation } => self.herd(account, generation),
            Occurrence::Requested(requested) => self.submit(*requested),
            Occurrence::List { task, reply } => self.list(task, reply),
            Occurrence::Delivered { task, reply, delivery } => self.deliver_to_port(task, reply, *delivery),
            Occurrence::Resumed(id) => self.resume_process(id),
            Occurrence::Ended { task, ended } => self.end_task(task, ended),
            Occurrence::Perform { id, effect } => self.perform(id, effect),
            Occurrence::Step { id, event } => self.step(id, event),
            Occurrence::Delivery(message, reply) => self.deliver(*message, reply),
            Occurrence::Reply { to: ReplyTo::Port { task, reply }, event } => {
                self.deliver_to_port(task, reply, Delivery::Event(event));
            }
            Occurrence::Reply { to: ReplyTo::Baseline(id), event } => self.receive(id, event),
            Occurrence::Churn => self.churn(),
            Occurrence::Incident(incident) => self.incident(incident),
        }
    }

    pub(crate) fn at(&mut self, at_ms: u64, occurrence: Occurrence) {
        self.inserted += 1;
        self.queue.insert((at_ms, self.inserted), occurrence);
    }

    pub(crate) fn after(&mut self, span_ms: u64, occurrence: Occurrence) {
        self.at(self.now_ms + span_ms, occurrence);
    }

    /// A pair of a new generation was saved. Its expiry triggers a herd, and its due time a fault, if the plan says so.
    /// The herds of a baseline are in its trace.
    pub(crate) fn pair_saved(&mut self, account: usize) {
        let Some(pair) = self.store.accounts[account].pair.clone() else { return };
        if self.plan.herds && self.strategy == Strategy::Broker {
            let herd = Occurrence::Herd { account, generation: pair.generation };
            self.at(pair.expires_at.as_millis().max(self.now_ms), herd);
        }
        let planned = self.plan.faults.len() + self.plan.drawn_faults;
        let is_first = account == 0 && self.faults.windows.len() < planned;
        let due_ms = self.strategy.due_at(&self.policy, &self.names[account], &pair).as_millis();
        for planned in self.plan.faults.iter().filter(|_| is_first) {
            if let Start::Due = planned.start {
                let from_ms = due_ms.saturating_sub(5 * MINUTE);
                self.faults.windows.push(FaultWindow::new(planned.fault, from_ms, planned.lasts_ms));
            }
        }
        self.update_settled_time();
    }

    /// After the last fault, a message may be in transit for a minute. Then a lease, a cooldown after a 429 (a tenth
    /// longer than a minute) or the permits may remain. If the budget is too small for all accounts at once, they log
    /// in one after another.
    fn update_settled_time(&mut self) {
        let incident_ms = self.plan.incidents.iter().map(|(after_ms, _)| START_MS + after_ms).max();
        let last_ms = self.faults.end_ms().max(incident_ms.unwrap_or(0));
        let rounds = self.plan.accounts.div_ceil(self.plan.login_budget) as u64;
        self.settled_ms = last_ms + MINUTE + rounds * 90 * SECOND;
        // A token in doubt waits for the access token's expiry. If it was lost, a person consents half an hour later.
        if self.plan.grace_ms.is_some() {
            self.settled_ms += self.plan.token_life_ms + HOUR;
        }
    }

    fn incident(&mut self, incident: Incident) {
        match incident {
            Incident::SessionsRevoked => self.upstream.revoke_all(),
            Incident::RightPassword => self.secrets.rotate(true),
            Incident::WrongPassword => self.secrets.rotate(false),
            Incident::RivalLogsIn => self.upstream.end_sessions(0),
            Incident::PersonConsents(account) => {
                let grace_ms = self.plan.grace_ms.unwrap_or_default();
                let bootstrap = self.upstream.consent(account);
                self.secrets.put(account, Value::Grant(bootstrap, grace_ms));
            }
        }
        // It may cost each account a login.
        self.checks.tally.losses += self.plan.accounts as u64;
    }

    /// Replaces an instance if it is idle.
    fn churn(&mut self) {
        let index = self.rng.usize(..self.instances.len());
        if self.instances[index].is_idle() {
            self.replace(index);
        }
        let mean_ms = self.plan.instance_life_ms / self.instances.len() as u64;
        let gap_ms = self.rng.u64(1..=2 * mean_ms);
        self.after(gap_ms, Occurrence::Churn);
    }

    pub(crate) fn replace(&mut self, index: usize) {
        self.instances[index] =
            Instance::new(self.lives, self.strategy, &self.plan, &self.policy, &mut self.rng);
        self.lives += 1;
    }
}

/// Names in alphabetical order.
fn account_name(index: usize) -> AccountName {
    AccountName::parse(&format!("account-{index:04}")).unwrap()
}

/// The fault windows that are known from the start.
fn fault_windows(plan: &Plan, rng: &mut Rng) -> Vec<FaultWindow> {
    let mut windows = Vec::new();
    for planned in plan.faults {
        if let Start::At(from_ms) = planned.start {
            windows.push(FaultWindow::new(planned.fault, START_MS + from_ms, planned.lasts_ms));
        }
    }
    for _ in 0..plan.drawn_faults {
        let fault = Fault::ALL[rng.usize(..Fault::ALL.len())];
        let from_ms = START_MS + rng.u64(..(plan.days.max(3) - 2) * DAY);
        windows.push(FaultWindow::new(fault, from_ms, rng.u64(MINUTE..HOUR)));
    }
    windows
}
