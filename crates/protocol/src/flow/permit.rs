//! Login permits: one before each login, and a block of all logins after a 429.

use super::{
    Flow, Held, Next, Work,
    write::{ConditionalWrite, Kind},
};
use crate::{
    Call, Context, Cooldown, CooldownReason, Credentials, Effect, Holder, LoginDelay, LoginLimiter, Timestamp,
};

/// A permit that is being acquired for one login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PermitAttempt {
    pub(super) held: Held,
    credentials: Credentials,
    /// Drawn for one login, not for one lease: a second login under the same lease needs its own permit.
    holder: Holder,
    /// When the permit of the last try was dated.
    acquired_at: Timestamp,
}

impl PermitAttempt {
    pub(super) fn acquired(self) -> Next {
        Next::SendLogin(self.held, self.credentials, self.acquired_at)
    }
}

/// A 429 that the whole fleet has to know: the limit counts by address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlockAttempt {
    pub(super) held: Held,
    pub(super) cooldown: Cooldown,
}

impl BlockAttempt {
    pub(super) fn write(self, cx: Context<'_>, tries: u32, limiter: &LoginLimiter) -> Next {
        let next = limiter.block(self.cooldown.until, cx.now);
        let effect = Effect::WriteLimiter { expected: limiter.version, next };
        Next::Write(ConditionalWrite { kind: Kind::Block(self), tries }, effect)
    }

    /// When the account's own cooldown has to be written instead.
    pub(super) fn ends(&self, deadline: Timestamp) -> Timestamp {
        self.held.lease.until.min(deadline)
    }
}

impl Flow {
    pub(super) fn acquire_permit(cx: Context<'_>, held: Held, credentials: Credentials) -> Next {
        let attempt = PermitAttempt { held, credentials, holder: Holder(cx.draw.0), acquired_at: cx.now };
        Next::ReadBack(ConditionalWrite::new(Kind::Permit(attempt)))
    }

    pub(super) fn write_permit(
        &mut self,
        cx: Context<'_>,
        attempt: PermitAttempt,
        tries: u32,
        limiter: &LoginLimiter,
    ) -> Next {
        // An earlier try may have been applied, and its reply lost.
        if let Some(permit) = limiter.permit_of(attempt.holder) {
            return Next::SendLogin(attempt.held, attempt.credentials, permit.acquired_at);
        }
        match limiter.try_acquire(cx.policy, attempt.holder, cx.now) {
            Ok(next) => {
                let effect = Effect::WriteLimiter { expected: limiter.version, next };
                let attempt = PermitAttempt { acquired_at: cx.now, ..attempt };
                Next::Write(ConditionalWrite { kind: Kind::Permit(attempt), tries }, effect)
            }
            Err(delay) => self.delay_login(cx, attempt.held, delay),
        }
    }

    /// Puts the account into cooldown until a login is free. The upstream has not failed, so the count stays.
    fn delay_login(&mut self, cx: Context<'_>, held: Held, delay: LoginDelay) -> Next {
        let (until, reason) = match delay {
            LoginDelay::BudgetExhausted(until) => (until, CooldownReason::BudgetExhausted),
            LoginDelay::Blocked(until) => (until, CooldownReason::RateLimited),
        };
        let until = cx.now.plus(cx.draw.stretched(until.since(cx.now)));
        let cooldown = Cooldown { until, reason, failures: held.account.failures() };
        self.cool_down(cx, held, cooldown)
    }

    /// Sends a login while its permit is fresh, or not at all.
    pub(super) fn send_login(
        &mut self,
        cx: Context<'_>,
        held: Held,
        credentials: Credentials,
        acquired_at: Timestamp,
    ) -> Next {
        let permit_is_fresh_until = acquired_at.plus(cx.policy.permit_freshness());
        let not_after = self.latest_send(cx, &held).min(permit_is_fresh_until);
        let call = Call::Login(credentials.clone());
        Next::Send(held, Work::LoggingIn { credentials, sent_at: cx.now }, call, not_after)
    }
}
