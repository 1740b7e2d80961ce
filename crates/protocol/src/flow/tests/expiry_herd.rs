//! A thundering herd: many instances that ask at the same instant, stepped side by side.

use super::*;
use crate::CachedRecord;

/// The duration of one read or write. The test gives that of an upstream call.
const STORE_TAKES: Duration = Duration::from_millis(10);

/// `size` instances with an empty cache ask for a token. Returns their answers in order.
fn herd(world: &mut World, size: usize, call_takes: Duration) -> Vec<Answer> {
    let newcomer = || (world.now, Flow::new(world.request(TOKEN), Cache::default()), None);
    let mut waiting: Vec<_> = (0..size).map(|_| newcomer()).collect();
    let mut answers = Vec::new();
    let mut draws = 0_u64;
    while let Some(next) = (0..waiting.len()).min_by_key(|index| waiting[*index].0) {
        let (at, mut flow, event) = waiting.remove(next);
        world.now = at;
        draws += 1;
        assert!(draws < 100_000, "the herd never ends");
        let draw = Draw(draws.wrapping_mul(0x9e37_79b9_7f4a_7c15)); // evenly spread
        let step = match event {
            None => flow.begin(cx(at, draw)),
            Some(event) => flow.step(cx(at, draw), event),
        };
        let effect = match step {
            Step::Perform(effect) => effect,
            Step::Done(Ok(Outcome::Token(answer))) => {
                answers.push(answer);
                continue;
            }
            Step::Done(other) => panic!("no token: {other:?}"),
        };
        world.requested.push(effect.name().to_owned());
        let (until, event) = match effect {
            Effect::Pause { until } => (until, Event::Resumed),
            Effect::Send { .. } => (at.plus(call_takes), world.perform(effect)),
            _ => (at.plus(STORE_TAKES), world.perform(effect)),
        };
        waiting.push((until, flow, Some(event)));
    }
    answers
}

fn all_got_one_pair(answers: &[Answer], size: usize) -> bool {
    answers.len() == size && answers.windows(2).all(|two| two[0].access_token == two[1].access_token)
}

#[test]
fn f02_a_herd_at_expiry_does_not_fight_for_the_lease() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let answers = herd(&mut world, 500, Duration::from_millis(300));
    assert!(all_got_one_pair(&answers, 500));
    let conflicts = world.count("write account") - 2;
    assert!(conflicts <= 5, "{conflicts} of 499 tried to take a lease that was held");
}

#[test]
fn a_request_that_the_draw_selected_is_not_selected_again() {
    let mut world = World::with_pair(Duration::from_secs(12 * 3600));
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let read = performed(flow.begin(cx(world.now, Draw(u64::MAX))));
    let event = world.perform(read);
    // One request in 2^10 is selected by now, and pauses before it tries to take the lease.
    let pause = performed(flow.step(cx(world.now, Draw(1 << 53)), event));
    assert_eq!(pause.name(), "pause");
    let event = world.perform(pause);
    let read = performed(flow.step(cx(world.now, Draw(u64::MAX)), event));
    let event = world.perform(read);
    assert_eq!(performed(flow.step(cx(world.now, Draw(u64::MAX)), event)).name(), "write account");
}

#[test]
fn a_request_that_the_cache_selected_is_selected_once() {
    let mut world = World::with_pair(Duration::from_secs(3600));
    let record = Some(CachedRecord {
        account: world.account.clone(),
        read_at: Moment::of_agreeing_clocks(world.now),
        impossible_lease_seen: None,
    });
    let mut flow = Flow::new(world.request(TOKEN), Cache { record, ..Cache::default() });
    world.eager = true;
    world
        .run(&mut flow, |world, _| {
            world.eager = false;
            Fate::Done
        })
        .unwrap();
    assert_eq!(world.count("refresh"), 1);
}

#[test]
fn f04_containers_that_start_together_make_one_login() {
    let mut world = World::new();
    let answers = herd(&mut world, 50, Duration::from_millis(300));
    assert!(all_got_one_pair(&answers, 50));
    assert_eq!((world.count("login"), world.limiter.permits.len()), (1, 1));
}

#[test]
fn f05_waiters_do_not_renew_one_after_another() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let answers = herd(&mut world, 50, Duration::from_millis(300));
    assert!(all_got_one_pair(&answers, 50));
    assert_eq!((world.count("refresh"), world.count("login")), (1, 0));
    let renewed = answers.iter().filter(|answer| answer.served_from == ServedFrom::Upstream).count();
    assert_eq!(renewed, 1);
}

#[test]
fn f06_waiters_outlast_the_slowest_call_of_the_holder() {
    for mut world in [World::new(), World::with_pair(Duration::from_secs(30))] {
        let answers = herd(&mut world, 10, POLICY.upstream_timeout);
        assert!(all_got_one_pair(&answers, 10));
        assert_eq!(world.grants, 1, "no other attempt took over from a live holder");
    }
}
