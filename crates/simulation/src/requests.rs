//! One request on an instance, from its arrival to its answer: what the function does around a flow.

use crate::{
    HOUR, SECOND, Strategy,
    faults::Fault,
    instance::Invocation,
    strategy::Client,
    world::{Arrival, InstanceId, Occurrence, World},
};
use protocol::{
    Answer, Context, Draw, Effect, Event, Failure, Intent, Lookup, Outcome, Request, Step, millis,
};
use std::time::Duration;

/// Kept free for sending the answer. The function ends this long before its caller is gone.
const ANSWER_RESERVE_MS: u64 = 300;
/// A request over HTTP has 28 s, since API Gateway ends it after 29 s, less the reserve.
const HTTP_TIME: Duration = Duration::from_millis(28_000 - ANSWER_RESERVE_MS);
/// A direct invocation has the function's timeout of 30 s, less the reserve.
const DIRECT_TIME: Duration = Duration::from_millis(30_000 - ANSWER_RESERVE_MS);

impl World {
    pub(crate) fn serve(&mut self, index: usize, arrival: Arrival) {
        let rejected = self.report(index, arrival.account);
        let intent = Intent::Token { min_ttl: arrival.min_ttl, rejected };
        self.invoke(index, arrival.account, intent, arrival.arrived_ms, Vec::new());
    }

    pub(crate) fn known_accounts(&self) -> Vec<usize> {
        let down = self.faults.lasts(Fault::StoreDown, self.now_ms);
        if down { Vec::new() } else { self.store.known_accounts() }
    }

    /// Maintains these accounts, one after another.
    pub(crate) fn maintain(&mut self, index: usize, mut accounts: Vec<usize>) {
        if accounts.is_empty() {
            return;
        }
        let account = accounts.remove(0);
        self.invoke(index, account, Intent::Maintain, self.now_ms, accounts);
    }

    fn invoke(
        &mut self,
        index: usize,
        account: usize,
        intent: Intent,
        arrived_ms: u64,
        remaining: Vec<usize>,
    ) {
        let policy = self.policy;
        let instance = &self.instances[index];
        let now = instance.clock(self.now_ms);
        let time = if intent == Intent::Maintain { DIRECT_TIME } else { HTTP_TIME };
        let request = Request {
            account: self.names[account].clone(),
            intent,
            arrived_at: now,
            deadline: now.plus(time),
        };
        // The lookup and the first step share one draw.
        let cx = Context { policy: &policy, now, draw: Draw(self.rng.u64(..)) };
        match self.strategy.look_up(&instance.caches[account], &request, cx) {
            Lookup::Answer(answer) => return self.answered(account, &request, &answer, arrived_ms),
            Lookup::Fail(failure) => return self.failed(&failure, false, arrived_ms),
            Lookup::Miss { .. } => {}
        }
        let cache = instance.caches[account].clone();
        let began_cold = cache.record.is_none();
        let deadline_ms = instance.true_ms(request.deadline);
        let mut client = Client::new(self.strategy, request.clone(), cache, instance.retry_until);
        let step = client.begin(cx);
        let id = InstanceId { index, life: instance.life };
        self.instances[index].invocation = Some(Invocation {
            account,
            request,
            client,
            arrived_ms,
            deadline_ms,
            renews: false,
            remaining,
            began_cold,
            stopped: false,
        });
        self.follow(id, step);
    }

    /// A reply arrives at an instance. The instance may die or be stopped before it takes the next step.
    pub(crate) fn receive(&mut self, id: InstanceId, event: Event) {
        if self.instances[id.index].life != id.life {
            return;
        }
        if self.faults.strikes(Fault::Kills, 10, self.now_ms, &mut self.rng) || self.holder_dies(id.index) {
            return self.die(id.index);
        }
        match self.stop(id) {
            Some(span_ms) => self.after(span_ms, Occurrence::Step { id, event }),
            None => self.step(id, event),
        }
    }

    fn holder_dies(&mut self, index: usize) -> bool {
        let renews = self.instances[index].invocation.as_ref().is_some_and(|invocation| invocation.renews);
        let lately = self.now_ms < self.holder_died_ms + HOUR / 2;
        let dies = renews && !lately && self.faults.strikes(Fault::HoldersDie, 2, self.now_ms, &mut self.rng);
        if dies {
            self.holder_died_ms = self.now_ms;
        }
        dies
    }

    pub(crate) fn step(&mut self, id: InstanceId, event: Event) {
        let draw = Draw(self.rng.u64(..));
        let instance = &mut self.instances[id.index];
        let cx = Context { policy: &self.policy, now: instance.clock(self.now_ms), draw };
        let invocation = instance.invocation.as_mut().filter(|_| instance.life == id.life);
        let Some(invocation) = invocation else { return };
        let step = invocation.client.step(cx, event);
        self.follow(id, step);
    }

    /// Performs the effect of a step, unless the instance is stopped before, or ends the invocation.
    fn follow(&mut self, id: InstanceId, step: Step) {
        let effect = match step {
            Step::Perform(effect) => effect,
            Step::Done(result) => return self.end(id.index, result),
        };
        if let Some(invocation) = &mut self.instances[id.index].invocation {
            match &effect {
                Effect::WriteAccount { next, .. } => invocation.renews = next.lease.is_some(),
                // Not every baseline takes a lease.
                Effect::Send { .. } => invocation.renews |= self.strategy != Strategy::Broker,
                _ => {}
            }
        }
        match self.stop(id) {
            Some(span_ms) => self.after(span_ms, Occurrence::Perform { id, effect }),
            None => self.perform(id, effect),
        }
    }

    /// How long the instance is stopped now, if it is.
    fn stop(&mut self, id: InstanceId) -> Option<u64> {
        if !self.faults.strikes(Fault::Pauses, 10, self.now_ms, &mut self.rng) {
            return None;
        }
        self.lose_renewal(id.index);
        self.instances[id.index].invocation.iter_mut().for_each(|invocation| invocation.stopped = true);
        let longest_ms = if self.rng.bool() { 5 * SECOND } else { 60 * SECOND };
        Some(self.rng.u64(1..longest_ms))
    }

    fn die(&mut self, index: usize) {
        self.lose_renewal(index);
        let invocation = self.instances[index].invocation.as_ref();
        if invocation.is_some_and(|invocation| invocation.request.intent != Intent::Maintain) {
            self.checks.failed("killed");
        }
        self.replace(index);
    }

    /// If the instance renews, the renewal may be lost.
    fn lose_renewal(&mut self, index: usize) {
        let renews = self.instances[index].invocation.as_ref().is_some_and(|invocation| invocation.renews);
        self.checks.tally.losses += u64::from(renews);
    }

    fn end(&mut self, index: usize, result: Result<Outcome, Failure>) {
        let Some(invocation) = self.instances[index].invocation.take() else { return };
        let Invocation {
            account,
            request,
            client,
            arrived_ms,
            deadline_ms,
            remaining,
            began_cold,
            stopped,
            ..
        } = invocation;
        self.instances[index].keep(account, client.cache());
        self.instances[index].retry_until = client.retry_until();
        if request.intent == Intent::Maintain {
            if self.now_ms < deadline_ms {
                self.maintain(index, remaining);
            }
            return;
        }
        if self.now_ms > deadline_ms + ANSWER_RESERVE_MS {
            return self.checks.failed("timed_out");
        }
        if !stopped {
            self.checks.waited(self.now_ms - arrived_ms);
        }
        match result {
            Ok(Outcome::Token(answer)) => self.answered(account, &request, &answer, arrived_ms),
            Ok(Outcome::Report { .. }) => panic!("a request for a token was answered with a report"),
            Err(failure) => self.failed(&failure, !began_cold, arrived_ms),
        }
    }

    /// Checks I4, and I7 after the last fault.
    fn answered(&mut self, account: usize, request: &Request, answer: &Answer, arrived_ms: u64) {
        let Intent::Token { min_ttl, rejected } = request.intent else { return };
        let now_ms = self.now_ms;
        let kept_until_ms = now_ms + answer.expires_in_seconds * SECOND;
        let ends_ms = self.upstream.expires_at_ms(&answer.access_token);
        self.checks.hold("I4", answer.expires_in_seconds >= 1, || "less than one second is left".to_owned());
        self.checks.hold("I4", kept_until_ms <= ends_ms, || {
            format!("handed out at {now_ms} until {kept_until_ms}, but it ends at {ends_ms}")
        });
        let assumed_ms = if self.plan.varied_answers { 3_600 * SECOND } else { self.plan.token_life_ms };
        // Half of the lifetime, as the instance's own clock measures it.
        let half_ms = self.plan.token_life_ms.min(assumed_ms) / 2 - millis(self.policy.clock_margin);
        let wanted_ms = millis(min_ttl).min(half_ms);
        self.checks.hold("I4", answer.expires_in_seconds >= wanted_ms / SECOND, || {
            format!("{} s, but {wanted_ms} ms were asked for", answer.expires_in_seconds)
        });
        let alive = self.upstream.is_alive(&answer.access_token, now_ms);
        self.checks.tally.dead_tokens += u64::from(!alive);
        let unheard = rejected == Some(answer.generation) && !alive;
        self.checks.hold("I7", !unheard || arrived_ms < self.settled_ms, || {
            format!("a caller who reported a dead token at {now_ms} got the same token")
        });
        self.upstream.use_token(&answer.access_token, now_ms);
        self.load.handed_out[account] = Some((answer.generation, answer.access_token.clone()));
        let wait_ms = now_ms - arrived_ms;
        let age_ms = now_ms - self.upstream.issued_at_ms(&answer.access_token);
        self.checks.figures.answered(wait_ms, age_ms, now_ms);
        let longest_ms = millis(self.policy.lease + self.policy.upstream_timeout);
        self.checks.hold("I7", wait_ms <= longest_ms || arrived_ms < self.settled_ms, || {
            format!("an answer at {now_ms} took {wait_ms} ms")
        });
    }

    fn failed(&mut self, failure: &Failure, warm: bool, arrived_ms: u64) {
        self.checks.hold("I7", arrived_ms < self.settled_ms, || {
            format!("a request failed at {}, after all faults: {failure}", self.now_ms)
        });
        self.checks.failed(failure.code());
        self.checks.tally.warm_failures += u64::from(warm);
    }
}
