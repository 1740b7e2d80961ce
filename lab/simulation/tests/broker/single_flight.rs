//! One flow per account at a time.

use crate::{
    bench::{Bench, SEEDS, Task, token},
    deadline::EFFECTS,
};
use protocol::{AccountName, Generation, Intent};
use std::{collections::BTreeSet, time::Duration};

/// Requests of two accounts arrive and hang up, effects are answered, lost or panic, and time passes, all at random.
/// Then everything works again.
fn explore(seed: u64, disturbed: bool) -> Bench {
    let mut bench = Bench::new(seed);
    let mut disturbances = 0;
    for _ in 0..80 {
        let under_way = bench.under_way.len();
        match bench.rng.u8(..100) {
            0..=24 if bench.requests.len() < 12 => {
                let account = ["a", "b"][bench.rng.usize(..2)];
                let rejected = bench
                    .rng
                    .bool()
                    .then(|| bench.record(&AccountName::parse(account).unwrap()).generation());
                let min_ttl = Duration::from_secs([60, 900][bench.rng.usize(..2)]);
                let intents = [
                    Intent::Token { min_ttl, rejected: rejected.flatten() },
                    token(),
                    Intent::Maintain(protocol::Task::Renew),
                    Intent::Replace,
                ];
                let intent = intents[bench.rng.usize(..intents.len())];
                bench.request(account, intent);
                if bench.rng.bool() {
                    bench.run();
                }
            }
            25..=27 if disturbed && !bench.requests.is_empty() => {
                let task = bench.rng.u32(..u32::try_from(bench.requests.len()).unwrap());
                if !bench.ended.contains_key(&task) && !bench.cut_short.contains(&task) {
                    disturbances += 1;
                    bench.cancel(task);
                }
            }
            28..=30 if disturbed && under_way > 0 => {
                disturbances += 1;
                let index = bench.rng.usize(..under_way);
                bench.panic(index);
            }
            31..=36 if disturbed && under_way > 0 => {
                disturbances += 1;
                let index = bench.rng.usize(..under_way);
                bench.lose(index);
            }
            37..=50 => {
                let longest_ms = if disturbed && bench.rng.u8(..8) == 0 { 20_000 } else { 400 };
                let at_ms = bench.now_ms + bench.rng.u64(..longest_ms);
                disturbances += usize::from(longest_ms > 400);
                bench.run();
                bench.advance_to(at_ms);
            }
            _ => {
                bench.run();
                if !bench.under_way.is_empty() {
                    let index = bench.rng.usize(..bench.under_way.len());
                    bench.answer(index);
                }
            }
        }
    }
    bench.run();
    bench.answer_all();
    let wasted = bench.permits.len().saturating_sub(bench.logins);
    assert!(
        wasted <= disturbances,
        "seed {seed}: {wasted} permits without a login, {disturbances} disturbances"
    );
    bench
}

#[test]
fn holds_in_every_order_and_each_request_ends() {
    for seed in 0..SEEDS {
        let mut bench = explore(seed, true);
        assert_eq!(bench.ended.len() + bench.cut_short.len(), bench.requests.len(), "seed {seed}");
        for (task, (at_ms, result)) in &bench.ended {
            let deadline_ms = bench.requests[*task as usize].deadline.as_millis();
            assert!(*at_ms <= deadline_ms, "seed {seed}: {result:?} after the deadline");
        }
        // Nothing is blocked afterwards.
        bench.advance_to(bench.now_ms + 120_000);
        let task = bench.request_a_token();
        bench.answer_all();
        assert!(bench.token_of(task).is_some(), "seed {seed}: {:?}", bench.ended.get(&task));
    }
}

#[test]
fn sends_one_login_for_many_requests() {
    for seed in 0..100 {
        let mut bench = Bench::new(seed);
        let tasks: Vec<Task> = (0..10).map(|_| bench.request("a", token())).collect();
        bench.run();
        bench.answer_all();
        let tokens: BTreeSet<Generation> =
            tasks.iter().map(|task| bench.token_of(*task).unwrap().0).collect();
        assert_eq!((tokens.len(), bench.logins, bench.permits.len()), (1, 1, 1), "seed {seed}");
    }
}

#[test]
fn wastes_no_permit_while_nothing_goes_wrong() {
    for seed in 0..SEEDS {
        let bench = explore(seed, false);
        assert_eq!(bench.permits.len(), bench.logins, "seed {seed}");
    }
}

#[test]
fn accounts_do_not_wait_for_each_other() {
    let mut bench = Bench::new(1);
    bench.request("a", token());
    let other = bench.request("b", token());
    bench.run();
    assert_eq!(bench.under_way.len(), 2);
    while let Some(index) = bench.under_way.iter().position(|effect| effect.task == other) {
        bench.answer(index);
    }
    assert!(bench.token_of(other).is_some());
    assert_eq!(bench.under_way.len(), 1);
}

#[test]
fn passes_on_when_its_holder_is_cancelled_or_panics() {
    for (seed, name) in (0..).zip(EFFECTS) {
        for cancels in [true, false] {
            let mut bench = Bench::new(seed);
            let holder = bench.request_a_token();
            assert!(bench.answer_until(name), "{name}");
            let waiters = [bench.request_a_token(), bench.request_a_token()];
            if cancels {
                bench.cancel(holder);
            } else {
                bench.panic(0);
            }
            assert!(bench.cut_short.contains(&holder));
            assert_eq!(bench.under_way.len(), 1, "{name}: one of the others runs its flow at once");
            bench.answer_all();
            for waiter in waiters {
                assert!(bench.token_of(waiter).is_some(), "{name}: {:?}", bench.ended.get(&waiter));
            }
        }
    }
}

#[test]
fn survives_when_unknown_accounts_are_forgotten() {
    let mut bench = Bench::new(1);
    bench.request_a_token();
    for number in 0..300 {
        let stranger = bench.request(&format!("stranger-{number}"), token());
        bench.run();
        let read = bench.under_way.iter().position(|effect| effect.task == stranger).unwrap();
        bench.lose(read);
        assert!(bench.ended.contains_key(&stranger));
    }
    bench.request_a_token();
    assert_eq!(bench.under_way.len(), 1, "the second request waits for the first");
}

#[test]
fn loses_a_cancelled_waiter_without_a_trace() {
    let mut bench = Bench::new(1);
    let holder = bench.request_a_token();
    let waiters = [bench.request_a_token(), bench.request_a_token()];
    bench.cancel(waiters[0]);
    bench.answer_all();
    assert!(bench.token_of(holder).is_some() && bench.token_of(waiters[1]).is_some());
    assert_eq!(bench.logins, 1);
}
