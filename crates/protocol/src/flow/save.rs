//! Writing down what came of a lease: a pair, a failure, or nothing. One conditional write ends the lease.

use super::{
    super::{
        decide::{Done, Goal, ServedFrom},
        error::Failure,
        memory::{Copied, Unsaved},
        policy::COMMIT_RESERVE,
        record::{Account, Version},
        time::Timestamp,
    },
    Effect, Flow, Held, Notice, State, Step, StoreProblem, Written,
};
/// Tries to write down a failure. The lease lapses by itself, so there is no need to insist.
const TRIES_FOR_A_FAILURE: u32 = 3;

/// What came of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Outcome {
    /// A pair.
    Obtained,
    /// A pair, by an earlier request of this instance which could not save it.
    Remembered,
    /// No pair, and the reason.
    Failed(Failure),
    /// Nothing that ends the request: decide again.
    Released,
    /// What was pending is revoked, as far as it would go: that is all.
    Revoked,
}

/// The write that ends a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Saving {
    /// The fence: nobody must have written since.
    expected: Version,
    next: Account,
    outcome: Outcome,
    tries: u32,
    asked_at: Timestamp,
}

impl Saving {
    fn brings_a_pair(&self) -> bool {
        matches!(self.outcome, Outcome::Obtained | Outcome::Remembered)
    }

    /// Whether a record that was read shows that this write was carried out.
    fn is_in(&self, account: &Account) -> bool {
        if self.brings_a_pair() {
            account.generation() == self.next.generation()
        } else {
            *account == self.next
        }
    }
}

impl Flow {
    /// Ends the lease with `change` applied to the record.
    pub(super) fn settle(
        &mut self,
        step: Step<'_>,
        held: Held,
        outcome: Outcome,
        change: impl FnOnce(&mut Account),
    ) -> Effect {
        let expected = held.account.version;
        let mut next = Account { version: expected.next(step.now), lease: None, ..held.account };
        if let Some(refused) = held.refused.filter(|_| outcome != Outcome::Obtained) {
            self.note_parked(step, refused.clone());
            next.parked = Some(refused);
        }
        change(&mut next);
        self.write(step, Saving { expected, next, outcome, tries: 0, asked_at: step.now })
    }

    /// Goes on with a pair that an earlier request of this instance could not save.
    pub(super) fn save_what_memory_holds(&mut self, step: Step<'_>, unsaved: Unsaved) -> Effect {
        let Unsaved { expected, next } = unsaved;
        self.write(
            step,
            Saving { expected, next, outcome: Outcome::Remembered, tries: 0, asked_at: step.now },
        )
    }

    pub(super) fn write(&mut self, step: Step<'_>, saving: Saving) -> Effect {
        let saving = Saving { asked_at: step.now, ..saving };
        let effect = Effect::WriteAccount { expected: saving.expected, next: saving.next.clone() };
        self.state = State::Saving(saving);
        effect
    }

    pub(super) fn wrote(&mut self, step: Step<'_>, saving: Saving, written: Written) -> Effect {
        match written {
            Written::Done => {
                let account = saving.next.clone();
                let asked_at = saving.asked_at;
                self.saved(step, saving, account, asked_at)
            }
            Written::Conflict | Written::Unknown => {
                self.state = State::ConfirmingSave { saving, asked_at: step.now };
                Effect::ReadAccount
            }
        }
    }

    pub(super) fn confirmed_save(
        &mut self,
        step: Step<'_>,
        saving: Saving,
        asked_at: Timestamp,
        read: Result<Account, StoreProblem>,
    ) -> Effect {
        match read {
            Ok(account) if saving.is_in(&account) => self.saved(step, saving, account, asked_at),
            Ok(account) if account.version == saving.expected => self.try_again(step, saving),
            Ok(account) => self.taken_over(step, &saving, account, asked_at),
            Err(_) => self.try_again(step, saving),
        }
    }

    fn saved(&mut self, step: Step<'_>, saving: Saving, account: Account, asked_at: Timestamp) -> Effect {
        if let Some(generation) = saving.next.generation().filter(|_| saving.brings_a_pair()) {
            self.renewed = true;
            self.notices.push(Notice::Saved(generation));
        }
        self.memory.unsaved = None;
        self.remember(account, asked_at);
        match saving.outcome {
            Outcome::Obtained => match self.discard_orphan(step) {
                Some(effect) => effect,
                None => self.hand_out(step, &saving.next),
            },
            Outcome::Failed(failure) => self.finish(step, failure),
            Outcome::Remembered => self.act(step),
            Outcome::Released => self.look(step),
            Outcome::Revoked => self.revoked_all(step),
        }
    }

    /// The write did not get through, or nobody can tell. A pair is worth insisting on.
    fn try_again(&mut self, step: Step<'_>, saving: Saving) -> Effect {
        let tries = saving.tries + 1;
        let pause_until = step.now.plus(step.policy.poll_pause(tries, step.draw));
        let patient = match saving.outcome {
            Outcome::Obtained => pause_until.plus(COMMIT_RESERVE) < self.ask.deadline,
            Outcome::Remembered => false,
            Outcome::Failed(_) | Outcome::Released | Outcome::Revoked => {
                tries < TRIES_FOR_A_FAILURE && pause_until < self.ask.deadline
            }
        };
        if patient {
            self.state = State::PausingSave(Saving { tries, ..saving });
            return Effect::Pause { until: pause_until };
        }
        self.memory.store_failed_at = Some(step.now);
        match saving.outcome {
            Outcome::Obtained => {
                self.notices.extend(saving.next.generation().map(Notice::Unsaved));
                self.memory.unsaved = Some(Unsaved { expected: saving.expected, next: saving.next.clone() });
                self.memory.copy = Some(Copied { account: saving.next.clone(), read_at: saving.asked_at });
                self.hand_out(step, &saving.next)
            }
            Outcome::Failed(failure) => self.finish(step, failure),
            Outcome::Remembered | Outcome::Released | Outcome::Revoked => {
                self.finish(step, Failure::StoreUnavailable)
            }
        }
    }

    /// Somebody else holds the lease by now, or has ended it: decide again, on what they wrote.
    fn taken_over(
        &mut self,
        step: Step<'_>,
        saving: &Saving,
        account: Account,
        asked_at: Timestamp,
    ) -> Effect {
        if saving.brings_a_pair() {
            self.notices.extend(saving.next.generation().map(Notice::Overtaken));
        }
        // A pair that memory held has been handed out; it lives on until it expires, unless an operator has
        // withdrawn what it replaces.
        if saving.outcome == Outcome::Obtained || (saving.brings_a_pair() && account.pair.is_none()) {
            self.orphan.clone_from(&saving.next.pair);
        }
        self.memory.unsaved = None;
        self.remember(account, asked_at);
        self.act(step)
    }

    /// Answers with the pair that was just obtained, even where it lives too short for what was asked.
    fn hand_out(&mut self, step: Step<'_>, account: &Account) -> Effect {
        if matches!(self.ask.goal, Goal::Maintain { .. }) {
            return self.act(step);
        }
        let answer = account
            .pair
            .as_ref()
            .and_then(|pair| self.ask.answer(pair, step.policy, step.now, ServedFrom::Upstream));
        let retry_after = account.cooldown.map(|cooldown| cooldown.until.since(step.now)).unwrap_or_default();
        Effect::Done(answer.map(Done::Token).ok_or(Failure::UpstreamUnavailable { retry_after }))
    }
}
