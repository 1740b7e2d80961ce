//! How many token requests each host accepts from the fleet.

use crate::{AccountName, LimiterName, Origin, Policy, policy::LOGIN_WINDOW};
use std::{collections::BTreeMap, time::Duration};

/// The limit that an operator set for one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoginLimit {
    /// The broker's share of what the host allows in a window.
    pub requests: usize,
    /// The span over which the host counts.
    pub window: Duration,
    /// Which requests it counts.
    pub counts: Counts,
    /// What it counts them by.
    pub per: Per,
}

/// The requests that a host counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counts {
    /// Logins only.
    Logins,
    /// Every token request: a refresh takes a permit too.
    All,
}

/// What a host counts requests by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Per {
    /// All accounts together.
    Host,
    /// Each account separately.
    Account,
}

/// The limits of all hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginLimits {
    configured: Option<String>,
    v2: Option<String>,
    by_host: BTreeMap<String, LoginLimit>,
}

/// A limit, with what its limiter needs of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Permits that may count at the same time.
    pub requests: usize,
    pub(crate) window: Duration,
    pub(crate) permit_lasts: Duration,
    pub(crate) share: Share,
}

/// How many of the permits one account may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Half of them, rounded up.
    Half,
    /// An equal share, rounded up, among the accounts that hold any.
    ByNeed,
}

impl From<&Policy> for Budget {
    /// The limit of a host without a setting.
    fn from(policy: &Policy) -> Self {
        let window = LOGIN_WINDOW;
        let permit_lasts = policy.permit_window(window);
        Self { requests: policy.login_budget, window, permit_lasts, share: Share::Half }
    }
}

impl LoginLimits {
    /// Only the policy's limit.
    pub const NONE: Self = Self { configured: None, v2: None, by_host: BTreeMap::new() };

    /// The limits by host, spelt as in a normalised URL, and the hosts that an origin leaves out: V3's and V2's.
    pub fn new(configured: String, v2: Option<String>, by_host: BTreeMap<String, LoginLimit>) -> Self {
        Self { configured: Some(configured), v2, by_host }
    }

    /// The host that issues an account's pairs, however the account's secret spells it. Two limiters for one host would
    /// allow twice its budget.
    pub fn limiter_of_host(&self, origin: &Origin) -> LimiterName {
        let name = LimiterName::of(origin);
        let host = match name.host.as_deref() {
            Some(LimiterName::V2) => self.v2.as_deref().or(Some(LimiterName::V2)),
            host => host,
        };
        let host = host.filter(|host| self.configured.as_deref() != Some(host));
        LimiterName { host: host.map(str::to_owned), account: None }
    }

    /// The limiter of an account's requests.
    pub fn name_of(&self, origin: &Origin, account: &AccountName) -> LimiterName {
        let host = self.limiter_of_host(origin);
        let alone = self.limit_of(&host).is_some_and(|limit| limit.per == Per::Account);
        LimiterName { account: alone.then(|| account.clone()), ..host }
    }

    /// What a limiter allows.
    pub fn budget_of(&self, policy: &Policy, name: &LimiterName) -> Budget {
        let Some(LoginLimit { requests, window, .. }) = self.limit_of(name).copied() else {
            return policy.into();
        };
        Budget { requests, window, permit_lasts: policy.permit_window(window), share: Share::ByNeed }
    }

    /// Whether a refresh takes a permit.
    pub fn counts_refreshes(&self, name: &LimiterName) -> bool {
        self.limit_of(name).is_some_and(|limit| limit.counts == Counts::All)
    }

    fn limit_of(&self, name: &LimiterName) -> Option<&LoginLimit> {
        self.by_host.get(name.host.as_ref().or(self.configured.as_ref())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ApiVersion, Holder, LoginDelay, LoginLimiter, Timestamp, UpstreamUrl};

    fn limits(limit: LoginLimit) -> LoginLimits {
        let by_host = ["a.example", "b.example:8443", "v2.example"].map(|host| (host.to_owned(), limit));
        LoginLimits::new("a.example".to_owned(), Some("v2.example".to_owned()), BTreeMap::from(by_host))
    }

    fn origin(api_version: ApiVersion, oauth_url: Option<&str>) -> Origin {
        let oauth_url = oauth_url.map(|url| UpstreamUrl::parse(url).unwrap());
        Origin::Convirza { api_version, oauth_url, api_url: None }
    }

    const ALL: LoginLimit =
        LoginLimit { requests: 10, window: Duration::from_secs(600), counts: Counts::All, per: Per::Host };

    #[test]
    fn a_host_has_one_limiter_under_all_its_names() {
        let limits = limits(ALL);
        let of = |version, url| limits.limiter_of_host(&origin(version, url)).key();
        for version in [ApiVersion::V3, ApiVersion::V2] {
            assert_eq!(of(version, Some("https://A.example:443/other")), None);
            assert_eq!(of(version, Some("https://v2.example/login")).as_deref(), Some("v2.example"));
            assert_eq!(of(version, Some("https://b.example")).as_deref(), Some("b.example"));
        }
        assert_eq!(of(ApiVersion::V3, None), None);
        assert_eq!(of(ApiVersion::V2, None).as_deref(), Some("v2.example"));
    }

    #[test]
    fn a_limit_is_found_by_host_and_port() {
        let limits = limits(ALL);
        let requests = |version, url| {
            let name = limits.name_of(&origin(version, url), &AccountName::default());
            let counts = limits.counts_refreshes(&name);
            (limits.budget_of(&Policy::DEFAULT, &name).requests, counts)
        };
        assert_eq!(requests(ApiVersion::V3, None), (10, true));
        assert_eq!(requests(ApiVersion::V2, None), (10, true));
        assert_eq!(requests(ApiVersion::V3, Some("https://b.example:8443")), (10, true));
        assert_eq!(requests(ApiVersion::V3, Some("https://b.example")), (5, false), "another port");
    }

    #[test]
    fn a_limit_per_account_has_a_limiter_for_each() {
        let limits = limits(LoginLimit { per: Per::Account, ..ALL });
        let keys = ["one", "two"].map(|name| {
            let account = AccountName::parse(name).unwrap();
            let origins = [None, Some("https://b.example:8443"), Some("https://c.example")];
            origins.map(|url| limits.name_of(&origin(ApiVersion::V3, url), &account).key())
        });
        let expected = ["one", "two"].map(|name| {
            [Some(format!("#{name}")), Some(format!("b.example:8443#{name}")), Some("c.example".to_owned())]
        });
        assert_eq!(keys, expected);
    }

    /// With tokens of 12 s, an account needs more than half of ten requests in ten minutes.
    #[test]
    fn accounts_share_by_need() {
        let budget = limits(ALL).budget_of(&Policy::DEFAULT, &LimiterName::default());
        let at = |second: u64| Timestamp::from_millis(1_000_000 + second * 1_000);
        let mut limiter = LoginLimiter::default();
        let mut acquire = |name: &str, number: u64| {
            let account = AccountName::parse(name).unwrap();
            let next = limiter.try_acquire(budget, &account, Holder(number), at(number));
            next.map(|next| limiter = next).map_err(|delay| matches!(delay, LoginDelay::BudgetExhausted(_)))
        };
        for number in 0..7 {
            assert_eq!(acquire("greedy", number), Ok(()), "while it is alone");
        }
        assert_eq!(acquire("other", 7), Ok(()));
        assert_eq!(acquire("greedy", 8), Err(true), "it has more than its half");
        assert_eq!(acquire("third", 9), Ok(()));
        assert_eq!(acquire("other", 10), Ok(()));
        assert_eq!(acquire("third", 11), Err(true), "the budget is used up");
    }
}
