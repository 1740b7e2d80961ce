//! Pending revocations.

use super::*;
use crate::MAX_PENDING_REVOCATIONS;

pub(super) fn revocation(token: &str) -> Revocation {
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
        let mut flow = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
        world
            .run(&mut flow, |world, effect| match effect {
                Effect::Send { call: Call::Revoke(revocation, _), not_after } if world.now <= *not_after => {
                    if revocation.token.expose().starts_with("dead") {
                        world.pass(5 * SECOND);
                        return Fate::Lost(replied(&UpstreamReply::UNEXPECTED));
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
    let mut last = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
    world.run(&mut last, |_, _| Fate::Done).unwrap();
    assert_eq!(world.pending(), Vec::<&str>::new(), "expired tokens are given up");
}

#[test]
fn a_rate_limited_revocation_is_the_last_of_its_run() {
    let mut world = World::new();
    let pending_revocations = ["first", "second", "third"].map(revocation).to_vec();
    world.account = Account { version: Version(7), pending_revocations, ..Account::default() };
    let mut flow = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
    world.run(&mut flow, answering("revoke", UpstreamReply::RateLimited(None))).unwrap();
    assert_eq!((world.count("revoke"), world.pending()), (1, vec!["second", "third", "first"]));
}

#[test]
fn a_revocation_never_ends_the_current_pair() {
    let mut world = World::with_pair(WEEK);
    let mut operator = Flow::new(world.request(Intent::Revoke), Cache::default());
    world.run(&mut operator, answering("revoke", UpstreamReply::NeverLeft)).unwrap();
    assert_eq!(world.pending(), ["refresh 0", "access 0"]);
    // A login of the same user returns the existing session.
    let same = TokenResponse {
        access_token: Secret::from("access 0"),
        refresh_token: NewRefreshToken::Token(Secret::from("refresh 0")),
        ..granted(1)
    };
    let mut flow = Flow::new(world.request(TOKEN), Cache::default());
    world.run(&mut flow, answering("login", UpstreamReply::Granted(same))).unwrap();
    assert_eq!(world.pending(), Vec::<&str>::new());
    world.requested.clear();
    world.account.pending_revocations = vec![revocation("access 0"), revocation("other")];
    let mut schedule = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
    world.run(&mut schedule, |_, _| Fate::Done).unwrap();
    assert_eq!((world.count("revoke"), world.pending().len()), (1, 0), "only the other one was sent");
}

#[test]
fn a_malformed_revocation_is_not_a_revoked_token() {
    let mut world = World::new();
    world.account =
        Account { version: Version(7), pending_revocations: vec![revocation("t")], ..Account::default() };
    let mut flow = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
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
    let mut flow = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
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
fn a_withdrawal_is_reported_once_when_it_is_written() {
    let withdrawals = |flow: &mut Flow| {
        let notices = flow.take_notices();
        notices.iter().filter(|notice| matches!(notice, Notice::PairWithdrawn(_))).count()
    };
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(world.request(Intent::Revoke), Cache::default());
    let refused = |_: &mut World, effect: &Effect| match effect {
        Effect::WriteAccount { .. } => Fate::Lost(Event::Written(WriteOutcome::Unknown)),
        _ => Fate::Done,
    };
    let retry_after = crate::policy::WRITE_RETRY;
    assert_eq!(world.run(&mut flow, refused), Err(Failure::StoreUnavailable { retry_after }));
    assert!(world.count("write account") > 1);
    assert_eq!(withdrawals(&mut flow), 0, "the pair is still handed out");
    let mut flow = Flow::new(world.request(Intent::Revoke), Cache::default());
    world.run(&mut flow, |_, _| Fate::Done).unwrap();
    assert_eq!(withdrawals(&mut flow), 1);

    // The write is applied, its reply is lost, and the record cannot be read back.
    let mut world = World::with_pair(WEEK);
    let mut flow = Flow::new(world.request(Intent::Revoke), Cache::default());
    let lost = |world: &mut World, effect: &Effect| match effect {
        Effect::WriteAccount { .. } => Fate::DoneBut(Event::Written(WriteOutcome::Unknown)),
        Effect::ReadAccount if world.count("read account") > 1 => {
            Fate::Lost(Event::Account(Err(StoreError::Unreachable)))
        }
        _ => Fate::Done,
    };
    assert_eq!(world.run(&mut flow, lost), Err(Failure::StoreUnavailable { retry_after: STORE_RETRY }));
    assert_eq!((withdrawals(&mut flow), world.account.pair.is_none()), (1, true));
}
