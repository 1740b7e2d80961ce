//! An operator who refreshes or unblocks.

use super::*;

#[test]
fn an_operators_refresh_runs_at_most_once_a_minute() {
    let mut world = World::with_pair(WEEK);
    for _ in 0..40 {
        let mut flow = Flow::new(world.request(Intent::Replace), Cache::default());
        world.run(&mut flow, |_, _| Fate::Done).unwrap();
        world.pass(Duration::from_millis(75));
    }
    assert_eq!(world.count("refresh"), 1);
    world.pass(Duration::from_secs(60));
    let mut later = Flow::new(world.request(Intent::Replace), Cache::default());
    world.run(&mut later, |_, _| Fate::Done).unwrap();
    assert_eq!(world.count("refresh"), 2);
}

#[test]
fn an_operators_refresh_logs_in_with_a_changed_secret() {
    let mut world = World::new();
    world.token().unwrap();
    assert_eq!(world.pair().secret_version, Some(SecretVersion("v1".to_owned())));
    let mut refresh = Flow::new(world.request(Intent::Replace), Cache::default());
    world.run(&mut refresh, |_, _| Fate::Done).unwrap();
    assert_eq!((world.count("refresh"), world.count("login")), (1, 1), "the secret is the same");
    assert_eq!(world.pair().secret_version, Some(SecretVersion("v1".to_owned())), "a refresh keeps it");
    world.pass(Duration::from_secs(60));
    world.secret = Ok(credentials("v2"));
    let mut changed = Flow::new(world.request(Intent::Replace), Cache::default());
    world.run(&mut changed, |_, _| Fate::Done).unwrap();
    assert_eq!((world.count("refresh"), world.count("login")), (1, 2));
    assert_eq!(world.pair().secret_version, Some(SecretVersion("v2".to_owned())));
    // An unreadable secret does not keep an operator from refreshing.
    world.pass(Duration::from_secs(60));
    world.secret = Err(SecretError::Unreachable);
    let mut unread = Flow::new(world.request(Intent::Replace), Cache::default());
    world.run(&mut unread, |_, _| Fate::Done).unwrap();
    assert_eq!((world.count("refresh"), world.count("login")), (2, 2));
}

#[test]
fn an_operators_refresh_needs_no_accepted_secret() {
    let rejected = SecretVersion("v1".to_owned());
    let mut world = World::with_pair(WEEK);
    world.account.rejected_secret = Some(testing::rejection(&rejected.0, START));
    let cache = Cache {
        rejection_seen: Some(Moment::of_agreeing_clocks(START)),
        secret_failure: Some((SecretError::Unreachable, Moment::of_agreeing_clocks(START))),
        ..Cache::default()
    };
    let mut refresh = Flow::new(world.request(Intent::Replace), cache);
    world.run(&mut refresh, |_, _| Fate::Done).unwrap();
    assert_eq!((world.count("read secret"), world.count("refresh"), world.count("login")), (1, 1, 0));
}

#[test]
fn unblock_forgets_the_rejected_secret_and_the_cooldown() {
    let mut world = World::new();
    fails(&mut world, "login", UpstreamReply::Unauthorized);
    assert!(world.account.rejected_secret.is_some());
    let cooldown = Cooldown {
        until: world.now.plus(SECOND * 3000),
        reason: CooldownReason::Unavailable(crate::UpstreamFault::Unexpected),
        failures: 9,
    };
    world.account.cooldown = Some(cooldown);
    world.account.early_refresh_after = Some(cooldown.until);
    world.account.young_deaths = 4;
    world.account.lease = Some(Lease { holder: Holder(1), until: world.now });
    world.requested.clear();
    let mut unblock = Flow::new(world.request(Intent::Unblock), Cache::default());
    world.run(&mut unblock, |_, _| Fate::Done).unwrap();
    assert_eq!(world.requested, ["read account", "write account", "read limiter"], "nothing is sent");
    let version = world.account.version;
    assert_eq!(world.account, Account { version, ..Account::default() });
    world.token().unwrap();
}

#[test]
fn unblock_waits_for_the_lease_and_survives_a_conflict() {
    let mut world = World::new();
    world.account.rejected_secret = Some(testing::rejection("v1", world.now));
    let until = START.plus(10 * SECOND);
    world.account.lease = Some(Lease { holder: Holder(1), until });
    let mut flow = Flow::new(world.request(Intent::Unblock), Cache::default());
    world
        .run(&mut flow, |world, effect| {
            if world.is_first(effect, "write account") {
                world.account.version = world.account.version.next(world.now);
            }
            Fate::Done
        })
        .unwrap();
    assert!(world.now >= until);
    assert_eq!((world.account.rejected_secret.clone(), world.count("write account")), (None, 2));
}
