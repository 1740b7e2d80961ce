//! Lying callers, lying probes, rivals with the same password, slow stores, and tables that refuse writes.

use super::*;
use crate::MAX_PENDING_REVOCATIONS;

const SECOND: Duration = Duration::from_secs(1);

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
fn a_rival_login_of_the_same_user_leaves_logins_to_other_accounts() {
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
fn the_first_deaths_are_believed_at_once_and_a_long_life_forgets_them() {
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

/// The table can be read, and refuses every write after so many milliseconds.
fn refusing_writes(takes_ms: u64) -> impl FnMut(&mut World, &Effect) -> Fate {
    move |world, effect| match effect {
        Effect::WriteAccount { .. } | Effect::WriteLimiter { .. } => {
            world.pass(Duration::from_millis(takes_ms));
            Fate::Lost(Event::Written(WriteOutcome::Unknown))
        }
        _ => Fate::Done,
    }
}

#[test]
fn a_table_that_refuses_writes_withholds_no_usable_token() {
    let reported = Intent::Token { min_ttl: Duration::from_secs(60), rejected: Some(Generation(7)) };
    for (intent, left) in [(TOKEN, Duration::from_secs(3600)), (reported, WEEK)] {
        for takes_ms in [20, 2_500] {
            let mut world = World::with_pair(left);
            world.eager = true;
            let mut flow = Flow::new(world.request(intent), Cache::default());
            world.run(&mut flow, refusing_writes(takes_ms)).unwrap();
            let waited = world.now.since(START);
            assert!(waited < 4 * SECOND, "{waited:?}");
            assert_eq!(world.count("write account"), 1);
            // The next request knows, and does not start over.
            let mut next = Flow::new(world.request(intent), flow.cache().clone());
            world.run(&mut next, refusing_writes(takes_ms)).unwrap();
            assert_eq!(world.count("write account"), 1);
        }
    }
}

#[test]
fn a_table_that_refuses_writes_is_told_as_such() {
    for takes_ms in [20, 2_500] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        assert_eq!(world.run(&mut flow, refusing_writes(takes_ms)), Err(Failure::StoreUnavailable));
        let waited = world.now.since(START);
        assert!(waited < 8 * SECOND, "{waited:?}");
        world.requested.clear();
        let mut next = Flow::new(world.request(TOKEN), flow.cache().clone());
        assert_eq!(world.run(&mut next, refusing_writes(takes_ms)), Err(Failure::StoreUnavailable));
        assert_eq!(world.count("write account"), 0, "the next request does not start over");
        world.pass(5 * SECOND);
        let mut later = Flow::new(world.request(TOKEN), flow.cache().clone());
        world.run(&mut later, |_, _| Fate::Done).unwrap();
        assert_eq!(later.cache().writes_failed_at, None);
    }
}

#[test]
fn a_new_pair_that_cannot_be_saved_is_handed_out_in_time() {
    for takes_ms in [20, 2_500] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let mut refuse = refusing_writes(takes_ms);
        world
            .run(
                &mut flow,
                |world, effect| if world.count("login") == 1 { refuse(world, effect) } else { Fate::Done },
            )
            .unwrap();
        let waited = world.now.since(START);
        assert!(waited < 4 * SECOND, "{waited:?}");
        assert!(flow.cache().pending_write.is_some());
    }
}

#[test]
fn a_slow_limiter_wears_out_no_permits() {
    for (takes_ms, outcome) in [(2_100, WriteOutcome::Applied), (2_500, WriteOutcome::Unknown)] {
        let mut world = World::new();
        let mut cache = Cache::default();
        for _ in 0..3 {
            let mut flow = Flow::new(world.request(TOKEN), cache);
            let result = world.run(&mut flow, |world, effect| match effect {
                Effect::WriteLimiter { .. } => {
                    world.pass(Duration::from_millis(takes_ms));
                    Fate::DoneBut(Event::Written(outcome))
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
fn one_slow_write_of_the_limiter_is_made_good() {
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

/// The write that dates the permit anew meets another account's. That makes it no slower.
#[test]
fn a_permit_that_meets_a_conflict_is_dated_anew_again() {
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
        Effect::Send { call: Call::Refresh(_), .. } => {
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

#[test]
fn an_operator_who_presses_often_refreshes_once_a_minute() {
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
    // A secret that cannot be read keeps no operator from refreshing.
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
    world.account.rejected_secret = Some(rejected.clone());
    let cache = Cache {
        rejected_secret: Some((rejected, START)),
        secret_failure: Some((SecretError::Unreachable, START)),
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
    let cooldown =
        Cooldown { until: world.now.plus(SECOND * 3000), reason: CooldownReason::Unavailable, failures: 9 };
    world.account.cooldown = Some(cooldown);
    world.account.young_deaths = 4;
    world.account.lease = Some(Lease { holder: Holder(1), until: world.now });
    world.requested.clear();
    let mut unblock = Flow::new(world.request(Intent::Unblock), Cache::default());
    world.run(&mut unblock, |_, _| Fate::Done).unwrap();
    assert_eq!(world.requested, ["read account", "write account"], "nothing is sent");
    let version = world.account.version;
    assert_eq!(world.account, Account { version, ..Account::default() });
    world.token().unwrap();
}

#[test]
fn unblock_waits_for_the_lease_and_decides_again_after_a_conflict() {
    let mut world = World::new();
    world.account.rejected_secret = Some(SecretVersion("v1".to_owned()));
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

fn revocation(token: &str) -> Revocation {
    let (token, expires_at) = (Secret::from(token), START.plus(WEEK));
    Revocation { token, kind: TokenKind::Access, origin: Origin::default(), expires_at }
}

#[test]
fn revocations_that_hang_do_not_starve_the_others() {
    let mut world = World::new();
    let tokens = ["dead 1", "dead 2", "dead 3", "reachable"];
    world.account = Account {
        version: Version(7),
        pending_revocations: tokens.map(revocation).to_vec(),
        ..Account::default()
    };
    for _ in 0..2 {
        let mut flow = Flow::new(world.request(Intent::Maintain), Cache::default());
        world
            .run(&mut flow, |world, effect| match effect {
                Effect::Send { call: Call::Revoke(revocation), not_after } if world.now <= *not_after => {
                    if revocation.token.expose().starts_with("dead") {
                        world.pass(5 * SECOND);
                        return Fate::Lost(replied(&UpstreamReply::Unclear));
                    }
                    Fate::Done
                }
                _ => Fate::Done,
            })
            .unwrap();
        world.pass(Duration::from_secs(300));
    }
    assert!(!world.pending().contains(&"reachable"), "{:?}", world.pending());
    assert!(world.account.garbage_collection_time().is_some());
    world.pass(WEEK);
    let mut last = Flow::new(world.request(Intent::Maintain), Cache::default());
    world.run(&mut last, |_, _| Fate::Done).unwrap();
    assert_eq!(world.pending(), Vec::<&str>::new(), "expired tokens are given up");
}

#[test]
fn a_rate_limited_revocation_is_the_last_of_its_run() {
    let mut world = World::new();
    let pending_revocations = ["first", "second", "third"].map(revocation).to_vec();
    world.account = Account { version: Version(7), pending_revocations, ..Account::default() };
    let mut flow = Flow::new(world.request(Intent::Maintain), Cache::default());
    world.run(&mut flow, answering("revoke", UpstreamReply::RateLimited(None))).unwrap();
    assert_eq!((world.count("revoke"), world.pending()), (1, vec!["second", "third", "first"]));
}

#[test]
fn a_revocation_never_ends_the_current_pair() {
    let mut world = World::with_pair(WEEK);
    let mut operator = Flow::new(world.request(Intent::Revoke), Cache::default());
    world.run(&mut operator, answering("revoke", UpstreamReply::NeverLeft)).unwrap();
    assert_eq!(world.pending(), ["refresh 0", "access 0"]);
    // A login of the same user returns the session that there is.
    let same = Granted {
        access_token: Secret::from("access 0"),
        refresh_token: Some(Secret::from("refresh 0")),
        ..granted(1)
    };
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut flow, answering("login", UpstreamReply::Granted(same))).unwrap();
    assert_eq!(world.pending(), Vec::<&str>::new());
    world.requested.clear();
    world.account.pending_revocations = vec![revocation("access 0"), revocation("other")];
    let mut schedule = Flow::new(world.request(Intent::Maintain), Cache::default());
    world.run(&mut schedule, |_, _| Fate::Done).unwrap();
    assert_eq!((world.count("revoke"), world.pending().len()), (1, 0), "only the other one was sent");
}

#[test]
fn a_malformed_revocation_is_told_from_a_revoked_token() {
    let mut world = World::new();
    world.account =
        Account { version: Version(7), pending_revocations: vec![revocation("t")], ..Account::default() };
    let mut flow = Flow::new(world.request(Intent::Maintain), Cache::default());
    world.run(&mut flow, answering("revoke", UpstreamReply::Refused)).unwrap();
    assert_eq!(world.pending(), ["t"]);
    let notices = flow.take_notices();
    assert!(notices.contains(&Notice::RevocationRefused));
    assert!(!notices.contains(&Notice::RevocationsDropped(0)));
}

#[test]
fn tokens_that_expired_before_their_revocation_are_reported() {
    let mut world = World::new();
    let expired = |token| Revocation { expires_at: START, ..revocation(token) };
    world.account.pending_revocations = vec![expired("a"), revocation("b"), expired("c")];
    let mut flow = Flow::new(world.request(Intent::Maintain), Cache::default());
    world.run(&mut flow, |_, _| Fate::Done).unwrap();
    assert_eq!((world.count("revoke"), world.pending()), (1, vec![]));
    let dropped = |notice: &&Notice| matches!(notice, Notice::RevocationsDropped(_));
    let notices = flow.take_notices();
    assert_eq!(notices.iter().filter(dropped).collect::<Vec<_>>(), [&Notice::RevocationsDropped(2)]);
}

#[test]
fn a_withdrawn_pair_beyond_the_cap_is_reported() {
    let mut world = World::with_pair(WEEK);
    world.account.pending_revocations =
        (0..MAX_PENDING_REVOCATIONS).map(|number| revocation(&format!("t{number}"))).collect();
    let mut flow = Flow::new(world.request(Intent::Revoke), Cache::default());
    world.run(&mut flow, answering("revoke", UpstreamReply::NeverLeft)).unwrap();
    assert_eq!(world.pending().len(), MAX_PENDING_REVOCATIONS);
    assert!(flow.take_notices().contains(&Notice::RevocationsDropped(2)));

    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(world.request(Intent::Revoke), Cache::default());
    world.run(&mut flow, |_, _| Fate::Done).unwrap();
    let notices = flow.take_notices();
    assert!(!notices.iter().any(|notice| matches!(notice, Notice::RevocationsDropped(_))), "{notices:?}");
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
        assert_eq!((world.count("read account"), world.count("read secret")), (1, 1), "{failure:?}");
        world.pass(5 * SECOND);
        assert!(cache.is_forgettable(cx(world.now, Draw(1))));
        world.secret = Ok(credentials("v1"));
        world.run(&mut Flow::new(world.request(TOKEN), cache), |_, _| Fate::Done).unwrap();
    }
}

#[test]
fn an_upstream_that_fails_for_an_hour_gets_few_attempts_ahead_of_time() {
    let mut world = World::with_pair(Duration::from_secs(86_400));
    world.account.pair.as_mut().unwrap().issued_at = START.minus(6 * 24 * 3600 * SECOND);
    world.pass(Duration::from_secs(9_000));
    let begun = world.now;
    while world.now.since(begun) < Duration::from_secs(3600) {
        let mut flow = Flow::new(world.request(Intent::Maintain), Cache::default());
        let failing = |world: &mut World, effect: &Effect| match effect.name() {
            "login" | "refresh" => {
                world.pass(SECOND);
                Fate::Lost(replied(&UpstreamReply::Unclear))
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
    own.origin.oauth_url = crate::UpstreamUrl::parse("https://oauth.example").ok();
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
fn an_unreadable_item_is_told_to_requests_that_waited() {
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
