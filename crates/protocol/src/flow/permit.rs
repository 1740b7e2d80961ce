//! Login permits: one before each login, and a block of all logins after a 429.

use super::{
    Flow,
    state::{Attempt, BlockAttempt, Held, Next, PermitAttempt, State},
};
use crate::{
    Call, Context, Cooldown, CooldownReason, Credentials, Effect, Failure, Holder, LimiterName, LoginDelay,
    LoginLimiter, Notice, Timestamp, UpstreamFault, policy::STORE_RETRY,
};

impl BlockAttempt {
    pub(super) fn write(self, cx: Context<'_>, limiter: &LoginLimiter) -> Next {
        let next = limiter.block(self.held.rate_limited(cx, self.pause).until, cx.now);
        let effect = Effect::WriteLimiter { name: self.name.clone(), expected: limiter.version, next };
        Next::Write(Attempt::Block(self), effect)
    }

    /// When the account's own cooldown has to be written instead.
    pub(super) fn ends(&self, deadline: Timestamp) -> Timestamp {
        self.held.lease.until.min(deadline)
    }
}

impl Flow {
    /// A permit whose login was certainly not sent is used again, so that one caller never holds more than it needs.
    pub(super) fn acquire_permit(&mut self, cx: Context<'_>, held: Held, credentials: Credentials) -> Next {
        let permit = *self.unsent_permit.get_or_insert(Holder(cx.draw.0));
        let name = LimiterName::of(&credentials.origin);
        let (acquired_at, redated, tries) = (cx.now, false, 0);
        let attempt = PermitAttempt { held, name, credentials, permit, acquired_at, redated, tries };
        Next::ReadBack(Attempt::Permit(attempt))
    }

    pub(super) fn write_permit(
        &mut self,
        cx: Context<'_>,
        mut attempt: PermitAttempt,
        limiter: &LoginLimiter,
    ) -> Next {
        if !cx.clock_is_trusted {
            if self.looks_at_time_again() {
                return Next::ReadBack(Attempt::Permit(attempt));
            }
            self.notices.push(Notice::ClockOff);
            return Next::fail(attempt.held, Failure::ClockOff);
        }
        if cx.now > self.latest_send(cx, &attempt.held) {
            return Next::fail(attempt.held, Failure::TooLittleTime);
        }
        // An earlier try may have been applied, and its reply lost.
        if let Some(permit) = limiter.permit_of(attempt.permit) {
            if cx.now <= fresh_until(cx, permit.acquired_at) {
                return self.send_login(cx, attempt, permit.acquired_at);
            }
            // A permit of another date is one that a conflict kept from being dated anew.
            if attempt.redated && permit.acquired_at == attempt.acquired_at {
                return self.too_slow(cx, attempt.held);
            }
            attempt.redated = true;
        }
        match limiter.try_acquire(cx.policy, &self.request.account, attempt.permit, cx.now) {
            Ok(next) => {
                attempt.acquired_at = cx.now;
                let effect =
                    Effect::WriteLimiter { name: attempt.name.clone(), expected: limiter.version, next };
                Next::Write(Attempt::Permit(attempt), effect)
            }
            Err(delay) => self.delay_login(cx, attempt.held, delay),
        }
    }

    /// The permit was written. If that took longer than a permit is fresh, it is dated anew; the login was not sent.
    pub(super) fn use_permit(&self, cx: Context<'_>, attempt: PermitAttempt) -> Next {
        let acquired_at = attempt.acquired_at;
        if cx.now <= fresh_until(cx, acquired_at) {
            return self.send_login(cx, attempt, acquired_at);
        }
        Next::ReadBack(Attempt::Permit(attempt))
    }

    /// The store is too slow for a login. A cooldown keeps the next requests from acquiring permits in vain.
    fn too_slow(&self, cx: Context<'_>, mut held: Held) -> Next {
        held.account.cooldown = Some(held.next_cooldown(cx, UpstreamFault::NoResponse, None));
        Next::fail(held, self.not_written(STORE_RETRY))
    }

    /// Puts the account into cooldown until a login is free. The upstream has not failed, so the count stays.
    fn delay_login(&mut self, cx: Context<'_>, held: Held, delay: LoginDelay) -> Next {
        let (until, reason) = match delay {
            LoginDelay::BudgetExhausted(until) => (until, CooldownReason::BudgetExhausted),
            LoginDelay::Blocked(until) => (until, CooldownReason::RateLimited),
        };
        let until = cx.steady.plus(cx.draw.stretched(until.since(cx.now)));
        let cooldown = Cooldown { until, reason, failures: held.account.failures() };
        self.cool_down(cx, held, cooldown)
    }

    /// All logins are blocked, as far as that was possible. The account itself is in cooldown at least.
    pub(super) fn blocked(
        &mut self,
        cx: Context<'_>,
        BlockAttempt { held, pause, .. }: BlockAttempt,
    ) -> Next {
        let cooldown = held.rate_limited(cx, pause);
        self.cool_down(cx, held, cooldown)
    }

    /// Sends a login while its permit is fresh, or not at all.
    fn send_login(&self, cx: Context<'_>, attempt: PermitAttempt, acquired_at: Timestamp) -> Next {
        let PermitAttempt { held, credentials, .. } = attempt;
        let not_after = self.latest_send(cx, &held).min(fresh_until(cx, acquired_at));
        let call = Call::Login(credentials.clone());
        Next::Send(State::LoggingIn(held, credentials), call, not_after)
    }
}

fn fresh_until(cx: Context<'_>, acquired_at: Timestamp) -> Timestamp {
    acquired_at.plus(cx.policy.permit_freshness())
}
