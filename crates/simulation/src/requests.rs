//! One request on an instance, from its arrival to its answer: what the shell does around a flow.

use super::{
    faults::Fault,
    instance::Job,
    plans::{HOUR, SECOND},
    strategy::{Client, Strategy},
    world::{Address, Request, What, World},
};
use std::time::Duration;
use protocol::{Answer, Request, Done, Intent, Failure, Effect, Event, Lookup, Draw, millis};
use token_broker::{inbound::deadline::Entry};

/// An answer that comes later than this after the deadline meets nobody.
const ANSWER_RESERVE_MS: u64 = 300;
/// The function's timeout.
const INVOCATION: Duration = Duration::from_secs(30);
/// What the schedule asks for.
const MAINTAIN: Intent = Intent::Maintain { revoked: false };

impl World {
    pub fn serve(&mut self, index: usize, request: Request) {
        let rejected = self.report(index, request.account);
        let goal = Intent::Token { min_ttl: request.min_ttl, rejected };
        self.begin(index, request.account, goal, request.arrived_ms, Vec::new());
    }

    pub fn known_accounts(&self) -> Vec<usize> {
        if self.faults.is(Fault::StoreDown, self.now_ms) { Vec::new() } else { self.store.known_accounts() }
    }

    /// Maintains these accounts, one after another.
    pub fn maintain(&mut self, index: usize, mut accounts: Vec<usize>) {
        if accounts.is_empty() {
            return;
        }
        let account = accounts.remove(0);
        self.begin(index, account, MAINTAIN, self.now_ms, accounts);
    }

    fn begin(&mut self, index: usize, account: usize, goal: Intent, arrived_ms: u64, rest: Vec<usize>) {
        let instance = &self.instances[index];
        let now = instance.clock(self.now_ms);
        let entry = if goal == MAINTAIN { Entry::Direct } else { Entry::Http };
        let ask = Request {
            account: self.names[account].clone(),
            goal,
            arrived_at: now,
            deadline: entry.deadline(now.plus(INVOCATION), now),
        };
        // One draw for all that memory is asked.
        let draw = Draw(self.rng.u64(..));
        match self.strategy.look_up(&instance.memories[account], &ask, &self.policy, now, draw) {
            Lookup::Answer(answer) => return self.answered(account, &ask, &answer, arrived_ms),
            Lookup::Fail(failure) => return self.failed(&failure, false, arrived_ms),
            Lookup::Look { .. } => {}
        }
        let memory = instance.memories[account].clone();
        let began_cold = memory.copy.is_none();
        let deadline_ms = instance.true_ms(ask.deadline);
        let mut client = Client::new(self.strategy, ask.clone(), memory, instance.retry_until);
        let effect = client.step(&self.policy, Event::Begin, now, draw);
        let who = Address { index, life: instance.life };
        let job = Job {
            account,
            ask,
            client,
            arrived_ms,
            deadline_ms,
            renews: false,
            rest,
            began_cold,
            stopped: false,
        };
        self.instances[index].job = Some(job);
        self.go_on(who, effect);
    }

    /// A reply has come back. Here an instance may die, or be stopped.
    pub fn return_to(&mut self, who: Address, event: Event) {
        if self.instances[who.index].life != who.life {
            return;
        }
        if self.faults.strikes(Fault::Kills, 10, self.now_ms, &mut self.rng) || self.holder_dies(who.index) {
            return self.die(who.index);
        }
        match self.stop(who) {
            Some(span_ms) => self.after(span_ms, What::Steps { who, event }),
            None => self.step(who, event),
        }
    }

    fn holder_dies(&mut self, index: usize) -> bool {
        let renews = self.instances[index].job.as_ref().is_some_and(|job| job.renews);
        let lately = self.now_ms < self.holder_died_ms + HOUR / 2;
        let dies =
            renews && !lately && self.faults.strikes(Fault::HoldersDie, 2, self.now_ms, &mut self.rng);
        if dies {
            self.holder_died_ms = self.now_ms;
        }
        dies
    }

    pub fn step(&mut self, who: Address, event: Event) {
        let draw = Draw(self.rng.u64(..));
        let instance = &mut self.instances[who.index];
        let now = instance.clock(self.now_ms);
        let Some(job) = instance.job.as_mut().filter(|_| instance.life == who.life) else { return };
        let effect = job.client.step(&self.policy, event, now, draw);
        self.go_on(who, effect);
    }

    fn go_on(&mut self, who: Address, effect: Effect) {
        if let Effect::Done(result) = effect {
            return self.end(who.index, result);
        }
        if let (Effect::WriteAccount { next, .. }, Some(job)) = (&effect, &mut self.instances[who.index].job)
        {
            job.renews = next.lease.is_some();
        }
        // Where nobody takes a lease, whoever sends renews.
        if let (Effect::Send { .. }, Some(job)) = (&effect, &mut self.instances[who.index].job) {
            job.renews |= self.strategy != Strategy::Broker;
        }
        match self.stop(who) {
            Some(span_ms) => self.after(span_ms, What::Performs { who, effect }),
            None => self.perform(who, effect),
        }
    }

    /// For how long the instance is stopped here, if it is.
    fn stop(&mut self, who: Address) -> Option<u64> {
        if !self.faults.strikes(Fault::Pauses, 10, self.now_ms, &mut self.rng) {
            return None;
        }
        self.lose(who.index);
        self.instances[who.index].job.iter_mut().for_each(|job| job.stopped = true);
        let longest_ms = if self.rng.bool() { 5 * SECOND } else { 60 * SECOND };
        Some(self.rng.u64(1..longest_ms))
    }

    fn die(&mut self, index: usize) {
        self.lose(index);
        if self.instances[index].job.as_ref().is_some_and(|job| job.ask.goal != MAINTAIN) {
            self.checks.failed("killed");
        }
        self.replace(index);
    }

    /// What an instance does about a renewal may be in vain.
    fn lose(&mut self, index: usize) {
        let renews = self.instances[index].job.as_ref().is_some_and(|job| job.renews);
        self.checks.tally.losses += u64::from(renews);
    }

    fn end(&mut self, index: usize, result: Result<Outcome, Failure>) {
        let Some(job) = self.instances[index].job.take() else { return };
        let Job { account, ask, client, arrived_ms, deadline_ms, rest, began_cold, stopped, .. } = job;
        self.instances[index].remember(account, client.memory());
        self.instances[index].retry_until = client.retry_until();
        if ask.goal == MAINTAIN {
            if self.now_ms < deadline_ms {
                self.maintain(index, rest);
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
            Ok(Outcome::Token(answer)) => self.answered(account, &ask, &answer, arrived_ms),
            Ok(Outcome::Report { .. }) => panic!("a report answers a request for a token"),
            Err(failure) => self.failed(&failure, !began_cold, arrived_ms),
        }
    }

    /// I4, and I7 where the faults are over.
    fn answered(&mut self, account: usize, ask: &Request, answer: &Answer, arrived_ms: u64) {
        let Intent::Token { min_ttl, rejected } = ask.goal else { return };
        let now_ms = self.now_ms;
        let kept_until_ms = now_ms + answer.expires_in_seconds * SECOND;
        let ends_ms = self.upstream.expires_at_ms(&answer.access_token);
        self.checks.hold("I4", answer.expires_in_seconds >= 1, || "not even one second is left".to_owned());
        self.checks.hold("I4", kept_until_ms <= ends_ms, || {
            format!("handed out at {now_ms} until {kept_until_ms}, but it ends at {ends_ms}")
        });
        let assumed_ms = if self.plan.varies { 3_600 * SECOND } else { self.plan.token_life_ms };
        // Half of a lifetime that the broker's own clock has measured.
        let half_ms = self.plan.token_life_ms.min(assumed_ms) / 2 - millis(self.policy.clock_margin);
        let wanted_ms = millis(min_ttl).min(half_ms);
        self.checks.hold("I4", answer.expires_in_seconds >= wanted_ms / SECOND, || {
            format!("{} s, where {wanted_ms} ms were asked for", answer.expires_in_seconds)
        });
        let alive = self.upstream.is_alive(&answer.access_token, now_ms);
        self.checks.tally.dead_tokens += u64::from(!alive);
        let in_vain = rejected == Some(answer.generation) && !alive;
        self.checks.hold("I7", !in_vain || arrived_ms < self.settled_ms, || {
            format!("at {now_ms} a caller who says that its token is dead gets the same")
        });
        self.upstream.use_token(&answer.access_token, now_ms);
        self.load.handed[account] = Some((answer.generation, answer.access_token.clone()));
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
            format!("at {}, after all faults: {failure}", self.now_ms)
        });
        self.checks.failed(code(failure));
        self.checks.tally.warm_failures += u64::from(warm);
    }
}

fn code(failure: &Failure) -> &'static str {
    match failure {
        Failure::UnknownAccount => "unknown_account",
        Failure::BadSecret(_) => "bad_secret",
        Failure::SecretUnavailable => "secret_unavailable",
        Failure::CredentialsRejected(_) => "credentials_rejected",
        Failure::LoginBudgetExhausted { .. } => "login_budget_exhausted",
        Failure::UpstreamRateLimited { .. } => "upstream_rate_limited",
        Failure::UpstreamUnavailable { .. } => "upstream_unavailable",
        Failure::RefreshInProgress { .. } => "refresh_in_progress",
        Failure::TooLittleTime => "too_little_time",
        Failure::StoreUnavailable => "store_unavailable",
        Failure::UnreadableItem(_) => "unreadable_item",
        Failure::Defect(_) => "defect",
    }
}
