//! What holds for every input: records come back as they were stored, the upstream's answers are read or
//! refused, decisions are total and never hand out what is dead, and no order of events makes a flow panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod any;
mod boundaries;

use any::{account, ask, event, instant, limiter, policy, wild_item};
use proptest::prelude::*;
use std::time::Duration;
use token_broker::{outbound::convirza::response, outbound::dynamodb::item, rfc3339};
use protocol::{Decision, Done, Intent, ServedFrom, decide, Effect, Event, Flow, Expiry, Admission, Memory, policy, AccountName, Grant, Holder, Draw, Timestamp};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_comes_back_as_it_was_stored(account in account()) {
        let stored = item::from_account(&AccountName::default(), &account);
        prop_assert_eq!(item::account_of(&stored), Some(AccountName::default()));
        prop_assert_eq!(item::to_account(&stored), Ok(account));
    }

    #[test]
    fn the_ledger_comes_back_as_it_was_stored(limiter in ledger()) {
        prop_assert_eq!(item::to_login_limiter(&item::from_login_limiter(&limiter)), Ok(limiter));
    }

    #[test]
    fn an_item_that_nobody_wrote_is_read_or_refused_by_an_attributes_name(stored in wild_item()) {
        for refused in [item::to_account(&stored).err(), item::to_login_limiter(&stored).err()].into_iter().flatten() {
            prop_assert!(refused.starts_with("attribute `"), "{}", refused);
            prop_assert!(!refused.contains("tell-tale"), "{}", refused);
        }
    }

    #[test]
    fn an_item_that_lost_an_attribute_is_read_or_refused_by_its_name(
        account in account().prop_flat_map(|account| any::damaged(item::from_account(&AccountName::default(), &account))),
        limiter in ledger().prop_flat_map(|ledger| any::damaged(item::from_login_limiter(&limiter)))
    ) {
        for refused in [item::to_account(&account).err(), item::to_login_limiter(&limiter).err()].into_iter().flatten() {
            prop_assert!(refused.starts_with("attribute `"), "{}", refused);
            prop_assert!(!refused.contains("tell-tale"), "{}", refused);
        }
    }

    #[test]
    fn the_tokens_of_an_answer_come_back_as_they_were_sent(
        access in "[!-~]{1,40}", refresh in proptest::option::of("[!-~]{1,40}"),
        seconds in proptest::option::of(0..315_360_000_u32), more in ".{0,20}"
    ) {
        let answer = serde_json::json!({
            "access_token": access, "refresh_token": refresh, "expires_in": seconds, "feToken": more, "user": {"name": more}
        });
        let read = answer::parse_grant(answer.to_string().as_bytes()).expect("it is an answer");
        prop_assert_eq!(read.access_token.expose(), access);
        prop_assert_eq!(read.refresh_token.map(|token| token.expose().to_owned()), refresh);
        let expiry = seconds.map_or(Expiry::Unknown, |seconds| Expiry::In(Duration::from_secs(seconds.into())));
        prop_assert_eq!(read.access_expiry, expiry);
        prop_assert_eq!(read.refresh_expiry, Expiry::Unknown);
    }

    #[test]
    fn an_answer_of_any_fields_is_read_or_refused(
        access in any::json(), refresh in any::json(), expires in any::json(), refresh_expires in any::json(), left in instant()
    ) {
        let answer = serde_json::json!({
            "access_token": access, "refresh_token": refresh,
            "expires_in": expires, "refresh_expires_in": refresh_expires, "result": expires
        });
        let body = answer.to_string();
        let _ = answer::is_v2_error(body.as_bytes());
        if let Some(read) = answer::parse_grant(body.as_bytes()) {
            prop_assert_eq!(Some(read.access_token.expose()), access.as_str());
            for expiry in [read.access_expiry, read.refresh_expiry] {
                prop_assert!(expiry.resolve(left).is_none_or(|at| at > left));
            }
        }
    }

    #[test]
    fn an_answer_of_any_bytes_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = answer::parse_grant(&body);
        let _ = answer::is_v2_error(&body);
    }

    #[test]
    fn an_expiry_of_any_text_or_number_is_read_or_unknown(text in ".{0,40}", number in any::<f64>(), left in instant()) {
        for value in [serde_json::json!(text), serde_json::json!(number)] {
            let resolved = answer::parse_expiry(&value).resolve(left);
            prop_assert!(resolved.is_none_or(|at| at > left));
        }
    }

    #[test]
    fn an_instant_that_is_written_is_read_again(millis in 0..253_402_300_799_000_u64) {
        let read = rfc3339::parse(&rfc3339::format(Timestamp::from_millis(millis)));
        prop_assert_eq!(read, Some(Timestamp::from_millis(millis / 1000 * 1000)));
    }

    #[test]
    fn a_decision_to_answer_is_an_answer_that_outlives_what_it_says(
        account in account(), ask in ask(), policy in policy(), now in instant(), draw in any::<u64>()
    ) {
        let decision = decide(&ask, &account, &policy, now, Draw(draw));
        let answer = account.pair.as_ref().and_then(|pair| ask.answer(pair, &policy, now, ServedFrom::Table));
        if decision == Decision::Answer {
            let (pair, answer) = (account.pair.expect("a pair"), answer.expect("an answer"));
            prop_assert!(!pair.dead);
            prop_assert!(answer.expires_in_seconds >= 1);
            prop_assert!(answer.expires_at.plus(policy.clock_margin) <= pair.expires_at);
            prop_assert!(Duration::from_secs(answer.expires_in_seconds) <= policy.max_ttl);
            if let Intent::Token { min_ttl, .. } = ask.goal {
                let half = pair.expires_at.since(pair.issued_at) / 2;
                let at_least = min_ttl.min(half).min(policy.max_ttl).as_secs();
                prop_assert!(answer.expires_in_seconds >= at_least);
            }
        }
    }

    #[test]
    fn a_decision_is_one_that_the_record_allows(
        account in account(), ask in ask(), policy in policy(), now in instant(), draw in any::<u64>()
    ) {
        let lease = policy::held(account.lease.as_ref(), now);
        let cooldown = policy::cooling(account.cooldown.as_ref(), now);
        let pair = account.pair.as_ref();
        match decide(&ask, &account, &policy, now, Draw(draw)) {
            Decision::Answer => prop_assert!(pair.is_some_and(|pair| ask.served_by(pair, &policy, now))),
            Decision::Wait(until) => prop_assert_eq!(lease.map(|lease| lease.until), Some(until)),
            Decision::Fail(_) => prop_assert!(lease.is_none() && cooldown.is_some()),
            Decision::Renew(Grant::Login) => prop_assert!(lease.is_none() && cooldown.is_none()),
            Decision::Renew(Grant::Refresh) => {
                let pair = pair.expect("a pair to refresh");
                prop_assert!(lease.is_none() && cooldown.is_none());
                prop_assert!(pair.refresh_token.is_some() && !pair.refresh_token_consumed);
                prop_assert!(pair.refresh_expires_at.is_none_or(|at| at > now));
            }
            Decision::Verify => {
                prop_assert!(lease.is_none() && cooldown.is_none());
                let Intent::Token { rejected, .. } = ask.goal else { panic!("only reports are verified") };
                prop_assert!(rejected.is_some() && rejected == account.generation());
            }
            Decision::Revoke { withdraw } => {
                prop_assert!(lease.is_none());
                prop_assert!(matches!(ask.goal, Intent::Revoke(_)) || !withdraw);
                let to_do = withdraw && pair.is_some() || !account.pending.is_empty();
                prop_assert!(to_do);
            }
            Decision::Nothing => {
                let wants_a_token = matches!(ask.goal, Intent::Token { .. } | Intent::Replace(_));
                prop_assert!(!wants_a_token);
            }
        }
    }

    #[test]
    fn a_pair_is_due_before_it_dies_and_not_before_half_of_its_life(account in account(), policy in policy()) {
        if let Some(pair) = account.pair {
            let due = policy.due_at(&AccountName::default(), &pair);
            let half = pair.expires_at.since(pair.issued_at) / 2;
            prop_assert!(due <= pair.expires_at);
            prop_assert!(pair.expires_at.since(due) <= half.min(policy.refresh_ahead));
        }
    }

    #[test]
    fn the_ledger_never_counts_more_than_the_budget(
        limiter in ledger(), policy in policy(), now in instant(), steps in proptest::collection::vec(0..100_000_u64, 1..20)
    ) {
        let mut limiter = limiter;
        let mut now = now;
        let before = limiter.counting(now).count();
        for (number, step) in steps.into_iter().enumerate() {
            now = now.plus(Duration::from_millis(step));
            if let Admission::Free(next) = limiter.try_acquire(&policy, Holder(number as u64), now) {
                prop_assert!(next.version > limiter.version);
                limiter = next;
            }
            prop_assert!(limiter.counting(now).count() <= policy.login_budget.max(before));
        }
    }

    #[test]
    fn no_order_of_events_makes_a_flow_panic_or_go_back_or_hand_out_what_is_dead(
        asks in proptest::collection::vec(ask(), 1..4), policy in policy(), now in instant(),
        events in proptest::collection::vec((event(), any::<u64>(), -20_000..30_000_i64), 1..40)
    ) {
        // One request after another on the same instance, by a clock that now and then goes back.
        let mut events = events.into_iter();
        let mut memory = Cache::default();
        let mut now = now;
        for ask in asks {
            let mut flow = Flow::new(ask, memory);
            let mut effect = flow.step(&policy, Event::Begin, now, Draw(1));
            for (event, draw, step) in events.by_ref() {
                // An event of the kind that was asked for, most of the time: else every flow would end at once.
                let event = any::fitting(&effect, event);
                if let Effect::WriteAccount { expected, next } = &effect {
                    prop_assert!(next.version > *expected);
                }
                if let Effect::Done(result) = &effect {
                    if let Ok(Outcome::Token(answer)) = result {
                        let copy = flow.memory().copy.as_ref();
                        let pair = copy.and_then(|copy| copy.account.pair.as_ref()).expect("what was handed out");
                        prop_assert_eq!(pair.generation, answer.generation);
                        prop_assert!(answer.expires_in_seconds >= 1);
                        prop_assert!(answer.expires_at.plus(policy.clock_margin) <= pair.expires_at);
                    }
                    break;
                }
                let span = Duration::from_millis(step.unsigned_abs());
                now = if step < 0 { now.minus(span) } else { now.plus(span) };
                effect = flow.step(&policy, event, now, Draw(draw));
            }
            memory = flow.memory().clone();
        }
    }
}
