//! Names, versions, and what a record is worth.

use super::*;
use crate::test_pair;

#[test]
fn account_names_are_checked_to_the_letter() {
    for good in ["default", "a", "0", "a-b-", &"x".repeat(63)] {
        let name = AccountName::parse(good).expect(good);
        assert_eq!((name.as_str(), name.to_string()), (good, good.to_owned()));
    }
    for bad in ["", "-a", "A", "a_b", "a/b", "ä", "a b", &"x".repeat(64)] {
        assert!(AccountName::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn a_secret_version_is_named_as_secrets_manager_does() {
    assert_eq!(SecretVersion("v1".to_owned()).to_string(), "v1");
}

#[test]
fn versions_grow_even_when_the_clock_is_behind_or_the_record_is_gone() {
    let now = Timestamp::from_millis(1_000);
    assert_eq!(Version(5_000).next(now), Version(5_001));
    assert_eq!(Version(0).next(now), Version(1_000));
}

#[test]
fn f16_the_stores_time_to_live_is_no_expiry_and_outlasts_whatever_is_worth_something() {
    let at = |days: u64| Timestamp::from_millis(days * 86_400_000);
    let garbage_collection_time = |pair: Option<Pair>| {
        let account = Account { version: Version(at(100).as_millis()), pair, ..Account::default() };
        account.garbage_collection_time().unwrap()
    };
    let pair = Pair { refresh_expires_at: Some(at(200)), ..test_pair(at(107)) };
    assert_eq!(garbage_collection_time(None), at(130));
    assert_eq!(garbage_collection_time(Some(pair.clone())), at(230));
    let unknown = Pair { refresh_expires_at: None, ..pair.clone() };
    assert_eq!(garbage_collection_time(Some(unknown)), at(100 + 184 + 30));
    let outlived = Pair { expires_at: at(300), ..pair.clone() };
    assert_eq!(garbage_collection_time(Some(outlived)), at(330));
    let old = Pair { expires_at: at(2), refresh_expires_at: Some(at(2)), ..pair.clone() };
    assert_eq!(garbage_collection_time(Some(old)), at(130));

    let mut account = Account { pair: Some(pair), ..Account::default() };
    account.withdraw_pair();
    assert_eq!(account.garbage_collection_time(), None, "a token that lives is to be revoked");
    let rejected_secret =
        Account { rejected_secret: Some(SecretVersion("v1".to_owned())), ..Account::default() };
    assert_eq!(
        rejected_secret.garbage_collection_time(),
        None,
        "a refused password is not to be tried again"
    );
}
