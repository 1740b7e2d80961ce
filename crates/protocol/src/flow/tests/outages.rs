//! Failures of the store, the limiter or the secret.

use super::*;

#[test]
fn an_unknown_account_writes_nothing() {
    for (error, failure) in [
        (SecretError::Missing, Failure::UnknownAccount),
        (
            SecretError::Bad("`email` is missing".to_owned()),
            Failure::BadSecret("`email` is missing".to_owned()),
        ),
        (SecretError::Unreachable, Failure::SecretUnavailable),
    ] {
        let mut world = World::new();
        world.secret = Err(error);
        assert_eq!(world.token(), Err(failure));
        assert_eq!(world.requested, ["read account", "read secret"]);
    }
}

#[test]
fn a_request_that_waited_shares_the_failure_of_the_other() {
    for (lead, requested) in
        [(Duration::from_millis(1), &[][..]), (Duration::ZERO, &["read account".to_owned()][..])]
    {
        let mut world = World::new();
        let waiting = world.request(TOKEN);
        world.pass(lead);
        let mut first = Flow::new(world.request(TOKEN), Cache::default());
        world.run(&mut first, answering("login", UpstreamReply::UNEXPECTED)).unwrap_err();
        world.requested.clear();
        let mut second = Flow::new(waiting, first.cache().clone());
        let result = world.run(&mut second, |_, _| Fate::Done);
        assert!(matches!(result, Err(Failure::UpstreamUnavailable { .. })));
        assert_eq!(
            world.requested, requested,
            "a copy is as good as a read only if it is younger than the request"
        );
    }
}

#[test]
fn f19_a_store_outage_causes_no_login() {
    let unreachable = |_: &mut World, effect: &Effect| match effect {
        Effect::ReadAccount => Fate::Lost(Event::Account(Err(StoreError::Unreachable))),
        _ => Fate::Done,
    };
    let mut world = World::new();
    let mut empty = Flow::new(world.request(TOKEN), Cache::default());
    assert_eq!(
        world.run(&mut empty, unreachable),
        Err(Failure::StoreUnavailable { retry_after: STORE_RETRY })
    );
    assert_eq!(world.requested, ["read account"]);

    let mut warm = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    world.pass(Duration::from_secs(3600));
    let mut later = Flow::new(world.request(TOKEN), warm.cache().clone());
    let answer = world.run(&mut later, unreachable).unwrap();
    assert_eq!(answer.served_from, ServedFrom::Memory, "an old copy is better than none");
    assert_eq!(world.count("login"), 1);
}

#[test]
fn f11_an_expired_token_is_not_served_during_an_outage() {
    let mut world = World::with_pair(Duration::from_secs(600));
    let mut warm = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    // It has to live for the minute that was requested, and for the margin between two clocks.
    for (passed_s, served) in [(538, true), (539, false), (600, false), (6_000, false)] {
        world.now = START.plus(Duration::from_secs(passed_s));
        let mut later = Flow::new(world.request(TOKEN), warm.cache().clone());
        let result = world.run(&mut later, |_, _| Fate::Lost(Event::Account(Err(StoreError::Unreachable))));
        assert_eq!(result.is_ok(), served, "after {passed_s} s");
    }
}

#[test]
fn an_unreadable_item_is_never_overwritten() {
    let mut world = World::new();
    let what = "attribute `version` is missing".to_owned();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let result =
        world.run(&mut flow, |_, _| Fate::Lost(Event::Account(Err(StoreError::Unreadable(what.clone())))));
    assert_eq!(result, Err(Failure::UnreadableItem(what)));
    assert_eq!(world.requested, ["read account"]);
}

#[test]
fn an_unreadable_or_unreachable_limiter_allows_no_login() {
    for error in [StoreError::Unreachable, StoreError::Unreadable("attribute `permits`".to_owned())] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let result = world.run(&mut flow, |_, effect| match effect {
            Effect::ReadLimiter(_) => Fate::Lost(Event::Limiter(Err(error.clone()))),
            _ => Fate::Done,
        });
        assert!(result.is_err());
        assert_eq!(world.count("login"), 0);
        assert_eq!(world.account.lease, None, "the lease is given back");
    }
}

#[test]
fn a_permit_whose_reply_was_lost_is_found_again() {
    for (fate, permits) in [(true, 1), (false, 1)] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        world
            .run(&mut flow, |world, effect| {
                let first = world.is_first(effect, "write limiter");
                match (first, fate) {
                    (true, true) => Fate::DoneBut(Event::Written(WriteOutcome::Unknown)),
                    (true, false) => Fate::Lost(Event::Written(WriteOutcome::Unknown)),
                    _ => Fate::Done,
                }
            })
            .unwrap();
        assert_eq!((world.limiter.permits.len(), world.count("login")), (permits, 1));
    }
}

/// Never applies a write of the limiter.
fn limiter_conflicts(_: &mut World, effect: &Effect) -> Fate {
    match effect {
        Effect::WriteLimiter { .. } => Fate::Lost(Event::Written(WriteOutcome::Conflict)),
        _ => Fate::Done,
    }
}

#[test]
fn a_limiter_that_cannot_be_written_allows_no_login() {
    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    assert_eq!(
        world.run(&mut flow, limiter_conflicts),
        Err(Failure::StoreUnavailable { retry_after: STORE_RETRY })
    );
    assert_eq!((world.count("write limiter"), world.count("pause"), world.count("login")), (8, 7, 0));
    assert_eq!(world.account.lease, None, "the lease is given back");

    // With two seconds to acquire the permit, it gives up when they are over.
    let mut world = World::new();
    let request = Request { deadline: START.plus(Duration::from_secs(8)), ..world.request(TOKEN) };
    let result = world.run(&mut Flow::new(request, Cache::default()), limiter_conflicts);
    assert_eq!(result, Err(Failure::TooLittleTime));
    assert!((3..8).contains(&world.count("write limiter")));
    assert!(world.now <= START.plus(Duration::from_secs(2)) && world.account.lease.is_none());
}

#[test]
fn a_permit_is_retried_until_its_login_may_not_leave() {
    // The lease of a caller with enough time, less an upstream call and the margin.
    let latest = START.plus(Duration::from_secs(8));
    let pauses_until = |before_ms| {
        let mut world = World::new();
        let mut last_pause = START;
        world
            .run(&mut Flow::new(world.request(TOKEN), Cache::default()), |world, effect| match effect {
                Effect::WriteLimiter { .. } if world.count("write limiter") == 1 => {
                    world.now = latest.minus(Duration::from_millis(before_ms));
                    Fate::Lost(Event::Written(WriteOutcome::Conflict))
                }
                Effect::Pause { until } if world.count("write account") == 1 => {
                    last_pause = *until;
                    Fate::Done
                }
                _ => Fate::Done,
            })
            .ok();
        last_pause
    };
    let ends: Vec<Timestamp> = (0..200).map(pauses_until).collect();
    assert_eq!(ends.iter().max(), Some(&latest));
}

#[test]
fn a_block_that_cannot_be_written_still_cools_the_account_down() {
    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let result = world.run(&mut flow, |world, effect| match effect {
        Effect::Send { .. } => Fate::Lost(replied(&UpstreamReply::RateLimited(None))),
        Effect::WriteLimiter { .. } if world.count("login") == 1 => {
            Fate::Lost(Event::Written(WriteOutcome::Conflict))
        }
        _ => Fate::Done,
    });
    assert!(matches!(result, Err(Failure::UpstreamRateLimited { .. })));
    assert_eq!(world.count("write limiter"), 1 + 8);
    assert!(world.account.cooldown.is_some() && world.account.lease.is_none());
}

#[test]
fn a_failure_is_recorded_and_the_cooldown_grows() {
    let mut world = World::new();
    let mut cooldowns = Vec::new();
    for failures in 1..=8 {
        fails(&mut world, "login", UpstreamReply::UNEXPECTED);
        assert_eq!(world.account.failures(), failures);
        let cooldown = world.account.cooldown.unwrap().until.since(world.now);
        cooldowns.push(cooldown);
        world.pass(Duration::from_secs(120));
    }
    assert!(cooldowns.iter().zip(cooldowns.iter().skip(1)).all(|(one, next)| next >= one), "{cooldowns:?}");
    assert!(cooldowns.last().is_some_and(|cooldown| *cooldown <= Duration::from_secs(60)));
    world.token().unwrap();
    assert_eq!(world.account.cooldown, None, "a success forgets them");
}

#[test]
fn a_pair_that_arrives_nearly_expired_counts_as_a_failure() {
    let mut world = World::new();
    let brief = TokenResponse { access_expiry: Expiry::In(Duration::from_secs(2)), ..granted(1) };
    let failure = fails(&mut world, "login", UpstreamReply::Granted(brief));
    assert!(matches!(failure, Failure::UpstreamUnavailable { .. }));
    assert!(world.account.cooldown.is_some_and(
        |cooldown| cooldown.reason == CooldownReason::Unavailable(crate::UpstreamFault::Unexpected)
    ));
    assert!(world.token().is_err());
    assert_eq!(world.count("login"), 1);
}

#[test]
fn an_event_that_answers_no_effect_is_a_defect() {
    let mut flow = Flow::new(World::new().request(TOKEN), Cache::default());
    let too_early = flow.step(cx(START, Draw(1)), Event::Resumed);
    assert!(matches!(too_early, Step::Done(Err(Failure::Defect(_)))));
    let mut flow = Flow::new(World::new().request(TOKEN), Cache::default());
    flow.begin(cx(START, Draw(1)));
    assert!(matches!(flow.begin(cx(START, Draw(1))), Step::Done(Err(Failure::Defect(_)))));
}

#[test]
fn a_secret_that_cannot_be_read_is_read_once_in_a_while() {
    for (error, failure) in [
        (SecretError::Missing, Failure::UnknownAccount),
        (SecretError::Unreachable, Failure::SecretUnavailable),
        (
            SecretError::Bad("`email` is missing".to_owned()),
            Failure::BadSecret("`email` is missing".to_owned()),
        ),
    ] {
        let mut world = World::new();
        world.secret = Err(error);
        let mut cache = Cache::default();
        for _ in 0..100 {
            world.pass(Duration::from_millis(20));
            let mut flow = Flow::new(world.request(TOKEN), cache);
            assert_eq!(world.run(&mut flow, |_, _| Fate::Done), Err(failure.clone()));
            cache = flow.cache().clone();
            assert!(!cache.is_forgettable(cx(world.now, Draw(1))));
        }
        assert_eq!((world.count("read account"), world.count("read secret")), (100, 1), "{failure:?}");
        world.pass(5 * SECOND);
        assert!(cache.is_forgettable(cx(world.now, Draw(1))));
        world.secret = Ok(credentials("v1"));
        world.run(&mut Flow::new(world.request(TOKEN), cache), |_, _| Fate::Done).unwrap();
    }
}

#[test]
fn a_failing_upstream_gets_few_early_attempts() {
    let mut world = World::with_pair(Duration::from_secs(86_400));
    world.account.pair.as_mut().unwrap().issued_at = START.minus(6 * 24 * 3600 * SECOND);
    world.pass(Duration::from_secs(9_000));
    let begun = world.now;
    while world.now.since(begun) < Duration::from_secs(3600) {
        let mut flow = Flow::new(world.request(Intent::Maintain(Task::Renew)), Cache::default());
        let failing = |world: &mut World, effect: &Effect| match effect.name() {
            "login" | "refresh" => {
                world.pass(SECOND);
                Fate::Lost(replied(&UpstreamReply::UNEXPECTED))
            }
            _ => Fate::Done,
        };
        world.run(&mut flow, failing).ok();
        world.pass(Duration::from_secs(300));
    }
    let attempts = world.count("login") + world.count("refresh");
    assert!((1..=3).contains(&attempts), "{attempts} attempts in an hour");
    // A pair that is used up is renewed whatever failed before.
    world.account.pair.as_mut().unwrap().expires_at = world.now;
    world.account.cooldown = None;
    world.token().unwrap();
}

#[test]
fn a_rate_limit_of_another_host_blocks_only_that_host() {
    let mut world = World::new();
    let mut own = credentials("v1");
    own.origin = testing::origin_at(crate::UpstreamUrl::parse("https://oauth.example").ok());
    world.secret = Ok(own);
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let mut limiters = Vec::new();
    world
        .run(&mut flow, |_, effect| {
            if let Effect::ReadLimiter(name) | Effect::WriteLimiter { name, .. } = effect {
                limiters.push(name.to_string());
            }
            answering("login", UpstreamReply::RateLimited(None))(&mut World::new(), effect)
        })
        .unwrap_err();
    assert_eq!(limiters, ["oauth.example"; 4], "permit and block");
}

#[test]
fn an_unreadable_item_is_reported_to_waiting_requests() {
    let mut world = World::new();
    let waiting = world.request(TOKEN);
    world.pass(Duration::from_millis(1));
    let what = "attribute `version` is missing".to_owned();
    let mut first = Flow::new(world.request(TOKEN), Cache::default());
    let unreadable = Event::Account(Err(StoreError::Unreadable(what.clone())));
    world.run(&mut first, |_, _| Fate::Lost(unreadable.clone())).unwrap_err();
    let mut second = Flow::new(waiting, first.cache().clone());
    assert_eq!(world.run(&mut second, |_, _| Fate::Done), Err(Failure::UnreadableItem(what)));
}

#[test]
fn a_requested_pause_of_an_unclear_reply_is_kept() {
    let retry_after = Some(Duration::from_secs(600));
    for kind in ["login", "refresh"] {
        let mut world = if kind == "login" { World::new() } else { World::with_pair(Duration::ZERO) };
        let reply = UpstreamReply::Unclear(crate::Unclear::Unexpected { retry_after });
        let failure = fails(&mut world, kind, reply);
        assert!(failure.retry_after_seconds() >= Some(600), "{kind}: {failure:?}");
    }
}

#[test]
fn a_caller_learns_how_the_upstream_failed() {
    use crate::{Unclear, UpstreamFault};
    for (reply, expected) in [
        (UpstreamReply::NeverLeft, UpstreamFault::NoResponse),
        (UpstreamReply::Unclear(Unclear::NoResponse), UpstreamFault::NoResponse),
        (UpstreamReply::UNEXPECTED, UpstreamFault::Unexpected),
        (UpstreamReply::Refused, UpstreamFault::Refused),
    ] {
        let mut world = World::new();
        let told = |failure| match failure {
            Failure::UpstreamUnavailable { fault, .. } => fault,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(fails(&mut world, "login", reply)), expected);
        assert_eq!(told(world.token().unwrap_err()), expected, "in cooldown");
    }
}

#[test]
fn a_secret_failure_hides_no_pair_of_another_instance() {
    let mut world = World::new();
    world.secret = Err(SecretError::Unreachable);
    let mut first = Flow::new(world.request(TOKEN), Cache::default());
    assert_eq!(world.run(&mut first, |_, _| Fate::Done), Err(Failure::SecretUnavailable));
    world.account = World::with_pair(WEEK).account;
    let mut next = Flow::new(world.request(TOKEN), first.cache().clone());
    let answer = world.run(&mut next, |_, _| Fate::Done).unwrap();
    assert_eq!(answer.access_token, Secret::from("access 0"));
}

#[test]
fn refused_writes_are_reported_with_the_stores_reason() {
    let refusal = crate::ServiceRefusal {
        service: "DynamoDB",
        operation: "PutItem",
        code: "ValidationException".to_owned(),
    };
    let refusing = |_: &mut World, effect: &Effect| match effect {
        Effect::WriteAccount { .. } => Fate::Lost(Event::Written(WriteOutcome::Refused(refusal.clone()))),
        _ => Fate::Done,
    };
    let expected = Err(Failure::Misconfigured(refusal.clone()));
    let mut world = World::with_pair(WEEK);
    let mut revocation = Flow::new(world.request(Intent::Revoke), Cache::default());
    assert_eq!(world.run(&mut revocation, refusing), expected);
    assert_eq!(world.now, START, "trying again does not help");
    let mut world = World::new();
    let mut token = Flow::new(world.request(TOKEN), Cache::default());
    assert_eq!(world.run(&mut token, refusing), expected);
    let mut next = Flow::new(world.request(TOKEN), token.cache().clone());
    assert_eq!(world.run(&mut next, |_, _| Fate::Done), expected, "from memory");
    let mut world = World::new();
    let refusing = |_: &mut World, effect: &Effect| match effect {
        Effect::WriteLimiter { .. } => Fate::Lost(Event::Written(WriteOutcome::Refused(refusal.clone()))),
        _ => Fate::Done,
    };
    let mut login = Flow::new(world.request(TOKEN), Cache::default());
    assert_eq!(world.run(&mut login, refusing), expected, "permits");
}
