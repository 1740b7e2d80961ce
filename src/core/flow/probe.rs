//! Verifying a report that a token was rejected, before it is believed: one probe, under the lease. The verdict
//! is written down, and answers everybody else who reports the same.

use super::{
    super::{
        error::Failure,
        grant::{Call, Reply},
    },
    Effect, Flow, Held, Notice, State, Step,
    acquire::Purpose,
    save::Outcome,
};

impl Flow {
    pub(super) fn verify(&mut self, step: Step<'_>) -> Effect {
        self.acquire(step, Purpose::Verify)
    }

    pub(super) fn probe(&mut self, step: Step<'_>, held: Held) -> Effect {
        let Some(pair) = held.account.pair.as_ref() else {
            return Effect::Done(Err(Failure::Defect("a lease was taken to probe nothing")));
        };
        let call = Call::Probe { access_token: pair.access_token.clone(), origin: pair.origin.clone() };
        let not_after = step.policy.latest_send(&held.lease, self.ask.deadline);
        self.state = State::Probing(held);
        Effect::Send { call, not_after }
    }

    pub(super) fn probed(&mut self, step: Step<'_>, held: Held, reply: &Reply) -> Effect {
        let generation = held.account.generation();
        match reply {
            Reply::Alive => {
                self.notices.extend(generation.map(Notice::FoundAlive));
                self.settle(step, held, Outcome::Released, |next| next.verified_at = Some(step.now))
            }
            Reply::Refused => {
                self.notices.extend(generation.map(Notice::FoundDead));
                self.settle(step, held, Outcome::Released, |next| {
                    next.verified_at = None;
                    next.pair.iter_mut().for_each(|pair| pair.dead = true);
                })
            }
            // No verdict: the same token, and a rest before the next probe.
            Reply::RateLimited(asked) => self.rate_limited(step, held, *asked),
            Reply::TooLate => self.give_up(step, held, Outcome::Failed(Failure::TooLittleTime)),
            Reply::Unclear | Reply::NeverLeft | Reply::Granted(_) | Reply::Revoked => {
                self.unavailable(step, held)
            }
        }
    }
}
