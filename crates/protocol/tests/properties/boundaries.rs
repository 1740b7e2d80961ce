//! Expiries and pauses, at the millisecond before and after each instant that matters. Every property is monotone in
//! time, so a clock that steps back gives the same answers again, and never makes a token live longer.

use crate::config;
use proptest::prelude::*;
use std::time::Duration;
use token_broker_protocol::testing::strategies::{instant, pair, policy};
use token_broker_protocol::{
    Account, AccountName, Answer, Context, Cooldown, CooldownReason, Decision, Draw, Expiry, Holder, Intent,
    Lease, Moment, Origin, Pair, Policy, Progress, RefreshToken, Request, ServedFrom, Timestamp, Verdict,
    decide, testing,
};

const MS: Duration = Duration::from_millis(1);
const END_OF_TIME: Timestamp = Timestamp::from_millis(u64::MAX);

fn with_neighbours(instants: impl IntoIterator<Item = Timestamp>) -> Vec<Timestamp> {
    let mut all: Vec<_> = instants.into_iter().flat_map(|at| [at.minus(MS), at, at.plus(MS)]).collect();
    all.sort_unstable();
    all
}

/// The relevant instants of a pair's life, in order.
fn instants_of(pair: &Pair, policy: &Policy, min_ttl: Duration) -> Vec<Timestamp> {
    let due = policy.due_at(&AccountName::default(), pair);
    let half = pair.expires_at.since(pair.issued_at) / 2;
    let usable_until = pair.expires_at.minus(policy.clock_margin);
    let spans = [min_ttl, half, Duration::from_secs(1), policy.max_ttl];
    let known = [Timestamp::default(), pair.issued_at, due, usable_until, pair.expires_at, END_OF_TIME];
    with_neighbours(known.into_iter().chain(spans.map(|span| usable_until.minus(span))))
}

fn token_request(now: Timestamp, min_ttl: Duration) -> Request {
    Request {
        account: AccountName::default(),
        intent: Intent::Token { min_ttl, rejected: None },
        arrived: Moment::of_agreeing_clocks(now),
        deadline: now.plus(Duration::from_secs(28)),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_pair_is_usable_until_one_instant_and_never_after_it(
        pair in pair(), policy in policy(), min_ttl_s in 0..900_u64, draw in any::<u64>()
    ) {
        let pair = Pair { verdict: Verdict::Unverified, ..pair };
        let min_ttl = Duration::from_secs(min_ttl_s);
        let draw = Draw(draw);
        let (mut usable_before, mut selected_before, mut left_before) = (true, false, Duration::MAX);
        for now in instants_of(&pair, &policy, min_ttl) {
            let request = token_request(now, min_ttl);
            let cx = Context::new(&policy, now, draw);
            let usable = request.answer_with(Progress::default(), &pair, cx, ServedFrom::Memory).is_some();
            prop_assert!(usable_before || !usable, "usable again");
            prop_assert_eq!(usable, policy.usable(&pair, min_ttl, now) && policy.expires_in_seconds(&pair, now) > 0);
            let left = policy.time_left(&pair, now);
            prop_assert!(left <= left_before);
            let answer = Answer::from_pair(&pair, &policy, now, ServedFrom::Memory);
            prop_assert_eq!(answer.is_some(), left >= Duration::from_secs(1));
            if let Some(answer) = answer {
                prop_assert!(answer.expires_at.plus(policy.clock_margin) <= pair.expires_at);
            }
            let selected = policy.selects_early_refresh(&request.account, &pair, min_ttl, now, draw);
            prop_assert!(selected || !selected_before, "the probability never falls");
            (usable_before, selected_before, left_before) = (usable, selected, left);
        }
    }

    #[test]
    fn a_refresh_token_is_sent_until_its_expiry_less_the_margin(
        pair in pair(), policy in policy(), until in instant()
    ) {
        let refresh_token = Some(RefreshToken { expires_at: Some(until), ..testing::refresh_token("refresh") });
        let pair = Pair { refresh_token, verdict: Verdict::Dead, origin: Origin::default(), ..pair };
        let account = Account { pair: Some(pair), ..Account::default() };
        let last = until.minus(policy.clock_margin);
        for now in with_neighbours([Timestamp::default(), last, until, END_OF_TIME]) {
            let cx = Context::new(&policy, now, Draw(0));
            let request = token_request(now, Duration::ZERO);
            let expected = match decide(&request, Progress::default(), &account, cx) {
                Decision::Refresh(_) => now < last,
                Decision::LogIn => now >= last,
                _ => false,
            };
            prop_assert!(expected, "{:?}, {:?}", now, until);
        }
    }

    #[test]
    fn an_expiry_lies_after_the_instant_at_which_its_request_left(
        at in instant(), sent_at in instant(), millis in any::<u64>()
    ) {
        let spans = [Duration::from_millis(millis), Duration::MAX].map(Expiry::In);
        for expiry in spans.into_iter().chain([Expiry::At(at)]) {
            prop_assert!(expiry.resolve(sent_at, Duration::MAX).is_none_or(|resolved| resolved > sent_at));
        }
        prop_assert_eq!(Expiry::At(sent_at).resolve(sent_at, Duration::MAX), None);
        let next = sent_at.plus(MS);
        prop_assert_eq!(Expiry::At(next).resolve(sent_at, Duration::MAX).is_some(), next > sent_at);
    }

    #[test]
    fn a_stored_instant_locks_out_no_longer_than_its_kind_can(until in instant(), now in instant()) {
        let left = until.since(now);
        let within = |longest: u64| !left.is_zero() && left <= Duration::from_secs(longest + 60);
        let lease = Some(Lease { holder: Holder(1), until });
        let cooldown = Some(Cooldown { until, reason: CooldownReason::RateLimited, failures: 1 });
        let account = Account { lease, cooldown, ..Account::default() };
        prop_assert_eq!(account.active_lease(now).is_some(), within(600));
        prop_assert_eq!(account.has_impossible_lease(now), left > Duration::from_secs(660));
        prop_assert_eq!(account.active_cooldown(now).is_some(), within(3_960));
    }
}
