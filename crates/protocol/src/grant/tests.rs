use super::*;
use crate::{Cooldown, CooldownReason, Draw, Expiry, GrantType, Lease, Login, Version, testing};

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn cx(now: Timestamp) -> Context<'static> {
    const POLICY: &Policy = &Policy::DEFAULT;
    Context::new(POLICY, now, Draw(1))
}

fn secret(version: &str, bootstrap: &str, grace: Duration) -> Credentials {
    let mut secret = testing::grant(version, bootstrap);
    if let Login::OAuth2 { client, grant: GrantType::RefreshToken { .. } } = &mut secret.login {
        client.resend_within = grace;
    }
    secret
}

/// A record whose pair expires then, and whose bootstrap token was sent.
fn account(expires_at: Timestamp) -> Account {
    let sent = vec![Fingerprint::of(&"bootstrap".into())];
    let grant = Some(Box::new(GrantState { sent, ..GrantState::default() }));
    let pair = Pair { origin: testing::grant("v1", "bootstrap").origin, ..testing::pair(expires_at) };
    Account { version: Version(1), pair: Some(pair), grant, ..Account::default() }
}

fn state(account: &mut Account) -> &mut GrantState {
    account.grant.as_mut().unwrap()
}

fn mark(at: Timestamp) -> Mark {
    Mark { at, settled_at: at.plus(42 * SECOND), by: Holder(1) }
}

fn chosen(account: &Account, secret: &Credentials, now: Timestamp) -> Result<String, Withheld> {
    choose(account, secret, cx(now)).map(|choice| choice.token.expose().to_owned())
}

#[test]
fn a_token_in_doubt_waits_and_is_the_last_resort() {
    let mut account = account(NOW.plus(HOUR));
    let secret = secret("v1", "bootstrap", Duration::ZERO);
    assert_eq!(chosen(&account, &secret, NOW), Ok("refresh".to_owned()));
    state(&mut account).held.mark = Some(mark(NOW));
    let ended = NOW.plus(HOUR + 2 * SECOND);
    for early in [NOW, NOW.plus(42 * SECOND), ended.minus(SECOND)] {
        assert_eq!(chosen(&account, &secret, early), Err(Withheld::InDoubt), "{early:?}");
    }
    assert_eq!(chosen(&account, &secret, ended), Ok("refresh".to_owned()));
    account.pair.as_mut().unwrap().verdict = Verdict::Dead;
    assert_eq!(chosen(&account, &secret, NOW.plus(41 * SECOND)), Err(Withheld::InDoubt), "may still arrive");
    assert_eq!(chosen(&account, &secret, NOW.plus(42 * SECOND)), Ok("refresh".to_owned()));
}

#[test]
fn a_grant_that_stays_in_doubt_without_a_token_needs_a_person() {
    let ended = NOW.plus(HOUR);
    let mut account = account(ended);
    assert!(!needs_a_person(&account, ended.plus(HOUR)), "it is sound");
    state(&mut account).held.mark = Some(mark(NOW));
    let after_ten_minutes = |at: Timestamp| [at.plus(599 * SECOND), at.plus(600 * SECOND)];
    let needed = |account: &Account, at| after_ten_minutes(at).map(|at| needs_a_person(account, at));
    assert_eq!(needed(&account, ended), [false, true]);
    // A reply that was lost long after the expiry is given the same time.
    state(&mut account).held.mark = Some(mark(ended.plus(HOUR)));
    assert_eq!(needed(&account, ended.plus(HOUR)), [false, true]);
    state(&mut account).held.mark = Some(mark(NOW));
    account.pair.as_mut().unwrap().verdict = Verdict::Dead;
    assert_eq!(needed(&account, NOW), [false, true]);
    let mut on_trial = Account { pair: None, ..account.clone() };
    assert_eq!(needed(&on_trial, NOW), [false, true]);
    state(&mut on_trial).held = Usage { lost: true, ..Usage::default() };
    assert!(needs_a_person(&on_trial, NOW));
    assert!(!needs_a_person(&Account { grant: None, ..account }, ended.plus(HOUR)), "a login repairs it");
}

#[test]
fn a_token_in_doubt_is_sent_within_the_grace_period() {
    let mut account = account(NOW.plus(HOUR));
    state(&mut account).held.mark = Some(mark(NOW));
    let secret = secret("v1", "bootstrap", 60 * SECOND);
    let last = NOW.plus(60 * SECOND).minus(Policy::DEFAULT.longest_travel());
    assert_eq!(chosen(&account, &secret, NOW.plus(41 * SECOND)), Err(Withheld::InDoubt));
    let choice = choose(&account, &secret, cx(NOW.plus(42 * SECOND))).unwrap();
    assert_eq!(choice.not_after, Some(last), "it arrives in time");
    assert_eq!(chosen(&account, &secret, last.plus(SECOND)), Err(Withheld::InDoubt));
}

#[test]
fn a_lost_token_is_sent_once_under_each_version() {
    let mut account = account(NOW.plus(HOUR));
    let held = &mut state(&mut account).held;
    held.lose(&SecretVersion("v1".to_owned()));
    let (old, new) = (secret("v1", "bootstrap", Duration::ZERO), secret("v2", "bootstrap", Duration::ZERO));
    assert_eq!(chosen(&account, &old, NOW), Err(Withheld::Lost));
    let choice = choose(&account, &new, cx(NOW)).unwrap();
    let before = account.grant.as_deref().unwrap().clone();
    let marked = before.marked(&choice, mark(NOW), Duration::ZERO);
    assert_eq!((before.health(), marked.health()), (GrantHealth::Lost, GrantHealth::InDoubt));
    let mut refused = marked.clone();
    refused.refused(&before, &choice, &new.version, true);
    assert_eq!((refused.held.mark, refused.health()), (None, GrantHealth::Lost));
    account.grant = Some(Box::new(refused));
    for version in [&old, &new] {
        assert_eq!(chosen(&account, version, NOW), Err(Withheld::Lost));
    }
    state(&mut account).unblock();
    assert_eq!(chosen(&account, &old, NOW), Ok("refresh".to_owned()));
}

#[test]
fn a_response_settles_no_earlier_call() {
    let earlier = Usage { mark: Some(mark(NOW)), ..Usage::default() };
    let before = GrantState { held: earlier, ..GrantState::default() };
    let choice =
        Choice { token: "refresh".into(), origin: Origin::default(), is_new: false, not_after: None };
    let mut marked = before.marked(&choice, mark(NOW.plus(SECOND)), Duration::ZERO);
    marked.responded(&before, &choice, NOW.plus(20 * SECOND));
    let settled = marked.held.mark.unwrap();
    assert_eq!((settled.at, settled.settled_at), (NOW, NOW.plus(42 * SECOND)));
    let none = GrantState::default();
    let mut first = none.marked(&choice, mark(NOW), Duration::ZERO);
    first.responded(&none, &choice, NOW.plus(20 * SECOND));
    assert_eq!(first.held.mark.unwrap().settled_at, NOW.plus(20 * SECOND));
}

#[test]
fn a_bootstrap_token_is_new_once() {
    let mut account = account(NOW.plus(HOUR));
    let other = secret("v2", "another", Duration::ZERO);
    let choice = choose(&account, &other, cx(NOW)).unwrap();
    assert!(choice.is_new);
    let before = account.grant.as_deref().unwrap().clone();
    let mut tried = before.marked(&choice, mark(NOW), Duration::ZERO);
    tried.refused(&before, &choice, &other.version, true);
    assert_eq!((&tried.held, &tried.trial), (&before.held, &None), "the held token, with its own use");
    account.grant = Some(Box::new(tried));
    assert_eq!(chosen(&account, &other, NOW), Ok("refresh".to_owned()));
    account.withdraw_pair();
    for sent in ["bootstrap", "another"] {
        assert_eq!(chosen(&account, &secret("v3", sent, Duration::ZERO), NOW), Err(Withheld::Lost), "{sent}");
    }
}

#[test]
fn a_trial_that_was_refused_later_gives_way_to_the_pair() {
    let mut account = account(NOW.plus(HOUR));
    let other = secret("v2", "another", Duration::ZERO);
    let choice = choose(&account, &other, cx(NOW)).unwrap();
    let tried = account.grant.as_deref().unwrap().marked(&choice, mark(NOW), HOUR);
    account.grant = Some(Box::new(tried.clone()));
    let again = Choice { is_new: false, ..choice };
    for (has_pair, health) in [(true, GrantHealth::Sound), (false, GrantHealth::Lost)] {
        let mut refused = tried.marked(&again, mark(NOW), HOUR);
        refused.refused(&tried, &again, &other.version, has_pair);
        assert_eq!((refused.trial.is_none(), refused.health()), (has_pair, health));
    }
}

#[test]
fn a_token_is_sent_to_its_own_upstream_only() {
    let mut account = account(NOW.plus(HOUR));
    account.pair.as_mut().unwrap().origin = Origin::default();
    assert_eq!(chosen(&account, &secret("v2", "bootstrap", Duration::ZERO), NOW), Err(Withheld::Lost));
}

#[test]
fn a_loss_that_was_healed_withholds_nothing() {
    let mut account = account(NOW.plus(HOUR));
    state(&mut account).held.lose(&SecretVersion("v1".to_owned()));
    let withheld = |account: &Account| is_still_withheld(Withheld::Lost, account, cx(NOW));
    assert!(withheld(&account) && withheld(&Account::default()));
    state(&mut account).unblock();
    assert!(!withheld(&account), "an operator allows an attempt");
    state(&mut account).held = Usage::default();
    assert!(!withheld(&account), "another instance has renewed it");
}

#[test]
fn the_last_fingerprints_are_kept() {
    let mut state = GrantState::default();
    for number in 0..40 {
        let (token, origin) = (format!("b{number}").as_str().into(), Origin::default());
        let choice = Choice { token, origin, is_new: true, not_after: None };
        state = state.marked(&choice, mark(NOW), Duration::ZERO);
    }
    assert_eq!(state.sent.len(), KEPT);
    assert_eq!(state.sent.last(), Some(&Fingerprint::of(&"b39".into())));
}

#[test]
fn a_pair_is_adopted_unless_another_attempt_is_at_work() {
    let mut record = account(NOW.plus(HOUR));
    state(&mut record).held.mark = Some(mark(NOW));
    let mut pending = record.clone();
    let successor = Pair { generation: Generation(9), ..testing::pair(NOW.plus(2 * HOUR)) };
    pending.pair = Some(Pair { refresh_token: Some(testing::refresh_token("successor")), ..successor });
    state(&mut pending).held = Usage::default();
    let token = Fingerprint::of(&"refresh".into());
    state(&mut pending).predecessor = Some(Predecessor { token, by: Holder(1) });
    let adopted = |record: &Account| match adoption(&pending, record, cx(NOW)) {
        Adoption::Adopt(account) => {
            let delays = (account.cooldown, account.early_refresh_after, account.young_deaths);
            assert_eq!(
                (delays, account.grant.as_ref().unwrap().health()),
                ((None, None, 0), GrantHealth::Sound)
            );
            (account.generation(), account.grant.unwrap().send_after)
        }
        other => panic!("{other:?}"),
    };
    let reason = CooldownReason::BudgetExhausted;
    record.cooldown = Some(Cooldown { until: NOW.plus(SECOND), reason, failures: 1 });
    (record.early_refresh_after, record.young_deaths) = (Some(NOW.plus(SECOND)), 4);
    assert_eq!(adopted(&record), (Some(Generation(9)), None));
    let until = NOW.plus(SECOND);
    let leased = Account { lease: Some(Lease { holder: Holder(2), until }), ..record.clone() };
    assert_eq!(adoption(&pending, &leased, cx(NOW)), Adoption::Later);
    state(&mut record).held.mark.as_mut().unwrap().by = Holder(2);
    assert_eq!(adopted(&record), (Some(Generation(9)), Some(NOW.plus(42 * SECOND))), "another's call");
    record.withdraw_pair();
    assert_eq!(adoption(&pending, &record, cx(NOW)), Adoption::Withdrawn);
    let replaced =
        Account { pair: Some(Pair { generation: Generation(10), ..testing::pair(NOW) }), ..leased };
    assert_eq!(adoption(&pending, &replaced, cx(NOW)), Adoption::Superseded, "requested later");
}

#[test]
fn adopting_forgets_neither_a_mark_nor_a_call_nor_a_loss() {
    let secret = secret("v1", "bootstrap", HOUR);
    let choice = choose(&Account::default(), &secret, cx(NOW)).unwrap();
    let own = Mark { by: Holder(1), ..mark(NOW) };
    let first = GrantState::default().marked(&choice, own, HOUR);
    let granted_pair = |generation| Pair {
        generation: Generation(generation),
        origin: secret.origin.clone(),
        refresh_token: Some(testing::refresh_token("bootstrap")),
        ..testing::pair(NOW.plus(HOUR))
    };
    let predecessor = Some(Predecessor { token: Fingerprint::of(&"bootstrap".into()), by: Holder(1) });
    let grant = Some(Box::new(GrantState { trial: None, predecessor, ..first.clone() }));
    let pending = Account { pair: Some(granted_pair(9)), grant, ..Account::default() };
    let adopted = |state: GrantState, pair| {
        let record =
            Account { version: Version(2), pair, grant: Some(Box::new(state)), ..Account::default() };
        match adoption(&pending, &record, cx(NOW)) {
            Adoption::Adopt(account) => (account.pair.unwrap(), *account.grant.unwrap()),
            other => panic!("{other:?}"),
        }
    };
    // The server returned an unusable successor, so the token stays in doubt.
    let held = Usage { mark: Some(own), ..Usage::default() };
    let grant = Some(Box::new(GrantState { held, ..pending.grant.as_deref().cloned().unwrap() }));
    let record = Account { grant: Some(Box::new(first.clone())), ..Account::default() };
    let unusable = Account { grant, ..pending.clone() };
    let Adoption::Adopt(account) = adoption(&unusable, &record, cx(NOW)) else { panic!() };
    assert_eq!(account.grant.unwrap().held.mark, Some(own));
    // The server gave no successor, and another attempt has sent the same token.
    let again = Choice { is_new: false, ..choice.clone() };
    let other = first.marked(&again, Mark { by: Holder(2), ..mark(NOW) }, Duration::ZERO);
    assert_eq!(adopted(other.clone(), None).1.held.mark.map(|mark| mark.by), Some(Holder(2)));
    // A loss within the grace period: the successor is not given up for it.
    let mut lost = first.marked(&again, Mark { by: Holder(2), ..mark(NOW) }, HOUR);
    lost.trial.as_mut().unwrap().usage.lose(&secret.version);
    let successor = Pair { refresh_token: Some(testing::refresh_token("successor")), ..granted_pair(9) };
    let pending = Account { pair: Some(successor), ..pending.clone() };
    let record = Account { version: Version(2), grant: Some(Box::new(lost)), ..Account::default() };
    let Adoption::Adopt(account) = adoption(&pending, &record, cx(NOW)) else { panic!() };
    assert!(account.pair.unwrap().holds(&"successor".into()));
    // A call of the predecessor that has not settled.
    let send_after = Some(NOW.plus(HOUR));
    let twin = GrantState { predecessor, send_after, ..GrantState::default() };
    assert_eq!(adopted(twin, Some(granted_pair(8))).1.send_after, send_after);
}

#[test]
fn of_two_successors_the_one_requested_last_is_adopted() {
    let predecessor = Some(Predecessor { token: Fingerprint::of(&"spent".into()), by: Holder(1) });
    let with_pair = |generation, predecessor| {
        let mut account = account(NOW.plus(HOUR));
        account.pair.as_mut().unwrap().generation = Generation(generation);
        state(&mut account).predecessor = predecessor;
        account
    };
    let is_adopted =
        |record| matches!(adoption(&with_pair(9, predecessor), &record, cx(NOW)), Adoption::Adopt(_));
    assert!(is_adopted(with_pair(8, predecessor)));
    assert!(!is_adopted(with_pair(9, predecessor)) && !is_adopted(with_pair(8, None)));
}

#[test]
fn a_new_grant_waits_for_no_call_of_the_old_one() {
    let mut account = account(NOW.plus(HOUR));
    state(&mut account).send_after = Some(NOW.plus(SECOND));
    let secret = secret("v2", "another", Duration::ZERO);
    let choice = choose(&account, &secret, cx(NOW)).unwrap();
    account.grant = account.grant.map(|state| Box::new(state.marked(&choice, mark(NOW), Duration::ZERO)));
    let reply = |refresh_token| TokenResponse {
        access_token: "access".into(),
        refresh_token,
        access_expiry: Expiry::Unknown,
        refresh_expiry: Expiry::Unknown,
        extra: None,
    };
    for (refresh_token, health) in [
        (NewRefreshToken::Token("successor".into()), GrantHealth::Sound),
        (NewRefreshToken::Absent, GrantHealth::Sound),
        (NewRefreshToken::Unusable, GrantHealth::InDoubt),
    ] {
        let (pair, state) = renewed(&account, &choice, &secret, reply(refresh_token), Generation(8), NOW);
        assert_eq!(pair.secret_version.as_ref(), Some(&secret.version), "operators see it in `status`");
        assert_eq!((state.health(), state.send_after, state.trial), (health, None, None));
    }
}

/// Some servers accept only the successor that they returned last.
#[test]
fn the_last_successor_is_obtained_within_the_grace_period() {
    let mut record = account(NOW.plus(HOUR));
    state(&mut record).held.mark = Some(Mark { by: Holder(2), ..mark(NOW) });
    let mut pending = record.clone();
    let own = Some(testing::refresh_token("successor"));
    pending.pair =
        record.pair.clone().map(|pair| Pair { generation: Generation(9), refresh_token: own, ..pair });
    let predecessor = Some(Predecessor { token: Fingerprint::of(&"refresh".into()), by: Holder(1) });
    pending.grant = Some(Box::new(GrantState { predecessor, ..GrantState::default() }));
    let travel = Policy::DEFAULT.longest_travel();
    for (within, sent_next) in [(42 * SECOND + travel, "successor"), (43 * SECOND + travel, "refresh")] {
        state(&mut record).resend_within = within;
        let Adoption::Adopt(mut adopted) = adoption(&pending, &record, cx(NOW)) else { panic!() };
        assert_eq!(adopted.pair.as_ref().unwrap().refresh_token.as_ref().unwrap().token, sent_next.into());
        let expected =
            if sent_next == "refresh" { state(&mut record).held.clone() } else { Usage::default() };
        assert_eq!(state(&mut adopted).held, expected, "{within:?}");
    }
}

#[test]
fn a_token_within_its_grace_period_is_worth_an_attempt() {
    let mut account = account(NOW.plus(HOUR));
    let state = state(&mut account);
    (state.held.mark, state.resend_within) = (Some(mark(NOW)), 60 * SECOND);
    let (settled, last) =
        (NOW.plus(42 * SECOND), NOW.plus(60 * SECOND).minus(Policy::DEFAULT.longest_travel()));
    for (now, in_grace) in
        [(settled.minus(SECOND), false), (settled, true), (last, true), (last.plus(SECOND), false)]
    {
        assert_eq!(is_in_grace(&account, cx(now)), in_grace, "{now:?}");
        assert_eq!(is_still_withheld(Withheld::InDoubt, &account, cx(now)), !in_grace, "{now:?}");
    }
}

#[test]
fn a_refresh_token_is_used_before_it_ends_unused() {
    const DAY: Duration = Duration::from_secs(86_400);
    let at = |life: Option<Duration>| {
        let mut pair = testing::pair(NOW.plus(HOUR));
        pair.issued_at = NOW;
        pair.refresh_token.as_mut().unwrap().expires_at = life.map(|life| NOW.plus(life));
        idle_renewal_at(&Policy::DEFAULT, &pair).since(NOW)
    };
    let times = [None, Some(30 * DAY), Some(4 * DAY)].map(at);
    assert_eq!(times, [7 * DAY, 23 * DAY, 2 * DAY]);
}

/// It is stored, so other releases have to compute the same.
#[test]
fn a_fingerprint_is_the_beginning_of_a_sha_256() {
    assert_eq!(Fingerprint::of(&"abc".into()), Fingerprint(0xba78_16bf_8f01_cfea));
}

#[test]
fn the_end_of_a_grant_is_announced_if_its_tokens_lived_long() {
    let day = Duration::from_secs(86_400);
    let secret = secret("v1", "bootstrap", Duration::ZERO);
    let warned_of = |earlier: u32| {
        let mut account = account(NOW);
        let pair = account.pair.as_mut().unwrap();
        let expires_at = Some(pair.issued_at.plus(day * earlier));
        pair.refresh_token = Some(RefreshToken { expires_at, ..testing::refresh_token("refresh") });
        let choice = choose(&account, &secret, cx(NOW)).unwrap();
        let reply = TokenResponse {
            access_token: "access".into(),
            refresh_token: NewRefreshToken::Token("another".into()),
            access_expiry: Expiry::Unknown,
            refresh_expiry: Expiry::In(day * 3),
            extra: None,
        };
        renewed(&account, &choice, &secret, reply, Generation(9), NOW).0.session_ends_at()
    };
    assert_eq!(warned_of(90), Some(NOW.plus(day * 3)));
    assert_eq!(warned_of(3), None, "it would always be about to end");
}

#[test]
fn a_confirmed_revocation_includes_the_grant_on_trial() {
    let mut account = account(NOW.plus(HOUR));
    let choice = choose(&account, &secret("v2", "another", Duration::ZERO), cx(NOW)).unwrap();
    account.grant = account.grant.map(|state| Box::new(state.marked(&choice, mark(NOW), Duration::ZERO)));
    account.withdraw_pair();
    let tokens: Vec<&str> = account.pending_revocations.iter().map(|it| it.token.expose()).collect();
    assert_eq!(tokens, ["refresh", "access", "another"]);
}
