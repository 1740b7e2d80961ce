//! Grants that only a person can renew.

use super::{revocations::revocation, *};
use crate::{GrantHealth, Login, REJECTED_SECRET_RECHECK, RefreshToken, Unclear};

/// A new grant, none of whose tokens has been sent.
fn world() -> World {
    let mut world = World::new();
    world.secret = Ok(testing::grant("v1", "bootstrap"));
    world
}

fn down(_: &mut World, effect: &Effect) -> Fate {
    match effect {
        Effect::WriteAccount { .. } => Fate::Lost(Event::Written(WriteOutcome::Unknown)),
        Effect::ReadAccount => Fate::Lost(Event::Account(Err(StoreError::Unreachable))),
        _ => Fate::Done,
    }
}

/// The cache of an instance that has obtained a pair and could not save it.
fn unsaved(world: &mut World) -> Cache {
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let fate = |world: &mut World, effect: &Effect| {
        if world.count("refresh") == 1 { down(world, effect) } else { Fate::Done }
    };
    world.run(&mut flow, fate).unwrap();
    assert!(world.account.pair.is_none() && flow.cache().pending_write.is_some());
    flow.cache().clone()
}

fn operate(world: &mut World, intent: Intent) {
    let mut operator = Flow::new(world.request(intent), Cache::default());
    world.run(&mut operator, |_, _| Fate::Done).unwrap();
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn an_unsaved_pair_is_revoked_if_its_grant_was_revoked() {
    let mut world = world();
    let cache = unsaved(&mut world);
    world.pass(MINUTE);
    operate(&mut world, Intent::RevokeConfirmed);
    assert_eq!((world.count("revoke"), world.pending().len()), (1, 0), "the grant on trial");
    let mut flow = Flow::new(world.request(TOKEN), cache);
    assert_eq!(world.run(&mut flow, |_, _| Fate::Done), Err(Failure::GrantLost));
    assert_eq!(world.pending(), ["refresh 1", "access 1"]);
}

#[test]
fn an_unsaved_pair_is_not_served_while_its_grant_is_revoked() {
    let mut world = world();
    let cache = unsaved(&mut world);
    world.pass(MINUTE);
    let mut crashed = Flow::new(world.request(Intent::RevokeConfirmed), Cache::default());
    world.drive_to(&mut crashed, "revoke");
    let mut flow = Flow::new(world.request(TOKEN), cache);
    assert_eq!(world.run(&mut flow, |_, _| Fate::Done), Err(Failure::GrantLost));
    assert_eq!(world.pending(), ["bootstrap", "refresh 1", "access 1"]);
}

#[test]
fn an_unsaved_pair_is_served_while_another_attempt_runs() {
    let mut world = world();
    let cache = unsaved(&mut world);
    world.pass(MINUTE);
    let mut other = Flow::new(world.request(TOKEN), Cache::default());
    world.drive_to(&mut other, "refresh");
    let mut flow = Flow::new(world.request(TOKEN), cache);
    let answer = world.run(&mut flow, |_, _| Fate::Done).unwrap();
    assert_eq!(answer.access_token, Secret::from("access 1"));
    let mut cut_off = Flow::new(world.request(TOKEN), flow.cache().clone());
    assert_eq!(world.run(&mut cut_off, down), Ok(answer), "the table is unreachable");
}

#[test]
fn a_confirmed_revocation_includes_a_pair_saved_meanwhile() {
    // An older revocation may be pending.
    for pending in [&[][..], &["old"]] {
        let mut world = world();
        world.account.pending_revocations = pending.iter().map(|token| revocation(token)).collect();
        // The record of a grant, even without a pair.
        world.account.grant = Some(Box::default());
        assert_eq!(revokes_a_pair_saved_meanwhile(&mut world), 2 + pending.len());
    }
}

/// Revokes the grant while its first pair is obtained. Returns how many tokens were revoked.
fn revokes_a_pair_saved_meanwhile(world: &mut World) -> usize {
    let mut renewal = Flow::new(world.request(TOKEN), Cache::default());
    let call = world.drive_to(&mut renewal, "refresh");
    let mut operator = Flow::new(world.request(Intent::RevokeConfirmed), Cache::default());
    let mut saved = None;
    world
        .run(&mut operator, |world, effect| {
            if world.is_first(effect, "pause") {
                let reply = world.perform(call.clone());
                let save = performed(world.step(&mut renewal, Some(reply)));
                world.perform(save);
                saved = world.account.generation();
            }
            Fate::Done
        })
        .unwrap();
    assert!(saved.is_some() && world.account.pair.is_none());
    assert_eq!(world.pending(), Vec::<&str>::new());
    world.count("revoke")
}

#[test]
fn a_confirmed_revocation_includes_each_refresh_meanwhile() {
    let mut world = world();
    world.token().unwrap();
    world.pass(WEEK);
    let mut refresh = Flow::new(world.request(TOKEN), Cache::default());
    let call = world.drive_to(&mut refresh, "refresh");
    let mut operator = Flow::new(world.request(Intent::RevokeConfirmed), Cache::default());
    let mut call = Some(call);
    world
        .run(&mut operator, |world, effect| {
            if let Some(call) = call.take_if(|_| effect.name() == "pause") {
                let reply = world.perform(call);
                let save = performed(world.step(&mut refresh, Some(reply)));
                world.perform(save);
                operate(world, Intent::Replace);
            }
            Fate::Done
        })
        .unwrap();
    assert_eq!((world.count("refresh"), world.count("revoke")), (3, 2));
    assert!(world.account.pair.is_none());
}

#[test]
fn a_mark_of_a_token_that_never_left_is_taken_back() {
    let mut world = world();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    // The first write takes the lease. The second one is the mark, which is tried three times.
    let result = world.run(&mut flow, |world, effect| match (effect, world.count("write account")) {
        (Effect::WriteAccount { .. }, 2..=4) => Fate::DoneBut(Event::Written(WriteOutcome::Unknown)),
        (Effect::ReadAccount, 2..=4) => Fate::Lost(Event::Account(Err(StoreError::Unreachable))),
        _ => Fate::Done,
    });
    assert_eq!(result, Err(Failure::StoreUnavailable { retry_after: STORE_RETRY }));
    assert_eq!((world.count("write account"), world.count("refresh")), (6, 0));
    assert_eq!(
        (world.account.lease, world.account.grant.as_deref()),
        (None, Some(&crate::GrantState::default()))
    );
    world.token().unwrap();
}

#[test]
fn a_lost_token_is_sent_once_more_for_each_sign_of_a_repair() {
    let mut world = world();
    let sent = |world: &mut World| {
        world.requested.clear();
        for _ in 0..3 {
            assert_eq!(fails(world, "refresh", UpstreamReply::Unauthorized), Failure::GrantLost);
            world.pass(MINUTE);
        }
        world.count("refresh")
    };
    assert_eq!((sent(&mut world), sent(&mut world)), (1, 0), "it is lost");
    world.secret = Ok(testing::grant("v2", "bootstrap"));
    assert_eq!((sent(&mut world), sent(&mut world)), (1, 0), "a new version of the secret");
    operate(&mut world, Intent::Unblock);
    assert_eq!((sent(&mut world), sent(&mut world)), (1, 0), "an operator");
}

#[test]
fn a_lost_grant_reads_the_secret_once_in_half_a_minute() {
    let mut world = world();
    assert_eq!(fails(&mut world, "refresh", UpstreamReply::Unauthorized), Failure::GrantLost);
    let mut cache = Cache::default();
    let mut reads = |world: &mut World| {
        world.requested.clear();
        let mut flow = Flow::new(world.request(TOKEN), cache.clone());
        assert_eq!(world.run(&mut flow, |_, _| Fate::Done).unwrap_err(), Failure::GrantLost);
        cache = flow.cache().clone();
        world.count("read secret")
    };
    assert_eq!((reads(&mut world), reads(&mut world)), (1, 0));
    world.pass(REJECTED_SECRET_RECHECK);
    assert_eq!(reads(&mut world), 1);
}

#[test]
fn a_mark_lasts_until_no_copy_of_the_call_can_arrive() {
    let mut world = world();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let Effect::WriteAccount { next, .. } = world.drive_to(&mut flow, "write account") else {
        unreachable!()
    };
    assert!(next.grant.is_some() && next.lease.is_some(), "the lease is of a grant, which is stored apart");
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let Ok(Login::OAuth2 { client, .. }) = world.secret.as_mut().map(|secret| &mut secret.login) else {
        panic!()
    };
    client.resend_within = MINUTE;
    world.drive_to(&mut flow, "refresh");
    assert_eq!(world.account.grant.as_ref().unwrap().resend_within, MINUTE);
    let mark = world.account.grant.as_ref().unwrap().current().mark.unwrap();
    let deadline = world.request(TOKEN).deadline;
    assert_eq!(mark.settled_at, deadline.plus(POLICY.longest_travel() + POLICY.clock_margin));
}

#[test]
fn a_pause_leaves_half_of_the_grace_period() {
    let paused = |grace: Duration| {
        let mut world = world();
        let Ok(Login::OAuth2 { client, .. }) = world.secret.as_mut().map(|secret| &mut secret.login) else {
            panic!()
        };
        client.resend_within = grace;
        let (sent_at, retry_after) = (world.now, Some(MINUTE * 60));
        let reply = UpstreamReply::Unclear(Unclear::Unexpected { retry_after });
        fails(&mut world, "refresh", reply);
        world.account.cooldown.unwrap().until.since(sent_at)
    };
    let settled = POLICY.longest_travel();
    let grace = MINUTE * 10;
    assert_eq!(paused(grace), settled + grace.saturating_sub(settled * 2) / 2);
    assert!(paused(Duration::ZERO) >= MINUTE * 60);
    assert!(paused(settled) >= MINUTE * 60, "it is over before the token may be sent again");
}

#[test]
fn a_mark_that_stays_costs_a_wait_only() {
    let mut world = world();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    world
        .run(&mut flow, |world, effect| match effect {
            Effect::WriteAccount { .. } if world.count("write account") == 2 => {
                Fate::DoneBut(Event::Written(WriteOutcome::Unknown))
            }
            _ if world.count("write account") < 2 => Fate::Done,
            effect => down(world, effect),
        })
        .unwrap_err();
    assert_eq!(world.account.grant.as_ref().unwrap().health(), GrantHealth::InDoubt);
    assert_eq!(world.count("refresh"), 0);
    world.now = world.account.grant.as_ref().unwrap().current().mark.unwrap().settled_at;
    world.token().unwrap();
}

#[test]
fn a_renewed_grant_is_sound() {
    let mut world = world();
    for refreshes in 1..=3 {
        world.token().unwrap();
        assert_eq!(world.account.grant.as_ref().unwrap().health(), GrantHealth::Sound);
        assert_eq!(world.count("refresh"), refreshes);
        world.pass(WEEK);
    }
}

#[test]
fn a_token_without_a_successor_keeps_its_expiry() {
    let until = Some(START.plus(WEEK));
    for (bootstrap, expiry) in [("refresh 0", until), ("another", None)] {
        let mut world = World::with_pair(30 * SECOND);
        world.secret = Ok(testing::grant("v1", bootstrap));
        let pair = world.account.pair.as_mut().unwrap();
        pair.origin = testing::grant("v1", bootstrap).origin;
        pair.refresh_token.as_mut().unwrap().expires_at = until;
        world.account.grant = Some(Box::default());
        let reply =
            UpstreamReply::Granted(TokenResponse { refresh_token: NewRefreshToken::Absent, ..granted(1) });
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        world.run(&mut flow, answering("refresh", reply)).unwrap();
        let kept = RefreshToken { expires_at: expiry, ..testing::refresh_token(bootstrap) };
        assert_eq!(world.pair().refresh_token, Some(kept));
    }
}

#[test]
fn a_mark_ends_if_the_call_was_certainly_not_carried_out() {
    for (reply, is_in_doubt) in [
        (UpstreamReply::NeverLeft, false),
        (UpstreamReply::RateLimited(None), false),
        (UpstreamReply::ClientRefused, false),
        (UpstreamReply::Refused, true),
        (UpstreamReply::UNEXPECTED, true),
        (UpstreamReply::Unclear(Unclear::NoResponse), true),
    ] {
        let mut world = world();
        fails(&mut world, "refresh", reply.clone());
        let grant = world.account.grant.as_ref().unwrap();
        assert_eq!(
            (grant.current().mark.is_some(), grant.sent.len()),
            (is_in_doubt, is_in_doubt.into()),
            "{reply:?}"
        );
    }
}

#[test]
fn an_account_does_not_change_between_a_grant_and_a_login() {
    let other = |result| matches!(result, Err(Failure::BadSecret(_)));
    let mut world = world();
    world.token().unwrap();
    world.pass(WEEK);
    world.secret = Ok(credentials("v2"));
    assert!(other(world.token()));
    let mut world = World::with_pair(Duration::ZERO);
    world.secret = Ok(testing::grant("v2", "bootstrap"));
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    assert!(
        other(world.run(&mut flow, answering("refresh", UpstreamReply::Unauthorized))),
        "under the lease"
    );
    assert!(other(world.token()));
    assert_eq!(world.count("login"), 0);
}

fn is_mark(effect: &Effect) -> bool {
    let Effect::WriteAccount { next, .. } = effect else { return false };
    next.grant.as_ref().is_some_and(|grant| grant.current().mark.is_some()) && next.pair.is_none()
}

#[test]
fn a_mark_that_was_not_written_is_written_again() {
    let mut world = world();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let mut marks = 0;
    let result = world.run(&mut flow, |_, effect| {
        marks += u32::from(is_mark(effect));
        let is_lost = is_mark(effect) && marks < 3;
        if is_lost { Fate::Lost(Event::Written(WriteOutcome::Unknown)) } else { Fate::Done }
    });
    assert!(result.is_ok() && world.now.since(START) < SECOND, "{:?}", world.requested);
    assert_eq!((marks, world.count("refresh")), (3, 1));
}

#[test]
fn a_mark_whose_reply_was_lost_is_recognised() {
    let mut world = world();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let result = world.run(&mut flow, |_, effect| {
        if is_mark(effect) { Fate::DoneBut(Event::Written(WriteOutcome::Unknown)) } else { Fate::Done }
    });
    assert!(result.is_ok(), "{result:?}");
    assert_eq!((world.count("write account"), world.count("pause"), world.count("refresh")), (3, 0, 1));
}

#[test]
fn a_mark_that_cannot_be_written_sends_nothing() {
    for (each, tries) in [(Duration::ZERO, 3), (4 * SECOND, 2)] {
        let mut world = world();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let mut marks = 0;
        let result = world.run(&mut flow, |world, effect| {
            if !is_mark(effect) {
                return Fate::Done;
            }
            marks += 1;
            world.pass(each);
            Fate::Lost(Event::Written(WriteOutcome::Unknown))
        });
        assert_eq!(result, Err(Failure::StoreUnavailable { retry_after: STORE_RETRY }));
        assert_eq!((marks, world.count("refresh"), world.account.lease), (tries, 0, None), "{each:?}");
    }
}

#[test]
fn a_mark_gives_way_to_another_attempts_write() {
    let mut world = world();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let mut is_first = true;
    let result = world.run(&mut flow, |world, effect| {
        if is_mark(effect) && std::mem::take(&mut is_first) {
            let version = Version(world.account.version.0 + 1);
            world.account = Account { version, lease: None, ..world.account.clone() };
        }
        Fate::Done
    });
    assert!(result.is_ok(), "{result:?}");
    assert_eq!((world.count("pause"), world.count("refresh")), (0, 1), "{:?}", world.requested);
}
