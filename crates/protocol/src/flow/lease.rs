//! Taking the lease: one conditional write, whose version is the fence.

use super::{
    Flow,
    state::{Attempt, Ending, Held, LeaseAttempt, Next, Permitted, Purpose, State},
};
use crate::{
    Account, AccountWrite, Call, Context, Credentials, Failure, Holder, Intent, Lease, Notice,
    REJECTED_SECRET_RECHECK, SecretError, SecretVersion, Timestamp, UpstreamReply, decision::refreshable,
    grant::is_still_withheld, policy::WRITE_RETRY,
};

/// Why the secret does not fit the record.
pub(super) const OTHER_GRANT: &str =
    "an account cannot change between the grant `refresh_token` and another one; use another account name";

impl Flow {
    /// A login reads the secret first, so that an unknown account writes nothing. After a recent failure or a rejected
    /// version it is not read again, except for an operator, who may have just fixed it.
    pub(super) fn check_secret(&self, cx: Context<'_>) -> Next {
        if self.request.intent == Intent::Replace {
            return Next::CheckSecret;
        }
        if let Some(error) = self.cache.recent_secret_failure(cx) {
            return self.finish(cx, error.clone().into());
        }
        let account = self.account(cx);
        let refreshes = refreshable(&account, cx).is_some();
        let seen = self.cache.rejection_seen.is_some_and(|at| at.is_within(REJECTED_SECRET_RECHECK, cx));
        if let Some(withheld) = self.cache.withheld.filter(|_| seen && account.grant.is_some())
            && is_still_withheld(withheld, &account, cx)
        {
            return self.finish(cx, Self::withheld(cx, &account, withheld));
        }
        let seen = seen && !refreshes;
        match account.rejected_secret.as_ref().map(|rejected| rejected.version.clone()) {
            Some(version) if seen && self.is_rejected(cx, &account, &version) => {
                self.finish(cx, Failure::CredentialsRejected(version))
            }
            _ => Next::CheckSecret,
        }
    }

    pub(super) fn checked_secret(&mut self, cx: Context<'_>, read: Result<Credentials, SecretError>) -> Next {
        self.cache.secret_failure = read.as_ref().err().map(|error| (error.clone(), cx.moment()));
        let account = self.account(cx);
        let rejected = |credentials: &Credentials| self.is_rejected(cx, &account, &credentials.version);
        if let (Some(pair), Some(refresh_token)) = (&account.pair, refreshable(&account, cx)) {
            let needs_client = pair.origin.needs_client();
            // An operator's refresh logs in only if the secret has changed since the pair's login.
            let login = pair.secret_version.as_ref().filter(|_| self.request.intent == Intent::Replace);
            let may_refresh = match &read {
                Ok(secret) => login.is_none_or(|version| *version == secret.version) || rejected(secret),
                Err(error) => *error == SecretError::Unreachable,
            };
            // Only the pair's own upstream knows the refresh token.
            let secret = read.as_ref().ok().filter(|secret| secret.client_at(&pair.origin).is_some());
            if may_refresh && (secret.is_some() || !needs_client) {
                return Next::Acquire(Purpose::Refresh(refresh_token, secret.cloned()));
            }
        }
        match read {
            Ok(credentials) if rejected(&credentials) => {
                self.cache.rejection_seen = Some(cx.moment());
                let failure = Failure::CredentialsRejected(credentials.version);
                match &account.rejected_secret {
                    // Written by an earlier release, so this write sets the time of the next try.
                    Some(rejected) if rejected.retry_at.is_none() => {
                        Self::write_record(cx, account, Ending::Failed(failure))
                    }
                    _ => self.finish(cx, failure),
                }
            }
            Ok(credentials) if credentials.bootstrap().is_some() => {
                self.check_grant(cx, &account, credentials)
            }
            Ok(_) if account.grant.is_some() => self.finish(cx, Failure::BadSecret(OTHER_GRANT.to_owned())),
            Ok(credentials) => Next::Acquire(Purpose::LogIn(credentials)),
            Err(error) => self.finish(cx, error.into()),
        }
    }

    /// Whether this secret version must not be sent: the upstream rejected it in this flow, or did so before, and the
    /// time of the next try has not come. The schedule does not try again.
    pub(super) fn is_rejected(&self, cx: Context<'_>, account: &Account, version: &SecretVersion) -> bool {
        let retries = !matches!(self.request.intent, Intent::Maintain(_));
        let by_record = account
            .rejected_secret
            .as_ref()
            .is_some_and(|rejected| rejected.version == *version && !(retries && rejected.is_due(cx.now)));
        by_record || self.rejected_version.as_ref() == Some(version)
    }

    /// Takes the lease. For a refresh, the same write marks the refresh token as consumed, so that no attempt sends it
    /// again after a crash. For a revocation by an operator, it withdraws the pair.
    pub(super) fn acquire(&mut self, cx: Context<'_>, purpose: Purpose) -> Next {
        if let Some((failure, at)) = &self.cache.writes_failed
            && at.is_within(WRITE_RETRY, cx)
        {
            return self.finish(cx, failure.clone());
        }
        if !cx.clock_is_trusted {
            if self.looks_at_time_again() {
                return Next::Look;
            }
            self.notices.push(Notice::ClockOff);
            return self.finish(cx, Failure::ClockOff);
        }
        let lease = Lease { holder: Holder(cx.draw.0), until: cx.now.plus(cx.policy.lease) };
        let mut next = Account { lease: Some(lease), ..self.account(cx) };
        let mut notices = Vec::new();
        match purpose {
            Purpose::Refresh(..) => next.mark_refresh_token(true),
            Purpose::Revoke { withdraw: true } => {
                notices.extend(next.generation().map(Notice::PairWithdrawn));
                let dropped = next.withdraw_pair();
                notices.extend((dropped > 0).then_some(Notice::RevocationsDropped(dropped)));
            }
            Purpose::RenewGrant(_) => next = next.into_grant(),
            Purpose::Revoke { withdraw: false } | Purpose::LogIn(_) | Purpose::Probe(_) => {}
        }
        if self.request.intent == Intent::Replace {
            next.replaced_at = Some(cx.now);
        }
        let write = AccountWrite::new(next, cx);
        let effect = write.effect();
        Next::Write(Attempt::Lease(LeaseAttempt { write, lease, purpose, notices }), effect)
    }

    pub(super) fn lease_taken(&mut self, cx: Context<'_>, attempt: LeaseAttempt) -> Next {
        self.remember(cx, attempt.write.next.clone());
        (self.lease_failed_since, self.cache.writes_failed) = (None, None);
        let held = Held { account: attempt.write.next, lease: attempt.lease };
        self.notices.push(Notice::LeaseAcquired(held.fence()));
        self.notices.extend(attempt.notices);
        self.use_lease(cx, held, attempt.purpose)
    }

    /// Only version and holder together prove that the lease is this attempt's.
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
        self.remember(cx, account);
        if unchanged {
            return self.lease_not_written(cx);
        }
        self.notices.push(Notice::LeaseConflict);
        Next::Decide
    }

    /// Does what the lease was taken for.
    fn use_lease(&mut self, cx: Context<'_>, held: Held, purpose: Purpose) -> Next {
        let not_after = self.latest_send(cx, &held);
        match purpose {
            Purpose::Refresh(token, secret) => {
                if cx.limits.counts_refreshes(&cx.limits.limiter_of_host(&token.origin)) {
                    return Next::AcquirePermit(held, Permitted::Refresh(token, secret));
                }
                Self::send_refresh(held, token, secret, not_after)
            }
            Purpose::LogIn(credentials) => Next::AcquirePermit(held, Permitted::Login(credentials)),
            Purpose::RenewGrant(secret) => {
                if cx.limits.counts_refreshes(&cx.limits.limiter_of_host(&secret.origin)) {
                    return Next::AcquirePermit(held, Permitted::Grant(secret));
                }
                Next::MarkGrant(held, secret, None)
            }
            // No call can verify the report.
            Purpose::Probe(token) if token.origin.believes_reports() => {
                self.probed(cx, held, &UpstreamReply::Unauthorized)
            }
            Purpose::Probe(token) => Next::Send(State::Probing(held), Call::Probe(token), not_after),
            Purpose::Revoke { .. } => {
                let pending = &held.account.pending_revocations;
                if pending.iter().any(|revocation| revocation.origin.needs_client()) {
                    return Next::ReadClient(held);
                }
                Next::RevokePending(held, None, Vec::new())
            }
        }
    }

    pub(super) fn latest_send(&self, cx: Context<'_>, held: &Held) -> Timestamp {
        cx.policy.latest_send(&held.lease, self.request.ends(cx))
    }
}
