//! Requests of the broker: the production code of one process over simulated ports. The process may be stopped or die,
//! its callers may hang up, and its ports may panic.

use crate::{
    executor::Polled,
    faults::Fault,
    messages::{Message, ReplyTo},
    ports::{Action, Delivery, JournalLine, PlannedPanic, Reply, stop_ms},
    process::{Process, Served, TaskId, Work},
    requests::{ANSWER_RESERVE_MS, DIRECT_TIME, HTTP_TIME},
    world::{Arrival, InstanceId, Occurrence, World},
};
use protocol::{Effect, Event, Failure, Intent, Outcome, Request, StoreError, millis};
use std::{panic::resume_unwind, sync::Arc};
use token_broker::broker::Maintenance;

/// How a task of a process ends.
pub(crate) enum Ended {
    Request(Result<Outcome, Failure>),
    Maintenance(Result<Maintenance, StoreError>),
}

/// An effect that a process asks for.
pub(crate) struct Requested {
    task: TaskId,
    number: u64,
    account: usize,
    effect: Effect,
    reply: Reply,
}

impl World {
    pub(crate) fn serve_by_broker(&mut self, index: usize, arrival: Arrival, intent: Intent) {
        let (account, now_ms) = (self.names[arrival.account].clone(), self.now_ms);
        let Some((task, process)) = self.new_task(index) else { return };
        let arrived = process.link.moment(now_ms);
        let request = Request { account, intent, arrived, deadline: arrived.wall.plus(HTTP_TIME) };
        process.tasks.insert(
            task,
            Work::Request(Box::new(Served {
                account: arrival.account,
                arrived_ms: arrival.arrived_ms,
                deadline_ms: 0,
                began_cold: !process.link.knows(&request.account),
                stopped: false,
                request: request.clone(),
            })),
        );
        let broker = Arc::clone(&process.broker);
        let deadline_ms = self.now_ms + millis(HTTP_TIME);
        if let Some(served) = self.served(task) {
            served.deadline_ms = deadline_ms;
        }
        self.executor.spawn(task, async move {
            Ended::Request(broker.serve(request, &mut token_broker::work::Work::default()).await)
        });
    }

    /// One run of the schedule.
    pub(crate) fn maintain(&mut self, index: usize) {
        let began_ms = self.now_ms;
        let Some((task, process)) = self.new_task(index) else { return };
        let now = process.link.moment(began_ms);
        process.tasks.insert(task, Work::Maintenance { began_ms });
        let broker = Arc::clone(&process.broker);
        self.executor.spawn(task, async move {
            Ended::Maintenance(broker.maintain(now, now.wall.plus(DIRECT_TIME)).await)
        });
    }

    fn new_task(&mut self, index: usize) -> Option<(TaskId, &mut Process)> {
        self.tasks += 1;
        let instance = &mut self.instances[index];
        let process = InstanceId { index, life: instance.life };
        Some((TaskId { process, number: self.tasks }, instance.process()?))
    }

    /// The process of an instance, unless it is dead.
    fn process(&mut self, id: InstanceId) -> Option<&mut Process> {
        self.instances[id.index].process_of(id.life)
    }

    fn served(&mut self, task: TaskId) -> Option<&mut Served> {
        match self.process(task.process)?.tasks.get_mut(&task)? {
            Work::Request(served) => Some(served),
            Work::Maintenance { .. } => None,
        }
    }

    /// Polls tasks until none is ready. Tasks of a stopped process are deferred.
    pub(crate) fn run_ready_tasks(&mut self) {
        while let Some(task) = self.executor.next_ready(&mut self.rng) {
            let now_ms = self.now_ms;
            match self.process(task.process) {
                Some(process) if process.is_stopped(now_ms) => process.held.push(task),
                Some(_) => self.poll(task),
                None => {}
            }
        }
    }

    fn poll(&mut self, task: TaskId) {
        let now_ms = self.now_ms;
        let stops = self.faults.lasts(Fault::Pauses, now_ms);
        let Some(process) = self.process(task.process) else { return };
        let link = Arc::clone(&process.link);
        link.begin(now_ms, stops);
        let polled = self.executor.poll(task);
        let (journal, stopped_ms) = link.end();
        self.follow_journal(task, journal);
        if stopped_ms > 0 {
            self.stop_process(task.process, stopped_ms);
        }
        if let (Polled::Done(_), Some(process)) = (&polled, self.process(task.process)) {
            process.flow_ends(task);
        }
        match polled {
            Polled::Pending => {}
            Polled::Done(ended) if stopped_ms == 0 => self.end_task(task, ended),
            Polled::Done(ended) => self.after(stopped_ms, Occurrence::Ended { task, ended }),
            Polled::Panicked(panic) if panic.is::<PlannedPanic>() => self.cut_short(task, "internal"),
            Polled::Panicked(panic) => resume_unwind(panic),
        }
    }

    /// Applies what a process has done. Whatever it did after a stop happens later.
    fn follow_journal(&mut self, task: TaskId, journal: Vec<JournalLine>) {
        for JournalLine { stopped_ms, action } in journal {
            match action {
                Action::Requested { number, account, effect, reply } => {
                    let account = self.account_of(task, account.as_ref(), &effect);
                    self.effect_begins(number, account, task, &effect);
                    let requested = Requested { task, number, account, effect, reply };
                    if stopped_ms == 0 {
                        self.submit(requested);
                    } else {
                        self.after(stopped_ms, Occurrence::Requested(Box::new(requested)));
                    }
                }
                Action::List(reply) => {
                    let there_ms = stopped_ms + self.latency_ms();
                    self.after(there_ms, Occurrence::List { task, reply });
                }
                Action::Sleep(until_ms, reply) => {
                    let at_ms = until_ms.max(self.now_ms + stopped_ms);
                    let delivery = Delivery::Event(Event::Resumed);
                    self.at(at_ms, Occurrence::Delivered { task, reply, delivery: Box::new(delivery) });
                }
                Action::Ended { number, answered } => {
                    let Some(process) = self.process(task.process) else { continue };
                    let Some(effect) = process.under_way.remove(&number) else { continue };
                    self.checks.tally.losses += u64::from(effect.may_cost && !answered);
                }
            }
        }
    }

    /// The account of an effect. Effects of the limiter and the upstream do not state it.
    fn account_of(&mut self, task: TaskId, name: Option<&protocol::AccountName>, effect: &Effect) -> usize {
        if let Some(served) = self.served(task) {
            return served.account;
        }
        let named = name.and_then(|name| self.names.binary_search(name).ok());
        let called = || match effect {
            Effect::Send { call, .. } => Some(self.upstream.account_of(call)),
            _ => None,
        };
        let known = named.or_else(called);
        known.or_else(|| self.process(task.process)?.account_renewed_by(task)).unwrap_or(0)
    }

    /// Single flight: a process runs one flow for an account at a time.
    fn effect_begins(&mut self, number: u64, account: usize, task: TaskId, effect: &Effect) {
        let is_maintenance = self.served(task).is_none();
        let Some(process) = self.process(task.process) else { return };
        if let Effect::WriteAccount { next, .. } = effect {
            process.record_is_written(account, task, next.lease.is_some());
        }
        let changes = matches!(effect, Effect::WriteAccount { .. } | Effect::Send { .. });
        let may_cost = changes || process.renews(account);
        // Maintenance runs the flows of several accounts, and its limiter effects name none.
        let unnamed =
            is_maintenance && matches!(effect, Effect::ReadLimiter(_) | Effect::WriteLimiter { .. });
        let alone = process.effect_begins(number, (!unnamed).then_some(account), task, may_cost);
        self.checks.hold("single flight", alone, || {
            format!("two flows of account {account} on one process: {}", effect.name())
        });
    }

    /// Performs an effect of a process.
    pub(crate) fn submit(&mut self, requested: Requested) {
        let Requested { task, number, account, effect, reply } = requested;
        let Some(process) = self.process(task.process) else { return };
        if !process.under_way.contains_key(&number) {
            return;
        }
        let renews = process.renews(account);
        let to = Some(ReplyTo::Port { task, reply });
        self.transmit(Message { account, effect, to, renews }, u64::MAX);
    }

    pub(crate) fn list(&mut self, task: TaskId, reply: Reply) {
        self.checks.figures.reads += 1;
        let down = self.faults.lasts(Fault::StoreDown, self.now_ms)
            || self.faults.strikes(Fault::StoreThrottles, 2, self.now_ms, &mut self.rng);
        let (read, back_ms) = if down {
            (Err(StoreError::Unreachable), self.rng.u64(20..2_500))
        } else {
            let listed = self.store.list(&self.names);
            (Ok(listed), self.latency_ms())
        };
        let delivery = Box::new(Delivery::Accounts(read));
        self.after(back_ms, Occurrence::Delivered { task, reply, delivery });
    }

    /// A reply arrives at a process. The process may die or be stopped before it takes the next step, its port may
    /// panic, or one of its callers may hang up.
    pub(crate) fn deliver_to_port(&mut self, task: TaskId, reply: Reply, mut delivery: Delivery) {
        let now_ms = self.now_ms;
        if reply.is_closed() || self.process(task.process).is_none() {
            return;
        }
        let is_effect = !matches!(delivery, Delivery::Event(Event::Resumed));
        if self.faults.strikes(Fault::Kills, 10, now_ms, &mut self.rng) || self.holder_dies(task.process) {
            return self.die(task.process);
        }
        if self.faults.strikes(Fault::Pauses, 10, now_ms, &mut self.rng) {
            let span_ms = stop_ms(&mut self.rng);
            self.stop_process(task.process, span_ms);
        }
        if is_effect && self.faults.strikes(Fault::Panics, 20, now_ms, &mut self.rng) {
            delivery = Delivery::Panic;
        }
        // If the process has abandoned the effect, its result does not matter.
        let _ = reply.send(delivery);
        if self.faults.strikes(Fault::HangUps, 20, now_ms, &mut self.rng) {
            self.hang_up(task.process);
        }
    }

    /// One of the callers of a process hangs up, whether it waits or renews.
    fn hang_up(&mut self, id: InstanceId) {
        let now_ms = self.now_ms;
        let Some(process) = self.process(id) else { return };
        let tasks: Vec<TaskId> = process.tasks.keys().copied().collect();
        let link = Arc::clone(&process.link);
        let Some(task) = self.rng.choice(tasks) else { return };
        link.begin(now_ms, false);
        self.executor.cancel(task);
        let (journal, _) = link.end();
        self.follow_journal(task, journal);
        self.cut_short(task, "cancelled");
    }

    /// A task ends without a result.
    fn cut_short(&mut self, task: TaskId, code: &'static str) {
        let Some(process) = self.process(task.process) else { return };
        let leaks = process.performs(task);
        let (work, renewals) = process.task_ends(task);
        self.checks.tally.losses += renewals;
        self.checks.hold("single flight", !leaks, || "an effect outlives its request".to_owned());
        if let Some(Work::Request(served)) = work {
            self.checks.failed(served.account, code);
        }
    }

    fn stop_process(&mut self, id: InstanceId, span_ms: u64) {
        let until_ms = self.now_ms + span_ms;
        let Some(process) = self.process(id) else { return };
        let renewals = process.renewals();
        process.stopped_until_ms = process.stopped_until_ms.max(until_ms);
        for work in process.tasks.values_mut() {
            if let Work::Request(served) = work {
                served.stopped = true;
            }
        }
        self.checks.tally.losses += renewals;
        self.at(until_ms, Occurrence::Resumed(id));
    }

    pub(crate) fn resume_process(&mut self, id: InstanceId) {
        let now_ms = self.now_ms;
        let Some(process) = self.process(id).filter(|process| !process.is_stopped(now_ms)) else { return };
        let held = std::mem::take(&mut process.held);
        for task in held {
            self.executor.put_back(task);
        }
    }

    fn holder_dies(&mut self, id: InstanceId) -> bool {
        let renews = self.process(id).is_some_and(|process| process.renewals() > 0);
        self.strikes_holder(renews)
    }

    fn die(&mut self, id: InstanceId) {
        let Some(process) = self.process(id) else { return };
        let renewals = process.renewals();
        for (task, work) in std::mem::take(&mut process.tasks) {
            self.executor.cancel(task);
            if let Work::Request(served) = work {
                self.checks.failed(served.account, "killed");
            }
        }
        self.checks.tally.losses += renewals;
        self.replace(id.index);
    }

    pub(crate) fn end_task(&mut self, task: TaskId, ended: Ended) {
        let Some(process) = self.process(task.process) else { return };
        let leaks = process.performs(task);
        let (work, _) = process.task_ends(task);
        self.checks.hold("single flight", !leaks, || "an effect outlives its request".to_owned());
        match (work, ended) {
            (Some(Work::Request(served)), Ended::Request(result)) => self.end_request(&served, result),
            (Some(Work::Maintenance { began_ms }), Ended::Maintenance(result)) => {
                self.checks.maintained(self.now_ms - began_ms, result.map_or(0, |done| done.postponed()));
            }
            _ => {}
        }
    }

    fn end_request(&mut self, served: &Served, result: Result<Outcome, Failure>) {
        let Served { account, arrived_ms, deadline_ms, began_cold, stopped, ref request } = *served;
        if self.now_ms > deadline_ms + ANSWER_RESERVE_MS {
            // Only a stopped process is late.
            self.checks
                .hold("deadline", stopped, || format!("an answer at {}, after its deadline", self.now_ms));
            return self.checks.failed(account, "timed_out");
        }
        self.request_ends(account, request, result, arrived_ms, !began_cold, stopped);
    }
}
