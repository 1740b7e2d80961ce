//! Under the lease: refresh and login, and what their replies lead to.

use super::{
    Flow,
    lease::OTHER_GRANT,
    state::{Attempt, BlockAttempt, Ending, Held, Next, Permitted},
};
use crate::{
    Context, Cooldown, Credentials, Expiry, Failure, LimiterName, Notice, Pair, RejectedSecret, Renewal,
    SecretError, Timestamp, TokenResponse, Unclear, UpstreamFault, UpstreamReply, Verdict,
};
use std::time::Duration;

impl Flow {
    /// What the reply to a refresh or to a login leads to.
    pub(super) fn renewal_replied(
        &mut self,
        cx: Context<'_>,
        mut held: Held,
        renewal: Renewal,
        reply: UpstreamReply,
    ) -> Next {
        let not_sent = matches!(reply, UpstreamReply::NeverLeft | UpstreamReply::TooLate);
        let unused = matches!(reply, UpstreamReply::RateLimited(_) | UpstreamReply::ClientRefused);
        let origin = match &renewal {
            Renewal::Login(credentials) => Some(&credentials.origin),
            Renewal::Refresh(_) => held.account.pair.as_ref().map(|pair| &pair.origin),
        };
        let name = origin.map(|origin| cx.limits.name_of(origin, &self.request.account)).unwrap_or_default();
        let is_refresh = matches!(renewal, Renewal::Refresh(_));
        if !not_sent && (!is_refresh || cx.limits.counts_refreshes(&name)) {
            self.unsent_permit = None;
        }
        if is_refresh && (not_sent || unused) {
            held.account.mark_refresh_token(false);
        }
        match (reply, renewal) {
            (UpstreamReply::Granted(granted), renewal) => self.granted(cx, held, granted, renewal),
            // The refresh token is dead. It stays consumed, so the next renewal is a login.
            (UpstreamReply::Unauthorized | UpstreamReply::Refused, Renewal::Refresh(_)) => {
                self.notices.push(Notice::RefreshRefused);
                self.log_in_if_time_allows(cx, held)
            }
            (UpstreamReply::Unauthorized, Renewal::Login(credentials)) => {
                let version = credentials.version.clone();
                self.notices.push(Notice::SecretRejected(version.clone()));
                self.cache.rejection_seen = Some(cx.moment());
                let before = held.account.rejected_secret.as_ref();
                held.account.rejected_secret = Some(RejectedSecret::rejected(before, version.clone(), cx));
                let first = self.rejected_version.replace(version).is_none();
                if first {
                    self.log_in_if_time_allows(cx, held)
                } else {
                    Next::fail(held, Failure::CredentialsRejected(credentials.version))
                }
            }
            // A login would be refused too.
            (UpstreamReply::ClientRefused, Renewal::Refresh(_)) => {
                self.unavailable(cx, held, UpstreamFault::Refused, None)
            }
            (UpstreamReply::Refused | UpstreamReply::ClientRefused, Renewal::Login(credentials)) => {
                // Another try of a rejected version: the next one waits as if it had been rejected once more.
                let rejected = &mut held.account.rejected_secret;
                if let Some(before) = rejected.take_if(|before| before.version == credentials.version) {
                    *rejected = Some(RejectedSecret::rejected(Some(&before), credentials.version, cx));
                }
                let cooldown = held.next_cooldown(cx, UpstreamFault::Refused, None);
                self.cool_down(cx, held, cooldown)
            }
            (UpstreamReply::RateLimited(retry_after), _) => Self::rate_limited(cx, held, name, retry_after),
            // A refresh may have been carried out: unless it never left, its token stays consumed.
            (UpstreamReply::Unclear(Unclear::Unexpected { retry_after }), _) => {
                self.unavailable(cx, held, UpstreamFault::Unexpected, retry_after)
            }
            (UpstreamReply::Unclear(Unclear::NoResponse) | UpstreamReply::NeverLeft, _) => {
                self.unavailable(cx, held, UpstreamFault::NoResponse, None)
            }
            (UpstreamReply::Revoked | UpstreamReply::Alive, _) => {
                self.unavailable(cx, held, UpstreamFault::Unexpected, None)
            }
            // The second time, the account cools down, because this instance is too slow to log in.
            (UpstreamReply::TooLate, Renewal::Login(_)) if self.late_login => {
                self.unavailable(cx, held, UpstreamFault::NoResponse, None)
            }
            (UpstreamReply::TooLate, renewal) => {
                self.late_login |= matches!(renewal, Renewal::Login(_));
                Next::Save(held, Ending::Released)
            }
        }
    }

    /// 429: a cooldown, and a block of the host's logins.
    pub(super) fn rate_limited(
        cx: Context<'_>,
        held: Held,
        name: LimiterName,
        retry_after: Option<Duration>,
    ) -> Next {
        let pause = cx.policy.rate_limit_pause(retry_after, cx.draw);
        Next::ReadBack(Attempt::Block(BlockAttempt { held, pause, name, tries: 0 }))
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
        self.cache.secret_failure = read.as_ref().err().map(|error| (error.clone(), cx.moment()));
        let failure = match (read, self.rejected_version.clone()) {
            (Ok(credentials), _) if credentials.bootstrap().is_some() => {
                Failure::BadSecret(OTHER_GRANT.to_owned())
            }
            (Ok(credentials), _) if !self.is_rejected(cx, &held.account, &credentials.version) => {
                return Next::AcquirePermit(held, Permitted::Login(credentials));
            }
            (_, Some(version)) => Failure::CredentialsRejected(version),
            (Ok(credentials), None) => Failure::CredentialsRejected(credentials.version),
            (Err(error), None) => error.into(),
        };
        Next::fail(held, failure)
    }

    /// Saves a new pair.
    fn granted(&mut self, cx: Context<'_>, mut held: Held, granted: TokenResponse, renewal: Renewal) -> Next {
        let sent_at = self.sent_at(cx, &granted);
        if matches!(renewal, Renewal::Login(_)) {
            held.account.rejected_secret = None;
        }
        let pair = granted.into_pair(held.fence(), sent_at, held.account.pair.as_ref(), renewal);
        Self::obtained(cx, held, pair)
    }

    /// When the request of this reply left.
    pub(super) fn sent_at(&mut self, cx: Context<'_>, granted: &TokenResponse) -> Timestamp {
        // The clocks may disagree by now. The earlier one never makes a token live longer.
        let sent_at = self.requested_at.wall.min(cx.at(self.requested_at.uptime));
        if granted.access_expires_at(sent_at).is_none() {
            self.notices.push(Notice::ExpiryAssumed);
        }
        if granted.refresh_expiry != Expiry::Unknown && granted.refresh_expires_at(sent_at).is_none() {
            self.notices.push(Notice::RefreshExpiryDropped);
        }
        sent_at
    }

    /// Ends the lease with this pair.
    pub(super) fn obtained(cx: Context<'_>, mut held: Held, pair: Pair) -> Next {
        if held.account.pair.as_ref().is_none_or(|before| before.verdict != Verdict::Dead) {
            // The last generation lived until it was due.
            held.account.young_deaths = 0;
        }
        // The upstream may return the tokens of a withdrawn session again.
        held.account.pending_revocations.retain(|revocation| !pair.holds(&revocation.token));
        held.account.early_refresh_after = None;
        // A pair with less than half of its life left on arrival is saved and served, but counts as a failure:
        // otherwise the next request would renew it again.
        let short = !cx.policy.usable(&pair, Duration::MAX, cx.now);
        held.account.cooldown = short.then(|| held.next_cooldown(cx, UpstreamFault::Unexpected, None));
        held.account.pair = Some(pair);
        Next::Save(held, Ending::Obtained)
    }

    pub(super) fn unavailable(
        &mut self,
        cx: Context<'_>,
        mut held: Held,
        fault: UpstreamFault,
        retry_after: Option<Duration>,
    ) -> Next {
        let left = held.account.pair.as_ref().map(|pair| cx.policy.early_refresh_pause(pair, cx.now));
        held.account.early_refresh_after = left.map(|pause| cx.steady.plus(pause));
        let cooldown = held.next_cooldown(cx, fault, retry_after);
        self.cool_down(cx, held, cooldown)
    }

    /// Ends the lease with a failure, and puts the account into cooldown.
    pub(super) fn cool_down(&mut self, cx: Context<'_>, mut held: Held, cooldown: Cooldown) -> Next {
        self.notices.push(Notice::CooldownStarted(cooldown.until));
        held.account.cooldown = Some(cooldown);
        Next::fail(held, Failure::cooling_down(cooldown, cx.steady))
    }
}
