//! Taking the lease: one conditional write, whose version is the fence.

use super::{
    super::{
        error::Failure,
        grant::Credentials,
        policy::PARKED_RECHECK,
        record::{Account, Lease},
        time::Timestamp,
    },
    Effect, Flow, Held, Notice, SecretProblem, State, Step, StoreProblem, Written,
};

/// What the lease is taken for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// To refresh the pair.
    Refresh,
    /// To log in, with what was read before the lease is taken.
    Login(Credentials),
    /// To find out whether the access token is alive.
    Verify,
    /// To revoke what is pending.
    Revoke {
        /// And the pair, which the same write withdraws.
        withdraw: bool,
    },
}

/// The write that is to take the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    next: Account,
    lease: Lease,
    purpose: Purpose,
    asked_at: Timestamp,
}

impl Flow {
    /// A login reads the secret first, so that an unknown account writes nothing.
    pub(super) fn check_secret(&mut self, step: Step<'_>) -> Effect {
        if let (Some(parked), Some((seen, seen_at))) = (self.account().parked, self.memory.parked.as_ref()) {
            let lately = *seen_at <= step.now && step.now.since(*seen_at) < PARKED_RECHECK;
            if parked == *seen && lately {
                return self.finish(step, Failure::CredentialsRejected(parked));
            }
        }
        self.state = State::CheckingSecret;
        Effect::ReadSecret
    }

    pub(super) fn checked_secret(
        &mut self,
        step: Step<'_>,
        read: Result<Credentials, SecretProblem>,
    ) -> Effect {
        match read {
            Ok(credentials) if self.account().parked.as_ref() == Some(&credentials.version) => {
                self.memory.parked = Some((credentials.version.clone(), step.now));
                self.finish(step, Failure::CredentialsRejected(credentials.version))
            }
            Ok(credentials) => self.acquire(step, Purpose::Login(credentials)),
            Err(problem) => self.finish(step, secret_failure(problem)),
        }
    }

    /// Takes the lease. Where the grant is a refresh, the same write marks the refresh token as spent, so
    /// that whoever comes after a crash does not send it a second time.
    pub(super) fn acquire(&mut self, step: Step<'_>, purpose: Purpose) -> Effect {
        let before = self.account();
        let lease = Lease { holder: step.holder(), until: step.now.plus(step.policy.lease) };
        let mut next =
            Account { version: before.version.next(step.now), lease: Some(lease), ..before.clone() };
        match purpose {
            Purpose::Refresh => next.pair.iter_mut().for_each(|pair| pair.refresh_spent = true),
            Purpose::Revoke { withdraw: true } => next.withdraw_pair(),
            Purpose::Revoke { withdraw: false } | Purpose::Login(_) | Purpose::Verify => {}
        }
        self.state = State::Acquiring(Attempt { next: next.clone(), lease, purpose, asked_at: step.now });
        Effect::WriteAccount { expected: before.version, next }
    }

    pub(super) fn wrote_lease(&mut self, step: Step<'_>, attempt: Attempt, written: Written) -> Effect {
        match written {
            Written::Done => self.acquired(step, attempt),
            // A conflict is no proof that somebody else was faster: the client library's own retry may have
            // met our first write, whose reply was lost.
            Written::Conflict | Written::Unknown => {
                self.state = State::ConfirmingAcquire { attempt, asked_at: step.now };
                Effect::ReadAccount
            }
        }
    }

    pub(super) fn confirmed_lease(
        &mut self,
        step: Step<'_>,
        attempt: Attempt,
        asked_at: Timestamp,
        read: Result<Account, StoreProblem>,
    ) -> Effect {
        let account = match read {
            Ok(account) => account,
            Err(problem) => return self.store_failed(step, problem),
        };
        if account.version == attempt.next.version && account.lease == Some(attempt.lease) {
            return self.acquired(step, attempt);
        }
        self.notices.push(Notice::Outrun);
        let moved = Some(account.version) != self.memory.copy.as_ref().map(|copy| copy.account.version);
        self.remember(account, asked_at);
        // Where nothing has moved, our write did not arrive; try again, but not at once.
        if moved { self.act(step) } else { self.look_later(step) }
    }

    fn acquired(&mut self, step: Step<'_>, attempt: Attempt) -> Effect {
        self.remember(attempt.next.clone(), attempt.asked_at);
        let held = Held { account: attempt.next, lease: attempt.lease, refused: None };
        self.notices.push(Notice::Acquired(held.fence()));
        match attempt.purpose {
            Purpose::Refresh => self.refresh(step, held),
            Purpose::Login(credentials) => self.log_in(step, held, credentials),
            Purpose::Verify => self.probe(step, held),
            Purpose::Revoke { .. } => self.revoke_pending(step, held, Vec::new()),
        }
    }
}

/// The failure that a caller sees when the secret cannot be had.
pub(super) fn secret_failure(problem: SecretProblem) -> Failure {
    match problem {
        SecretProblem::Missing => Failure::UnknownAccount,
        SecretProblem::Bad(what) => Failure::BadSecret(what),
        SecretProblem::Unreachable => Failure::SecretUnavailable,
    }
}
