//! One process of the function: a broker, its ports, and the requests that it serves at the same time.

use crate::{own_clock::OwnClock, ports::Link, world::InstanceId};
use fastrand::Rng;
use protocol::{LoginLimits, Policy, Request};
use std::{collections::BTreeMap, sync::Arc};
use token_broker::broker::Broker;

/// The number of requests that one process serves at the same time.
const CONCURRENT_REQUESTS: usize = 10;

pub(crate) struct Process {
    pub(crate) broker: Arc<Broker>,
    pub(crate) link: Arc<Link>,
    /// Nothing of the process runs before this instant of true time.
    pub(crate) stopped_until_ms: u64,
    /// Tasks that were woken meanwhile.
    pub(crate) held: Vec<TaskId>,
    pub(crate) tasks: BTreeMap<TaskId, Work>,
    /// Effects under way, by their numbers.
    pub(crate) under_way: BTreeMap<u64, EffectUnderWay>,
    /// The request that runs the flow of an account, by account.
    runners: BTreeMap<usize, TaskId>,
    /// Accounts whose lease the process holds, as far as it knows, with the request that took it.
    renewing: BTreeMap<usize, TaskId>,
}

/// One request or maintenance on one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId {
    pub(crate) process: InstanceId,
    pub(crate) number: u64,
}

/// The purpose of a task.
pub(crate) enum Work {
    Request(Box<Served>),
    Maintenance { began_ms: u64 },
}

/// A request for a token.
pub(crate) struct Served {
    pub(crate) account: usize,
    pub(crate) request: Request,
    /// When the request arrived, by true time. It may have waited for an instance since.
    pub(crate) arrived_ms: u64,
    /// When the caller gives up, by true time.
    pub(crate) deadline_ms: u64,
    /// Whether the process knew no record of the account when the request arrived.
    pub(crate) began_cold: bool,
    /// Whether the process was stopped meanwhile, so that the caller's wait says nothing about the protocol.
    pub(crate) stopped: bool,
}

pub(crate) struct EffectUnderWay {
    /// `None` if the port does not know it, and the task is for several.
    account: Option<usize>,
    task: TaskId,
    /// If its reply is lost, that may cost a login.
    pub(crate) may_cost: bool,
}

impl Process {
    pub(crate) fn new(policy: Policy, limits: LoginLimits, clock: OwnClock, rng: Rng) -> Self {
        let link = Link::new(clock, rng);
        Self {
            broker: Arc::new(Broker::new(policy, link.ports()).limited_by(limits)),
            link,
            stopped_until_ms: 0,
            held: Vec::new(),
            tasks: BTreeMap::new(),
            under_way: BTreeMap::new(),
            runners: BTreeMap::new(),
            renewing: BTreeMap::new(),
        }
    }

    pub(crate) fn is_stopped(&self, now_ms: u64) -> bool {
        now_ms < self.stopped_until_ms
    }

    pub(crate) fn accepts(&self, now_ms: u64) -> bool {
        !self.is_stopped(now_ms) && self.tasks.len() < CONCURRENT_REQUESTS
    }

    /// Whether a loss may cost a login of this account.
    pub(crate) fn renews(&self, account: usize) -> bool {
        self.renewing.contains_key(&account)
    }

    /// Accounts whose renewal is lost if the process is stopped or dies.
    pub(crate) fn renewals(&self) -> u64 {
        self.renewing.len() as u64
    }

    /// The account that a task renews now.
    pub(crate) fn account_renewed_by(&self, task: TaskId) -> Option<usize> {
        self.renewing.iter().find(|(_, renewer)| **renewer == task).map(|(account, _)| *account)
    }

    pub(crate) fn record_is_written(&mut self, account: usize, task: TaskId, leased: bool) {
        if leased {
            self.renewing.insert(account, task);
        } else {
            self.renewing.remove(&account);
        }
    }

    /// Records that an effect begins. Returns whether its flow is the only one of the account: no other effect is in
    /// flight, and no other request that has run a flow is still unanswered.
    pub(crate) fn effect_begins(
        &mut self,
        number: u64,
        account: Option<usize>,
        task: TaskId,
        may_cost: bool,
    ) -> bool {
        let alone = account.is_none() || self.under_way.values().all(|other| other.account != account);
        let runner = account.and_then(|account| self.runners.insert(account, task));
        let runs = |other| other != task && matches!(self.tasks.get(&other), Some(Work::Request(_)));
        self.under_way.insert(number, EffectUnderWay { account, task, may_cost });
        alone && !runner.is_some_and(runs)
    }

    /// Whether a task waits for an effect.
    pub(crate) fn performs(&self, task: TaskId) -> bool {
        self.under_way.values().any(|effect| effect.task == task)
    }

    /// The flow of a task has ended, though the process may be stopped before it can answer.
    pub(crate) fn flow_ends(&mut self, task: TaskId) {
        self.runners.retain(|_, runner| *runner != task);
    }

    /// A task has ended, or was interrupted. Returns its purpose, and the renewals that it did not finish.
    pub(crate) fn task_ends(&mut self, task: TaskId) -> (Option<Work>, u64) {
        let renewals = self.renewals();
        self.renewing.retain(|_, renewer| *renewer != task);
        self.flow_ends(task);
        (self.tasks.remove(&task), renewals - self.renewals())
    }
}
