//! Looking at the record, deciding, and waiting for somebody else.

use super::{
    super::{
        decide::{Answer, Decision, Done, Goal, ServedFrom, Target, decide},
        error::Failure,
        memory::{Copied, Recall},
        policy::{self, COMMIT_RESERVE},
        record::{Account, Grant},
        time::{Draw, Timestamp},
    },
    Effect, Flow, State, Step, StoreProblem,
    acquire::Purpose,
};
use std::time::Duration;

/// Kept free at the end of a wait, for one last look at the record.
const LAST_LOOK: Duration = Duration::from_millis(250);

impl Flow {
    pub(super) fn begin(&mut self, step: Step<'_>) -> Effect {
        match self.memory.recall(&self.ask, step.policy, step.now, step.draw) {
            Recall::Answer(answer) => Effect::Done(Ok(Done::Token(answer))),
            Recall::Fail(failure) => Effect::Done(Err(failure)),
            Recall::Look { volunteered } => {
                self.volunteered = volunteered;
                match self.memory.unsaved.clone() {
                    Some(unsaved) => self.save_what_memory_holds(step, unsaved),
                    None => self.look(step),
                }
            }
        }
    }

    /// Reads the record afresh.
    pub(super) fn look(&mut self, step: Step<'_>) -> Effect {
        self.state = State::Looking { asked_at: step.now };
        Effect::ReadAccount
    }

    pub(super) fn looked(
        &mut self,
        step: Step<'_>,
        asked_at: Timestamp,
        read: Result<Account, StoreProblem>,
    ) -> Effect {
        match read {
            Ok(account) => {
                self.remember(account, asked_at);
                self.act(step)
            }
            Err(problem) => self.store_failed(step, problem),
        }
    }

    /// Decides on the record as it was last read, and does it.
    pub(super) fn act(&mut self, step: Step<'_>) -> Effect {
        let account = self.account();
        match &mut self.ask.goal {
            Goal::Replace(target) | Goal::Revoke(target) if *target == Target::NotSeen => {
                *target = Target::Pair(account.generation());
            }
            _ => {}
        }
        let draw = if self.volunteered { Draw(0) } else { step.draw };
        match decide(&self.ask, &account, step.policy, step.now, draw) {
            Decision::Answer => match self.discard_orphan(step) {
                Some(effect) => effect,
                None => self.finish(step, Failure::Defect("a usable pair could not be handed out")),
            },
            Decision::Nothing => self.report(step, &account),
            Decision::Renew(grant) => self.renew(step, grant),
            Decision::Verify => {
                self.in_time(step, |flow, step| flow.stand_back(step).unwrap_or_else(|| flow.verify(step)))
            }
            Decision::Revoke { withdraw } => {
                self.in_time(step, |flow, step| flow.begin_revoking(step, withdraw))
            }
            Decision::Wait(until) => self.wait(step, until),
            Decision::Fail(failure) => match self.discard_orphan(step) {
                Some(effect) => effect,
                None => self.finish(step, failure),
            },
        }
    }

    /// Nothing is left to do, but for an orphan: that has to wait for whoever is renewing.
    fn report(&mut self, step: Step<'_>, account: &Account) -> Effect {
        let lease = policy::held(account.lease.as_ref(), step.now);
        match (lease, self.orphan.is_some()) {
            (Some(lease), true) => self.wait(step, lease.until),
            (None, true) => self.discard_orphan(step).unwrap_or_else(|| self.act(step)),
            (_, false) => {
                let report = Done::Report { renewed: self.renewed, pending: account.pending.len() };
                Effect::Done(Ok(report))
            }
        }
    }

    fn renew(&mut self, step: Step<'_>, grant: Grant) -> Effect {
        self.in_time(step, |flow, step| {
            if let Some(effect) = flow.stand_back(step) {
                // It must not be drawn a second time.
                flow.volunteered = true;
                return effect;
            }
            match grant {
                Grant::Refresh => flow.acquire(step, Purpose::Refresh),
                Grant::Login => flow.check_secret(step),
            }
        })
    }

    /// Before a request that may be one of a crowd goes for the lease, once: it looks again a little later. A
    /// crowd gathers where a pair has run out or died; an account without one has nobody waiting yet.
    fn stand_back(&mut self, step: Step<'_>) -> Option<Effect> {
        let alone = !matches!(self.ask.goal, Goal::Token { .. }) || self.account().pair.is_none();
        if alone || std::mem::replace(&mut self.stood_back, true) {
            return None;
        }
        let span = step.policy.stand_back(step.draw);
        (!span.is_zero()).then(|| self.pause(step.now.plus(span)))
    }

    /// Goes on only where enough time is left for an upstream call and a write.
    fn in_time(&mut self, step: Step<'_>, go_on: impl FnOnce(&mut Self, Step<'_>) -> Effect) -> Effect {
        let needed = step.policy.upstream_timeout + COMMIT_RESERVE;
        if step.now.plus(needed) > self.ask.deadline {
            return self.finish(step, Failure::TooLittleTime);
        }
        go_on(self, step)
    }

    /// Waits for whoever holds the lease, with growing pauses, never beyond the caller's own time.
    fn wait(&mut self, step: Step<'_>, lease_until: Timestamp) -> Effect {
        let last_look = self.ask.deadline.minus(LAST_LOOK);
        if step.now >= last_look {
            return self.finish(step, Failure::in_progress(lease_until, step.now));
        }
        let pause = step.policy.poll_pause(self.looks, step.draw);
        self.pause(step.now.plus(pause).min(last_look))
    }

    /// Looks again after a pause that grows with every look.
    pub(super) fn look_later(&mut self, step: Step<'_>) -> Effect {
        if step.now >= self.ask.deadline {
            return self.finish(step, Failure::StoreUnavailable);
        }
        let pause = step.policy.poll_pause(self.looks, step.draw);
        self.pause(step.now.plus(pause).min(self.ask.deadline))
    }

    fn pause(&mut self, until: Timestamp) -> Effect {
        self.looks += 1;
        self.state = State::Waiting;
        Effect::Pause { until }
    }

    /// Ends the flow: with a token if the last known pair serves, whatever has failed, and else with the
    /// failure.
    pub(super) fn finish(&self, step: Step<'_>, failure: Failure) -> Effect {
        let served = self.memory.serve(&self.ask, step.policy, step.now);
        let token = served.map(|answer| Done::Token(Answer { served_from: self.source, ..answer }));
        Effect::Done(token.ok_or(failure))
    }

    pub(super) fn store_failed(&mut self, step: Step<'_>, problem: StoreProblem) -> Effect {
        self.memory.store_failed_at = Some(step.now);
        self.finish(step, problem.into())
    }

    pub(super) fn remember(&mut self, account: Account, read_at: Timestamp) {
        self.memory.copy = Some(Copied { account, read_at });
        self.memory.store_failed_at = None;
        self.source = ServedFrom::Table;
    }

    /// The record as it was last read; the empty one before that.
    pub(super) fn account(&self) -> Account {
        self.memory.copy.as_ref().map(|copy| copy.account.clone()).unwrap_or_default()
    }
}
