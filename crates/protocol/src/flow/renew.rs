//! Under the lease: refresh and login, and what their replies lead to.

use super::{Flow, Held, Next, permit::BlockAttempt, save::Ending, write::Attempt};
use crate::{
    Context, Cooldown, CooldownReason, Credentials, Failure, Granted, LimiterName, Notice, Origin,
    SecretError, UpstreamReply, Verdict,
};
use std::time::Duration;

impl Flow {
    pub(super) fn refreshed(&mut self, cx: Context<'_>, held: Held, reply: UpstreamReply) -> Next {
        match reply {
            UpstreamReply::Granted(granted) => self.granted(cx, held, granted, None),
            // The refresh token is dead. It stays consumed, so the next renewal is a login.
            UpstreamReply::Unauthorized | UpstreamReply::Refused => {
                self.notices.push(Notice::RefreshRefused);
                self.log_in_if_time_allows(cx, held)
            }
            UpstreamReply::RateLimited(retry_after) => {
                let origin = held.account.pair.as_ref().map(|pair| pair.origin.clone()).unwrap_or_default();
                Self::rate_limited(cx, restored(held), &origin, retry_after)
            }
            // It may have been carried out: the token stays consumed.
            UpstreamReply::Unclear | UpstreamReply::Revoked | UpstreamReply::Alive => {
                self.unavailable(cx, held)
            }
            UpstreamReply::NeverLeft => self.unavailable(cx, restored(held)),
            UpstreamReply::TooLate => Next::Save(restored(held), Ending::Released),
        }
    }

    fn log_in_if_time_allows(&self, cx: Context<'_>, held: Held) -> Next {
        if cx.now > self.latest_send(cx, &held) {
            return Next::Save(held, Ending::Released);
        }
        Next::RereadSecret(held)
    }

    /// The secret, read under the lease: for the first login after a refused refresh, or for a second one after a
    /// refused login, if there is a newer version.
    pub(super) fn reread_secret(
        &mut self,
        cx: Context<'_>,
        held: Held,
        read: Result<Credentials, SecretError>,
    ) -> Next {
        self.cache.secret_failure = read.as_ref().err().map(|error| (error.clone(), cx.now));
        match (read, &held.rejected_version) {
            (Ok(credentials), _) if !self.is_rejected(&held.account, &credentials.version) => {
                Next::AcquirePermit(held, credentials)
            }
            (_, Some(version)) => {
                let failure = Failure::CredentialsRejected(version.clone());
                Next::fail(held, failure)
            }
            (Ok(credentials), None) => Next::fail(held, Failure::CredentialsRejected(credentials.version)),
            (Err(error), None) => Next::fail(held, error.into()),
        }
    }

    pub(super) fn logged_in(
        &mut self,
        cx: Context<'_>,
        mut held: Held,
        credentials: Credentials,
        reply: UpstreamReply,
    ) -> Next {
        if !matches!(reply, UpstreamReply::NeverLeft | UpstreamReply::TooLate) {
            self.unsent_permit = None;
        }
        match reply {
            UpstreamReply::Granted(granted) => self.granted(cx, held, granted, Some(credentials)),
            UpstreamReply::Unauthorized => {
                self.rejected_version = Some(credentials.version.clone());
                let first = held.rejected_version.replace(credentials.version.clone()).is_none();
                if first {
                    self.log_in_if_time_allows(cx, held)
                } else {
                    Next::fail(held, Failure::CredentialsRejected(credentials.version))
                }
            }
            UpstreamReply::Refused => {
                let failures = held.account.failures().saturating_add(1);
                let until = cx.now.plus(cx.policy.refusal_pause(failures, cx.draw));
                let cooldown = Cooldown { until, reason: CooldownReason::Unavailable, failures };
                self.cool_down(cx, held, cooldown)
            }
            UpstreamReply::RateLimited(retry_after) => {
                Self::rate_limited(cx, held, &credentials.origin, retry_after)
            }
            UpstreamReply::Unclear
            | UpstreamReply::Revoked
            | UpstreamReply::Alive
            | UpstreamReply::NeverLeft => self.unavailable(cx, held),
            UpstreamReply::TooLate => self.login_too_late(cx, held),
        }
    }

    /// The login did not leave in time. The second time, the account cools down: this instance is too slow to log in.
    fn login_too_late(&mut self, cx: Context<'_>, held: Held) -> Next {
        if std::mem::replace(&mut self.late_login, true) {
            return self.unavailable(cx, held);
        }
        Next::Save(held, Ending::Released)
    }

    /// Saves a new pair. `login` has the credentials, unless the pair was refreshed.
    fn granted(
        &mut self,
        cx: Context<'_>,
        mut held: Held,
        granted: Granted,
        login: Option<Credentials>,
    ) -> Next {
        let sent_at = self.requested_at;
        if granted.access_expiry.resolve(sent_at).is_none() {
            self.notices.push(Notice::ExpiryAssumed);
        }
        let before = held.account.pair.as_ref();
        if before.is_none_or(|pair| pair.verdict != Verdict::Dead) {
            // The last generation lived until it was due.
            held.account.young_deaths = 0;
        }
        if login.is_some() {
            held.account.rejected_secret = None;
            held.rejected_version = None;
        }
        let pair = granted.into_pair(held.fence(), sent_at, before, login);
        // The upstream may give the tokens of a withdrawn session once more.
        held.account.pending_revocations.retain(|revocation| !pair.holds(&revocation.token));
        held.account.early_refresh_after = None;
        // A pair with less than half of its life left on arrival is saved and served, but counts as a failure:
        // otherwise the next request would renew it again.
        let short = !cx.policy.usable(&pair, Duration::MAX, cx.now);
        held.account.cooldown = short.then(|| backoff(cx, &held));
        held.account.pair = Some(pair);
        Next::Save(held, Ending::Obtained)
    }

    fn unavailable(&mut self, cx: Context<'_>, mut held: Held) -> Next {
        let left = held.account.pair.as_ref().map(|pair| cx.policy.early_refresh_pause(pair, cx.now));
        held.account.early_refresh_after = left.map(|pause| cx.now.plus(pause));
        let cooldown = backoff(cx, &held);
        self.cool_down(cx, held, cooldown)
    }

    /// Ends the lease with a failure, and puts the account into cooldown.
    pub(super) fn cool_down(&mut self, cx: Context<'_>, mut held: Held, cooldown: Cooldown) -> Next {
        self.notices.push(Notice::CooldownStarted(cooldown.until));
        held.account.cooldown = Some(cooldown);
        Next::fail(held, Failure::cooling_down(cooldown, cx.now))
    }

    fn rate_limited(cx: Context<'_>, held: Held, origin: &Origin, retry_after: Option<Duration>) -> Next {
        let until = cx.now.plus(cx.policy.rate_limit_pause(retry_after, cx.draw));
        let failures = held.account.failures();
        let cooldown = Cooldown { until, reason: CooldownReason::RateLimited, failures };
        let name = LimiterName::of(origin);
        Next::ReadBack(Attempt::Block(BlockAttempt { held, cooldown, name, tries: 0 }))
    }
}

pub(super) fn backoff(cx: Context<'_>, held: &Held) -> Cooldown {
    let failures = held.account.failures().saturating_add(1);
    let until = cx.now.plus(cx.policy.backoff(failures, cx.draw));
    Cooldown { until, reason: CooldownReason::Unavailable, failures }
}

/// The refresh token did not leave after all.
fn restored(mut held: Held) -> Held {
    held.account.mark_refresh_token(false);
    held
}
