//! The login budget is kept, whatever a stored limiter contains.

use crate::config;
use proptest::prelude::*;
use std::time::Duration;
use token_broker_protocol::testing::strategies::{instant, limiter, policy};
use token_broker_protocol::{
    AccountName, Counts, Holder, LimiterName, LoginLimit, LoginLimiter, LoginLimits, Per,
};

proptest! {
    #![proptest_config(config())]

    /// The budget is checked at each new permit: stored permits of a clock that was far ahead begin to count later,
    /// when they come within the bound of their kind.
    #[test]
    fn permits_never_exceed_the_budget(
        limiter in limiter(), policy in policy(), now in instant(),
        steps in proptest::collection::vec(0..100_000_u64, 1..20)
    ) {
        let (mut limiter, mut now) = (limiter, now);
        for ((holder, name), step) in (0..).zip(["a", "b", "c"].into_iter().cycle()).zip(steps) {
            let account = AccountName::parse(name).expect("a name");
            now = now.plus(Duration::from_millis(step));
            if let Ok(next) = limiter.try_acquire(&policy, &account, Holder(holder), now) {
                prop_assert!(next.version > limiter.version);
                let of_account = next.counting(now).filter(|permit| permit.account == account).count();
                prop_assert!(of_account <= policy.login_budget.div_ceil(2));
                prop_assert!(next.counting(now).count() <= policy.login_budget);
                limiter = next;
            }
        }
    }

    /// In any window, by the dates of the permits. A host that counts all requests needs one before a refresh too.
    #[test]
    fn a_limit_is_kept_in_any_window(
        requests in 1..=100_usize, seconds in 1..=3_600_u64, policy in policy(), now in instant(),
        steps in proptest::collection::vec((0..5_u8, 0..300_000_u64), 1..200)
    ) {
        let window = Duration::from_secs(seconds);
        let limit = LoginLimit { requests, window, counts: Counts::All, per: Per::Host };
        let by_host = [("a.example".to_owned(), limit)].into();
        let limits = LoginLimits::new("a.example".to_owned(), None, by_host);
        let budget = limits.budget_of(&policy, &LimiterName::default());
        let (mut limiter, mut now, mut acquired) = (LoginLimiter::default(), now, Vec::new());
        for ((account, step), holder) in steps.into_iter().zip(0..) {
            now = now.plus(Duration::from_millis(step));
            let account = AccountName::parse(&format!("a-{account}")).expect("a name");
            if let Ok(next) = limiter.try_acquire(budget, &account, Holder(holder), now) {
                limiter = next;
                acquired.push(now);
            }
        }
        let kept = acquired.windows(requests + 1).all(|some| some[requests].since(some[0]) >= window);
        prop_assert!(kept, "{acquired:?}");
        prop_assert!(!acquired.is_empty());
    }
}
