//! The login budget is kept, whatever a stored limiter contains.

use crate::config;
use proptest::prelude::*;
use std::time::Duration;
use token_broker_protocol::testing::strategies::{instant, limiter, policy};
use token_broker_protocol::{AccountName, Holder, LoginLimiter};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn permits_never_exceed_the_budget(
        limiter in limiter(), policy in policy(), now in instant(),
        steps in proptest::collection::vec(0..100_000_u64, 1..20)
    ) {
        let (mut limiter, mut now) = (limiter, now);
        let before = limiter.counting(now).count();
        let share = policy.login_budget.div_ceil(2);
        let of = |limiter: &LoginLimiter, account: &AccountName, now| {
            limiter.counting(now).filter(|permit| permit.account == *account).count()
        };
        for ((holder, name), step) in (0..).zip(["a", "b", "c"].into_iter().cycle()).zip(steps) {
            let account = AccountName::parse(name).expect("a name");
            let own_before = of(&limiter, &account, now);
            now = now.plus(Duration::from_millis(step));
            if let Ok(next) = limiter.try_acquire(&policy, &account, Holder(holder), now) {
                prop_assert!(next.version > limiter.version);
                limiter = next;
            }
            prop_assert!(limiter.counting(now).count() <= policy.login_budget.max(before));
            prop_assert!(of(&limiter, &account, now) <= share.max(own_before));
        }
    }
}
