//! Lying callers, lying probes, and rivals with the same password.

use super::*;

/// The instants at which a caller that reports every token as rejected causes a renewal.
fn renewals_of_a_lying_caller(
    world: &mut World,
    lasts: Duration,
    mut reply: impl FnMut(&str) -> Fate,
) -> Vec<u64> {
    let mut rejected = None;
    let mut renewals = Vec::new();
    let mut cache = Cache::default();
    while world.now.since(START) < lasts {
        let begun = world.now;
        let request = world.request(Intent::Token { min_ttl: Duration::from_secs(60), rejected });
        let mut flow = Flow::new(request, cache);
        let result = world.run(&mut flow, |world, effect| {
            if matches!(effect.name(), "login" | "refresh") {
                renewals.push(world.now.since(START).as_secs());
            }
            reply(effect.name())
        });
        rejected = result.ok().map(|answer| answer.generation).or(rejected);
        cache = flow.cache().clone();
        world.now = world.now.max(begun.plus(Duration::from_millis(500)));
    }
    renewals
}

fn is_few(renewals: &[u64]) -> bool {
    let at_first = renewals.iter().filter(|second| **second < 90).count();
    let later: Vec<u64> = renewals.iter().copied().filter(|second| *second >= 90).collect();
    at_first <= 4 && later.windows(2).all(|two| two[1] - two[0] > 60)
}

#[test]
fn a_lying_caller_and_a_lying_probe_cause_few_renewals() {
    let mut world = World::with_pair(WEEK);
    let dead = |name: &str| match name {
        "probe" => Fate::Lost(replied(&UpstreamReply::Unauthorized)),
        _ => Fate::Done,
    };
    let renewals = renewals_of_a_lying_caller(&mut world, Duration::from_secs(1800), dead);
    assert!(is_few(&renewals), "{renewals:?}");
    assert!((5..=12).contains(&renewals.len()), "{renewals:?}");
}

#[test]
fn a_rival_login_leaves_logins_to_other_accounts() {
    let mut world = World::new();
    let dead = |name: &str| match name {
        "probe" | "refresh" => Fate::Lost(replied(&UpstreamReply::Unauthorized)),
        _ => Fate::Done,
    };
    let renewals = renewals_of_a_lying_caller(&mut world, Duration::from_secs(1800), dead);
    let logins = world.count("login");
    assert!(logins <= 12, "{logins} logins: {renewals:?}");
    assert_eq!(world.limiter.delay(&POLICY, world.now), None, "another account may log in");
    let busiest = renewals.iter().filter(|second| **second < 74).count();
    assert!(busiest <= 2 * 3, "at most half of the permits, and a refresh for each: {renewals:?}");
}

#[test]
fn first_deaths_are_believed_and_a_long_life_forgets_them() {
    let mut world = World::with_pair(WEEK);
    world.account.young_deaths = 3;
    world.account.pair.as_mut().unwrap().issued_at = START;
    let reporting = |world: &World| {
        world
            .request(Intent::Token { min_ttl: Duration::from_secs(60), rejected: world.account.generation() })
    };
    let trusted = POLICY.trusted_for(3);
    assert_eq!(trusted, Duration::from_secs(60));
    world.now = START.plus(trusted).minus(Duration::from_millis(1));
    let mut early = Flow::new(reporting(&world), Cache::default());
    world.run(&mut early, |_, _| Fate::Done).unwrap();
    assert_eq!(world.count("probe"), 0, "the fourth verdict has to wait");
    world.now = START.plus(trusted);
    let mut later = Flow::new(reporting(&world), Cache::default());
    world.run(&mut later, answering("probe", UpstreamReply::Unauthorized)).unwrap();
    assert_eq!((world.count("probe"), world.account.young_deaths), (1, 4));
    world.pass(Duration::from_secs(2 * 3600));
    let mut old = Flow::new(reporting(&world), Cache::default());
    world.run(&mut old, answering("probe", UpstreamReply::Unauthorized)).unwrap();
    assert_eq!(world.account.young_deaths, 0, "this generation lived");
    let waits: Vec<u64> = (0..=10).map(|deaths| POLICY.trusted_for(deaths).as_secs()).collect();
    assert_eq!(waits, [0, 0, 0, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
}

#[test]
fn a_pair_that_dies_within_two_hours_died_young() {
    let two_hours = Duration::from_secs(2 * 3600);
    for (age, young_deaths) in [(two_hours.saturating_sub(Duration::from_millis(1)), 1), (two_hours, 0)] {
        let mut world = World::with_pair(WEEK);
        world.account.pair.as_mut().unwrap().issued_at = START;
        let rejected = world.account.generation();
        let request = world.request(Intent::Token { min_ttl: Duration::from_secs(60), rejected });
        let mut flow = Flow::new(request, Cache::default());
        let probed = world.run(&mut flow, |world, effect| match effect.name() {
            "probe" => {
                world.now = START.plus(age);
                Fate::Lost(replied(&UpstreamReply::Unauthorized))
            }
            _ => Fate::Done,
        });
        assert!(probed.is_err(), "the time is up");
        assert_eq!(world.account.young_deaths, young_deaths, "after {age:?}");
    }
}

#[test]
fn a_pair_that_lives_until_it_is_due_forgets_young_deaths() {
    let mut world = World::with_pair(Duration::from_secs(30));
    world.account.young_deaths = 5;
    world.token().unwrap();
    assert_eq!((world.count("refresh"), world.account.young_deaths), (1, 0));
}

#[test]
fn an_invented_generation_does_not_reach_the_table() {
    let mut world = World::with_pair(WEEK);
    let mut warm = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    world.requested.clear();
    for (ahead_ms, reads) in [(2_001, 0), (u64::MAX / 2, 0), (2_000, 1)] {
        let rejected = Some(Generation(world.now.as_millis() + ahead_ms));
        let request = world.request(Intent::Token { min_ttl: Duration::from_secs(60), rejected });
        world.run(&mut Flow::new(request, warm.cache().clone()), |_, _| Fate::Done).unwrap();
        assert_eq!(world.count("read account"), reads, "{ahead_ms} ms ahead");
    }
}
