//! A pair is saved, served from the cache, or revoked, but never lost.

use super::*;
use crate::{AccountWrite, MAX_PENDING_REVOCATIONS};

#[test]
fn f10_a_save_whose_reply_was_lost_is_recognised() {
    for lost in [WriteOutcome::Unknown, WriteOutcome::Conflict] {
        let mut world = World::new();
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let answer = world
            .run(&mut flow, |world, effect| {
                let commit = effect.name() == "write account" && world.count("login") == 1;
                if commit { Fate::DoneBut(Event::Written(lost.clone())) } else { Fate::Done }
            })
            .unwrap();
        assert_eq!(world.pair().generation, answer.generation, "{lost:?}");
        assert_eq!((world.count("login"), world.count("write account")), (1, 2));
        assert_eq!(answer.served_from, ServedFrom::Upstream, "this request obtained it");
    }
}

#[test]
fn f10_a_pair_that_cannot_be_saved_is_served_and_saved_later() {
    let mut world = World::new();
    let mut first = Flow::new(world.request(TOKEN), Cache::default());
    let down = |world: &mut World, effect: &Effect| match effect {
        Effect::WriteAccount { .. } if world.count("login") == 1 => {
            Fate::Lost(Event::Written(WriteOutcome::Unknown))
        }
        Effect::ReadAccount if world.count("login") == 1 => {
            Fate::Lost(Event::Account(Err(StoreError::Unreachable)))
        }
        _ => Fate::Done,
    };
    let answer = world.run(&mut first, down).unwrap();
    assert!(world.account.pair.is_none(), "it is not in the table");
    assert!(world.now < START.plus(Duration::from_secs(28)), "the caller was answered in time");

    // The store is still down: the cache answers, without I/O for a while and then after one try.
    let mut second = Flow::new(world.request(TOKEN), first.cache().clone());
    let again = world.run(&mut second, |_, _| Fate::Lost(Event::Written(WriteOutcome::Unknown))).unwrap();
    assert_eq!((again.generation, again.served_from), (answer.generation, ServedFrom::Memory));

    // The store is back before another attempt took over: the pair is saved without a login.
    world.pass(STORE_RETRY);
    world.account.lease = None;
    let mut third = Flow::new(world.request(TOKEN), second.cache().clone());
    world.run(&mut third, |_, _| Fate::Done).unwrap();
    assert_eq!(world.pair().generation, answer.generation);
    assert_eq!(world.count("login"), 1);
}

/// A pair that loses its lease is revoked, so no other request may have been answered with it. The only pair of a grant
/// is never revoked for that.
#[test]
fn a_pair_is_served_to_others_once_it_is_saved() {
    for (secret, call, is_shared) in
        [(credentials("v1"), "login", false), (testing::grant("v1", "bootstrap"), "refresh", true)]
    {
        let mut world = World::new();
        world.secret = Ok(secret);
        let mut flow = Flow::new(world.request(TOKEN), Cache::default());
        let effect = world.drive_to(&mut flow, call);
        let event = world.perform(effect);
        assert_eq!(performed(world.step(&mut flow, Some(event))).name(), "write account");
        let record = flow.cache().record.as_ref().unwrap();
        assert_eq!(record.account.pair.is_some(), is_shared, "{call}");
    }
}

/// A flow obtains a pair, and is paused beyond its lease before it can save it.
fn lose_lease(world: &mut World, flow: &mut Flow, mut meanwhile: impl FnMut(&mut World)) -> Answer {
    let mut lost = false;
    let answer = world.run(flow, |world, effect| {
        if effect.name() == "write account" && world.count("login") == 1 && !lost {
            lost = true;
            world.pass(Duration::from_secs(15));
            meanwhile(world);
        }
        Fate::Done
    });
    assert!(lost);
    answer.unwrap()
}

#[test]
fn f07_a_late_holder_does_not_overwrite_the_next_pair() {
    let mut world = World::new();
    let mut paused = Flow::new(world.request(TOKEN), Cache::default());
    let answer = lose_lease(&mut world, &mut paused, |world| {
        world.token().unwrap();
    });
    assert_eq!(world.pair().access_token, Secret::from("access 2"), "the later pair stays");
    assert_eq!(answer.generation, world.pair().generation);
    assert_eq!(world.pending(), ["refresh 1", "access 1"], "the late pair is to be revoked");
    let mut schedule = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
    world.run(&mut schedule, |_, _| Fate::Done).unwrap();
    assert_eq!((world.count("revoke"), world.pending().len()), (2, 0));
}

#[test]
fn an_orphan_is_not_revoked_if_a_caller_may_hold_its_tokens() {
    /// What happens while a flow that has obtained a pair is paused beyond its lease.
    type Meanwhile = fn(&mut World);
    let meanwhiles: [(&str, Meanwhile); 3] = [
        ("the upstream returns the very same tokens again", |world| {
            world.grants = 0;
            world.token().unwrap();
        }),
        ("an attempt is about to get tokens, which may be the same", |world| {
            let lease = Lease { holder: Holder(1), until: world.now.plus(Duration::from_secs(15)) };
            let version = world.account.version.next(world.now);
            world.account =
                Account { version, lease: Some(lease), pair: Some(pair(WEEK)), ..Account::default() };
        }),
        ("the pair had been saved after all, was handed out, and has been replaced since", |world| {
            let saved = world.account.version;
            let replaces = Some(Generation(saved.0));
            let version = saved.next(world.now);
            let successor = Pair { generation: Generation(version.0), replaces, ..pair(WEEK) };
            world.account = Account { version, pair: Some(successor), ..Account::default() };
        }),
    ];
    for (what, meanwhile) in meanwhiles {
        let mut world = World::new();
        let mut paused = Flow::new(world.request(TOKEN), Cache::default());
        lose_lease(&mut world, &mut paused, meanwhile);
        assert_eq!((world.count("revoke"), world.pending().len()), (0, 0), "{what}");
    }
}

#[test]
fn an_orphan_beyond_the_cap_of_pending_revocations_is_reported() {
    let revocation = |number| Revocation {
        token: Secret::new(format!("t{number}")),
        kind: TokenKind::Access,
        origin: Origin::default(),
        expires_at: START.plus(WEEK),
        retry: None,
    };
    for (pending, dropped) in [(MAX_PENDING_REVOCATIONS - 2, None), (MAX_PENDING_REVOCATIONS - 1, Some(1))] {
        let mut world = World::new();
        let mut paused = Flow::new(world.request(TOKEN), Cache::default());
        lose_lease(&mut world, &mut paused, |world| {
            world.token().unwrap();
            world.account.pending_revocations = (0..pending).map(revocation).collect();
        });
        assert_eq!(world.pending().len(), MAX_PENDING_REVOCATIONS);
        let notices = paused.take_notices();
        let reported = notices.iter().find_map(|notice| match notice {
            Notice::RevocationsDropped(tokens) => Some(*tokens),
            _ => None,
        });
        assert_eq!(reported, dropped, "{notices:?}");
    }
}

#[test]
fn an_orphan_that_cannot_be_recorded_delays_no_answer() {
    for outcome in [WriteOutcome::Conflict, WriteOutcome::Unknown] {
        let mut world = World::new();
        let mut paused = Flow::new(world.request(TOKEN), Cache::default());
        let mut lost = false;
        let mut requested = 0;
        world
            .run(&mut paused, |world, effect| {
                if effect.name() == "write account" && world.count("login") == 1 && !lost {
                    lost = true;
                    world.pass(Duration::from_secs(15));
                    world.token().unwrap();
                    requested = world.requested.len();
                } else if effect.name() == "write account" && lost {
                    return Fate::Lost(Event::Written(outcome.clone()));
                }
                Fate::Done
            })
            .unwrap();
        assert_eq!(&world.requested[requested..], ["read account", "write account"], "{outcome:?}");
    }
}

#[test]
fn a_pending_pair_that_was_handed_out_is_not_revoked() {
    let mut world = World::new();
    let mut first = Flow::new(world.request(TOKEN), Cache::default());
    world
        .run(&mut first, |world, effect| match effect {
            Effect::WriteAccount { .. } if world.count("login") == 1 => {
                Fate::Lost(Event::Written(WriteOutcome::Unknown))
            }
            Effect::ReadAccount if world.count("login") == 1 => {
                Fate::Lost(Event::Account(Err(StoreError::Unreachable)))
            }
            _ => Fate::Done,
        })
        .unwrap();
    world.pass(Duration::from_secs(15));
    world.token().unwrap();
    let mut second = Flow::new(world.request(TOKEN), first.cache().clone());
    let answer = world.run(&mut second, |_, _| Fate::Done).unwrap();
    assert_eq!(answer.generation, world.pair().generation);
    assert_eq!((world.count("revoke"), world.pending().len()), (0, 0));
    assert_eq!(second.cache().pending_write, None);
}

/// The table can be read, but carries out no write after the login.
fn unwritable(world: &mut World, effect: &Effect) -> Fate {
    match effect {
        Effect::WriteAccount { .. } if world.count("login") == 1 => {
            Fate::Lost(Event::Written(WriteOutcome::Unknown))
        }
        _ => Fate::Done,
    }
}

#[test]
fn a_pair_is_saved_for_seconds_a_failure_in_three_tries() {
    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let mut last_try = START;
    world
        .run(&mut flow, |world, effect| {
            if effect.name() == "write account" {
                last_try = world.now;
            }
            unwritable(world, effect)
        })
        .unwrap();
    assert_eq!(flow.cache().record.as_ref().map(|cached| cached.read_at.wall), Some(last_try));
    let waited = world.now.since(START);
    assert!((Duration::from_secs(1)..=Duration::from_millis(2_500)).contains(&waited), "{waited:?}");
    assert_eq!(flow.take_notices().last(), Some(&Notice::WritePending(Generation(START.as_millis()))));

    let mut world = World::new();
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    let result = world.run(&mut flow, |world, effect| match effect {
        Effect::Send { .. } => Fate::Lost(replied(&UpstreamReply::UNEXPECTED)),
        effect => unwritable(world, effect),
    });
    assert!(matches!(result, Err(Failure::UpstreamUnavailable { .. })));
    assert_eq!((world.count("write account"), world.count("pause")), (1 + 3, 2));
}

#[test]
fn a_save_is_retried_until_the_last_possible_instant() {
    let deadline = START.plus(Duration::from_secs(28));
    let last_pause = |reply: &UpstreamReply, before_ms| {
        let mut world = World::new();
        let mut last_pause = START;
        world
            .run(&mut Flow::new(world.request(TOKEN), Cache::default()), |world, effect| match effect {
                Effect::Send { .. } => {
                    world.now = deadline.minus(Duration::from_millis(before_ms));
                    Fate::Lost(replied(reply))
                }
                Effect::Pause { until } => {
                    last_pause = *until;
                    Fate::Done
                }
                effect => unwritable(world, effect),
            })
            .ok();
        last_pause
    };
    for (reply, kept_free_ms) in [(UpstreamReply::Granted(granted(1)), 1_001), (UpstreamReply::UNEXPECTED, 1)]
    {
        let latest = (0..1_500).map(|before_ms| last_pause(&reply, before_ms)).max();
        assert_eq!(latest, Some(deadline.minus(Duration::from_millis(kept_free_ms))), "{reply:?}");
    }
}

#[test]
fn a_pending_write_comes_before_an_answer_from_the_cache() {
    let mut world = World::new();
    let mut warm = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut warm, |_, _| Fate::Done).unwrap();
    // The store is back and the cached record is young, but its pair is not in the table yet.
    let mut memory = warm.cache().clone();
    let next = world.account.clone();
    world.account = Account { version: Version(7), ..Account::default() };
    memory.pending_write = Some(AccountWrite { expected: Version(7), next: next.clone() });
    let mut second = Flow::new(world.request(TOKEN), memory);
    world.run(&mut second, |_, _| Fate::Done).unwrap();
    assert_eq!((&world.account, &second.cache().pending_write), (&next, &None));
}
