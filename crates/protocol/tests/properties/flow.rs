//! No order of events breaks a flow.

use crate::config;
use proptest::prelude::*;
use std::time::Duration;
use token_broker_protocol::testing::strategies::{events, instant, policy, request};
use token_broker_protocol::{Cache, Context, Draw, Effect, Flow, Outcome, Step, Verdict};

proptest! {
    #![proptest_config(config())]

    /// One instance performs one request after another, by a clock that sometimes steps back.
    #[test]
    fn versions_grow_and_answers_are_valid_in_any_order_of_events(
        requests in proptest::collection::vec(request(), 1..4), policy in policy(), now in instant(),
        events in proptest::collection::vec((events(), any::<u64>(), -20_000..30_000_i64), 1..40)
    ) {
        let mut events = events.into_iter();
        let mut cache = Cache::default();
        let mut now = now;
        for request in requests {
            let mut flow = Flow::new(request, cache);
            let mut step = flow.begin(Context::new(&policy, now, Draw(1)));
            loop {
                let effect = match step {
                    Step::Perform(effect) => effect,
                    Step::Done(result) => {
                        if let Ok(Outcome::Token(answer)) = result {
                            let cached = flow.cache().record.as_ref();
                            let pair = cached.and_then(|cached| cached.account.pair.as_ref());
                            let pair = pair.expect("the pair that is handed out");
                            prop_assert_eq!(pair.generation, answer.generation);
                            prop_assert_ne!(pair.verdict, Verdict::Dead);
                            prop_assert!(answer.expires_in_seconds >= 1);
                            prop_assert!(answer.expires_at.plus(policy.clock_margin) <= pair.expires_at);
                        }
                        break;
                    }
                };
                match &effect {
                    Effect::WriteAccount { expected, next } => prop_assert!(next.version > *expected),
                    Effect::WriteLimiter { expected, next, .. } => prop_assert!(next.version > *expected),
                    _ => {}
                }
                let Some((event, draw, millis)) = events.next() else { break };
                let span = Duration::from_millis(millis.unsigned_abs());
                now = if millis < 0 { now.minus(span) } else { now.plus(span) };
                step = flow.step(Context::new(&policy, now, Draw(draw)), event.after(&effect));
            }
            cache = flow.cache().clone();
        }
    }
}
