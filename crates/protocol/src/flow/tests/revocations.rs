//! Pending revocations.

use super::*;
use crate::{MAX_PENDING_REVOCATIONS, Maintenance, RevocationRetry, maintenance};

pub(super) fn revocation(token: &str) -> Revocation {
    let (token, expires_at) = (Secret::from(token), START.plus(WEEK));
    Revocation { token, kind: TokenKind::Access, origin: Origin::default(), expires_at, retry: None }
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

/// The tokens that one maintenance sends, all of which get this reply two seconds later.
fn maintained(world: &mut World, reply: &UpstreamReply) -> Vec<String> {
    let mut sent = Vec::new();
    let cx = Context::new(&Policy::DEFAULT, world.now, Draw(0));
    let (version, is_due) = (world.account.version, maintenance(&AccountName::default(), &world.account, cx));
    let mut flow = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
    let answer = |world: &mut World, effect: &Effect| match effect {
        Effect::Send { call: Call::Revoke(revocation, _), .. } => {
            sent.push(revocation.token.expose().to_owned());
            world.pass(2 * SECOND);
            Fate::Lost(replied(reply))
        }
        _ => Fate::Done,
    };
    world.run(&mut flow, answer).unwrap();
    let has_written = world.account.version != version;
    assert_eq!(matches!(is_due, Maintenance::Due(_)), has_written, "only what is due takes the lease");
    sent
}

fn paused(token: &str, at: Timestamp) -> Revocation {
    Revocation { retry: Some(RevocationRetry { at, failures: 9 }), ..revocation(token) }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_refused_revocation_is_sent_at_growing_intervals() {
    for reply in [UpstreamReply::Refused, UpstreamReply::UNEXPECTED, UpstreamReply::RateLimited(None)] {
        let mut world = World::new();
        world.account.pending_revocations = vec![revocation("refused")];
        let mut runs = Vec::new();
        for run in 0..100 {
            world.now = START.plus(Duration::from_secs(300) * run);
            if run == 50 {
                world.account.add_revocations([revocation("withdrawn")]);
            }
            let sent = maintained(&mut world, &reply);
            runs.extend(sent.iter().any(|token| token == "refused").then_some(run));
            assert_eq!(
                sent.contains(&"withdrawn".to_owned()),
                [50, 51, 53, 57, 65, 81].contains(&run),
                "{run}"
            );
        }
        assert_eq!(runs, [0, 1, 3, 7, 15, 31, 62], "{reply:?}");
    }
    let mut world = World::new();
    world.account.pending_revocations = vec![revocation("refused")];
    // A week, the life of the token.
    for run in 0..=2_016 {
        world.now = START.plus(Duration::from_secs(300) * run);
        maintained(&mut world, &UpstreamReply::Refused);
    }
    assert!(world.count("revoke") < 40, "at most four a day: {}", world.count("revoke"));
    assert_eq!(world.pending(), Vec::<&str>::new(), "given up when it expires, even during a pause");
}

#[test]
fn an_operator_tries_all_at_once_and_first_what_was_not_tried() {
    let mut world = World::with_pair(WEEK);
    world.account.pending_revocations = vec![paused("refused", START.plus(HOUR))];
    let mut sent = Vec::new();
    let mut flow = Flow::new(world.request(Intent::Revoke), Cache::default());
    let refused = |_: &mut World, effect: &Effect| match effect {
        Effect::Send { call: Call::Revoke(revocation, _), .. } => {
            sent.push(revocation.token.expose().to_owned());
            Fate::Lost(replied(&UpstreamReply::Refused))
        }
        _ => Fate::Done,
    };
    world.run(&mut flow, refused).unwrap();
    assert_eq!(sent, ["refresh 0", "access 0", "refused"]);
}

#[test]
fn an_unblocked_account_is_tried_at_the_next_maintenance() {
    let mut world = World::new();
    world.account.pending_revocations = vec![paused("refused", START.plus(HOUR))];
    assert_eq!(maintained(&mut world, &UpstreamReply::Revoked), Vec::<String>::new());
    let mut unblock = Flow::new(world.request(Intent::Unblock), Cache::default());
    world.run(&mut unblock, |_, _| Fate::Done).unwrap();
    assert_eq!(maintained(&mut world, &UpstreamReply::Revoked), ["refused"]);
}

#[test]
fn a_pause_beyond_the_longest_delays_no_revocation() {
    for (ahead, is_sent) in [(6 * HOUR, false), (6 * HOUR + 61 * SECOND, true), (10_000 * HOUR, true)] {
        let mut world = World::new();
        world.account.pending_revocations = vec![paused("t", START.plus(ahead))];
        assert_eq!(!maintained(&mut world, &UpstreamReply::Revoked).is_empty(), is_sent, "{ahead:?}");
    }
}

#[test]
fn a_revocation_that_did_not_leave_in_time_has_not_failed() {
    let mut world = World::new();
    world.account.pending_revocations = vec![revocation("late")];
    let mut flow = Flow::new(world.request(Intent::Maintain(Task::Revoke)), Cache::default());
    world.run(&mut flow, answering("revoke", UpstreamReply::TooLate)).unwrap();
    assert_eq!(
        (world.count("revoke"), &world.account.pending_revocations[..]),
        (1, &[revocation("late")][..])
    );
}
