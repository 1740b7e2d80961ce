//! The fleet's login rate limiter: a sliding-window log of permits, shared by all accounts.

use crate::{Holder, Policy, Timestamp, Version, lies_ahead};

/// The right to send one login, whether or not it was then sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Permit {
    /// By the clock of the instance that acquired it. Its login leaves soon after this or not at all.
    pub acquired_at: Timestamp,
    /// It counts until then, by the settings of the instance that acquired it: others may have other settings.
    pub counts_until: Timestamp,
    /// The attempt that acquired it, so that it recognises its own permit after a lost reply.
    pub holder: Holder,
}

/// Keeps the fleet below the upstream's login limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoginLimiter {
    /// Every write is conditional on it. Zero: there is no limiter yet.
    pub version: Version,
    /// The permits that may still count.
    pub permits: Vec<Permit>,
    /// The upstream answered 429: no login before this instant, whatever the account.
    pub blocked_until: Option<Timestamp>,
}

/// Why no login may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginDelay {
    /// The budget is exhausted until this instant.
    BudgetExhausted(Timestamp),
    /// The upstream answered 429 and asked for a pause until this instant.
    Blocked(Timestamp),
}

impl LoginLimiter {
    /// The limiter with one more permit, which has to be written before its login is sent.
    ///
    /// # Errors
    /// Why no login may be sent now, and until when.
    pub fn try_acquire(&self, policy: &Policy, holder: Holder, now: Timestamp) -> Result<Self, LoginDelay> {
        if let Some(delay) = self.delay(policy, now) {
            return Err(delay);
        }
        let mut permits: Vec<Permit> = self.counting(now).collect();
        permits.push(Permit { acquired_at: now, counts_until: now.plus(policy.permit_window()), holder });
        Ok(Self { version: self.version.next(now), permits, ..self.clone() })
    }

    /// What keeps the next login from being sent, if anything does.
    pub fn delay(&self, policy: &Policy, now: Timestamp) -> Option<LoginDelay> {
        if let Some(until) = self.blocked_until.filter(|until| lies_ahead(*until, now)) {
            return Some(LoginDelay::Blocked(until));
        }
        let mut ends: Vec<Timestamp> = self.counting(now).map(|permit| permit.counts_until).collect();
        ends.sort_unstable();
        // The permits beyond the budget have to lapse, and one more to make room.
        let in_the_way = ends.len().checked_sub(policy.login_budget).and_then(|index| ends.get(index));
        in_the_way.map(|at| LoginDelay::BudgetExhausted(*at))
    }

    /// The limiter with all logins blocked until an instant, as after a 429. A block is never shortened.
    #[must_use]
    pub fn block(&self, until: Timestamp, now: Timestamp) -> Self {
        let earlier = self.blocked_until.filter(|earlier| lies_ahead(*earlier, now));
        let until = earlier.map_or(until, |earlier| earlier.max(until));
        Self { version: self.version.next(now), blocked_until: Some(until), ..self.clone() }
    }

    /// The permit of this attempt. Finds it after a write whose outcome is unknown.
    pub fn permit_of(&self, holder: Holder) -> Option<Permit> {
        self.permits.iter().copied().find(|permit| permit.holder == holder)
    }

    /// The permits that still count.
    pub fn counting(&self, now: Timestamp) -> impl Iterator<Item = Permit> + '_ {
        self.permits.iter().copied().filter(move |permit| lies_ahead(permit.counts_until, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LOGIN_WINDOW;
    use std::time::Duration;

    const START: Timestamp = Timestamp::from_millis(1_000_000);
    const POLICY: Policy = Policy::DEFAULT;

    fn acquired(limiter: &LoginLimiter, at: Timestamp) -> LoginLimiter {
        limiter.try_acquire(&POLICY, Holder(1), at).unwrap()
    }

    #[test]
    fn the_budget_is_never_exceeded_in_any_window() {
        let mut limiter = LoginLimiter::default();
        for second in 0..POLICY.login_budget as u64 {
            limiter = acquired(&limiter, START.plus(Duration::from_secs(second)));
        }
        let full = START.plus(Duration::from_secs(10));
        let free_at = START.plus(POLICY.permit_window());
        let exhausted = Err(LoginDelay::BudgetExhausted(free_at));
        assert_eq!(limiter.try_acquire(&POLICY, Holder(2), full), exhausted);
        let almost = free_at.minus(Duration::from_millis(1));
        assert_eq!(limiter.try_acquire(&POLICY, Holder(2), almost), exhausted);
        let later = acquired(&limiter, free_at);
        assert_eq!(later.permits.len(), POLICY.login_budget, "lapsed permits are dropped");
    }

    #[test]
    fn a_permit_outlasts_every_delay_of_its_login() {
        // Two logins that arrive within one minute of each other: the first was delayed as long as possible, the
        // second not at all, and their clocks differ by the margin.
        let first_arrives_by = START.plus(POLICY.permit_freshness()).plus(POLICY.upstream_timeout * 2);
        let second_acquires_at = START.plus(POLICY.permit_window());
        let second_arrives_at = second_acquires_at.minus(POLICY.clock_margin);
        assert!(second_arrives_at.since(first_arrives_by) >= LOGIN_WINDOW);
    }

    #[test]
    fn a_block_holds_for_every_attempt_and_is_never_shortened() {
        let long = START.plus(Duration::from_secs(300));
        let limiter =
            LoginLimiter::default().block(long, START).block(START.plus(Duration::from_secs(60)), START);
        assert_eq!(limiter.try_acquire(&POLICY, Holder(1), START), Err(LoginDelay::Blocked(long)));
        assert_eq!(limiter.delay(&POLICY, long), None);
    }

    #[test]
    fn instants_of_a_wrong_clock_lock_nobody_out() {
        let in_a_year = START.plus(Duration::from_secs(365 * 86_400));
        let permit = Permit { acquired_at: in_a_year, counts_until: in_a_year, holder: Holder(1) };
        let limiter = LoginLimiter {
            blocked_until: Some(in_a_year),
            permits: vec![permit; POLICY.login_budget],
            ..LoginLimiter::default()
        };
        assert_eq!(limiter.delay(&POLICY, START), None);
    }

    #[test]
    fn each_write_has_its_own_version_and_keeps_the_rest() {
        let first = acquired(&LoginLimiter::default(), START);
        let blocked = first.block(START.plus(Duration::from_secs(60)), START);
        assert!(first.version > Version(0) && blocked.version > first.version);
        assert_eq!(blocked.permits, first.permits);
        let unblocked = blocked.blocked_until.unwrap();
        let second = acquired(&blocked, unblocked);
        assert!(second.version > blocked.version);
        assert_eq!(second.blocked_until, Some(unblocked));
        assert_eq!(first.permit_of(Holder(1)), first.permits.first().copied());
        assert_eq!(first.permit_of(Holder(2)), None);
    }
}
