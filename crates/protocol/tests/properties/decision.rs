//! Decisions fit the record and the request, whatever they are.

use crate::config;
use proptest::prelude::*;
use std::time::Duration;
use token_broker_protocol::testing::strategies::{account, instant, pair, policy, progress, request};
use token_broker_protocol::{
    AccountName, Context, Decision, Draw, Failure, Intent, RefreshToken, ServedFrom, Verdict, decide,
};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_answer_is_valid_for_as_long_as_it_says(
        account in account(), request in request(), progress in progress(), policy in policy(),
        now in instant(), draw in any::<u64>()
    ) {
        let cx = Context::new(&policy, now, Draw(draw));
        if let Decision::Answer(answer) = decide(&request, progress, &account, cx) {
            let pair = account.pair.expect("a pair");
            prop_assert_eq!(answer.generation, pair.generation);
            prop_assert_ne!(pair.verdict, Verdict::Dead);
            prop_assert!(answer.expires_in_seconds >= 1);
            prop_assert!(answer.expires_at.plus(policy.clock_margin) <= pair.expires_at);
            prop_assert!(Duration::from_secs(answer.expires_in_seconds) <= policy.max_ttl);
            // The remaining life is enough for a pair that cannot be renewed now.
            let is_last = pair.origin.needs_client() && account.cooldown.is_some();
            if let Intent::Token { min_ttl, .. } = request.intent
                && !is_last
            {
                let when_due = |ahead: Duration| ahead.saturating_sub(ahead / 10).saturating_sub(policy.clock_margin);
                let min_ttl = min_ttl.min(pair.refresh_ahead.map_or(Duration::MAX, when_due));
                let half = pair.expires_at.since(pair.issued_at) / 2;
                let at_least = min_ttl.min(half).min(policy.max_ttl).as_secs();
                prop_assert!(answer.expires_in_seconds >= at_least);
            }
        }
    }

    #[test]
    fn a_decision_fits_the_record(
        account in account(), request in request(), progress in progress(), policy in policy(),
        now in instant(), draw in any::<u64>()
    ) {
        let cx = Context::new(&policy, now, Draw(draw));
        let (lease, cooldown) = (account.active_lease(now), account.active_cooldown(now));
        let pair = account.pair.as_ref();
        let free = lease.is_none() && cooldown.is_none();
        let wants_a_token = matches!(request.intent, Intent::Token { .. } | Intent::Replace);
        match decide(&request, progress, &account, cx) {
            Decision::Answer(answer) => {
                // An operator's second refresh within a minute is answered with the current pair.
                let limited = request.intent == Intent::Replace && account.replaced_at.is_some();
                let expected = pair.and_then(|pair| request.answer_with(progress, pair, cx, ServedFrom::Table));
                let is_last = cooldown.is_some() && pair.is_some_and(|pair| pair.origin.needs_client());
                prop_assert!(limited || is_last || Some(answer) == expected);
            }
            Decision::Wait(until) => prop_assert_eq!(lease.map(|lease| lease.until), Some(until)),
            Decision::Fail(Failure::Unconfirmed) => {
                prop_assert!(request.intent == Intent::Revoke && account.grant.is_some());
            }
            Decision::Fail(_) => prop_assert!(lease.is_none() && cooldown.is_some()),
            Decision::LogIn => prop_assert!(free),
            Decision::Refresh(sent) => {
                let pair = pair.expect("a pair to refresh");
                prop_assert!(free);
                let RefreshToken { token, expires_at, consumed, .. } = pair.refresh_token.as_ref().expect("a token");
                prop_assert!(!consumed);
                prop_assert_eq!(token, &sent.token);
                prop_assert_eq!(&pair.origin, &sent.origin);
                prop_assert!(sent.origin.refreshes());
                prop_assert!(expires_at.is_none_or(|at| at > now));
            }
            Decision::Probe(sent) => {
                let pair = pair.expect("a pair to probe");
                prop_assert!(free);
                prop_assert_eq!((&pair.access_token, &pair.origin), (&sent.token, &sent.origin));
                let Intent::Token { rejected, .. } = request.intent else { panic!("only reports are verified") };
                prop_assert_eq!(rejected, Some(pair.generation));
            }
            Decision::Revoke { withdraw } => {
                prop_assert!(lease.is_none());
                prop_assert!(matches!(request.intent, Intent::Revoke | Intent::RevokeConfirmed) || !withdraw);
                let is_on_trial = account.grant.as_ref().is_some_and(|grant| grant.trial.is_some());
                let has_work = withdraw && (pair.is_some() || is_on_trial) || !account.pending_revocations.is_empty();
                prop_assert!(has_work);
                let due = account.pending_revocations.iter().any(|revocation| revocation.is_due(now));
                prop_assert!(due || !matches!(request.intent, Intent::Maintain(_)));
            }
            Decision::Unblock => {
                prop_assert_eq!(request.intent, Intent::Unblock);
                prop_assert!(lease.is_none() && !progress.unblocked);
            }
            Decision::Finish => prop_assert!(!wants_a_token),
        }
    }

    #[test]
    fn a_pair_is_due_before_its_expiry_and_after_half_of_its_life(pair in pair(), policy in policy()) {
        let due = policy.due_at(&AccountName::default(), &pair);
        let half = pair.expires_at.since(pair.issued_at) / 2;
        prop_assert!(due <= pair.expires_at);
        prop_assert!(pair.expires_at.since(due) <= half.min(pair.refresh_ahead.unwrap_or(policy.refresh_ahead)));
    }
}
