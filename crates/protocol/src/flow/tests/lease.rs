//! Who renews, who waits, and for how long.

use super::*;

#[test]
fn the_first_request_logs_in_and_the_second_finds_the_pair() {
    let mut world = World::new();
    let first = world.token().unwrap();
    assert_eq!(first.served_from, ServedFrom::Upstream);
    assert_eq!(
        world.requested,
        [
            "read account",
            "read secret",
            "write account",
            "read limiter",
            "write limiter",
            "login",
            "write account"
        ]
    );
    let second = world.token().unwrap();
    assert_eq!((second.served_from, second.generation), (ServedFrom::Table, first.generation));
    assert_eq!(world.count("login"), 1);
    assert_eq!(world.account.lease, None);
    assert!(world.account.version > Version(first.generation.0), "the fence was that of the lease");
}

#[test]
fn f01_a_token_that_a_dead_instance_may_have_sent_is_consumed() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut dead = Flow::new(world.request(TOKEN), Cache::default());
    world.drive_to(&mut dead, "refresh");
    world.pass(POLICY.lease);
    world.token().unwrap();
    assert_eq!((world.count("refresh"), world.count("login")), (1, 1));
}

#[test]
fn notices_are_reported_once() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let generation = world.run(&mut flow, |_, _| Fate::Done).unwrap().generation;
    assert_eq!(flow.take_notices(), [Notice::LeaseAcquired(generation), Notice::PairSaved(generation)]);
    assert_eq!(flow.take_notices(), []);
}

#[test]
fn a_warm_cache_answers_without_io() {
    let mut world = World::new();
    let mut first = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut first, |_, _| Fate::Done).unwrap();
    world.requested.clear();
    let mut second = Flow::new(world.request(TOKEN), first.cache().clone());
    let answer = world.run(&mut second, |_, _| Fate::Done).unwrap();
    assert_eq!(answer.served_from, ServedFrom::Memory);
    assert_eq!(world.requested, Vec::<String>::new());
    world.pass(POLICY.memory_ttl);
    let mut third = Flow::new(world.request(TOKEN), first.cache().clone());
    assert_eq!(world.run(&mut third, |_, _| Fate::Done).unwrap().served_from, ServedFrom::Table);
}

#[test]
fn a_login_is_not_sent_on_a_stale_permit_or_short_lease() {
    for paused in [Duration::from_secs(3), Duration::from_secs(14)] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        world
            .run(&mut flow, |world, effect| {
                if world.is_first(effect, "login") {
                    world.pass(paused);
                }
                Fate::Done
            })
            .unwrap();
        assert_eq!((world.count("login"), world.grants), (2, 1), "the first one did not leave");
        assert_eq!(world.limiter.permits.len(), 1, "the permit of the unsent login is used again");
    }
}

#[test]
fn a_refresh_that_is_too_late_consumes_nothing() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    world
        .run(&mut flow, |world, effect| {
            if world.is_first(effect, "refresh") {
                world.pass(Duration::from_secs(11));
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!((world.count("refresh"), world.count("login"), world.grants), (2, 0, 1));
}

#[test]
fn a_lost_reply_to_the_lease_write_is_recognised() {
    for lost in [WriteOutcome::Unknown, WriteOutcome::Conflict] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let result = world.run(&mut flow, |world, effect| {
            let first_write = world.is_first(effect, "write account");
            if first_write { Fate::DoneBut(Event::Written(lost.clone())) } else { Fate::Done }
        });
        assert!(result.is_ok());
        assert_eq!(world.count("write account"), 2, "{lost:?}");
    }
}

#[test]
fn a_lease_of_the_same_version_may_be_another_holders() {
    let mut world = World::new();
    let until = START.plus(Duration::from_secs(10));
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    world
        .run(&mut flow, |world, effect| match effect {
            // Another instance was faster, within the same millisecond.
            Effect::WriteAccount { next, .. } if world.count("write account") == 1 => {
                world.account = Account { lease: Some(Lease { holder: Holder(1), until }), ..next.clone() };
                Fate::Lost(Event::Written(WriteOutcome::Conflict))
            }
            _ => Fate::Done,
        })
        .unwrap();
    assert!(world.now >= until, "it waited until that lease had lapsed");
    assert_eq!((world.count("login"), world.count("write account")), (1, 3));
}

#[test]
fn a_lease_write_that_was_lost_is_tried_again_later() {
    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let result = world.run(&mut flow, |world, effect| {
        let first_write = world.is_first(effect, "write account");
        if first_write { Fate::Lost(Event::Written(WriteOutcome::Unknown)) } else { Fate::Done }
    });
    assert!(result.is_ok());
    assert_eq!((world.count("pause"), world.count("login")), (1, 1));
}

#[test]
fn f05_after_a_lease_conflict_the_other_pair_is_answered() {
    let mut world = World::new();
    let mut slow = Flow::new(world.request(TOKEN), Cache::default());
    let answer = world
        .run(&mut slow, |world, effect| {
            if world.is_first(effect, "write account") {
                world.token().unwrap();
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!((world.count("login"), answer.served_from), (1, ServedFrom::Table));
}

#[test]
fn f08_a_dead_holder_blocks_for_no_longer_than_its_lease() {
    let mut world = World::new();
    let mut dead = Flow::new(world.request(TOKEN), Cache::default());
    // The instance dies in the middle of its login: the last thing it wrote is its lease.
    world.drive_to(&mut dead, "login");
    let lease = world.account.lease.unwrap();
    let answer = world.token().unwrap();
    assert_eq!(answer.served_from, ServedFrom::Upstream);
    assert!(world.now >= lease.until && world.now <= lease.until.plus(Duration::from_secs(1)));
}

#[test]
fn waiting_ends_at_the_callers_deadline() {
    let mut world = World::new();
    let until = START.plus(Duration::from_secs(60));
    world.account.lease = Some(Lease { holder: Holder(1), until });
    let failure = world.token().unwrap_err();
    assert!(matches!(failure, Failure::RefreshInProgress { .. }));
    assert!(world.now < START.plus(Duration::from_secs(28)));
    assert!(world.count("read account") < 60, "pauses grow: {}", world.count("read account"));
}

#[test]
fn no_renewal_starts_that_cannot_end_in_time() {
    let mut world = World::new();
    let request = Request { deadline: world.now.plus(Duration::from_secs(5)), ..world.request(TOKEN) };
    let result = world.run(&mut Flow::new(request, Cache::default()), |_, _| Fate::Done);
    assert_eq!(result, Err(Failure::TooLittleTime));
    assert_eq!(world.requested, ["read account"]);
}

#[test]
fn a_renewal_may_start_until_the_last_possible_instant() {
    for (left_ms, begun) in [(5_999, false), (6_000, true)] {
        let mut world = World::new();
        let request =
            Request { deadline: START.plus(Duration::from_millis(left_ms)), ..world.request(TOKEN) };
        let result = world.run(&mut Flow::new(request, Cache::default()), |_, _| Fate::Done);
        assert_eq!(result.is_ok(), begun, "{left_ms} ms");
    }
}

#[test]
fn f09_a_request_that_runs_out_of_time_leaves_no_lease_behind() {
    for (store_takes_ms, given_ms) in
        [100, 900].into_iter().flat_map(|takes| (0..200).map(move |n| (takes, n * 100)))
    {
        let mut world = World::new();
        let deadline = START.plus(Duration::from_millis(given_ms));
        let request = Request { deadline, ..world.request(TOKEN) };
        // Every login hangs.
        let result = world.run(&mut Flow::new(request, Cache::default()), |world, effect| match effect {
            Effect::Send { not_after, .. } if world.now > *not_after => {
                Fate::Lost(replied(&UpstreamReply::TooLate))
            }
            Effect::Send { .. } => {
                world.pass(POLICY.upstream_timeout);
                Fate::Lost(replied(&UpstreamReply::UNEXPECTED))
            }
            Effect::Pause { .. } => Fate::Done,
            _ => {
                world.pass(Duration::from_millis(store_takes_ms));
                Fate::Done
            }
        });
        assert!(result.is_err());
        assert_eq!(world.account.lease, None, "{given_ms} ms");
        // An effect in progress at the deadline ends with the invocation. There is at most one last look.
        let last_look = deadline.plus(Duration::from_millis(store_takes_ms));
        assert!(world.now <= last_look, "{given_ms} ms, and {store_takes_ms} ms for each read or write");
    }
}

#[test]
fn two_operators_at_once_have_the_effect_of_one() {
    let mut world = World::with_pair(WEEK);
    let intent = Intent::Replace;
    let mut first = Flow::new(world.request(intent), Cache::default());
    let mut second_answer = None;
    let mut second = Flow::new(world.request(intent), Cache::default());
    // The second one looks while the first one is at the upstream.
    let looked = performed(second.begin(cx(world.now, Draw(1))));
    let answer = world
        .run(&mut first, |world, effect| {
            if effect.name() == "refresh" {
                let read = world.perform(looked.clone());
                let pause = second.step(cx(world.now, Draw(1)), read);
                assert_eq!(performed(pause).name(), "pause");
            }
            Fate::Done
        })
        .unwrap();
    let read = performed(second.step(cx(world.now, Draw(1)), Event::Resumed));
    let event = world.perform(read);
    if let Step::Done(result) = second.step(cx(world.now, Draw(1)), event) {
        second_answer = result.ok();
    }
    assert!(answer.generation > Generation(7));
    let second_generation = second_answer.map(|done| match done {
        Outcome::Token(answer) => answer.generation,
        Outcome::Report { .. } | Outcome::Unblocked { .. } => panic!("no token"),
    });
    assert_eq!(second_generation, Some(answer.generation));
    assert_eq!(world.count("refresh"), 1);
}

#[test]
fn an_operators_refresh_respects_a_cooldown() {
    let mut world = World::with_pair(WEEK);
    let until = world.now.plus(Duration::from_secs(30));
    world.account.cooldown = Some(Cooldown { until, reason: CooldownReason::RateLimited, failures: 0 });
    let request = world.request(Intent::Replace);
    let result = world.run(&mut Flow::new(request, Cache::default()), |_, _| Fate::Done);
    assert!(matches!(result, Err(Failure::UpstreamRateLimited { .. })));
}

#[test]
fn f02_contention_jitter_happens_once_and_lets_few_go_first() {
    let policy = POLICY;
    let spans: Vec<Duration> =
        (1..=1000_u64).map(|part| policy.contention_jitter(Draw(u64::MAX / 1000 * part))).collect();
    let within = |most| spans.iter().filter(|span| **span <= Duration::from_millis(most)).count();
    assert!((1..=5).contains(&within(50)), "{}", within(50));
    assert_eq!(within(250), 1000);

    let mut world = World::with_pair(Duration::from_secs(30));
    let mut slow = Flow::new(world.request(TOKEN), Cache::default());
    let answer = world
        .run(&mut slow, |world, effect| {
            if effect.name() == "pause" && world.count("refresh") == 0 {
                world.eager = true;
                world.token().unwrap();
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!(
        (answer.served_from, world.count("refresh")),
        (ServedFrom::Table, 1),
        "another request went first"
    );
    let mut first = World::new();
    first.token().unwrap();
    assert_eq!(first.count("pause"), 0, "an account without a pair has no herd yet");
}

#[test]
fn a_call_leaves_only_while_its_caller_can_wait() {
    let mut world = World::new();
    let request = Request { deadline: world.now.plus(Duration::from_secs(7)), ..world.request(TOKEN) };
    let result = world.run(&mut Flow::new(request, Cache::default()), |world, effect| {
        if effect.name() == "login" {
            // The permit is fresh and the lease long, but the caller will be gone before the reply comes.
            world.pass(Duration::from_millis(1_500));
        }
        Fate::Done
    });
    assert_eq!((result, world.grants), (Err(Failure::TooLittleTime), 0));
}

/// The other attempt has used up the refresh token, so a login is needed. The secret failed a moment ago.
#[test]
fn a_secret_that_failed_is_not_read_after_a_lease_conflict() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let error = SecretError::Unreachable;
    let secret_failure = Some((error, Moment::of_agreeing_clocks(START)));
    let mut flow = Flow::new(world.request(TOKEN), Cache { secret_failure, ..Cache::default() });
    world.drive_to(&mut flow, "write account");
    world.account.version = world.account.version.next(world.now);
    world.account.mark_refresh_token(true);
    let effect = performed(flow.step(cx(world.now, Draw(1)), Event::Written(WriteOutcome::Conflict)));
    let event = world.perform(effect);
    let ended = flow.step(cx(world.now, Draw(1)), event);
    assert_eq!(ended, Step::Done(Err(Failure::SecretUnavailable)));
}
