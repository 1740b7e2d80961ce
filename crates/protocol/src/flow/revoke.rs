//! Withdrawing a pair, and revoking its tokens upstream.
//!
//! One write moves the pair to the pending revocations, so that nobody is handed it any more and a crash
//! forgets nothing; then the tokens are revoked; then one write forgets those that are.

use super::{
    super::{decide::Goal, grant::Call, record::Revocation},
    Effect, Flow, Held, Notice, State, Step,
    acquire::Purpose,
    save::Outcome,
};

impl Flow {
    pub(super) fn begin_revoking(&mut self, step: Step<'_>, withdraw: bool) -> Effect {
        if withdraw {
            self.notices.extend(self.account().generation().map(Notice::Withdrawn));
        }
        self.acquire(step, Purpose::Revoke { withdraw })
    }

    /// Revokes the next token that is pending. What cannot be revoked now stays pending, in `failed`.
    pub(super) fn revoke_pending(
        &mut self,
        step: Step<'_>,
        mut held: Held,
        mut failed: Vec<Revocation>,
    ) -> Effect {
        let not_after = step.policy.latest_send(&held.lease, self.ask.deadline);
        if step.now > not_after {
            failed.append(&mut held.account.pending);
        }
        if held.account.pending.is_empty() {
            return self.settle(step, held, Outcome::Revoked, |next| next.pending = failed);
        }
        let current = held.account.pending.remove(0);
        self.state = State::Revoking { held, current: current.clone(), failed };
        Effect::Send { call: Call::Revoke(current), not_after }
    }

    /// What was pending has been tried once. An operator is told; the schedule goes on to what is due.
    pub(super) fn revoked_all(&mut self, step: Step<'_>) -> Effect {
        self.ask.goal = match self.ask.goal {
            Goal::Maintain { .. } => Goal::Maintain { revoked: true },
            _ => Goal::Report,
        };
        self.act(step)
    }
}
