//! Expiries, at the millisecond before and after each instant that matters, and by clocks that go back.

use crate::any::{instant, pair, policy};
use proptest::prelude::*;
use std::time::Duration;
use protocol::{Request, Intent, ServedFrom, Expiry, grant_for, Policy, lies_ahead, AccountName, Grant, Pair, Draw, Timestamp};

const MS: Duration = Duration::from_millis(1);

/// The instants of a pair's life that anything depends on, each with its neighbours, in order.
fn instants(pair: &Pair, policy: &Policy, min_ttl: Duration) -> Vec<Timestamp> {
    let due = policy.due_at(&AccountName::default(), pair);
    let half = pair.expires_at.since(pair.issued_at) / 2;
    let dies = pair.expires_at.minus(policy.clock_margin);
    let wishes = [min_ttl, half, Duration::from_secs(1), policy.max_ttl].map(|wish| dies.minus(wish));
    let ends = [Timestamp::default(), Timestamp::from_millis(u64::MAX)];
    let known = [pair.issued_at, due, dies, pair.expires_at].into_iter().chain(wishes).chain(ends);
    let mut all: Vec<_> = known.flat_map(|at| [at.minus(MS), at, at.plus(MS)]).collect();
    all.sort_unstable();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// So a clock that goes back makes the same answers again, and never a token live longer.
    #[test]
    fn a_pair_serves_until_one_instant_and_never_after_it(
        pair in pair(), policy in policy(), min_ttl_s in 0..900_u64, draw in any::<u64>()
    ) {
        let pair = Pair { dead: false, ..pair };
        let min_ttl = Duration::from_secs(min_ttl_s);
        let name = AccountName::default();
        let (mut served_before, mut volunteered_before, mut left_before) = (true, false, Duration::MAX);
        for now in instants(&pair, &policy, min_ttl) {
            let deadline = now.plus(Duration::from_secs(28));
            let goal = Intent::Token { min_ttl, rejected: None };
            let ask = Request { account: name.clone(), goal, arrived_at: now, deadline };
            let served = ask.served_by(&pair, &policy, now);
            prop_assert!(served_before || !served, "it served, did not, and serves again");
            let left = policy.time_left(&pair, now);
            prop_assert!(left <= left_before);
            let answer = ask.answer(&pair, &policy, now, ServedFrom::Cache);
            prop_assert_eq!(answer.is_some(), left >= Duration::from_secs(1));
            if let Some(answer) = answer {
                prop_assert!(answer.expires_at.plus(policy.clock_margin) <= pair.expires_at);
            }
            let early_refresh = policy.early_refresh_selects(&name, &pair, min_ttl, now, Draw(draw));
            prop_assert!(early_refresh || !volunteered_before, "the odds never fall");
            (served_before, volunteered_before, left_before) = (served, early_refresh, left);
        }
    }

    #[test]
    fn a_refresh_token_is_sent_until_one_instant_and_never_after_it(pair in pair(), policy in policy()) {
        let Some(until) = pair.refresh_expires_at else { return Ok(()) };
        let mut refreshes_before = true;
        for now in [Timestamp::default(), until.minus(policy.clock_margin), until, Timestamp::from_millis(u64::MAX)]
            .into_iter()
            .flat_map(|at| [at.minus(MS), at, at.plus(MS)])
        {
            let refreshes = grant_for(Some(&pair), policy.clock_margin, now) == Grant::Refresh;
            prop_assert!(refreshes_before || !refreshes);
            prop_assert!(!refreshes || now < until, "{:?} is past {:?}", now, until);
            refreshes_before = refreshes;
        }
    }

    #[test]
    fn an_expiry_that_is_read_lies_after_the_request_left(at in instant(), left in instant(), millis in any::<u64>()) {
        for expiry in [Expiry::At(at), Expiry::In(Duration::from_millis(millis)), Expiry::In(Duration::MAX)] {
            prop_assert!(expiry.resolve(left).is_none_or(|resolved| resolved > left));
        }
        prop_assert_eq!(Expiry::At(left).resolve(left), None);
        prop_assert_eq!(Expiry::At(left.plus(MS)).resolve(left).is_some(), left.plus(MS) > left);
    }

    #[test]
    fn nothing_that_was_written_holds_anybody_back_for_more_than_two_hours(until in instant(), now in instant()) {
        let waits = until.since(now);
        prop_assert_eq!(lies_ahead(until, now), !waits.is_zero() && waits <= Duration::from_secs(2 * 3600));
    }
}
