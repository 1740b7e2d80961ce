//! Taking the lease: one conditional write, whose version is the fence.

use super::{Flow, Held, Next, State, write::Attempt};
use crate::{
    Account, AccountWrite, Call, Context, Credentials, Failure, Holder, Intent, IssuedToken, Lease, Notice,
    REJECTED_SECRET_RECHECK, SecretError, SecretVersion, Timestamp, cache::within, decision::refreshable,
    policy::WRITE_RETRY,
};

/// What the lease is taken for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Refresh(IssuedToken),
    LogIn(Credentials),
    Probe(IssuedToken),
    Revoke { withdraw: bool },
}

/// The write that is to take the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeaseAttempt {
    write: AccountWrite,
    lease: Lease,
    pub(super) purpose: Purpose,
    /// What it does besides, reported once it is applied, or may be.
    pub(super) notices: Vec<Notice>,
}

impl Flow {
    /// A login reads the secret first, so that an unknown account writes nothing. A failure or a rejected version that was
    /// seen a moment ago is not read again, except for an operator, who may have just mended it.
    pub(super) fn check_secret(&self, cx: Context<'_>) -> Next {
        if self.request.intent == Intent::Replace {
            return Next::CheckSecret;
        }
        if let Some(error) = self.cache.recent_secret_failure(cx) {
            return self.finish(cx, error.clone().into());
        }
        if let (Some(rejected), Some((seen, at))) =
            (self.account().rejected_secret, &self.cache.rejected_secret)
            && rejected == *seen
            && within(*at, REJECTED_SECRET_RECHECK, cx)
        {
            return self.finish(cx, Failure::CredentialsRejected(rejected));
        }
        Next::CheckSecret
    }

    pub(super) fn checked_secret(&mut self, cx: Context<'_>, read: Result<Credentials, SecretError>) -> Next {
        self.cache.secret_failure = read.as_ref().err().map(|error| (error.clone(), cx.now));
        let account = self.account();
        let rejected = |credentials: &Credentials| self.is_rejected(&account, &credentials.version);
        let pair = account.pair.as_ref().filter(|_| self.request.intent == Intent::Replace);
        if let Some((pair, refresh_token)) = pair.and_then(|pair| Some((pair, refreshable(pair, cx)?))) {
            // An operator's refresh logs in only if the secret has changed since the pair's login.
            let login = pair.secret_version.as_ref();
            let refreshes = match &read {
                Ok(secret) => login.is_none_or(|version| *version == secret.version) || rejected(secret),
                Err(error) => *error == SecretError::Unreachable,
            };
            if refreshes {
                return Next::Acquire(Purpose::Refresh(refresh_token));
            }
        }
        match read {
            Ok(credentials) if rejected(&credentials) => {
                self.cache.rejected_secret = Some((credentials.version.clone(), cx.now));
                self.finish(cx, Failure::CredentialsRejected(credentials.version))
            }
            Ok(credentials) => Next::Acquire(Purpose::LogIn(credentials)),
            Err(error) => self.finish(cx, error.into()),
        }
    }

    /// Whether the upstream refused this secret version: by the record, or in this flow, whose lease was lost before it
    /// could record that.
    pub(super) fn is_rejected(&self, account: &Account, version: &SecretVersion) -> bool {
        [&account.rejected_secret, &self.rejected_version].contains(&&Some(version.clone()))
    }

    /// Takes the lease. For a refresh, the same write marks the refresh token as consumed, so that no attempt sends it
    /// again after a crash. For a revocation by an operator, it withdraws the pair.
    pub(super) fn acquire(&mut self, cx: Context<'_>, purpose: Purpose) -> Next {
        if self.cache.writes_failed_at.is_some_and(|at| within(at, WRITE_RETRY, cx)) {
            return self.finish(cx, Failure::StoreUnavailable);
        }
        let lease = Lease { holder: Holder(cx.draw.0), until: cx.now.plus(cx.policy.lease) };
        let mut next = Account { lease: Some(lease), ..self.account() };
        let mut notices = Vec::new();
        match purpose {
            Purpose::Refresh(_) => next.mark_refresh_token(true),
            Purpose::Revoke { withdraw: true } => {
                notices.extend(next.generation().map(Notice::PairWithdrawn));
                let dropped = next.withdraw_pair();
                notices.extend((dropped > 0).then_some(Notice::RevocationsDropped(dropped)));
            }
            Purpose::Revoke { withdraw: false } | Purpose::LogIn(_) | Purpose::Probe(_) => {}
        }
        if self.request.intent == Intent::Replace {
            next.replaced_at = Some(cx.now);
        }
        let write = AccountWrite::new(next, cx.now);
        let effect = write.effect();
        Next::Write(Attempt::Lease(LeaseAttempt { write, lease, purpose, notices }), effect)
    }

    pub(super) fn lease_taken(&mut self, cx: Context<'_>, attempt: LeaseAttempt) -> Next {
        self.remember(attempt.write.next.clone());
        (self.lease_failed_since, self.cache.writes_failed_at) = (None, None);
        let held = Held { account: attempt.write.next, lease: attempt.lease, rejected_version: None };
        self.notices.push(Notice::LeaseAcquired(held.fence()));
        self.notices.extend(attempt.notices);
        self.use_lease(cx, held, attempt.purpose)
    }

    /// Only the version together with the holder proves that the lease is this attempt's.
    pub(super) fn lease_read_back(
        &mut self,
        cx: Context<'_>,
        attempt: LeaseAttempt,
        account: Account,
    ) -> Next {
        let AccountWrite { expected, next } = &attempt.write;
        if account.version == next.version && account.lease == next.lease {
            return self.lease_taken(cx, attempt);
        }
        let unchanged = account.version == *expected;
        self.remember(account);
        if unchanged {
            return self.lease_not_written(cx);
        }
        self.notices.push(Notice::LeaseConflict);
        Next::Decide
    }

    /// Does what the lease was taken for.
    fn use_lease(&self, cx: Context<'_>, held: Held, purpose: Purpose) -> Next {
        let not_after = self.latest_send(cx, &held);
        match purpose {
            Purpose::Refresh(token) => Next::Send(State::Refreshing(held), Call::Refresh(token), not_after),
            Purpose::LogIn(credentials) => Next::AcquirePermit(held, credentials),
            Purpose::Probe(token) => Next::Send(State::Probing(held), Call::Probe(token), not_after),
            Purpose::Revoke { .. } => Next::RevokePending(held, Vec::new()),
        }
    }

    pub(super) fn latest_send(&self, cx: Context<'_>, held: &Held) -> Timestamp {
        cx.policy.latest_send(&held.lease, self.request.deadline)
    }
}
