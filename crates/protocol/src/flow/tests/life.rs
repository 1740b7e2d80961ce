//! Rejected, probed, revoked, maintained.

use super::*;

/// A request which says that the API refused the token of a generation.
fn reporting(world: &World, generation: u64) -> Request {
    world.ask(Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(Generation(generation)) })
}

#[test]
fn f12_a_revoked_token_does_not_go_on_being_served_until_its_expiry() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(reporting(&world, 7), Cache::default());
    let answer = world.run(&mut flow, answering("probe", UpstreamReply::Refused)).unwrap();
    assert!(answer.generation > Generation(7));
    assert_eq!(
        world.asked,
        [
            "read account",
            "pause",
            "read account",
            "write account",
            "probe",
            "write account",
            "read account",
            "write account",
            "refresh",
            "write account"
        ]
    );
    assert!(!world.pair().dead);
}

#[test]
fn f13_a_401_does_not_make_anybody_renew_a_token_that_is_alive_and_one_probe_answers_them_all() {
    let mut world = World::with_pair(WEEK);
    for _ in 0..1000 {
        let mut flow = Flow::new(reporting(&world, 7), Cache::default());
        let answer = world.run(&mut flow, |_, _| Fate::Done).unwrap();
        assert_eq!(answer.generation, Generation(7));
    }
    assert_eq!((world.count("probe"), world.count("refresh"), world.count("login")), (1, 0, 0));
    assert!(!world.pair().refresh_token_consumed, "a probe spends nothing");
    world.pass(Duration::from_secs(15));
    let mut later = Flow::new(reporting(&world, 7), Cache::default());
    world.run(&mut later, |_, _| Fate::Done).unwrap();
    assert_eq!(world.count("probe"), 2, "one an interval");
}

#[test]
fn a_report_on_an_old_generation_is_answered_without_asking_the_upstream() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(reporting(&world, 6), Cache::default());
    world.run(&mut flow, |_, _| Fate::Done).unwrap();
    assert_eq!(world.asked, ["read account"]);
}

#[test]
fn memory_does_not_serve_the_rejected_generation_to_the_reporter() {
    let mut world = World::with_pair(WEEK);
    let mut warm = Flow::new(world.ask(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    let mut reporter = Flow::new(reporting(&world, 7), warm.memory().clone());
    let answer = world.run(&mut reporter, answering("probe", UpstreamReply::Refused)).unwrap();
    assert!(answer.generation > Generation(7));
}

#[test]
fn without_a_verdict_the_same_token_is_answered_and_nobody_probes_for_a_while() {
    for reply in [UpstreamReply::Unclear, UpstreamReply::NeverLeft, UpstreamReply::RateLimited(None)] {
        let mut world = World::with_pair(WEEK);
        for _ in 0..3 {
            let mut flow = Flow::new(reporting(&world, 7), Cache::default());
            let answer = world.run(&mut flow, answering("probe", reply.clone())).unwrap();
            assert_eq!(answer.generation, Generation(7));
        }
        assert_eq!(world.count("probe"), 1, "{reply:?}");
        // The API's trouble disturbs no renewal, of this account or of others.
        assert_eq!((world.account.cooldown, world.account.lease), (None, None));
        assert_eq!(world.limiter, LoginLimiter::default());
    }
}

#[test]
fn a_reporter_waits_for_whoever_is_probing_and_is_answered_by_the_verdict() {
    let mut world = World::with_pair(WEEK);
    let mut first = Flow::new(reporting(&world, 7), Cache::default());
    let mut second = Flow::new(reporting(&world, 7), Cache::default());
    let look = second.step(&test_policy(), Event::Begin, world.now, Draw(1));
    world
        .run(&mut first, |world, effect| {
            if name(effect) == "probe" {
                let read = world.perform(look.clone());
                assert_eq!(name(&second.step(&test_policy(), read, world.now, Draw(1))), "pause");
            }
            Fate::Done
        })
        .unwrap();
    let look = second.step(&test_policy(), Event::Resumed, world.now, Draw(1));
    let read = world.perform(look);
    let end = second.step(&test_policy(), read, world.now, Draw(1));
    assert!(matches!(end, Effect::Done(Ok(Outcome::Token(answer))) if answer.generation == Generation(7)));
    assert_eq!(world.count("probe"), 1);
}

#[test]
fn a_pair_is_withdrawn_before_its_tokens_are_revoked_and_forgotten_only_then() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(world.ask(Intent::Revoke(Target::NotSeen)), Cache::default());
    let mut withdrawn_when_sent = Vec::new();
    world
        .run(&mut flow, |world, effect| {
            if name(effect) == "revoke" {
                withdrawn_when_sent.push((world.account.pair.is_none(), world.account.pending.len()));
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!(withdrawn_when_sent, [(true, 2), (true, 2)]);
    assert_eq!(world.report, Some(Outcome::Report { renewed: false, pending: 0 }));
    assert_eq!(
        (&world.account.pair, &world.account.pending, world.account.lease),
        (&None, &Vec::new(), None)
    );
    world.token().unwrap();
    assert_eq!(world.count("login"), 1, "the next token is a new login");
}

#[test]
fn a_revocation_that_fails_stays_pending_and_the_schedule_goes_on_with_it() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(world.ask(Intent::Revoke(Target::NotSeen)), Cache::default());
    world.run(&mut flow, answering("revoke", UpstreamReply::Unclear)).unwrap();
    assert_eq!(world.report, Some(Outcome::Report { renewed: false, pending: 2 }));
    assert!(world.account.pair.is_none(), "withdrawn all the same");

    world.token().unwrap();
    assert_eq!(world.account.pending.len(), 2, "a new pair does not forget them");
    let mut schedule = Flow::new(world.ask(Intent::Maintain { revoked: false }), Cache::default());
    world.run(&mut schedule, |_, _| Fate::Done).unwrap();
    assert_eq!(world.report, Some(Outcome::Report { renewed: false, pending: 0 }));
    assert!(world.account.pair.is_some() && world.account.pending.is_empty());
}

#[test]
fn tokens_are_revoked_up_to_the_last_instant_at_which_that_can_end_under_the_lease() {
    for (late_ms, revoked) in [(0, 2), (1, 1), (1_000, 1)] {
        let mut world = World::with_pair(WEEK);
        let mut flow = Flow::new(world.ask(Intent::Revoke(Target::NotSeen)), Cache::default());
        world
            .run(&mut flow, |world, effect| match effect {
                Effect::Send { not_after, .. } if world.count("revoke") == 1 => {
                    world.now = not_after.plus(Duration::from_millis(late_ms));
                    Fate::DoneBut(replied(&UpstreamReply::Revoked))
                }
                _ => Fate::Done,
            })
            .unwrap();
        assert_eq!(
            (world.count("revoke"), world.account.pending.len()),
            (revoked, 2 - revoked),
            "{late_ms} ms"
        );
    }
}

#[test]
fn a_crash_while_revoking_forgets_nothing() {
    let mut world = World::with_pair(WEEK);
    let mut dead = Flow::new(world.ask(Intent::Revoke(Target::NotSeen)), Cache::default());
    world.drive_to(&mut dead, "revoke");
    world.pass(test_policy().lease);
    let mut again = Flow::new(world.ask(Intent::Revoke(Target::NotSeen)), Cache::default());
    world.run(&mut again, |_, _| Fate::Done).unwrap();
    assert_eq!(
        (world.count("revoke"), world.account.pending.len()),
        (3, 0),
        "the first one may not have arrived"
    );
}

/// Drives a flow that refreshes, and lets an operator revoke the pair before the new one is saved. Gives what
/// the flow came to, and the tokens that it revoked itself.
fn overtaken_by_an_operator(world: &mut World, flow: &mut Flow) -> (Answer, Vec<Secret>) {
    let mut withdrawn = false;
    let mut revoked = Vec::new();
    let answer = world.run(flow, |world, effect| {
        if name(effect) == "write account" && world.count("refresh") == 1 && !withdrawn {
            withdrawn = true;
            let mut operator = Flow::new(world.ask(Intent::Revoke(Target::NotSeen)), Cache::default());
            world.run(&mut operator, |_, _| Fate::Done).unwrap();
        }
        if let Effect::Send { call: Call::Revoke(revocation), .. } = effect {
            revoked.push(revocation.token.clone());
        }
        Fate::Done
    });
    (answer.unwrap(), revoked)
}

#[test]
fn f14_a_pair_that_is_revoked_while_it_is_being_renewed_does_not_rise_again() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut renewing = Flow::new(world.ask(TOKEN), Cache::default());
    let (answer, revoked) = overtaken_by_an_operator(&mut world, &mut renewing);
    assert_eq!(world.count("login"), 1);
    assert_eq!(answer.generation, world.pair().generation);
    assert_eq!(
        revoked,
        [Secret::from("refresh 1"), Secret::from("access 1")],
        "what the renewal had brought"
    );
}

#[test]
fn a_report_on_a_newer_generation_than_memory_knows_is_answered_from_the_table() {
    let mut world = World::with_pair(WEEK);
    let mut warm = Flow::new(world.ask(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    let mut operator = Flow::new(world.ask(Intent::Replace(Target::NotSeen)), Cache::default());
    let newer = world.run(&mut operator, |_, _| Fate::Done).unwrap().generation;
    let mut reporter = Flow::new(reporting(&world, newer.0), warm.memory().clone());
    let answer = world.run(&mut reporter, |_, _| Fate::Done).unwrap();
    assert_eq!((answer.generation, world.count("probe")), (newer, 1));
}

#[test]
fn an_operator_revokes_the_pair_that_is_there_and_no_later_one() {
    let mut world = World::with_pair(WEEK);
    let mut slow = Flow::new(world.ask(Intent::Revoke(Target::NotSeen)), Cache::default());
    world
        .run(&mut slow, |world, effect| {
            if world.is_first(effect, "write account") {
                let mut quick = Flow::new(world.ask(Intent::Revoke(Target::NotSeen)), Cache::default());
                world.run(&mut quick, |_, _| Fate::Done).unwrap();
                world.token().unwrap();
            }
            Fate::Done
        })
        .unwrap();
    assert!(world.account.pair.is_some(), "the pair of the later login stays");
    assert_eq!(world.count("revoke"), 2);
}

#[test]
fn a_maintenance_that_an_operator_overtakes_leaves_no_living_pair_behind() {
    let mut world = World::with_pair(Duration::from_secs(3600));
    let mut schedule = Flow::new(world.ask(Intent::Maintain { revoked: false }), Cache::default());
    let (_, revoked) = overtaken_by_an_operator(&mut world, &mut schedule);
    assert_eq!(revoked, [Secret::from("refresh 1"), Secret::from("access 1")]);
    assert_eq!((world.account.pair.is_none(), world.count("login")), (true, 0));
}

#[test]
fn a_revocation_that_never_succeeds_keeps_nothing_from_being_renewed() {
    let mut world = World::with_pair(Duration::from_secs(3600));
    world.account.pending = pair(WEEK).revocations().collect();
    let mut schedule = Flow::new(world.ask(Intent::Maintain { revoked: false }), Cache::default());
    world.run(&mut schedule, answering("revoke", UpstreamReply::Refused)).unwrap();
    assert_eq!(world.report, Some(Outcome::Report { renewed: true, pending: 2 }));
    assert_eq!(world.account.garbage_collection_time(), None, "nor is it forgotten");
}

#[test]
fn there_may_be_nothing_to_revoke_or_to_maintain() {
    for goal in [Intent::Revoke(Target::NotSeen), Intent::Maintain { revoked: false }] {
        let mut world = World::new();
        let mut flow = Flow::new(world.ask(goal), Cache::default());
        world.run(&mut flow, |_, _| Fate::Done).unwrap();
        assert_eq!(world.report, Some(Outcome::Report { renewed: false, pending: 0 }));
        assert_eq!(world.asked, ["read account"]);
    }
}

#[test]
fn the_schedule_renews_what_is_due_and_nothing_else() {
    for (left, renewed) in [(2 * WEEK, false), (Duration::from_secs(3600), true), (Duration::ZERO, true)] {
        let mut world = World::with_pair(left);
        world.account.pair.as_mut().unwrap().issued_at = START.plus(left).minus(2 * WEEK);
        let mut flow = Flow::new(world.ask(Intent::Maintain { revoked: false }), Cache::default());
        world.run(&mut flow, |_, _| Fate::Done).unwrap();
        assert_eq!(world.report, Some(Outcome::Report { renewed, pending: 0 }), "{left:?}");
        assert_eq!(world.count("refresh"), usize::from(renewed));
    }
}

#[test]
fn the_schedule_reports_a_failure_and_leaves_a_resting_account_alone() {
    let mut world = World::with_pair(Duration::from_secs(3600));
    let mut flow = Flow::new(world.ask(Intent::Maintain { revoked: false }), Cache::default());
    let failure = world.run(&mut flow, answering("refresh", UpstreamReply::Unclear)).unwrap_err();
    assert!(matches!(failure, Failure::UpstreamUnavailable { .. }));
    world.asked.clear();
    let mut again = Flow::new(world.ask(Intent::Maintain { revoked: false }), Cache::default());
    world.run(&mut again, |_, _| Fate::Done).unwrap();
    assert_eq!(world.asked, ["read account"]);
}

#[test]
fn v2_documents_no_refresh_so_its_pairs_are_renewed_by_logging_in() {
    let mut world = World::with_pair(Duration::from_secs(30));
    world.account.pair.as_mut().unwrap().origin.api_version = ApiVersion::V2;
    world.token().unwrap();
    assert_eq!((world.count("refresh"), world.count("login")), (0, 1));
}

#[test]
fn a_verdict_on_one_pair_says_nothing_about_the_next() {
    let mut world = World::with_pair(WEEK);
    let mut report = Flow::new(reporting(&world, 7), Cache::default());
    world.run(&mut report, |_, _| Fate::Done).unwrap();
    let mut operator = Flow::new(world.ask(Intent::Replace(Target::NotSeen)), Cache::default());
    let next = world.run(&mut operator, |_, _| Fate::Done).unwrap().generation;
    let mut report = Flow::new(reporting(&world, next.0), Cache::default());
    world.run(&mut report, |_, _| Fate::Done).unwrap();
    assert_eq!(world.count("probe"), 2);
}
