//! The fleet's login rate limiter: a sliding-window log of permits, shared by all accounts.

use crate::{
    AccountName, ApiVersion, Budget, CooldownReason, Holder, Origin, Timestamp, Version,
    login_limits::Share,
    policy::{InstantKind, LOGIN_WINDOW, lies_ahead},
};
use std::{collections::BTreeSet, fmt, time::Duration};

/// Names the limiter of a host, or of one account at a host that counts each account separately.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LimiterName {
    /// `None` is the configured host.
    pub(crate) host: Option<String>,
    pub(crate) account: Option<AccountName>,
}

impl LimiterName {
    /// The limiter of V2's own host.
    pub const V2: &str = "convirza-v2";

    /// The limiter of the host that an origin names. A host may have several names, which
    /// [`LoginLimits`](crate::LoginLimits) resolves.
    pub fn of(origin: &Origin) -> Self {
        let host = match origin {
            Origin::Convirza { oauth_url: Some(url), .. } => Some(url.host()),
            Origin::Convirza { api_version: ApiVersion::V2, .. } => Some(Self::V2),
            Origin::Convirza { api_version: ApiVersion::V3, .. } => None,
            Origin::OAuth2(endpoints) => Some(endpoints.token_url.host()),
        };
        Self { host: host.map(str::to_owned), account: None }
    }

    /// Its key in the store, made of host and account; `None` for the configured host.
    pub fn key(&self) -> Option<String> {
        let account = self.account.iter().map(|account| format!("#{}", account.as_str()));
        let key: String = self.host.iter().cloned().chain(account).collect();
        (!key.is_empty()).then_some(key)
    }
}

impl fmt::Display for LimiterName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.key().as_deref().unwrap_or("default"))
    }
}

/// The right to send one login, whether or not it was then sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permit {
    /// One account may hold only some of the permits.
    pub account: AccountName,
    /// By the clock of the instance that acquired it. Its login leaves soon after this or not at all.
    pub acquired_at: Timestamp,
    /// It counts until then, by the settings of the instance that acquired it: others may have other settings.
    pub counts_until: Timestamp,
    /// The attempt that acquired it, so that it recognises its own permit after a lost reply.
    pub holder: Holder,
}

/// Keeps the fleet below the upstream's login limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoginLimiter {
    /// Every write is conditional on it. Zero: there is no limiter yet.
    pub version: Version,
    /// The permits that may still count.
    pub permits: Vec<Permit>,
    /// The upstream answered 429: no login before this instant, whatever the account.
    pub blocked_until: Option<Timestamp>,
    /// The span over which the last writer counted. Permits that it dropped as lapsed may still count over a longer
    /// span.
    pub window: Duration,
}

impl Default for LoginLimiter {
    fn default() -> Self {
        Self { version: Version(0), permits: Vec::new(), blocked_until: None, window: LOGIN_WINDOW }
    }
}

/// Why no login may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoginDelay {
    /// The budget is exhausted until this instant.
    BudgetExhausted(Timestamp),
    /// The upstream answered 429 and requested a pause until this instant.
    Blocked(Timestamp),
}

impl LoginDelay {
    /// When a login becomes possible, and why not before.
    pub const fn ends(self) -> (Timestamp, CooldownReason) {
        match self {
            Self::BudgetExhausted(until) => (until, CooldownReason::BudgetExhausted),
            Self::Blocked(until) => (until, CooldownReason::RateLimited),
        }
    }
}

impl LoginLimiter {
    /// The limiter with one more permit, which has to be written before its login is sent. A permit that the same
    /// attempt acquired before, and whose login was not sent, is replaced.
    ///
    /// # Errors
    /// Why no login may be sent now, and until when.
    pub fn try_acquire(
        &self,
        budget: impl Into<Budget>,
        account: &AccountName,
        holder: Holder,
        now: Timestamp,
    ) -> Result<Self, LoginDelay> {
        let budget = budget.into();
        let others = self.counting(now).filter(|permit| permit.holder != holder).cloned().collect();
        let (version, window) = (self.version.next(now), budget.window);
        let mut next = Self { version, permits: others, window, ..self.clone() };
        let own = next.permits.iter().filter(|permit| permit.account == *account);
        let share = match budget.share {
            Share::Half => budget.requests.div_ceil(2),
            Share::ByNeed => {
                let names = next.permits.iter().map(|permit| &permit.account).chain([account]);
                budget.requests.div_ceil(names.collect::<BTreeSet<_>>().len())
            }
        };
        if let Some(delay) = next.delay(budget, now).or_else(|| free_at(own, share)) {
            return Err(delay);
        }
        let counts_until = now.plus(budget.permit_lasts);
        next.permits.push(Permit { account: account.clone(), acquired_at: now, counts_until, holder });
        Ok(next)
    }

    /// What keeps the next login of the fleet from being sent, if anything does.
    pub fn delay(&self, budget: impl Into<Budget>, now: Timestamp) -> Option<LoginDelay> {
        if let Some(until) = self.blocked_until.filter(|until| lies_ahead(InstantKind::Pause, *until, now)) {
            return Some(LoginDelay::Blocked(until));
        }
        free_at(self.counting(now), budget.into().requests)
    }

    /// How long all logins have to be blocked because the window has grown: permits that were dropped as lapsed may
    /// still count over the longer one.
    pub(crate) fn block_for_growth(&self, budget: Budget, now: Timestamp) -> Option<Duration> {
        let written_at = Timestamp::from_millis(self.version.0);
        let lately = self.version > Version(0) && now.since(written_at) < budget.permit_lasts;
        (lately && self.window < budget.window).then_some(budget.permit_lasts)
    }

    /// The limiter with all logins blocked until an instant, as after a 429. A block is never shortened.
    #[must_use]
    pub fn block(&self, until: Timestamp, now: Timestamp) -> Self {
        let earlier = self.blocked_until.filter(|earlier| lies_ahead(InstantKind::Pause, *earlier, now));
        let until = earlier.map_or(until, |earlier| earlier.max(until));
        Self { version: self.version.next(now), blocked_until: Some(until), ..self.clone() }
    }

    /// The permit of this attempt. Finds it after a write whose outcome is unknown.
    pub fn permit_of(&self, holder: Holder) -> Option<&Permit> {
        self.permits.iter().find(|permit| permit.holder == holder)
    }

    /// The permits that still count.
    pub fn counting(&self, now: Timestamp) -> impl Iterator<Item = &Permit> + '_ {
        self.permits.iter().filter(move |permit| lies_ahead(InstantKind::Permit, permit.counts_until, now))
    }
}

/// When a permit becomes free; `None` if one is free now.
fn free_at<'a>(permits: impl Iterator<Item = &'a Permit>, limit: usize) -> Option<LoginDelay> {
    let mut ends: Vec<Timestamp> = permits.map(|permit| permit.counts_until).collect();
    ends.sort_unstable();
    // The permits beyond the limit have to lapse, and one more to make room.
    let in_the_way = ends.len().checked_sub(limit).and_then(|index| ends.get(index));
    in_the_way.map(|at| LoginDelay::BudgetExhausted(*at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    const START: Timestamp = Timestamp::from_millis(1_000_000);
    const POLICY: Policy = Policy::DEFAULT;

    fn account(name: &str) -> AccountName {
        AccountName::parse(name).unwrap()
    }

    /// Another permit, by another account.
    fn acquired(limiter: &LoginLimiter, at: Timestamp) -> LoginLimiter {
        let number = limiter.permits.len() as u64 + at.as_millis();
        limiter.try_acquire(&POLICY, &account(&format!("other-{number}")), Holder(number), at).unwrap()
    }

    #[test]
    fn the_budget_is_never_exceeded_in_any_window() {
        let mut limiter = LoginLimiter::default();
        for second in 0..POLICY.login_budget as u64 {
            limiter = acquired(&limiter, START.plus(Duration::from_secs(second)));
        }
        let full = START.plus(Duration::from_secs(10));
        let free_at = START.plus(POLICY.permit_window(LOGIN_WINDOW));
        let exhausted = Err(LoginDelay::BudgetExhausted(free_at));
        assert_eq!(limiter.try_acquire(&POLICY, &account("a"), Holder(2), full), exhausted);
        let almost = free_at.minus(Duration::from_millis(1));
        assert_eq!(limiter.try_acquire(&POLICY, &account("a"), Holder(2), almost), exhausted);
        let later = acquired(&limiter, free_at);
        assert_eq!(later.permits.len(), POLICY.login_budget, "lapsed permits are dropped");
    }

    #[test]
    fn a_permit_outlasts_every_delay_of_its_login() {
        // Two logins that arrive within one minute of each other: the first was delayed as long as possible, the
        // second not at all, and their clocks differ by the margin.
        let first_arrives_by = START.plus(POLICY.permit_freshness()).plus(POLICY.upstream_timeout * 2);
        let second_acquires_at = START.plus(POLICY.permit_window(LOGIN_WINDOW));
        let second_arrives_at = second_acquires_at.minus(POLICY.clock_margin);
        assert!(second_arrives_at.since(first_arrives_by) >= LOGIN_WINDOW);
    }

    #[test]
    fn a_block_holds_for_every_attempt_and_is_never_shortened() {
        let long = START.plus(Duration::from_secs(300));
        let limiter = LoginLimiter::default().block(long, START).block(START.plus(LOGIN_WINDOW), START);
        assert_eq!(
            limiter.try_acquire(&POLICY, &account("a"), Holder(1), START),
            Err(LoginDelay::Blocked(long))
        );
        assert_eq!(limiter.delay(&POLICY, long), None);
    }

    #[test]
    fn instants_of_a_wrong_clock_block_no_one() {
        let in_a_year = START.plus(Duration::from_secs(365 * 86_400));
        let permit = Permit {
            account: account("a"),
            acquired_at: in_a_year,
            counts_until: in_a_year,
            holder: Holder(1),
        };
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
        let blocked = first.block(START.plus(LOGIN_WINDOW), START);
        assert!(first.version > Version(0) && blocked.version > first.version);
        assert_eq!(blocked.permits, first.permits);
        let unblocked = blocked.blocked_until.unwrap();
        let second = acquired(&blocked, unblocked);
        assert!(second.version > blocked.version);
        assert_eq!(second.blocked_until, Some(unblocked));
        let permit = first.permits.first().unwrap();
        assert_eq!(first.permit_of(permit.holder), Some(permit));
        assert_eq!(first.permit_of(Holder(2)), None);
    }

    #[test]
    fn one_account_holds_at_most_half_of_the_permits_rounded_up() {
        let mut limiter = LoginLimiter::default();
        let greedy = account("greedy");
        let second = |number: u64| START.plus(Duration::from_secs(number));
        for number in 0..3 {
            limiter = limiter.try_acquire(&POLICY, &greedy, Holder(number), second(number)).unwrap();
        }
        let free_at = START.plus(POLICY.permit_window(LOGIN_WINDOW));
        let refused = limiter.try_acquire(&POLICY, &greedy, Holder(9), second(3));
        assert_eq!(refused, Err(LoginDelay::BudgetExhausted(free_at)));
        limiter = limiter.try_acquire(&POLICY, &account("a"), Holder(10), second(4)).unwrap();
        limiter = limiter.try_acquire(&POLICY, &account("b"), Holder(11), second(5)).unwrap();
        let full = limiter.try_acquire(&POLICY, &account("c"), Holder(12), second(6));
        assert_eq!(full, Err(LoginDelay::BudgetExhausted(free_at)), "the budget of the fleet");
        let single = Policy { login_budget: 1, ..POLICY };
        assert!(LoginLimiter::default().try_acquire(&single, &greedy, Holder(1), START).is_ok());
    }

    #[test]
    fn a_permit_with_a_new_date_takes_no_second_place() {
        let mut limiter = LoginLimiter::default();
        for second in 0..10 {
            let at = START.plus(Duration::from_secs(second));
            limiter = limiter.try_acquire(&POLICY, &account("a"), Holder(7), at).unwrap();
            assert_eq!((limiter.permits.len(), limiter.permits[0].acquired_at), (1, at));
        }
    }

    #[test]
    fn each_host_has_its_own_limiter() {
        use crate::UpstreamUrl;
        let of = |api_version, url: Option<&str>| {
            let oauth_url = url.map(|url| UpstreamUrl::parse(url).unwrap());
            LimiterName::of(&Origin::Convirza { api_version, oauth_url, api_url: None }).to_string()
        };
        assert_eq!(of(ApiVersion::V3, None), "default");
        assert_eq!(of(ApiVersion::V2, None), "convirza-v2");
        assert_eq!(of(ApiVersion::V3, Some("https://oauth.example:8443/base")), "oauth.example:8443");
        assert_eq!(of(ApiVersion::V2, Some("https://oauth.example:8443")), "oauth.example:8443");
    }
}
