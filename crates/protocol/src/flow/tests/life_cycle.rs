//! Rejected, probed, revoked, maintained.

use super::*;

/// A request that reports a generation as rejected by the API.
fn reporting(world: &World, generation: u64) -> Request {
    world.request(Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(Generation(generation)) })
}

#[test]
fn f12_a_revoked_token_is_not_served_until_its_expiry() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(reporting(&world, 7), Cache::default());
    let answer = world.run(&mut flow, answering("probe", UpstreamReply::Unauthorized)).unwrap();
    assert!(answer.generation > Generation(7));
    assert_eq!(
        world.requested,
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
    assert!(world.pair().verdict != Verdict::Dead);
}

#[test]
fn f13_a_thousand_reports_on_a_live_token_are_one_probe() {
    let mut world = World::with_pair(WEEK);
    for _ in 0..1000 {
        let mut flow = Flow::new(reporting(&world, 7), Cache::default());
        let answer = world.run(&mut flow, |_, _| Fate::Done).unwrap();
        assert_eq!(answer.generation, Generation(7));
    }
    assert_eq!((world.count("probe"), world.count("refresh"), world.count("login")), (1, 0, 0));
    assert!(!world.consumed(), "a probe consumes nothing");
    world.pass(Duration::from_secs(15));
    let mut later = Flow::new(reporting(&world, 7), Cache::default());
    world.run(&mut later, |_, _| Fate::Done).unwrap();
    assert_eq!(world.count("probe"), 2, "one per interval");
}

#[test]
fn a_report_on_an_old_generation_causes_no_call() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(reporting(&world, 6), Cache::default());
    world.run(&mut flow, |_, _| Fate::Done).unwrap();
    assert_eq!(world.requested, ["read account"]);
}

#[test]
fn the_cache_does_not_answer_the_reporter_of_its_generation() {
    let mut world = World::with_pair(WEEK);
    let mut warm = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    let mut reporter = Flow::new(reporting(&world, 7), warm.cache().clone());
    let answer = world.run(&mut reporter, answering("probe", UpstreamReply::Unauthorized)).unwrap();
    assert!(answer.generation > Generation(7));
}

#[test]
fn an_inconclusive_probe_keeps_the_token_and_delays_the_next() {
    for reply in [UpstreamReply::UNEXPECTED, UpstreamReply::NeverLeft, UpstreamReply::RateLimited(None)] {
        let mut world = World::with_pair(WEEK);
        for _ in 0..3 {
            let mut flow = Flow::new(reporting(&world, 7), Cache::default());
            let answer = world.run(&mut flow, answering("probe", reply.clone())).unwrap();
            assert_eq!(answer.generation, Generation(7));
        }
        assert_eq!(world.count("probe"), 1, "{reply:?}");
        // A fault of the API delays no renewal, of this account or of others.
        assert_eq!((world.account.cooldown, world.account.lease), (None, None));
        assert_eq!(world.limiter, LoginLimiter::default());
    }
}

#[test]
fn a_reporter_waits_for_the_verdict_of_another() {
    let mut world = World::with_pair(WEEK);
    let mut first = Flow::new(reporting(&world, 7), Cache::default());
    let mut second = Flow::new(reporting(&world, 7), Cache::default());
    let look = performed(second.begin(cx(world.now, Draw(1))));
    world
        .run(&mut first, |world, effect| {
            if effect.name() == "probe" {
                let read = world.perform(look.clone());
                assert_eq!(performed(second.step(cx(world.now, Draw(1)), read)).name(), "pause");
            }
            Fate::Done
        })
        .unwrap();
    let look = performed(second.step(cx(world.now, Draw(1)), Event::Resumed));
    let read = world.perform(look);
    let end = second.step(cx(world.now, Draw(1)), read);
    assert!(matches!(end, Step::Done(Ok(Outcome::Token(answer))) if answer.generation == Generation(7)));
    assert_eq!(world.count("probe"), 1);
}

#[test]
fn a_pair_is_withdrawn_before_its_tokens_are_revoked() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(world.request(Intent::Revoke), Cache::default());
    let mut withdrawn_when_sent = Vec::new();
    world
        .run(&mut flow, |world, effect| {
            if effect.name() == "revoke" {
                withdrawn_when_sent
                    .push((world.account.pair.is_none(), world.account.pending_revocations.len()));
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!(withdrawn_when_sent, [(true, 2), (true, 2)]);
    assert_eq!(world.report, Some(Outcome::Report { renewed: false, pending_revocations: 0 }));
    assert_eq!(
        (&world.account.pair, &world.account.pending_revocations, world.account.lease),
        (&None, &Vec::new(), None)
    );
    world.token().unwrap();
    assert_eq!(world.count("login"), 1, "the next token is a new login");
}

#[test]
fn a_failed_revocation_is_finished_by_the_schedule() {
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(world.request(Intent::Revoke), Cache::default());
    world.run(&mut flow, answering("revoke", UpstreamReply::UNEXPECTED)).unwrap();
    assert_eq!(world.report, Some(Outcome::Report { renewed: false, pending_revocations: 2 }));
    assert!(world.account.pair.is_none(), "withdrawn anyway");

    world.token().unwrap();
    assert_eq!(world.account.pending_revocations.len(), 2, "a new pair does not forget them");
    let mut schedule = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
    world.run(&mut schedule, |_, _| Fate::Done).unwrap();
    assert_eq!(world.report, Some(Outcome::Report { renewed: false, pending_revocations: 0 }));
    assert!(world.account.pair.is_some() && world.account.pending_revocations.is_empty());
}

#[test]
fn tokens_are_revoked_until_the_last_possible_instant() {
    for (late_ms, revoked) in [(0, 2), (1, 1), (1_000, 1)] {
        let mut world = World::with_pair(WEEK);
        let mut flow = Flow::new(world.request(Intent::Revoke), Cache::default());
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
            (world.count("revoke"), world.account.pending_revocations.len()),
            (revoked, 2 - revoked),
            "{late_ms} ms"
        );
    }
}

#[test]
fn a_crash_while_revoking_forgets_nothing() {
    let mut world = World::with_pair(WEEK);
    let mut dead = Flow::new(world.request(Intent::Revoke), Cache::default());
    world.drive_to(&mut dead, "revoke");
    world.pass(POLICY.lease);
    let mut again = Flow::new(world.request(Intent::Revoke), Cache::default());
    world.run(&mut again, |_, _| Fate::Done).unwrap();
    assert_eq!(
        (world.count("revoke"), world.account.pending_revocations.len()),
        (3, 0),
        "the first one may not have arrived"
    );
}

/// Drives a flow that refreshes, and lets an operator revoke the pair before the new one is saved.
fn revoked_by_an_operator(world: &mut World, flow: &mut Flow) -> Answer {
    let mut withdrawn = false;
    let answer = world.run(flow, |world, effect| {
        if effect.name() == "write account" && world.count("refresh") == 1 && !withdrawn {
            withdrawn = true;
            let mut operator = Flow::new(world.request(Intent::Revoke), Cache::default());
            world.run(&mut operator, |_, _| Fate::Done).unwrap();
        }
        Fate::Done
    });
    answer.unwrap()
}

#[test]
fn f14_a_pair_revoked_during_its_renewal_does_not_come_back() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut renewing = Flow::new(world.request(TOKEN), Cache::default());
    let answer = revoked_by_an_operator(&mut world, &mut renewing);
    assert_eq!(world.count("login"), 1);
    assert_eq!(answer.generation, world.pair().generation);
    assert_eq!(world.pending(), ["refresh 1", "access 1"], "the tokens that the renewal obtained");
}

#[test]
fn a_report_on_a_newer_generation_reads_the_table() {
    let mut world = World::with_pair(WEEK);
    let mut warm = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    let mut operator = Flow::new(world.request(Intent::Replace), Cache::default());
    let newer = world.run(&mut operator, |_, _| Fate::Done).unwrap().generation;
    let mut reporter = Flow::new(reporting(&world, newer.0), warm.cache().clone());
    let answer = world.run(&mut reporter, |_, _| Fate::Done).unwrap();
    assert_eq!((answer.generation, world.count("probe")), (newer, 1));
}

#[test]
fn an_operator_revokes_the_current_pair_and_no_later_one() {
    let mut world = World::with_pair(WEEK);
    let mut slow = Flow::new(world.request(Intent::Revoke), Cache::default());
    world
        .run(&mut slow, |world, effect| {
            if world.is_first(effect, "write account") {
                let mut quick = Flow::new(world.request(Intent::Revoke), Cache::default());
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
fn a_revocation_during_maintenance_leaves_no_live_pair() {
    let mut world = World::with_pair(Duration::from_secs(3600));
    let mut schedule = Flow::new(world.request(Intent::Maintain(Task::Renew)), Cache::default());
    revoked_by_an_operator(&mut world, &mut schedule);
    let mut revocations = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
    world.run(&mut revocations, |_, _| Fate::Done).unwrap();
    assert_eq!((world.count("revoke"), world.pending().len()), (4, 0), "the new pair's tokens, too");
    assert_eq!((world.account.pair.is_none(), world.count("login")), (true, 0));
}

#[test]
fn a_revocation_that_never_succeeds_delays_no_renewal() {
    let mut world = World::with_pair(Duration::from_secs(3600));
    let other = Pair { access_token: Secret::from("access x"), refresh_token: None, ..pair(WEEK) };
    world.account.pending_revocations = other.revocations().collect();
    let mut schedule = Flow::new(world.request(Intent::Maintain(Task::Renew)), Cache::default());
    world.run(&mut schedule, answering("revoke", UpstreamReply::Unauthorized)).unwrap();
    assert_eq!(world.report, Some(Outcome::Report { renewed: true, pending_revocations: 1 }));
    assert!(!world.account.pending_revocations.is_empty(), "nor is it forgotten");
}

#[test]
fn nothing_to_revoke_or_to_maintain_writes_nothing() {
    for intent in [Intent::Revoke, Intent::Maintain(Task::Renew), Intent::Maintain(Task::Revoke)] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(intent), Cache::default());
        world.run(&mut flow, |_, _| Fate::Done).unwrap();
        assert_eq!(world.report, Some(Outcome::Report { renewed: false, pending_revocations: 0 }));
        assert_eq!(world.requested, ["read account"]);
    }
}

#[test]
fn the_schedule_renews_what_is_due_and_nothing_else() {
    for (left, renewed) in [(2 * WEEK, false), (Duration::from_secs(3600), true), (Duration::ZERO, true)] {
        let mut world = World::with_pair(left);
        world.account.pair.as_mut().unwrap().issued_at = START.plus(left).minus(2 * WEEK);
        let mut flow = Flow::new(world.request(Intent::Maintain(Task::Renew)), Cache::default());
        world.run(&mut flow, |_, _| Fate::Done).unwrap();
        assert_eq!(world.report, Some(Outcome::Report { renewed, pending_revocations: 0 }), "{left:?}");
        assert_eq!(world.count("refresh"), usize::from(renewed));
    }
}

#[test]
fn the_schedule_leaves_an_account_in_cooldown_alone() {
    let mut world = World::with_pair(Duration::from_secs(3600));
    let mut flow = Flow::new(world.request(Intent::Maintain(Task::Renew)), Cache::default());
    let failure = world.run(&mut flow, answering("refresh", UpstreamReply::UNEXPECTED)).unwrap_err();
    assert!(matches!(failure, Failure::UpstreamUnavailable { .. }));
    world.requested.clear();
    let mut again = Flow::new(world.request(Intent::Maintain(Task::Renew)), Cache::default());
    world.run(&mut again, |_, _| Fate::Done).unwrap();
    assert_eq!(world.requested, ["read account"]);
}

#[test]
fn a_v2_pair_is_renewed_by_a_login() {
    let mut world = World::with_pair(Duration::from_secs(30));
    world.account.pair.as_mut().unwrap().origin =
        Origin::Convirza { api_version: ApiVersion::V2, oauth_url: None, api_url: None };
    world.token().unwrap();
    assert_eq!((world.count("refresh"), world.count("login")), (0, 1));
}

#[test]
fn a_verdict_on_one_pair_says_nothing_about_the_next() {
    let mut world = World::with_pair(WEEK);
    let mut report = Flow::new(reporting(&world, 7), Cache::default());
    world.run(&mut report, |_, _| Fate::Done).unwrap();
    let mut operator = Flow::new(world.request(Intent::Replace), Cache::default());
    let next = world.run(&mut operator, |_, _| Fate::Done).unwrap().generation;
    let mut report = Flow::new(reporting(&world, next.0), Cache::default());
    world.run(&mut report, |_, _| Fate::Done).unwrap();
    assert_eq!(world.count("probe"), 2);
}
