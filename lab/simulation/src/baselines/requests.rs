//! The loop around a baseline: one request at a time on each instance, step by step.

use super::Baseline;
use crate::{
    faults::Fault,
    messages::{Message, ReplyTo},
    ports::stop_ms,
    requests::{ANSWER_RESERVE_MS, HTTP_TIME},
    world::{Arrival, InstanceId, Occurrence, World},
};
use protocol::{
    Cache, Context, Draw, Effect, Event, Failure, Intent, Lookup, Outcome, Request, Step, Timestamp,
    UpstreamReply,
};
use std::collections::BTreeMap;

/// What an instance without the broker knows and does.
#[derive(Default)]
pub(crate) struct BaselineInstance {
    /// By account.
    pub(crate) caches: BTreeMap<usize, Cache>,
    /// It sends nothing before this instant, because of a 429.
    retry_until: Option<Timestamp>,
    pub(crate) invocation: Option<Invocation>,
}

pub(crate) struct Invocation {
    account: usize,
    request: Request,
    baseline: Baseline,
    /// When the request arrived, by true time. It may have waited for an instance since.
    arrived_ms: u64,
    /// When the caller gives up, by true time.
    deadline_ms: u64,
    /// A loss may cost a login from now on.
    renews: bool,
    /// Whether the cache held nothing about the account when the request arrived.
    began_cold: bool,
    /// Whether the instance was stopped meanwhile, so that the caller's wait says nothing about the strategy.
    stopped: bool,
}

impl World {
    pub(crate) fn serve_by_baseline(&mut self, index: usize, arrival: Arrival, intent: Intent) {
        let Arrival { account, arrived_ms, .. } = arrival;
        let policy = self.policy;
        let instance = &mut self.instances[index];
        let now = instance.clock(self.now_ms);
        let request = Request {
            account: self.names[account].clone(),
            intent,
            arrived: protocol::Moment::of_agreeing_clocks(now),
            deadline: now.plus(HTTP_TIME),
        };
        let deadline_ms = instance.true_ms(request.deadline);
        let id = InstanceId { index, life: instance.life };
        let Some(known) = instance.baseline() else { return };
        let cache = known.caches.get(&account).cloned().unwrap_or_default();
        let cx = Context::new(&policy, now, Draw(self.rng.u64(..)));
        if let Lookup::Answer(answer) = Baseline::look_up(&cache, &request, cx) {
            return self.answered(account, &request, &answer, arrived_ms);
        }
        let began_cold = cache.record.is_none();
        let mut baseline = Baseline::new(self.strategy, request.clone(), cache, known.retry_until);
        let step = baseline.begin(cx);
        let (renews, stopped) = (false, false);
        known.invocation = Some(Invocation {
            account,
            request,
            baseline,
            arrived_ms,
            deadline_ms,
            renews,
            began_cold,
            stopped,
        });
        self.follow(id, step);
    }

    fn invocation(&mut self, id: InstanceId) -> Option<&mut Invocation> {
        let instance = &mut self.instances[id.index];
        if instance.life == id.life { instance.baseline()?.invocation.as_mut() } else { None }
    }

    /// A reply arrives at an instance. The instance may die or be stopped before it takes the next step, and its caller
    /// may hang up.
    pub(crate) fn receive(&mut self, id: InstanceId, event: Event) {
        let Some(invocation) = self.invocation(id) else { return };
        let renews = invocation.renews;
        if self.faults.strikes(Fault::Kills, 10, self.now_ms, &mut self.rng) || self.strikes_holder(renews) {
            self.cut(id, "killed");
            return self.replace(id.index);
        }
        if self.faults.strikes(Fault::HangUps, 20, self.now_ms, &mut self.rng) {
            return self.cut(id, "cancelled");
        }
        if self.faults.strikes(Fault::Panics, 20, self.now_ms, &mut self.rng) {
            return self.cut(id, "internal");
        }
        match self.stop(id) {
            Some(span_ms) => self.after(span_ms, Occurrence::Step { id, event }),
            None => self.step(id, event),
        }
    }

    pub(crate) fn step(&mut self, id: InstanceId, event: Event) {
        let (policy, draw) = (self.policy, Draw(self.rng.u64(..)));
        let now = self.instances[id.index].clock(self.now_ms);
        let Some(invocation) = self.invocation(id) else { return };
        let step = invocation.baseline.step(Context::new(&policy, now, draw), event);
        self.follow(id, step);
    }

    /// Performs the effect of a step, unless the instance is stopped before, or ends the invocation.
    fn follow(&mut self, id: InstanceId, step: Step) {
        let effect = match step {
            Step::Perform(effect) => effect,
            Step::Done(result) => return self.end(id, result),
        };
        if let Some(invocation) = self.invocation(id) {
            match &effect {
                Effect::WriteAccount { next, .. } => invocation.renews = next.lease.is_some(),
                // Not every baseline takes a lease.
                Effect::Send { .. } => invocation.renews = true,
                _ => {}
            }
        }
        match self.stop(id) {
            Some(span_ms) => self.after(span_ms, Occurrence::Perform { id, effect }),
            None => self.perform(id, effect),
        }
    }

    /// Performs an effect of an instance, as the function does.
    pub(crate) fn perform(&mut self, id: InstanceId, effect: Effect) {
        let now_ms = self.now_ms;
        let Some(invocation) = self.invocation(id) else { return };
        let (account, renews) = (invocation.account, invocation.renews);
        let time_left_ms = invocation.deadline_ms.saturating_sub(now_ms);
        let instance = &self.instances[id.index];
        let to = ReplyTo::Baseline(id);
        match &effect {
            Effect::Pause { until } => {
                let at_ms = instance.true_ms(*until).max(now_ms);
                self.at(at_ms, Occurrence::Reply { to, event: Event::Resumed });
            }
            Effect::Send { not_after, .. } if instance.clock(now_ms) > *not_after => {
                let event = Event::Replied(UpstreamReply::TooLate);
                self.after(0, Occurrence::Reply { to, event });
            }
            _ => self.transmit(Message { account, effect, to: Some(to), renews }, time_left_ms),
        }
    }

    /// How long the instance is stopped now, if it is.
    fn stop(&mut self, id: InstanceId) -> Option<u64> {
        if !self.faults.strikes(Fault::Pauses, 10, self.now_ms, &mut self.rng) {
            return None;
        }
        let invocation = self.invocation(id)?;
        invocation.stopped = true;
        let renews = invocation.renews;
        self.checks.tally.losses += u64::from(renews);
        Some(stop_ms(&mut self.rng))
    }

    /// The invocation ends without a result. If it renews, the renewal may be lost.
    fn cut(&mut self, id: InstanceId, code: &'static str) {
        let Some(known) = self.instances[id.index].baseline() else { return };
        let Some(invocation) = known.invocation.take() else { return };
        self.checks.tally.losses += u64::from(invocation.renews);
        self.checks.failed(invocation.account, code);
    }

    fn end(&mut self, id: InstanceId, result: Result<Outcome, Failure>) {
        let Some(known) = self.instances[id.index].baseline() else { return };
        let Some(invocation) = known.invocation.take() else { return };
        let Invocation { account, request, baseline, arrived_ms, deadline_ms, began_cold, stopped, .. } =
            invocation;
        known.keep(account, baseline.cache());
        known.retry_until = baseline.retry_until();
        if self.now_ms > deadline_ms + ANSWER_RESERVE_MS {
            return self.checks.failed(account, "timed_out");
        }
        self.request_ends(account, &request, result, arrived_ms, !began_cold, stopped);
    }
}

impl BaselineInstance {
    /// Keeps what a request has learned, except about an account without a record.
    fn keep(&mut self, account: usize, cache: &Cache) {
        if cache.record.as_ref().is_some_and(|cached| cached.account.version.0 != 0) {
            self.caches.insert(account, cache.clone());
        } else {
            self.caches.remove(&account);
        }
    }
}
