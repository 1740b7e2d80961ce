//! Grants that only a person can renew.

use super::{revocations::revocation, *};

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
