//! The ledger: a debit before each login, and a block after a 429.

use super::{
    super::{
        error::Failure,
        grant::Credentials,
        ledger::Admission,
        record::{Cooldown, CooldownReason, Holder, Ledger},
        time::Timestamp,
    },
    Effect, Flow, Held, State, Step, StoreProblem, Written,
    save::Outcome,
};

/// Tries to write the ledger before giving up.
const TRIES: u32 = 8;

/// A login that is being paid for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Payment {
    held: Held,
    credentials: Credentials,
    /// Names this one login. Drawn anew for the second login under the same lease.
    by: Holder,
    tries: u32,
}

impl Payment {
    pub(super) fn new(held: Held, credentials: Credentials, by: Holder) -> Self {
        Self { held, credentials, by, tries: 0 }
    }
}

/// A 429 that the whole fleet has to know of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Block {
    held: Held,
    cooldown: Cooldown,
    tries: u32,
}

impl Block {
    pub(super) fn new(held: Held, cooldown: Cooldown) -> Self {
        Self { held, cooldown, tries: 0 }
    }
}

impl Flow {
    pub(super) fn pay(&mut self, payment: Payment) -> Effect {
        self.state = State::ReadingLedger(payment);
        Effect::ReadLedger
    }

    pub(super) fn read_ledger(
        &mut self,
        step: Step<'_>,
        payment: Payment,
        read: Result<Ledger, StoreProblem>,
    ) -> Effect {
        let ledger = match read {
            Ok(ledger) => ledger,
            Err(problem) => return self.ledger_failed(step, payment.held, problem),
        };
        // An earlier try of this very debit may have been carried out, its reply lost.
        if let Some(debit) = ledger.debit_of(payment.by) {
            return self.send_login(step, payment.held, payment.credentials, debit.at);
        }
        match ledger.admit(step.policy, payment.by, step.now) {
            Admission::Free(next) => {
                self.state = State::Debiting { payment, next: next.clone() };
                Effect::WriteLedger { expected: ledger.version, next }
            }
            Admission::Exhausted(until) => {
                self.no_login_before(step, payment.held, until, CooldownReason::BudgetExhausted)
            }
            Admission::Blocked(until) => {
                self.no_login_before(step, payment.held, until, CooldownReason::RateLimited)
            }
        }
    }

    pub(super) fn debited(
        &mut self,
        step: Step<'_>,
        mut payment: Payment,
        next: &Ledger,
        written: Written,
    ) -> Effect {
        match (written, next.debit_of(payment.by)) {
            (Written::Done, Some(debit)) => {
                self.send_login(step, payment.held, payment.credentials, debit.at)
            }
            _ => {
                payment.tries += 1;
                let latest = step.policy.latest_send(&payment.held.lease, self.ask.deadline);
                let pause_until = step.now.plus(step.policy.poll_pause(payment.tries, step.draw));
                if payment.tries >= TRIES {
                    return self.ledger_failed(step, payment.held, StoreProblem::Unreachable);
                }
                if pause_until > latest {
                    return self.give_up(step, payment.held, Outcome::Failed(Failure::TooLittleTime));
                }
                self.state = State::PausingLedger(payment);
                Effect::Pause { until: pause_until }
            }
        }
    }

    /// Lets the account rest until a login is free. Not a failure of the upstream, so the count stays.
    fn no_login_before(
        &mut self,
        step: Step<'_>,
        held: Held,
        until: Timestamp,
        reason: CooldownReason,
    ) -> Effect {
        let until = step.now.plus(step.draw.stretched(until.since(step.now)));
        let cooldown = Cooldown { until, reason, failures: held.account.failures() };
        self.rest(step, held, cooldown)
    }

    fn ledger_failed(&mut self, step: Step<'_>, held: Held, problem: StoreProblem) -> Effect {
        self.give_up(step, held, Outcome::Failed(problem.into()))
    }

    pub(super) fn block(&mut self, block: Block) -> Effect {
        self.state = State::ReadingLedgerToBlock(block);
        Effect::ReadLedger
    }

    pub(super) fn read_ledger_to_block(
        &mut self,
        step: Step<'_>,
        block: Block,
        read: Result<Ledger, StoreProblem>,
    ) -> Effect {
        match read {
            Ok(ledger) => {
                let next = ledger.blocked(block.cooldown.until, step.now);
                self.state = State::Blocking(block);
                Effect::WriteLedger { expected: ledger.version, next }
            }
            // At least the account itself is to rest.
            Err(_) => self.rest(step, block.held, block.cooldown),
        }
    }

    pub(super) fn blocked(&mut self, step: Step<'_>, mut block: Block, written: Written) -> Effect {
        block.tries += 1;
        match written {
            // Once more is harmless where the outcome is not known: a block never shrinks.
            Written::Conflict | Written::Unknown if block.tries < TRIES => self.block(block),
            _ => self.rest(step, block.held, block.cooldown),
        }
    }
}
