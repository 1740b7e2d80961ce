//! Under the lease: asking the upstream, and what its answers lead to.

use super::{
    super::{
        decide::resting,
        error::Failure,
        grant::{Call, Credentials, Granted, Reply, pair_from},
        record::{Cooldown, CooldownReason, Grant, Origin, SecretVersion},
        time::Timestamp,
    },
    Effect, Flow, Held, Notice, SecretProblem, State, Step,
    acquire::secret_failure,
    paying::{Block, Payment},
    save::Outcome,
};
use std::time::Duration;

impl Flow {
    pub(super) fn refresh(&mut self, step: Step<'_>, held: Held) -> Effect {
        let token = held
            .account
            .pair
            .as_ref()
            .and_then(|pair| Some((pair.refresh_token.clone()?, pair.origin.clone())));
        let Some((refresh_token, origin)) = token else {
            return Effect::Done(Err(Failure::Defect("a lease was taken to refresh nothing")));
        };
        let not_after = step.policy.latest_send(&held.lease, self.ask.deadline);
        self.state = State::Refreshing { held, left_at: step.now };
        Effect::Send { call: Call::Refresh { refresh_token, origin }, not_after }
    }

    pub(super) fn refreshed(
        &mut self,
        step: Step<'_>,
        held: Held,
        left_at: Timestamp,
        reply: Reply,
    ) -> Effect {
        match reply {
            Reply::Granted(granted) => {
                let origin = held.account.pair.as_ref().map(|pair| pair.origin.clone()).unwrap_or_default();
                self.granted(step, held, granted, left_at, Grant::Refresh, origin)
            }
            // The refresh token is dead. It stays marked as spent, so the next grant is a login.
            Reply::Refused => {
                self.notices.push(Notice::RefreshRefused);
                self.login_if_time_allows(step, held)
            }
            Reply::RateLimited(asked) => {
                let held = unspent(held);
                self.rate_limited(step, held, asked)
            }
            // It may have been carried out: the token stays spent.
            Reply::Unclear | Reply::Revoked | Reply::Alive => self.unavailable(step, held),
            Reply::NeverLeft => {
                let held = unspent(held);
                self.unavailable(step, held)
            }
            Reply::TooLate => {
                let held = unspent(held);
                self.give_up(step, held, Outcome::Released)
            }
        }
    }

    fn login_if_time_allows(&mut self, step: Step<'_>, held: Held) -> Effect {
        if step.now > step.policy.latest_send(&held.lease, self.ask.deadline) {
            return self.give_up(step, held, Outcome::Released);
        }
        self.state = State::RereadingSecret(held);
        Effect::ReadSecret
    }

    /// The secret, read under the lease: for the first login after a refused refresh, or for the second one
    /// after a refused login, which only a newer version is worth.
    pub(super) fn reread_secret(
        &mut self,
        step: Step<'_>,
        held: Held,
        read: Result<Credentials, SecretProblem>,
    ) -> Effect {
        if let Some(refused) = held.refused.clone() {
            return match read {
                Ok(newer) if newer.version != refused => self.log_in(step, held, newer),
                _ => self.give_up(step, held, Outcome::Failed(Failure::CredentialsRejected(refused))),
            };
        }
        match read {
            Ok(credentials) if held.account.parked.as_ref() == Some(&credentials.version) => {
                let failure = Failure::CredentialsRejected(credentials.version);
                self.give_up(step, held, Outcome::Failed(failure))
            }
            Ok(credentials) => self.log_in(step, held, credentials),
            Err(problem) => self.give_up(step, held, Outcome::Failed(secret_failure(problem))),
        }
    }

    /// Logs in: pays first, then sends.
    pub(super) fn log_in(&mut self, step: Step<'_>, held: Held, credentials: Credentials) -> Effect {
        self.pay(Payment::new(held, credentials, step.holder()))
    }

    /// Sends a login whose debit was written at `paid_at`.
    pub(super) fn send_login(
        &mut self,
        step: Step<'_>,
        held: Held,
        credentials: Credentials,
        paid_at: Timestamp,
    ) -> Effect {
        let debit_is_fresh_until = paid_at.plus(step.policy.debit_freshness());
        let not_after = step.policy.latest_send(&held.lease, self.ask.deadline).min(debit_is_fresh_until);
        let call = Call::Login(credentials.clone());
        self.state = State::LoggingIn { held, credentials, left_at: step.now };
        Effect::Send { call, not_after }
    }

    pub(super) fn logged_in(
        &mut self,
        step: Step<'_>,
        mut held: Held,
        credentials: Credentials,
        left_at: Timestamp,
        reply: Reply,
    ) -> Effect {
        match reply {
            Reply::Granted(granted) => {
                self.granted(step, held, granted, left_at, Grant::Login, credentials.origin)
            }
            Reply::Refused => {
                let first = held.refused.replace(credentials.version.clone()).is_none();
                if first {
                    self.login_if_time_allows(step, held)
                } else {
                    let failure = Failure::CredentialsRejected(credentials.version);
                    self.give_up(step, held, Outcome::Failed(failure))
                }
            }
            Reply::RateLimited(asked) => self.rate_limited(step, held, asked),
            Reply::Unclear | Reply::Revoked | Reply::Alive | Reply::NeverLeft => self.unavailable(step, held),
            Reply::TooLate => self.give_up(step, held, Outcome::Released),
        }
    }

    fn granted(
        &mut self,
        step: Step<'_>,
        held: Held,
        granted: Granted,
        left_at: Timestamp,
        grant: Grant,
        origin: Origin,
    ) -> Effect {
        if granted.access_expiry.resolve(left_at).is_none() {
            self.notices.push(Notice::ExpiryAssumed);
        }
        let pair = pair_from(granted, held.fence(), left_at, grant, held.account.pair.as_ref(), origin);
        // A pair with less than half of its life left on arrival is kept and served, but counts as a failure:
        // otherwise the next request would renew it again.
        let cooldown = (!step.policy.usable(&pair, Duration::MAX, step.now)).then(|| backoff(step, &held));
        self.settle(step, held, Outcome::Obtained, |next| {
            next.pair = Some(pair);
            next.cooldown = cooldown;
            next.verified_at = None;
            next.no_probe_before = None;
            if grant == Grant::Login {
                next.parked = None;
            }
        })
    }

    fn unavailable(&mut self, step: Step<'_>, held: Held) -> Effect {
        let cooldown = backoff(step, &held);
        self.rest(step, held, cooldown)
    }

    /// Writes down a failure, which counts just as a success does, and lets the account rest.
    pub(super) fn rest(&mut self, step: Step<'_>, held: Held, cooldown: Cooldown) -> Effect {
        self.notices.push(Notice::Resting(cooldown.until));
        let failure = resting(cooldown, step.now);
        self.settle(step, held, Outcome::Failed(failure), |next| next.cooldown = Some(cooldown))
    }

    fn rate_limited(&mut self, step: Step<'_>, held: Held, asked: Option<Duration>) -> Effect {
        let until = step.now.plus(step.policy.rate_limit_pause(asked, step.draw));
        let cooldown =
            Cooldown { until, reason: CooldownReason::RateLimited, failures: held.account.failures() };
        // The limit counts by address, so the whole fleet has to know, not only this account.
        self.block(Block::new(held, cooldown))
    }

    /// Ends the lease without a pair, and parks the secret version that was refused under it.
    pub(super) fn give_up(&mut self, step: Step<'_>, held: Held, outcome: Outcome) -> Effect {
        self.settle(step, held, outcome, |_| {})
    }

    pub(super) fn note_parked(&mut self, step: Step<'_>, version: SecretVersion) {
        self.notices.push(Notice::Parked(version.clone()));
        self.memory.parked = Some((version, step.now));
    }
}

fn backoff(step: Step<'_>, held: &Held) -> Cooldown {
    let failures = held.account.failures().saturating_add(1);
    let until = step.now.plus(step.policy.backoff(failures, step.draw));
    Cooldown { until, reason: CooldownReason::Unavailable, failures }
}

/// The refresh token did not leave after all.
fn unspent(mut held: Held) -> Held {
    if let Some(pair) = held.account.pair.as_mut() {
        pair.refresh_spent = false;
    }
    held
}
