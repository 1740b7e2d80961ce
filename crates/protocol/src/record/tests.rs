//! Names, versions, and when a record may be deleted.

use super::*;
use crate::{
    Expiry, MAX_TOKEN_BYTES, NewRefreshToken, RefreshToken, Renewal, Secret, TokenResponse, testing,
};

#[test]
fn a_secret_version_is_printed_as_secrets_manager_names_it() {
    assert_eq!(SecretVersion("v1".to_owned()).to_string(), "v1");
}

#[test]
fn versions_grow_with_a_slow_clock_and_a_deleted_record() {
    let now = Timestamp::from_millis(1_000);
    assert_eq!(Version(5_000).next(now), Version(5_001));
    assert_eq!(Version(0).next(now), Version(1_000));
}

#[test]
fn a_consumed_mark_is_taken_back() {
    let mut account = Account { pair: Some(testing::pair(Timestamp::from_millis(1))), ..Account::default() };
    let available = account.clone();
    for (consumed, changes) in [(true, true), (true, true), (false, false), (false, false)] {
        account.mark_refresh_token(consumed);
        assert_eq!(account != available, changes);
    }
    let mut without = Account::default();
    without.mark_refresh_token(true);
    assert_eq!(without, Account::default());
}

#[test]
fn operators_are_warned_of_the_end_of_a_long_session_only() {
    let day = Duration::from_secs(86_400);
    let at = |days: u32| Timestamp::from_millis(1_000).plus(day * days);
    let granted = |life: Option<u32>| TokenResponse {
        access_token: Secret::from("access"),
        refresh_token: NewRefreshToken::Token(Secret::from("refresh")),
        access_expiry: Expiry::Unknown,
        refresh_expiry: life.map_or(Expiry::Unknown, |life| Expiry::In(day * life)),
        extra: None,
    };
    // A login, then a refresh each day, with the stated life of each refresh token.
    let warned_of = |lives: &[Option<u32>]| {
        let mut pair: Option<Pair> = None;
        for (days, life) in (0..).zip(lives) {
            let renewal = match pair {
                None => Renewal::Login(testing::credentials("v1")),
                Some(_) => Renewal::Refresh(None),
            };
            pair = Some(granted(*life).into_pair(Generation(1), at(days), pair.as_ref(), renewal));
        }
        pair.unwrap().session_ends_at()
    };
    assert_eq!(warned_of(&[Some(28)]), Some(at(28)));
    assert_eq!(warned_of(&[Some(27)]), None, "it would always be about to expire");
    assert_eq!(warned_of(&[Some(9), Some(9), Some(9)]), None);
    assert_eq!(warned_of(&[Some(28), Some(3), Some(2)]), Some(at(4)), "the session is limited");
    assert_eq!(warned_of(&[Some(3), Some(30)]), Some(at(31)));
    assert_eq!(warned_of(&[Some(28), None]), None, "the end is unknown");
    let mut pair = granted(Some(28)).into_pair(Generation(1), at(0), None, Renewal::Refresh(None));
    pair.refresh_token.as_mut().unwrap().consumed = true;
    assert_eq!(pair.session_ends_at(), None);
}

#[test]
fn f16_garbage_collection_waits_for_everything_of_value() {
    let at = |days: u64| Timestamp::from_millis(days * 86_400_000);
    let collected_at = |pair: Option<Pair>| {
        let account = Account { version: Version(at(100).as_millis()), pair, ..Account::default() };
        account.garbage_collection_time().unwrap()
    };
    let refresh = |expires_at| Some(RefreshToken { expires_at, ..testing::refresh_token("refresh") });
    let pair = Pair { refresh_token: refresh(Some(at(200))), ..testing::pair(at(107)) };
    assert_eq!(collected_at(None), at(130));
    assert_eq!(collected_at(Some(pair.clone())), at(230));
    let unknown = Pair { refresh_token: refresh(None), ..pair.clone() };
    assert_eq!(collected_at(Some(unknown)), at(100 + 184 + 30));
    let outlived = Pair { expires_at: at(300), ..pair.clone() };
    assert_eq!(collected_at(Some(outlived)), at(330));
    let old = Pair { expires_at: at(2), refresh_token: refresh(Some(at(2))), ..pair.clone() };
    assert_eq!(collected_at(Some(old)), at(130));

    let mut account = Account { pair: Some(pair), ..Account::default() };
    account.withdraw_pair();
    assert_eq!(account.garbage_collection_time(), Some(at(230)), "live tokens are still to be revoked");
    let rejected_secret = Some(crate::testing::rejection("v1", at(1)));
    let account = Account { rejected_secret, ..Account::default() };
    assert_eq!(account.garbage_collection_time(), None, "a rejected password must not be tried again");
}

#[test]
fn pending_revocations_are_capped_and_never_repeated() {
    let at = Timestamp::from_millis;
    let numbered = |number: u64| {
        let refresh_token = Some(testing::refresh_token(&format!("refresh {number}")));
        let access_token = Secret::new(format!("access {number}"));
        Pair { access_token, refresh_token, ..testing::pair(at(number)) }
    };
    let mut account = Account::default();
    for number in 0..16 {
        assert_eq!(account.add_revocations(numbered(number).revocations()), 0);
        assert_eq!(account.add_revocations(numbered(number).revocations()), 0, "each token once");
    }
    assert_eq!(account.pending_revocations.len(), MAX_PENDING_REVOCATIONS);
    assert_eq!(account.add_revocations(numbered(16).revocations()), 2);
    assert_eq!(account.pending_revocations.len(), MAX_PENDING_REVOCATIONS);
    let pending = |token: &str| {
        account.pending_revocations.iter().any(|revocation| revocation.token == Secret::from(token))
    };
    assert!(!pending("access 0") && !pending("access 1"), "the oldest access tokens are dropped");
    assert!(pending("refresh 0") && pending("refresh 1") && pending("access 2") && pending("access 16"));
}

#[test]
fn pending_revocations_are_bounded_by_bytes() {
    let mut account = Account::default();
    let long = |name: &str, number: u64| Secret::new(format!("{name} {number} {}", "x".repeat(15_000)));
    for number in 0..20 {
        let refresh_token =
            Some(RefreshToken { token: long("refresh", number), ..testing::refresh_token("refresh") });
        let pair = Pair {
            access_token: long("access", number),
            refresh_token,
            ..testing::pair(Timestamp::from_millis(1))
        };
        account.add_revocations(pair.revocations());
        let bytes: usize = account.pending_revocations.iter().map(|it| it.token.expose().len()).sum();
        assert!(bytes <= MAX_PENDING_BYTES, "{bytes}");
    }
    let kept = account.pending_revocations.iter();
    assert!(kept.clone().all(|it| it.kind == TokenKind::Refresh), "access tokens go first");
    assert_eq!(kept.count(), 8);
}

#[test]
fn a_pair_of_the_longest_tokens_can_be_revoked() {
    let long = |letter: &str| Secret::new(letter.repeat(MAX_TOKEN_BYTES));
    let refresh_token = Some(RefreshToken { token: long("r"), ..testing::refresh_token("r") });
    let pair = Pair { access_token: long("a"), refresh_token, ..testing::pair(Timestamp::from_millis(1)) };
    assert_eq!(Account::default().add_revocations(pair.revocations()), 0);
}

/// DynamoDB takes no item of more than 400 KB, and a token may have any characters.
#[test]
fn an_item_of_the_longest_tokens_is_small_enough() {
    const { assert!(2 * MAX_TOKEN_BYTES + MAX_PENDING_BYTES < 300_000) };
}

#[test]
fn a_rejection_without_a_time_gets_one_with_the_next_write() {
    use crate::{Context, Draw, Policy};
    let now = Timestamp::from_millis(1_000_000_000);
    let cx = Context::new(&Policy::DEFAULT, now, Draw(0));
    let version = SecretVersion("v1".to_owned());
    let account = |rejected| Account { rejected_secret: Some(rejected), ..Account::default() };
    let old = RejectedSecret { version: version.clone(), refusals: 1, retry_at: None };
    assert!(!old.is_due(now.plus(Duration::from_secs(1_000_000))));
    let in_six_hours =
        RejectedSecret { retry_at: Some(now.plus(Duration::from_secs(6 * 3600))), ..old.clone() };
    assert_eq!(AccountWrite::new(account(old), cx).next.rejected_secret, Some(in_six_hours.clone()));
    let later = Context::new(&Policy::DEFAULT, now.plus(Duration::from_secs(60)), Draw(0));
    let kept = AccountWrite::new(account(in_six_hours.clone()), later).next.rejected_secret;
    assert_eq!(kept, Some(in_six_hours.clone()));
    let again = RejectedSecret::rejected(Some(&in_six_hours), version, cx);
    assert_eq!((again.refusals, again.retry_at), (2, Some(now.plus(Duration::from_secs(12 * 3600)))));
    let other = RejectedSecret::rejected(Some(&again), SecretVersion("v2".to_owned()), cx);
    assert_eq!(other.refusals, 1, "the count starts again with a new version");
}
