//! Clocks that are wrong or step.

use super::*;

const AHEAD: Duration = Duration::from_secs(110 * 60);

/// Leases, cooldowns and blocks that an instance with such a clock has written.
fn written_ahead(world: &mut World) {
    let until = world.now.plus(AHEAD);
    world.account.lease = Some(Lease { holder: Holder(1), until });
    world.account.version = Version(until.as_millis());
}

#[test]
fn an_impossible_lease_is_respected_for_as_long_as_one_lasts() {
    let mut world = World::new();
    written_ahead(&mut world);
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut flow, |_, _| Fate::Done).unwrap();
    let waited = world.now.since(START);
    let lease = POLICY.lease + POLICY.clock_margin;
    assert!((lease..lease + SECOND * 2).contains(&waited), "{waited:?}");
}

#[test]
fn an_impossible_lease_ages_across_requests_by_uptime() {
    let mut world = World::new();
    written_ahead(&mut world);
    let mut first = Flow::new(world.request(TOKEN), Cache::default());
    world.drive_to(&mut first, "pause");
    world.pass(POLICY.lease + POLICY.clock_margin);
    let mut second = Flow::new(world.request(TOKEN), first.cache().clone());
    let began = world.now;
    world.run(&mut second, |_, _| Fate::Done).unwrap();
    assert_eq!(world.now, began, "it does not wait again");
    // Another version is another lease.
    written_ahead(&mut world);
    let mut third = Flow::new(world.request(TOKEN), first.cache().clone());
    world.account.pair = None;
    world.run(&mut third, |_, _| Fate::Done).unwrap();
    assert!(world.now.since(began) >= POLICY.lease);
}

#[test]
fn unblock_clears_an_impossible_lease() {
    let mut world = World::new();
    written_ahead(&mut world);
    let mut flow = Flow::new(world.request(Intent::Unblock), Cache::default());
    world.run(&mut flow, |_, _| Fate::Done).unwrap();
    assert_eq!((world.account.lease, world.now), (None, START));
    assert_eq!(world.report, Some(Outcome::Unblocked { held_by: None }));
}

#[test]
fn unblock_says_what_still_holds_a_renewal_back() {
    let unblocked = |world: &mut World| {
        world
            .run(&mut Flow::new(world.request(Intent::Unblock), Cache::default()), |_, _| Fate::Done)
            .unwrap();
        match world.report.take() {
            Some(Outcome::Unblocked { held_by }) => held_by.map(|failure| failure.code().as_str()),
            other => panic!("{other:?}"),
        }
    };
    let mut world = World::new();
    assert_eq!(unblocked(&mut world), None);
    world.limiter = LoginLimiter::default().block(world.now.plus(SECOND * 60), world.now);
    assert_eq!(unblocked(&mut world), Some("upstream_rate_limited"));
    world.limiter = LoginLimiter::default();
    for holder in 0..POLICY.login_budget as u64 {
        let account = AccountName::parse(&format!("a-{holder}")).unwrap();
        world.limiter = world.limiter.try_acquire(&POLICY, &account, Holder(holder), world.now).unwrap();
    }
    assert_eq!(unblocked(&mut world), Some("login_budget_exhausted"));
    world.account.lease = Some(Lease { holder: Holder(1), until: world.now.plus(SECOND) });
    assert_eq!(
        unblocked(&mut world),
        Some("refresh_in_progress"),
        "there is nothing to clear, so it does not wait"
    );
    world.account = Account::default();
    world.limiter = LoginLimiter::default();
    let mut flow = Flow::new(world.request(Intent::Unblock), Cache::default());
    let unreachable = |_: &mut World, effect: &Effect| match effect {
        Effect::ReadLimiter(_) => Fate::Lost(Event::Limiter(Err(StoreError::Unreachable))),
        _ => Fate::Done,
    };
    world.run(&mut flow, unreachable).unwrap();
    let held_by = Some(Failure::StoreUnavailable { retry_after: STORE_RETRY });
    assert_eq!(world.report, Some(Outcome::Unblocked { held_by }));
}

#[test]
fn unblock_asks_the_limiter_of_the_accounts_host() {
    let mut world = World::with_pair(WEEK);
    let origin = testing::origin_at(crate::UpstreamUrl::parse("https://b.example").ok());
    world.account.pair.as_mut().unwrap().origin = origin.clone();
    let mut flow = Flow::new(world.request(Intent::Unblock), Cache::default());
    let effect = world.drive_to(&mut flow, "read limiter");
    assert_eq!(effect, Effect::ReadLimiter(crate::LimiterName::of(&origin)));
}

fn untrusted(now: Timestamp) -> Context<'static> {
    Context { clock_is_trusted: false, ..cx(now, Draw(u64::MAX)) }
}

#[test]
fn without_a_trusted_clock_no_lease_is_taken() {
    for (record, expected) in [
        (Account::default(), Err(Failure::ClockOff)),
        (World::with_pair(SECOND * 30).account, Ok("access 0")),
    ] {
        let mut world = World::new();
        world.account = record;
        let min_ttl = Duration::from_secs(1);
        // A report of a usable pair would probe it.
        let rejected = world.account.generation();
        let mut flow = Flow::new(world.request(Intent::Token { min_ttl, rejected }), Cache::default());
        let mut step = flow.begin(untrusted(world.now));
        let result = loop {
            match step {
                Step::Perform(effect) => {
                    assert!(!matches!(effect, Effect::WriteAccount { .. }), "{effect:?}");
                    let event = world.perform(effect);
                    step = flow.step(untrusted(world.now), event);
                }
                Step::Done(result) => break result,
            }
        };
        let token = result.map(|outcome| match outcome {
            Outcome::Token(answer) => answer.access_token.expose().to_owned(),
            other => panic!("{other:?}"),
        });
        assert_eq!(token, expected.map(str::to_owned));
        assert_eq!(flow.take_notices(), [Notice::ClockOff]);
    }
}

#[test]
fn a_clock_that_steps_under_the_lease_takes_no_permit() {
    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let effect = world.drive_to(&mut flow, "read limiter");
    let event = world.perform(effect);
    let effect = performed(flow.step(untrusted(world.now), event));
    assert_eq!(effect.name(), "read limiter", "it checks the time again");
    let event = world.perform(effect);
    let effect = performed(flow.step(untrusted(world.now), event));
    assert_eq!(effect.name(), "write account", "it gives the lease back");
    let event = world.perform(effect);
    assert_eq!(flow.step(untrusted(world.now), event), Step::Done(Err(Failure::ClockOff)));
    assert_eq!((world.account.lease, world.account.cooldown, world.limiter.permits.len()), (None, None, 0));
}

#[test]
fn a_clock_corrected_at_a_second_look_fails_no_request() {
    for at in ["read account", "write account", "read limiter"] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let effect = world.drive_to(&mut flow, at);
        let event = world.perform(effect);
        // From the write on, it has the lease: the limiter is read, and read again.
        let mut step = flow.step(untrusted(world.now), event);
        let result = loop {
            let effect = match step {
                Step::Perform(effect) => effect,
                Step::Done(result) => break result,
            };
            let event = world.perform(effect);
            step = world.step(&mut flow, Some(event));
        };
        assert!(matches!(result, Ok(Outcome::Token(_))), "{at}: {result:?}");
    }
}

#[test]
fn an_untrusted_clock_is_looked_at_again_before_a_lease() {
    let mut world = World::with_pair(SECOND * 30);
    let mut flow = Flow::new(world.request(Intent::Maintain(Task::Renew)), Cache::default());
    let effect = world.drive_to(&mut flow, "read account");
    let event = world.perform(effect);
    let effect = performed(flow.step(untrusted(world.now), event));
    assert_eq!(effect.name(), "read account");
    let event = world.perform(effect);
    assert_eq!(performed(world.step(&mut flow, Some(event))).name(), "write account");
}

/// The wall clock steps by less than the longest pause during a call.
#[test]
fn a_step_during_a_call_dates_no_pause_ahead() {
    let step = Duration::from_secs(3_000);
    let report = Intent::Token { min_ttl: SECOND, rejected: Some(Generation(7)) };
    let due = || World::with_pair(Duration::from_secs(3_000));
    let unexpected = UpstreamReply::UNEXPECTED;
    let limited = UpstreamReply::RateLimited(None);
    for (mut world, intent, call, reply) in [
        (World::new(), TOKEN, "login", unexpected.clone()),
        (World::new(), TOKEN, "login", UpstreamReply::Refused),
        (World::new(), TOKEN, "login", UpstreamReply::Unauthorized),
        (World::new(), TOKEN, "login", limited.clone()),
        (due(), Intent::Maintain(Task::Renew), "refresh", unexpected.clone()),
        (due(), report, "probe", unexpected),
        (due(), report, "probe", limited),
        (due(), report, "probe", UpstreamReply::Alive),
    ] {
        let mut flow = Flow::new(world.request(intent), Cache::default());
        world.drive_to(&mut flow, call);
        let stepped = |now: Timestamp| Context { now: now.plus(step), steady: now, ..untrusted(now) };
        let mut next = flow.step(stepped(world.now), Event::Replied(reply.clone()));
        while let Step::Perform(effect) = next {
            let event = world.perform(effect);
            next = flow.step(stepped(world.now), event);
        }
        let Account { pair, cooldown, early_refresh_after, rejected_secret, .. } = &world.account;
        let verdict = pair.as_ref().and_then(|pair| match pair.verdict {
            Verdict::Alive { at } => Some(at),
            Verdict::Inconclusive { probe_after } => Some(probe_after),
            Verdict::Unverified | Verdict::Dead => None,
        });
        let blocked = world.limiter.blocked_until;
        let pauses = [cooldown.map(|cooldown| cooldown.until), *early_refresh_after, verdict, blocked];
        let retry = rejected_secret.iter().filter_map(|rejected| rejected.retry_at);
        let rejected = retry.map(|at| at.minus(Duration::from_secs(6 * 3_600 + 36 * 60)));
        for until in pauses.into_iter().flatten().chain(rejected) {
            let ahead = until.since(world.now);
            assert!(ahead <= Duration::from_secs(125), "{call} {reply:?}: {ahead:?}");
        }
    }
}

#[test]
fn a_corrected_clock_moves_the_deadline_with_it() {
    let mut world = World::new();
    let request = world.request(TOKEN);
    let left = request.deadline.since(world.now);
    // The clock was ahead, and is set right a second later.
    let uptime = request.arrived.uptime.plus(SECOND);
    let corrected = Context { uptime, ..cx(world.now.minus(AHEAD), Draw(0)) };
    assert_eq!(request.ends(corrected).since(corrected.now) + SECOND, left);
    world.pass(left + SECOND);
    assert_eq!(request.ends(cx(world.now, Draw(0))), request.deadline);
}

#[test]
fn a_pair_from_a_clock_that_is_ahead_is_still_probed() {
    let mut world = World::with_pair(WEEK);
    let pair = world.account.pair.as_mut().unwrap();
    pair.issued_at = START.plus(AHEAD);
    world.account.young_deaths = 5;
    let intent = Intent::Token { min_ttl: SECOND, rejected: Some(Generation(7)) };
    let mut flow = Flow::new(world.request(intent), Cache::default());
    world.run(&mut flow, |_, _| Fate::Done).unwrap();
    assert_eq!(world.count("probe"), 1);
}

#[test]
fn impossible_pauses_block_no_one() {
    let mut world = World::new();
    let until = world.now.plus(AHEAD);
    world.account.cooldown = Some(Cooldown { until, reason: CooldownReason::RateLimited, failures: 1 });
    world.account.early_refresh_after = Some(until);
    let account = AccountName::parse("other").unwrap();
    world.limiter.blocked_until = Some(until);
    let permit = crate::Permit { account, acquired_at: until, counts_until: until, holder: Holder(3) };
    world.limiter.permits = vec![permit; POLICY.login_budget];
    assert!(world.token().is_ok());
    assert_eq!(world.now, START);
}

#[test]
fn a_read_that_a_freeze_interrupted_is_repeated_once() {
    let unreachable = Event::Account(Err(StoreError::Unreachable));
    // The span of each read, and whether the second one succeeds.
    let reads = |world: &mut World, cache: Cache, lasts: Duration, recovers: bool| {
        world.requested.clear();
        let mut flow = Flow::new(world.request(TOKEN), cache);
        let result = world.run(&mut flow, |world, effect| match effect {
            Effect::ReadAccount if world.count("read account") == 1 || !recovers => {
                world.pass(lasts);
                Fate::Lost(unreachable.clone())
            }
            _ => Fate::Done,
        });
        (result.map(|answer| answer.served_from), world.count("read account"))
    };
    let unavailable = Err(Failure::StoreUnavailable { retry_after: STORE_RETRY });
    let mut world = World::with_pair(WEEK);
    assert_eq!(reads(&mut world, Cache::default(), STORE_TIMEOUT, true), (Ok(ServedFrom::Table), 2));
    assert_eq!(reads(&mut world, Cache::default(), STORE_TIMEOUT, false), (unavailable.clone(), 2));
    let quick = STORE_TIMEOUT.saturating_sub(Duration::from_millis(1));
    assert_eq!(reads(&mut world, Cache::default(), quick, true), (unavailable.clone(), 1), "a true failure");
    let too_long = Duration::from_secs(28);
    assert_eq!(reads(&mut world, Cache::default(), too_long, true), (unavailable, 1), "too late");
    let mut warm = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    world.pass(Duration::from_secs(3600));
    let from_memory = (Ok(ServedFrom::Memory), 1);
    assert_eq!(reads(&mut world, warm.cache().clone(), STORE_TIMEOUT, true), from_memory);
}
