//! Under the lease: refresh and login, and what their replies lead to.

use super::{
    Flow, Held, Next,
    permit::BlockAttempt,
    save::Ending,
    write::{ConditionalWrite, Kind},
};
use crate::{
    Context, Cooldown, CooldownReason, Credentials, Failure, Grant, Granted, Notice, Origin, SecretError,
    Timestamp, UpstreamReply,
};
use std::time::Duration;

impl Flow {
    pub(super) fn refreshed(
        &mut self,
        cx: Context<'_>,
        held: Held,
        sent_at: Timestamp,
        reply: UpstreamReply,
    ) -> Next {
        match reply {
            UpstreamReply::Granted(granted) => {
                let origin = held.account.pair.as_ref().map(|pair| pair.origin.clone()).unwrap_or_default();
                self.granted(cx, held, granted, sent_at, Grant::Refresh, origin)
            }
            // The refresh token is dead. It stays consumed, so the next renewal is a login.
            UpstreamReply::Refused => {
                self.notices.push(Notice::RefreshRefused);
                self.log_in_if_time_allows(cx, held)
            }
            UpstreamReply::RateLimited(asked) => Self::rate_limited(cx, restored(held), asked),
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
    pub(super) fn reread_secret(held: Held, read: Result<Credentials, SecretError>) -> Next {
        let rejected = held.refused.as_ref().or(held.account.rejected_secret.as_ref());
        match (read, &held.refused) {
            (Ok(credentials), _) if rejected != Some(&credentials.version) => {
                Next::AcquirePermit(held, credentials)
            }
            (_, Some(refused)) => {
                let failure = Failure::CredentialsRejected(refused.clone());
                Next::Save(held, Ending::Failed(failure))
            }
            (Ok(credentials), None) => {
                Next::Save(held, Ending::Failed(Failure::CredentialsRejected(credentials.version)))
            }
            (Err(error), None) => Next::Save(held, Ending::Failed(error.into())),
        }
    }

    pub(super) fn logged_in(
        &mut self,
        cx: Context<'_>,
        mut held: Held,
        credentials: Credentials,
        sent_at: Timestamp,
        reply: UpstreamReply,
    ) -> Next {
        match reply {
            UpstreamReply::Granted(granted) => {
                self.granted(cx, held, granted, sent_at, Grant::Login, credentials.origin)
            }
            UpstreamReply::Refused => {
                let first = held.refused.replace(credentials.version.clone()).is_none();
                if first {
                    self.log_in_if_time_allows(cx, held)
                } else {
                    Next::Save(held, Ending::Failed(Failure::CredentialsRejected(credentials.version)))
                }
            }
            UpstreamReply::RateLimited(asked) => Self::rate_limited(cx, held, asked),
            UpstreamReply::Unclear
            | UpstreamReply::Revoked
            | UpstreamReply::Alive
            | UpstreamReply::NeverLeft => self.unavailable(cx, held),
            UpstreamReply::TooLate => Next::Save(held, Ending::Released),
        }
    }

    fn granted(
        &mut self,
        cx: Context<'_>,
        mut held: Held,
        granted: Granted,
        sent_at: Timestamp,
        grant: Grant,
        origin: Origin,
    ) -> Next {
        if granted.access_expiry.resolve(sent_at).is_none() {
            self.notices.push(Notice::ExpiryAssumed);
        }
        let pair = granted.into_pair(held.fence(), sent_at, grant, held.account.pair.as_ref(), origin);
        // A pair with less than half of its life left on arrival is saved and served, but counts as a failure:
        // otherwise the next request would renew it again.
        let short = !cx.policy.usable(&pair, Duration::MAX, cx.now);
        held.account.cooldown = short.then(|| backoff(cx, &held));
        held.account.pair = Some(pair);
        if grant == Grant::Login {
            held.account.rejected_secret = None;
            held.refused = None;
        }
        Next::Save(held, Ending::Obtained)
    }

    fn unavailable(&mut self, cx: Context<'_>, held: Held) -> Next {
        let cooldown = backoff(cx, &held);
        self.cool_down(cx, held, cooldown)
    }

    /// Ends the lease with a failure, and puts the account into cooldown.
    pub(super) fn cool_down(&mut self, cx: Context<'_>, mut held: Held, cooldown: Cooldown) -> Next {
        self.notices.push(Notice::CooldownStarted(cooldown.until));
        held.account.cooldown = Some(cooldown);
        Next::Save(held, Ending::Failed(Failure::cooling_down(cooldown, cx.now)))
    }

    fn rate_limited(cx: Context<'_>, held: Held, asked: Option<Duration>) -> Next {
        let until = cx.now.plus(cx.policy.rate_limit_pause(asked, cx.draw));
        let failures = held.account.failures();
        let cooldown = Cooldown { until, reason: CooldownReason::RateLimited, failures };
        Next::ReadBack(ConditionalWrite::new(Kind::Block(BlockAttempt { held, cooldown })))
    }
}

fn backoff(cx: Context<'_>, held: &Held) -> Cooldown {
    let failures = held.account.failures().saturating_add(1);
    let until = cx.now.plus(cx.policy.backoff(failures, cx.draw));
    Cooldown { until, reason: CooldownReason::Unavailable, failures }
}

/// The refresh token did not leave after all.
fn restored(mut held: Held) -> Held {
    if let Some(pair) = &mut held.account.pair {
        pair.refresh_token = pair.refresh_token.clone().restored();
    }
    held
}
