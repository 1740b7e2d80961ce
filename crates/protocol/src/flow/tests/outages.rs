//! The store, the ledger or the secret cannot be had.

use super::*;

#[test]
fn an_unknown_account_writes_nothing() {
    for (problem, failure) in [
        (SecretError::Missing, Failure::UnknownAccount),
        (
            SecretError::Bad("`email` is missing".to_owned()),
            Failure::BadSecret("`email` is missing".to_owned()),
        ),
        (SecretError::Unreachable, Failure::SecretUnavailable),
    ] {
        let mut world = World::new();
        world.secret = Err(problem);
        assert_eq!(world.token(), Err(failure));
        assert_eq!(world.asked, ["read account", "read secret"]);
    }
}

#[test]
fn a_request_that_waited_for_its_turn_is_refused_by_what_was_learnt_meanwhile() {
    for (lead, asked) in
        [(Duration::from_millis(1), &[][..]), (Duration::ZERO, &["read account".to_owned()][..])]
    {
        let mut world = World::new();
        let waiting = world.ask(TOKEN);
        world.pass(lead);
        let mut first = Flow::new(world.ask(TOKEN), Cache::default());
        world.run(&mut first, answering("login", UpstreamReply::Unclear)).unwrap_err();
        world.asked.clear();
        let mut second = Flow::new(waiting, first.memory().clone());
        let result = world.run(&mut second, |_, _| Fate::Done);
        assert!(matches!(result, Err(Failure::UpstreamUnavailable { .. })));
        assert_eq!(world.asked, asked, "a copy is as good as a look only if it is younger than the request");
    }
}

#[test]
fn f19_a_store_outage_makes_nobody_log_in() {
    let unreachable = |_: &mut World, effect: &Effect| match effect {
        Effect::ReadAccount => Fate::Lost(Event::Account(Err(StoreError::Unreachable))),
        _ => Fate::Done,
    };
    let mut world = World::new();
    let mut empty = Flow::new(world.ask(TOKEN), Cache::default());
    assert_eq!(world.run(&mut empty, unreachable), Err(Failure::StoreUnavailable));
    assert_eq!(world.asked, ["read account"]);

    let mut warm = Flow::new(world.ask(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    world.pass(Duration::from_secs(3600));
    let mut later = Flow::new(world.ask(TOKEN), warm.memory().clone());
    let answer = world.run(&mut later, unreachable).unwrap();
    assert_eq!(answer.served_from, ServedFrom::Memory, "an old copy is better than none");
    assert_eq!(world.count("login"), 1);
}

#[test]
fn f11_an_expired_token_is_not_served_even_where_nothing_better_can_be_had() {
    let mut world = World::with_pair(Duration::from_secs(600));
    let mut warm = Flow::new(world.ask(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    // It has to live for the minute that was asked for, and for the margin between two clocks.
    for (passed_s, served) in [(538, true), (539, false), (600, false), (6_000, false)] {
        world.now = START.plus(Duration::from_secs(passed_s));
        let mut later = Flow::new(world.ask(TOKEN), warm.memory().clone());
        let result = world.run(&mut later, |_, _| Fate::Lost(Event::Account(Err(StoreError::Unreachable))));
        assert_eq!(result.is_ok(), served, "after {passed_s} s");
    }
}

#[test]
fn an_item_that_cannot_be_read_is_an_error_and_never_overwritten() {
    let mut world = World::new();
    let what = "attribute `version` is missing".to_owned();
    let mut flow = Flow::new(world.ask(TOKEN), Cache::default());
    let result =
        world.run(&mut flow, |_, _| Fate::Lost(Event::Account(Err(StoreError::Unreadable(what.clone())))));
    assert_eq!(result, Err(Failure::UnreadableItem(what)));
    assert_eq!(world.asked, ["read account"]);
}

#[test]
fn an_unreadable_or_unreachable_ledger_lets_nobody_log_in() {
    for problem in [StoreError::Unreachable, StoreError::Unreadable("attribute `permits`".to_owned())] {
        let mut world = World::new();
        let mut flow = Flow::new(world.ask(TOKEN), Cache::default());
        let result = world.run(&mut flow, |_, effect| match effect {
            Effect::ReadLimiter => Fate::Lost(Event::Limiter(Err(problem.clone()))),
            _ => Fate::Done,
        });
        assert!(result.is_err());
        assert_eq!(world.count("login"), 0);
        assert_eq!(world.account.lease, None, "the lease is given back");
    }
}

#[test]
fn a_debit_whose_reply_was_lost_is_found_again_and_paid_once() {
    for (fate, permits) in [(true, 1), (false, 1)] {
        let mut world = World::new();
        let mut flow = Flow::new(world.ask(TOKEN), Cache::default());
        world
            .run(&mut flow, |world, effect| {
                let first = world.is_first(effect, "write ledger");
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

/// Never carries out a write of the ledger.
fn ledger_conflicts(_: &mut World, effect: &Effect) -> Fate {
    match effect {
        Effect::WriteLimiter { .. } => Fate::Lost(Event::Written(WriteOutcome::Conflict)),
        _ => Fate::Done,
    }
}

#[test]
fn a_ledger_that_cannot_be_written_is_tried_eight_times_and_lets_nobody_log_in() {
    let mut world = World::new();
    let mut flow = Flow::new(world.ask(TOKEN), Cache::default());
    assert_eq!(world.run(&mut flow, ledger_conflicts), Err(Failure::StoreUnavailable));
    assert_eq!((world.count("write ledger"), world.count("pause"), world.count("login")), (8, 7, 0));
    assert_eq!(world.account.lease, None, "the lease is given back");

    // With two seconds to spare for paying, it gives up when they are over.
    let mut world = World::new();
    let ask = Request { deadline: START.plus(Duration::from_secs(8)), ..world.ask(TOKEN) };
    let result = world.run(&mut Flow::new(ask, Cache::default()), ledger_conflicts);
    assert_eq!(result, Err(Failure::TooLittleTime));
    assert!((3..8).contains(&world.count("write ledger")));
    assert!(world.now <= START.plus(Duration::from_secs(2)) && world.account.lease.is_none());
}

#[test]
fn paying_is_tried_again_up_to_the_last_instant_at_which_the_login_may_leave() {
    // The lease of a caller with time enough, less an upstream call.
    let latest = START.plus(Duration::from_secs(10));
    let pauses_until = |before_ms| {
        let mut world = World::new();
        let mut last_pause = START;
        world
            .run(&mut Flow::new(world.ask(TOKEN), Cache::default()), |world, effect| match effect {
                Effect::WriteLimiter { .. } if world.count("write ledger") == 1 => {
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
fn a_block_that_cannot_be_written_is_tried_eight_times_and_the_account_rests_all_the_same() {
    let mut world = World::new();
    let mut flow = Flow::new(world.ask(TOKEN), Cache::default());
    let result = world.run(&mut flow, |world, effect| match effect {
        Effect::Send { .. } => Fate::Lost(replied(&UpstreamReply::RateLimited(None))),
        Effect::WriteLimiter { .. } if world.count("login") == 1 => {
            Fate::Lost(Event::Written(WriteOutcome::Conflict))
        }
        _ => Fate::Done,
    });
    assert!(matches!(result, Err(Failure::UpstreamRateLimited { .. })));
    assert_eq!(world.count("write ledger"), 1 + 8);
    assert!(world.account.cooldown.is_some() && world.account.lease.is_none());
}

#[test]
fn a_failure_is_recorded_and_the_rest_grows() {
    let mut world = World::new();
    let mut rests = Vec::new();
    for failures in 1..=8 {
        fails(&mut world, "login", UpstreamReply::Unclear);
        assert_eq!(world.account.failures(), failures);
        let rest = world.account.cooldown.unwrap().until.since(world.now);
        rests.push(rest);
        world.pass(Duration::from_secs(120));
    }
    assert!(rests.iter().zip(rests.iter().skip(1)).all(|(one, next)| next >= one), "{rests:?}");
    assert!(rests.last().is_some_and(|rest| *rest <= Duration::from_secs(60)));
    world.token().unwrap();
    assert_eq!(world.account.cooldown, None, "a success forgets them");
}

#[test]
fn a_pair_that_is_all_but_dead_on_arrival_is_not_renewed_at_every_request() {
    let mut world = World::new();
    let brief = Granted { access_expiry: Expiry::In(Duration::from_secs(2)), ..granted(1) };
    let failure = fails(&mut world, "login", UpstreamReply::Granted(brief));
    assert!(matches!(failure, Failure::UpstreamUnavailable { .. }));
    assert!(world.account.cooldown.is_some_and(|cooldown| cooldown.reason == CooldownReason::Unavailable));
    assert!(world.token().is_err());
    assert_eq!(world.count("login"), 1);
}

#[test]
fn an_event_that_nobody_asked_for_is_a_defect_and_no_panic() {
    let mut flow = Flow::new(World::new().ask(TOKEN), Cache::default());
    let effect = flow.step(&test_policy(), Event::Resumed, START, Draw(1));
    assert!(matches!(effect, Effect::Done(Err(Failure::Defect(_)))));
}
