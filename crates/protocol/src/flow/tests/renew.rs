//! The upstream's answers, and their consequences.

use super::*;

#[test]
fn a_pair_that_expires_is_refreshed_not_logged_in_again() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let answer = world.token().unwrap();
    assert_eq!(
        world.requested,
        ["read account", "pause", "read account", "write account", "refresh", "write account"]
    );
    assert!(answer.generation > Generation(7));
    assert_eq!(world.pair().obtained_by, ObtainedBy::Refresh);
    assert!(!world.consumed());
}

#[test]
fn f01_two_instances_do_not_send_the_same_refresh_token() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut slow = Flow::new(world.request(TOKEN), Cache::default());
    world
        .run(&mut slow, |world, effect| {
            if world.is_first(effect, "write account") {
                world.token().unwrap();
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!(world.count("refresh"), 1);
}

#[test]
fn a_refresh_is_not_resent_after_a_lost_reply() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let failure = fails(&mut world, "refresh", UpstreamReply::UNEXPECTED);
    assert!(matches!(failure, Failure::UpstreamUnavailable { .. }));
    assert!(world.consumed());
    assert_eq!(world.account.failures(), 1);
    assert!(matches!(world.token(), Err(Failure::UpstreamUnavailable { .. })), "it is in cooldown");
    world.pass(Duration::from_secs(60));
    world.token().unwrap();
    assert_eq!((world.count("refresh"), world.count("login")), (1, 1));
}

#[test]
fn a_refresh_that_never_left_is_sent_after_the_cooldown() {
    for reply in [UpstreamReply::NeverLeft, UpstreamReply::RateLimited(None)] {
        let mut world = World::with_pair(Duration::from_secs(30));
        fails(&mut world, "refresh", reply.clone());
        assert!(!world.consumed(), "{reply:?}");
        assert!(world.account.cooldown.is_some());
        world.pass(Duration::from_secs(120));
        world.token().unwrap();
        assert_eq!((world.count("refresh"), world.count("login")), (2, 0), "{reply:?}");
    }
}

#[test]
fn a_dead_refresh_token_leads_to_a_login_under_the_same_lease() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let answer = world.run(&mut flow, answering("refresh", UpstreamReply::Unauthorized)).unwrap();
    assert_eq!(
        world.requested,
        [
            "read account",
            "pause",
            "read account",
            "write account",
            "refresh",
            "read secret",
            "read limiter",
            "write limiter",
            "login",
            "write account"
        ]
    );
    assert_eq!(answer.served_from, ServedFrom::Upstream);
    assert_eq!(world.pair().obtained_by, ObtainedBy::Login);
}

#[test]
fn a_refused_refresh_leads_to_a_login_while_time_allows() {
    for (late_ms, next) in [(0, "read secret"), (1, "write account"), (1_000, "write account")] {
        let mut world = World::with_pair(Duration::from_secs(30));
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        world
            .run(&mut flow, |world, effect| match effect {
                Effect::Send { call: Call::Refresh(..), not_after } => {
                    world.now = not_after.plus(Duration::from_millis(late_ms));
                    Fate::Lost(replied(&UpstreamReply::Unauthorized))
                }
                _ => Fate::Done,
            })
            .unwrap();
        let after = world.requested.iter().skip_while(|requested| *requested != "refresh").nth(1);
        assert_eq!(after.map(String::as_str), Some(next), "{late_ms} ms too late");
    }
}

#[test]
fn a_rejected_secret_is_not_tried_after_a_refused_refresh() {
    let mut world = World::with_pair(Duration::from_secs(30));
    world.account.rejected_secret = Some(testing::rejection("v1", world.now));
    let failure = fails(&mut world, "refresh", UpstreamReply::Unauthorized);
    assert_eq!(failure, Failure::CredentialsRejected(SecretVersion("v1".to_owned())));
    assert_eq!((world.count("login"), world.account.lease), (0, None));
}

#[test]
fn a_usable_token_is_answered_when_its_renewal_fails() {
    for reply in [
        UpstreamReply::UNEXPECTED,
        UpstreamReply::NeverLeft,
        UpstreamReply::RateLimited(None),
        UpstreamReply::Unauthorized,
    ] {
        let mut world = World::with_pair(Duration::from_secs(3600));
        world.secret = Err(SecretError::Unreachable);
        world.eager = true;
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let answer = world.run(&mut flow, answering("refresh", reply.clone())).unwrap();
        assert_eq!((answer.generation, answer.served_from), (Generation(7), ServedFrom::Table), "{reply:?}");
        assert_eq!(world.count("refresh"), 1, "it was tried");
    }
}

#[test]
fn f20_a_rejected_password_is_not_tried_again() {
    let mut world = World::new();
    let failure = fails(&mut world, "login", UpstreamReply::Unauthorized);
    assert_eq!(failure, Failure::CredentialsRejected(SecretVersion("v1".to_owned())));
    let rejected = world.account.rejected_secret.as_ref().map(|rejected| rejected.version.0.as_str());
    assert_eq!(rejected, Some("v1"));
    assert_eq!(
        (world.count("login"), world.count("read secret")),
        (1, 2),
        "it was read again before the version was rejected"
    );
    for _ in 0..3 {
        assert!(matches!(world.token(), Err(Failure::CredentialsRejected(_))));
        world.pass(Duration::from_secs(3600));
    }
    assert_eq!(world.count("login"), 1);
    world.secret = Ok(credentials("v2"));
    world.token().unwrap();
    assert_eq!(world.account.rejected_secret, None);
}

#[test]
fn a_login_refused_during_a_rotation_tries_the_newer_version() {
    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let result = world.run(&mut flow, |world, effect| {
        if effect.name() == "login" && world.count("login") == 1 {
            world.secret = Ok(credentials("v2"));
            return Fate::Lost(replied(&UpstreamReply::Unauthorized));
        }
        Fate::Done
    });
    assert!(result.is_ok());
    assert_eq!(
        (world.count("login"), world.limiter.permits.len()),
        (2, 2),
        "a second permit for the second login"
    );

    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let result = world.run(&mut flow, |world, effect| {
        if effect.name() == "login" {
            let next = format!("v{}", world.count("login") + 1);
            world.secret = Ok(credentials(&next));
            return Fate::Lost(replied(&UpstreamReply::Unauthorized));
        }
        Fate::Done
    });
    assert_eq!(result, Err(Failure::CredentialsRejected(SecretVersion("v2".to_owned()))), "and no third one");
}

#[test]
fn a_rejected_secret_is_reread_after_a_while_only() {
    let mut world = World::new();
    let mut first = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut first, answering("login", UpstreamReply::Unauthorized)).unwrap_err();
    world.requested.clear();
    let mut soon = Flow::new(world.request(TOKEN), first.cache().clone());
    world.run(&mut soon, |_, _| Fate::Done).unwrap_err();
    assert_eq!(world.requested, ["read account"]);
    world.pass(Duration::from_secs(30));
    let mut later = Flow::new(world.request(TOKEN), first.cache().clone());
    world.run(&mut later, |_, _| Fate::Done).unwrap_err();
    assert_eq!(world.count("read secret"), 1);
}

#[test]
fn f03_a_429_puts_the_whole_fleet_into_cooldown() {
    for (requested, at_least) in [(None, 60), (Some(5), 60), (Some(120), 120), (Some(1_000_000), 3600)] {
        let mut world = World::new();
        let failure =
            fails(&mut world, "login", UpstreamReply::RateLimited(requested.map(Duration::from_secs)));
        assert!(matches!(failure, Failure::UpstreamRateLimited { .. }));
        let seconds = failure.retry_after_seconds().unwrap();
        assert!((at_least..=at_least * 11 / 10).contains(&seconds), "{requested:?}: {seconds}");
        assert!(world.limiter.blocked_until.is_some());
        // Another account of the fleet, a moment later.
        world.account = Account::default();
        world.pass(Duration::from_secs(10));
        assert!(matches!(world.token(), Err(Failure::UpstreamRateLimited { .. })));
        assert_eq!(world.count("login"), 1);
    }
}

#[test]
fn f03_after_a_429_the_next_request_finds_the_others_pair() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let mut limited = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut limited, answering("refresh", UpstreamReply::RateLimited(None))).unwrap_err();
    // An instance that was paused beyond its lease saves its pair after all.
    world.account.pair = Some(pair(WEEK));
    world.pass(Duration::from_secs(1));
    world.requested.clear();
    let mut later = Flow::new(world.request(TOKEN), limited.cache().clone());
    world.run(&mut later, |_, _| Fate::Done).unwrap();
    assert_eq!(world.requested, ["read account"]);
}

#[test]
fn the_budget_counts_all_accounts_and_says_when_it_is_free() {
    let mut world = World::new();
    for number in 0..5 {
        world.account = Account::default();
        let account = AccountName::parse(&format!("other-{number}")).unwrap();
        let request = Request { account, ..world.request(TOKEN) };
        world.run(&mut Flow::new(request, Cache::default()), |_, _| Fate::Done).unwrap();
    }
    world.account = Account::default();
    let failure = world.token().unwrap_err();
    assert!(matches!(failure, Failure::LoginBudgetExhausted { .. }));
    assert_eq!(world.count("login"), 5);
    assert_eq!(world.account.failures(), 0, "nothing has failed");
    world.pass(Duration::from_secs(failure.retry_after_seconds().unwrap()));
    world.token().unwrap();
}

#[test]
fn a_refresh_does_not_clear_the_rejected_secret() {
    let mut world = World::with_pair(Duration::from_secs(30));
    let rejected_secret = Some(testing::rejection("v1", START));
    world.account.rejected_secret.clone_from(&rejected_secret);
    world.token().unwrap();
    assert_eq!(
        (world.pair().obtained_by, &world.account.rejected_secret),
        (ObtainedBy::Refresh, &rejected_secret)
    );
}

#[test]
fn a_token_that_no_record_can_hold_is_dropped() {
    let of_bytes = |bytes| Secret::new("x".repeat(bytes));
    let long = || of_bytes(crate::MAX_TOKEN_BYTES + 1);
    let mut world = World::new();
    let longest = TokenResponse { access_token: of_bytes(crate::MAX_TOKEN_BYTES), ..granted(1) };
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    assert!(world.run(&mut flow, answering("login", UpstreamReply::Granted(longest))).is_ok());
    let mut world = World::new();
    let access_token = long();
    let failure =
        fails(&mut world, "login", UpstreamReply::Granted(TokenResponse { access_token, ..granted(1) }));
    assert!(matches!(failure, Failure::UpstreamUnavailable { .. }), "{failure:?}");
    assert!(world.account.cooldown.is_some());
    // The access token is kept, and the refresh token that was sent stays consumed.
    let mut world = World::with_pair(Duration::from_secs(30));
    let refresh_token = NewRefreshToken::Token(long());
    let reply = UpstreamReply::Granted(TokenResponse { refresh_token, ..granted(1) });
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let answer = world.run(&mut flow, answering("refresh", reply)).unwrap();
    assert_eq!((answer.access_token.expose(), world.consumed()), ("access 1", true));
    assert!(flow.take_notices().contains(&Notice::TokenTooLong));
}

#[test]
fn an_impossible_expiry_of_a_refresh_token_is_reported() {
    let noticed = |refresh_expiry| {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let reply = UpstreamReply::Granted(TokenResponse { refresh_expiry, ..granted(1) });
        world.run(&mut flow, answering("login", reply)).unwrap();
        flow.take_notices().contains(&Notice::RefreshExpiryDropped)
    };
    let century = Duration::from_secs(100 * 365 * 86_400);
    assert!(noticed(Expiry::In(century)) && noticed(Expiry::At(START)));
    assert!(!noticed(Expiry::Unknown) && !noticed(Expiry::In(WEEK)));
}
