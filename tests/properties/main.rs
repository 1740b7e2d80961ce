//! What holds for every input: records come back as they were stored, the upstream's answers are read or
//! refused, decisions are total and never hand out what is dead, and no order of events makes a flow panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod any;

use any::{account, ask, event, instant, ledger, policy, wild_item};
use proptest::prelude::*;
use std::time::Duration;
use token_broker::{
    adapters::{convirza::answer, item, rfc3339},
    core::{
        decide::{Decision, Done, Goal, ServedFrom, decide},
        flow::{Effect, Event, Flow},
        ledger::Admission,
        memory::Memory,
        record::{AccountName, Holder},
        time::{Draw, Timestamp},
    },
};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_comes_back_as_it_was_stored(account in account()) {
        let stored = item::from_account(&AccountName::default(), &account);
        prop_assert_eq!(item::account_of(&stored), Some(AccountName::default()));
        prop_assert_eq!(item::to_account(&stored), Ok(account));
    }

    #[test]
    fn the_ledger_comes_back_as_it_was_stored(ledger in ledger()) {
        prop_assert_eq!(item::to_ledger(&item::from_ledger(&ledger)), Ok(ledger));
    }

    #[test]
    fn an_item_that_nobody_wrote_is_read_or_refused_by_an_attributes_name(stored in wild_item()) {
        for refused in [item::to_account(&stored).err(), item::to_ledger(&stored).err()].into_iter().flatten() {
            prop_assert!(refused.starts_with("attribute `"), "{}", refused);
            prop_assert!(!refused.contains("tell-tale"), "{}", refused);
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
            if let Goal::Token { min_ttl, .. } = ask.goal {
                let half = pair.expires_at.since(pair.issued_at) / 2;
                let at_least = min_ttl.min(half).min(policy.max_ttl).as_secs();
                prop_assert!(answer.expires_in_seconds >= at_least);
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
        ledger in ledger(), policy in policy(), now in instant(), steps in proptest::collection::vec(0..100_000_u64, 1..20)
    ) {
        let mut ledger = ledger;
        let mut now = now;
        let before = ledger.counting(now).count();
        for (number, step) in steps.into_iter().enumerate() {
            now = now.plus(Duration::from_millis(step));
            if let Admission::Free(next) = ledger.admit(&policy, Holder(number as u64), now) {
                prop_assert!(next.version > ledger.version);
                ledger = next;
            }
            prop_assert!(ledger.counting(now).count() <= policy.login_budget.max(before));
        }
    }

    #[test]
    fn no_order_of_events_makes_a_flow_panic_or_go_back(
        ask in ask(), policy in policy(), now in instant(),
        events in proptest::collection::vec((event(), any::<u64>(), 0..30_000_u64), 1..40)
    ) {
        let mut flow = Flow::new(ask, Memory::default());
        let mut now = now;
        let mut effect = flow.step(&policy, Event::Begin, now, Draw(1));
        for (event, draw, step) in events {
            // An event of the kind that was asked for, most of the time: else every flow would end at once.
            let event = any::fitting(&effect, event);
            if let Effect::WriteAccount { expected, next } = &effect {
                prop_assert!(next.version > *expected);
            }
            if let Effect::Done(result) = &effect {
                if let Ok(Done::Token(answer)) = result {
                    prop_assert!(answer.expires_in_seconds >= 1);
                }
                break;
            }
            now = now.plus(Duration::from_millis(step));
            effect = flow.step(&policy, event, now, Draw(draw));
        }
    }
}
