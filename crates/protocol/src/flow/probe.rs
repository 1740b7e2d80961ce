//! Verifying a report that a token was rejected, before it is believed: one probe, under the lease. The verdict
//! is written down, and answers everybody else who reports the same.

use super::{
    super::{
        decide::probe_interval,
        error::Failure,
        grant::{Call, Reply},
    },
    Effect, Flow, Held, Notice, State, Step,
    acquire::Purpose,
    save::Outcome,
};
use std::time::Duration;

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
                self.settle(step, held, Outcome::Released, |next| {
                    next.verified_at = Some(step.now);
                    next.no_probe_before = None;
                })
            }
            Reply::Refused => {
                self.notices.extend(generation.map(Notice::FoundDead));
                self.settle(step, held, Outcome::Released, |next| {
                    next.verified_at = None;
                    next.pair.iter_mut().for_each(|pair| pair.dead = true);
                })
            }
            // No verdict: the same token, and a rest before the next probe. Nobody else has to rest: the API's
            // trouble is not the OAuth host's.
            Reply::RateLimited(asked) => {
                self.no_verdict(step, held, step.policy.rate_limit_pause(*asked, step.draw))
            }
            Reply::TooLate => self.give_up(step, held, Outcome::Failed(Failure::TooLittleTime)),
            Reply::Unclear | Reply::NeverLeft | Reply::Granted(_) | Reply::Revoked => {
                self.no_verdict(step, held, step.draw.stretched(probe_interval(step.policy)))
            }
        }
    }

    fn no_verdict(&mut self, step: Step<'_>, held: Held, rest: Duration) -> Effect {
        let until = step.now.plus(rest);
        self.settle(step, held, Outcome::Released, |next| next.no_probe_before = Some(until))
    }
}
