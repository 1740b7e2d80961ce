//! Login permits: one before each login, and a block of all logins after a 429.

use super::{
    Flow,
    state::{Attempt, BlockAttempt, Held, Next, PermitAttempt, Permitted, State},
};
use crate::{
    Call, Context, Cooldown, Credentials, Effect, Failure, Holder, IssuedToken, LoginDelay, LoginLimiter,
    Notice, Timestamp, UpstreamFault,
    policy::{LONGEST_PAUSE, STORE_RETRY},
};

impl BlockAttempt {
    /// Also used when the window has grown. The block then lasts for at least one window.
    pub(super) fn write(mut self, cx: Context<'_>, limiter: &LoginLimiter) -> Next {
        let budget = cx.limits.budget_of(cx.policy, &self.name);
        self.pause = self.pause.max(limiter.block_for_growth(budget, cx.now).unwrap_or_default());
        let next = limiter.block(self.held.rate_limited(cx, self.pause).until, cx.now);
        let next = LoginLimiter { window: budget.window, ..next };
        let effect = Effect::WriteLimiter { name: self.name.clone(), expected: limiter.version, next };
        Next::Write(Attempt::Block(self), effect)
    }

    /// The deadline: after it, the account's own cooldown is written instead.
    pub(super) fn ends(&self, deadline: Timestamp) -> Timestamp {
        self.held.lease.until.min(deadline)
    }
}

impl PermitAttempt {
    /// Gives the lease back unused. A refresh token that was marked for the call has not left.
    pub(super) fn give_up(mut self) -> Held {
        if matches!(self.permitted, Permitted::Refresh(..)) {
            self.held.account.mark_refresh_token(false);
        }
        self.held
    }
}

impl Flow {
    /// A permit whose login was certainly not sent is reused, so that a caller never holds more permits than it needs.
    pub(super) fn acquire_permit(&mut self, cx: Context<'_>, held: Held, permitted: Permitted) -> Next {
        let permit = *self.unsent_permit.get_or_insert(Holder(cx.draw.0));
        let name = cx.limits.name_of(permitted.origin(), &self.request.account);
        let (acquired_at, redated, tries) = (cx.now, false, 0);
        let attempt = PermitAttempt { held, name, permitted, permit, acquired_at, redated, tries };
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
            return Next::fail(attempt.give_up(), Failure::ClockOff);
        }
        if cx.now > self.latest_send(cx, &attempt.held) {
            return Next::fail(attempt.give_up(), Failure::TooLittleTime);
        }
        let budget = cx.limits.budget_of(cx.policy, &attempt.name);
        if let Some(pause) = limiter.block_for_growth(budget, cx.now) {
            let name = attempt.name.clone();
            return BlockAttempt { held: attempt.give_up(), pause, name, tries: 0 }.write(cx, limiter);
        }
        // An earlier try may have been applied, and its reply lost.
        if let Some(permit) = limiter.permit_of(attempt.permit) {
            if cx.now <= fresh_until(cx, permit.acquired_at) {
                return self.send_permitted(cx, attempt, permit.acquired_at);
            }
            // Its new date has expired too. (With its old date it was not slow: a conflict prevented the new one.)
            if attempt.redated && permit.acquired_at == attempt.acquired_at {
                return self.too_slow(cx, attempt.give_up());
            }
            attempt.redated = true;
        }
        match limiter.try_acquire(budget, &self.request.account, attempt.permit, cx.now) {
            Ok(next) => {
                attempt.acquired_at = cx.now;
                let effect =
                    Effect::WriteLimiter { name: attempt.name.clone(), expected: limiter.version, next };
                Next::Write(Attempt::Permit(attempt), effect)
            }
            Err(delay) => self.delay_login(cx, attempt.give_up(), delay),
        }
    }

    /// The permit was written. If that took longer than a permit stays fresh, it gets a new date; the login was not
    /// sent.
    pub(super) fn use_permit(&self, cx: Context<'_>, attempt: PermitAttempt) -> Next {
        let acquired_at = attempt.acquired_at;
        if cx.now <= fresh_until(cx, acquired_at) {
            return self.send_permitted(cx, attempt, acquired_at);
        }
        Next::ReadBack(Attempt::Permit(attempt))
    }

    /// The store is too slow for a login. A cooldown keeps the next requests from acquiring permits in vain.
    fn too_slow(&self, cx: Context<'_>, mut held: Held) -> Next {
        held.account.cooldown = Some(held.next_cooldown(cx, UpstreamFault::NoResponse, None));
        Next::fail(held, self.not_written(STORE_RETRY))
    }

    /// Puts the account into cooldown until a login is possible. The upstream has not failed, so the count stays.
    fn delay_login(&mut self, cx: Context<'_>, held: Held, delay: LoginDelay) -> Next {
        let (until, reason) = delay.ends();
        let until = cx.steady.plus(cx.draw.stretched(until.since(cx.now)).min(LONGEST_PAUSE));
        let cooldown = Cooldown { until, reason, failures: held.account.failures() };
        self.cool_down(cx, held, cooldown)
    }

    /// All logins are blocked, as far as possible. At least the account itself is in cooldown.
    pub(super) fn blocked(
        &mut self,
        cx: Context<'_>,
        BlockAttempt { held, pause, .. }: BlockAttempt,
    ) -> Next {
        let cooldown = held.rate_limited(cx, pause);
        self.cool_down(cx, held, cooldown)
    }

    /// Sends a call while its permit is fresh, or not at all.
    fn send_permitted(&self, cx: Context<'_>, attempt: PermitAttempt, acquired_at: Timestamp) -> Next {
        let PermitAttempt { held, permitted, .. } = attempt;
        let not_after = self.latest_send(cx, &held).min(fresh_until(cx, acquired_at));
        match permitted {
            Permitted::Login(credentials) => {
                let call = Call::Login(credentials.clone());
                Next::Send(State::LoggingIn(held, credentials), call, not_after)
            }
            Permitted::Grant(secret) => Next::MarkGrant(held, secret, Some(not_after)),
            Permitted::Refresh(token, secret) => Self::send_refresh(held, token, secret, not_after),
        }
    }

    pub(super) fn send_refresh(
        held: Held,
        token: IssuedToken,
        secret: Option<Credentials>,
        not_after: Timestamp,
    ) -> Next {
        let client = secret.as_ref().and_then(|secret| secret.client_at(&token.origin)).cloned();
        Next::Send(State::Refreshing(held, secret), Call::Refresh(token, client), not_after)
    }
}

fn fresh_until(cx: Context<'_>, acquired_at: Timestamp) -> Timestamp {
    acquired_at.plus(cx.policy.permit_freshness())
}
