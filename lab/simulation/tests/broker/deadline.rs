//! A request ends at its deadline, whatever its effects do.

use crate::bench::{Bench, POLICY, SEEDS, token};
use protocol::{AccountName, Failure, Intent, Request, Timestamp};
use std::{sync::Arc, time::Duration};
use token_broker::work::Work;
use token_broker_simulation::START_MS;

/// What a first login does, in this order.
pub(crate) const EFFECTS: [&str; 7] = [
    "read account",
    "read secret",
    "write account",
    "read limiter",
    "write limiter",
    "login",
    "write account",
];

#[test]
fn ends_a_request_whose_effect_never_ends() {
    for (number, name) in EFFECTS.into_iter().enumerate() {
        let mut bench = Bench::new(1);
        let task = bench.request_a_token();
        for _ in 0..number {
            bench.answer(0);
        }
        assert!(bench.find(name).is_some(), "{name}");
        let deadline_ms = bench.requests[task as usize].deadline.as_millis();
        bench.advance_to(deadline_ms);
        let (at_ms, result) = &bench.ended[&task];
        assert!(*at_ms <= deadline_ms, "{name}: {result:?}");
        assert!(bench.under_way.is_empty(), "{name}");
    }
}

#[test]
fn ends_a_waiter_whose_holder_is_not_done() {
    let mut bench = Bench::new(1);
    bench.request_a_token();
    bench.advance_to(START_MS + 10_000);
    let waiter = bench.request_a_token();
    // The holder's deadline is earlier. The waiter shares the holder's result: the store did not answer.
    bench.advance_to(START_MS + 29_000);
    let (_, result) = &bench.ended[&waiter];
    assert_eq!(*result, Err(Failure::StoreUnavailable { retry_after: protocol::STORE_RETRY }));
}

#[test]
fn ends_a_waiter_before_its_holder() {
    let mut bench = Bench::new(1);
    let holder = bench.request_a_token();
    let account = AccountName::parse("a").unwrap();
    let now = Timestamp::from_millis(bench.now_ms);
    let deadline = now.plus(Duration::from_secs(3));
    let request =
        Request { account, intent: token(), arrived: protocol::Moment::of_agreeing_clocks(now), deadline };
    bench.requests.push(request.clone());
    let broker = Arc::clone(&bench.broker);
    bench.executor.spawn(1, async move { broker.serve(request, &mut Work::default()).await });
    bench.run();
    bench.advance_to(deadline.as_millis());
    assert!(matches!(bench.ended[&1].1, Err(Failure::RefreshInProgress { .. })));
    assert!(!bench.ended.contains_key(&holder));
}

#[test]
fn keeps_a_call_from_leaving_after_a_pause() {
    let latest = POLICY.lease.saturating_sub(POLICY.upstream_timeout + POLICY.clock_margin);
    let (mut left, mut kept) = (0, 0);
    for seed in 0..SEEDS {
        let mut bench = Bench::with_a_pair_that_is_due(seed);
        bench.request("a", Intent::Maintain(protocol::Task::Renew));
        bench.run();
        assert!(bench.answer_until("write account"));
        let requested_ms = bench.under_way[0].since_ms;
        bench.stops = true;
        bench.answer(0);
        match bench.find("refresh") {
            Some(index) => {
                let after = Duration::from_millis(bench.under_way[index].since_ms - requested_ms);
                assert!(after <= latest, "seed {seed}: sent {after:?} after the lease was taken");
                left += 1;
            }
            None => kept += 1,
        }
    }
    assert!(left > 0 && kept > 0, "{left} calls left, {kept} were kept from leaving");
}
