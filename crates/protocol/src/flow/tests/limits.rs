//! Limits of a host that the operator set: refreshes that take a permit, and a window that grows.

use super::*;
use crate::{Counts, LoginLimit, LoginLimits, Per};

/// Ten token requests in ten minutes, refreshes included.
const ALL: LoginLimit =
    LoginLimit { requests: 10, window: Duration::from_secs(600), counts: Counts::All, per: Per::Host };

fn limited(mut world: World, limit: LoginLimit) -> World {
    let by_host = ["a.example", "as.example"].map(|host| (host.to_owned(), limit)).into();
    world.limits = Box::leak(Box::new(LoginLimits::new("a.example".to_owned(), None, by_host)));
    world
}

/// All permits of the host are taken.
fn exhausted(world: &mut World) {
    let budget = world.limits.budget_of(&POLICY, &crate::LimiterName::default());
    for number in 0..10 {
        let account = AccountName::parse(&format!("other-{number}")).unwrap();
        world.limiter = world.limiter.try_acquire(budget, &account, Holder(number), world.now).unwrap();
    }
}

#[test]
fn a_refresh_takes_a_permit_where_the_host_counts_all() {
    for (counts, permits) in [(Counts::All, 1), (Counts::Logins, 0)] {
        let mut world = limited(World::with_pair(SECOND * 30), LoginLimit { counts, ..ALL });
        assert_eq!(world.token().map(|answer| answer.served_from), Ok(ServedFrom::Upstream));
        assert_eq!((world.count("refresh"), world.limiter.permits.len()), (1, permits), "{counts:?}");
    }
}

#[test]
fn a_grants_refresh_keeps_its_permit_until_it_leaves() {
    for (reply, permits) in [(UpstreamReply::TooLate, 1), (UpstreamReply::Unauthorized, 2)] {
        let mut world = limited(World::with_pair(SECOND * 30), ALL);
        world.account.pair.as_mut().unwrap().origin = testing::grant("v1", "bootstrap").origin;
        world.account.grant = Some(Box::default());
        world.secret = Ok(testing::grant("v2", "another"));
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let result = world.run(&mut flow, |world, effect| {
            if world.is_first(effect, "refresh") { Fate::Lost(replied(&reply)) } else { Fate::Done }
        });
        assert!(result.is_ok(), "{result:?}");
        assert_eq!((world.count("refresh"), world.limiter.permits.len()), (2, permits), "{reply:?}");
    }
}

#[test]
fn a_refresh_without_a_permit_leaves_its_token_available() {
    let mut world = limited(World::with_pair(SECOND * 30), ALL);
    exhausted(&mut world);
    assert!(matches!(world.token(), Err(Failure::LoginBudgetExhausted { .. })));
    assert_eq!((world.consumed(), world.account.lease, world.count("refresh")), (false, None, 0));
    world.pass(Duration::from_secs(11 * 60 + 60));
    assert!(world.token().is_ok());
    assert_eq!((world.count("refresh"), world.count("login")), (1, 0));
}

#[test]
fn a_refresh_that_gets_no_permit_in_time_never_left() {
    for event in [
        Event::Limiter(Err(StoreError::Unreachable)),
        Event::Written(WriteOutcome::Refused(ServiceRefusal {
            service: "DynamoDB",
            operation: "PutItem",
            code: "x".to_owned(),
        })),
    ] {
        let name = if matches!(event, Event::Limiter(_)) { "read limiter" } else { "write limiter" };
        let mut world = limited(World::with_pair(SECOND * 30), ALL);
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let result =
            world.run(
                &mut flow,
                |_, effect| {
                    if effect.name() == name { Fate::Lost(event.clone()) } else { Fate::Done }
                },
            );
        assert!(result.is_err(), "{name}");
        assert_eq!(
            (world.consumed(), world.account.lease, world.count("refresh")),
            (false, None, 0),
            "{name}"
        );
    }
}

#[test]
fn a_window_that_grows_blocks_the_host_for_one_window() {
    let mut world = limited(World::new(), ALL);
    let other = AccountName::parse("other").unwrap();
    world.limiter = world.limiter.try_acquire(&POLICY, &other, Holder(1), START).unwrap();
    world.pass(SECOND * 100);
    let failure = world.token().unwrap_err();
    assert!(matches!(failure, Failure::UpstreamRateLimited { .. }), "{failure:?}");
    assert_eq!((world.limiter.window, world.count("login")), (ALL.window, 0));
    let blocked = world.limiter.blocked_until.unwrap().since(world.now);
    assert_eq!(blocked, POLICY.permit_window(ALL.window));
    world.pass(blocked);
    assert!(world.token().is_ok());
    // No one has written for a whole window.
    let mut world = limited(World::new(), ALL);
    world.limiter = world.limiter.try_acquire(&POLICY, &other, Holder(1), START).unwrap();
    world.pass(POLICY.permit_window(ALL.window));
    assert!(world.token().is_ok());
}
