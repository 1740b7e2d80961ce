//! Random numbers: one per request for look-ups and the first step, then one per effect.

use crate::bench::Bench;
use protocol::{AccountName, Version};

#[test]
fn are_one_for_the_first_step_and_one_for_each_effect() {
    let mut bench = Bench::new(1);
    bench.request_a_token();
    let mut draws = 1;
    assert_eq!(bench.link.draws(), draws);
    while let Some(effect) = bench.under_way.first() {
        let name = effect.effect.name();
        bench.answer(0);
        draws += 1;
        assert_eq!(bench.link.draws(), draws, "{name}");
    }
    assert!(bench.executor.is_empty());
}

#[test]
fn of_a_waiter_are_not_repeated_when_the_cache_changes() {
    let mut bench = Bench::new(1);
    bench.request_a_token();
    let waiters = 5;
    for _ in 0..waiters {
        bench.request_a_token();
    }
    assert_eq!(bench.link.draws(), 1 + waiters);
    let effects = (0..).take_while(|_| {
        let some = !bench.under_way.is_empty();
        if some {
            bench.answer(0);
        }
        some
    });
    let effects = effects.count() as u64;
    assert_eq!(bench.link.draws(), 1 + waiters + effects);
}

#[test]
fn name_each_attempt_differently() {
    let mut bench = Bench::new(1);
    bench.request_a_token();
    assert!(bench.answer_until("login"));
    let lease = bench.record(&AccountName::parse("a").unwrap()).lease.unwrap();
    let permit = bench.limiter.permits.first().unwrap();
    assert_ne!(lease.holder, permit.holder);
    assert!(bench.limiter.version > Version(0));
}
