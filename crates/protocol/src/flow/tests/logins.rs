//! Login permits while the limiter is slow, and logins that are refused or do not leave.

use super::*;

#[test]
fn a_slow_limiter_wastes_no_permits() {
    for (takes_ms, outcome) in [(2_100, WriteOutcome::Applied), (2_500, WriteOutcome::Unknown)] {
        let mut world = World::new();
        let mut cache = Cache::default();
        for _ in 0..3 {
            let mut flow = Flow::new(world.request(TOKEN), cache);
            let result = world.run(&mut flow, |world, effect| match effect {
                Effect::WriteLimiter { .. } => {
                    world.pass(Duration::from_millis(takes_ms));
                    Fate::DoneBut(Event::Written(outcome.clone()))
                }
                _ => Fate::Done,
            });
            assert!(result.is_err());
            cache = flow.cache().clone();
        }
        assert_eq!((world.limiter.permits.len(), world.count("login")), (1, 0), "{takes_ms} ms");
        assert!(world.account.cooldown.is_some() && world.account.lease.is_none());
    }
}

#[test]
fn one_slow_limiter_write_still_leads_to_a_login() {
    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    world
        .run(&mut flow, |world, effect| {
            if world.is_first(effect, "write limiter") {
                world.pass(Duration::from_millis(2_100));
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!((world.limiter.permits.len(), world.count("login"), world.grants), (1, 1, 1));
}

/// The write with the permit's new date conflicts with another account's. That does not count as slow.
#[test]
fn a_new_date_that_meets_a_conflict_is_written_again() {
    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    world
        .run(&mut flow, |world, effect| match effect {
            Effect::WriteLimiter { .. } if world.count("write limiter") == 1 => {
                world.pass(Duration::from_millis(2_100));
                Fate::Done
            }
            Effect::WriteLimiter { .. } if world.count("write limiter") == 2 => {
                world.limiter.version = world.limiter.version.next(world.now);
                Fate::Done
            }
            _ => Fate::Done,
        })
        .unwrap();
    assert_eq!((world.limiter.permits.len(), world.count("write limiter"), world.grants), (1, 3, 1));
}

/// The lease is lost while the permit is written, or after a login that never left. The next login of the same request
/// uses the permit.
#[test]
fn an_unused_permit_outlives_the_lease_it_was_acquired_under() {
    for lost_at in ["write limiter", "login"] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let result = world.run(&mut flow, |world, effect| {
            if !world.is_first(effect, lost_at) {
                return Fate::Done;
            }
            // Another attempt takes the lease over, and gives it back.
            world.pass(10 * SECOND);
            let version = Version(world.account.version.0 + 1);
            world.account = Account { version, lease: None, ..world.account.clone() };
            match effect {
                Effect::Send { .. } => Fate::Lost(replied(&UpstreamReply::NeverLeft)),
                _ => Fate::Done,
            }
        });
        assert!(result.is_ok(), "{lost_at}: {result:?}");
        assert_eq!((world.limiter.permits.len(), world.grants), (1, 1), "{lost_at}");
    }
}

#[test]
fn no_permit_is_acquired_for_a_login_that_cannot_leave() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let result = world.run(&mut flow, |world, effect| match effect {
        Effect::Send { call: Call::Refresh(..), .. } => {
            world.pass(Duration::from_millis(4_900));
            Fate::Lost(replied(&UpstreamReply::Unauthorized))
        }
        Effect::ReadLimiter(_) if world.count("read limiter") == 1 => {
            world.pass(Duration::from_millis(4_000));
            Fate::Done
        }
        _ => Fate::Done,
    });
    assert_eq!(result, Err(Failure::TooLittleTime));
    assert_eq!((world.count("write limiter"), world.limiter.permits.len()), (0, 0));
}

#[test]
fn a_login_that_is_late_twice_cools_the_account_down() {
    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let result = world.run(&mut flow, |world, effect| {
        if effect.name() == "login" {
            world.pass(3 * SECOND);
        }
        Fate::Done
    });
    assert!(matches!(result, Err(Failure::UpstreamUnavailable { .. })), "{result:?}");
    assert_eq!((world.count("login"), world.grants, world.limiter.permits.len()), (2, 0, 1));
}

#[test]
fn a_login_refused_with_400_or_403_rejects_no_password() {
    let mut world = World::new();
    let mut cooldowns = Vec::new();
    for _ in 0..9 {
        let failure = fails(&mut world, "login", UpstreamReply::Refused);
        assert!(matches!(failure, Failure::UpstreamUnavailable { .. }));
        assert_eq!(world.account.rejected_secret, None);
        cooldowns.push(failure.retry_after_seconds().unwrap());
        world.pass(Duration::from_secs(2 * 3600));
    }
    assert!((60..=66).contains(&cooldowns[0]), "{cooldowns:?}");
    assert!(cooldowns.windows(2).all(|two| two[1] > two[0] || two[1] >= 3600), "{cooldowns:?}");
    assert!(cooldowns.iter().all(|seconds| *seconds <= 3960), "{cooldowns:?}");
    world.token().unwrap();
}

#[test]
fn a_refused_flow_that_lost_its_lease_does_not_send_it_again() {
    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let mut logins = 0;
    let result = world.run(&mut flow, |world, effect| match effect {
        Effect::Send { call: Call::Login(_), .. } => {
            logins += 1;
            // Another attempt takes over and finds nothing to do.
            world.account.version = world.account.version.next(world.now);
            world.account.lease = None;
            Fate::Lost(replied(&UpstreamReply::Unauthorized))
        }
        _ => Fate::Done,
    });
    assert_eq!((result, logins), (Err(Failure::CredentialsRejected(SecretVersion("v1".to_owned()))), 1));
}
