//! Stored items: the broker reads what it writes, and names the attribute of every item that it refuses.

use crate::{
    any_item::{TELL_TALE, damaged, wild_item},
    config,
};
use proptest::{prelude::*, test_runner::TestCaseResult};
use protocol::testing::strategies::{account, limiter};
use protocol::{Account, AccountName, LimiterName};
use token_broker::outbound::dynamodb::item::{
    Item, account_of, from_account, from_login_limiter, to_account, to_login_limiter,
};

fn is_parsed_or_refused_by_name(item: &Item) -> TestCaseResult {
    if let Ok(account) = to_account(item) {
        let name = account_of(item).unwrap_or_default();
        prop_assert_eq!(
            to_account(&from_account(&name, &account)),
            Ok(account),
            "it is written as it was read"
        );
    }
    if let Ok(limiter) = to_login_limiter(item) {
        prop_assert_eq!(
            to_login_limiter(&from_login_limiter(&LimiterName::default(), &limiter)),
            Ok(limiter)
        );
    }
    for error in [to_account(item).err(), to_login_limiter(item).err()].into_iter().flatten() {
        let text = error.to_string();
        prop_assert!(text.starts_with("attribute `"), "{}", text);
        prop_assert!(!text.contains(TELL_TALE), "{}", text);
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn an_account_survives_a_round_trip(account in account()) {
        let item = from_account(&AccountName::default(), &account);
        prop_assert_eq!(account_of(&item), Some(AccountName::default()));
        prop_assert_eq!(to_account(&item), Ok(account));
    }

    #[test]
    fn the_login_limiter_survives_a_round_trip(limiter in limiter()) {
        prop_assert_eq!(to_login_limiter(&from_login_limiter(&LimiterName::default(), &limiter)), Ok(limiter));
    }

    #[test]
    fn an_item_of_any_form_is_parsed_or_refused_by_name(item in wild_item()) {
        is_parsed_or_refused_by_name(&item)?;
    }

    #[test]
    fn a_damaged_item_is_parsed_or_refused_by_name(
        account in account().prop_flat_map(|account| damaged(from_account(&AccountName::default(), &account))),
        limiter in limiter().prop_flat_map(|limiter| damaged(from_login_limiter(&LimiterName::default(), &limiter)))
    ) {
        is_parsed_or_refused_by_name(&account)?;
        is_parsed_or_refused_by_name(&limiter)?;
    }
}

#[test]
fn absent_values_are_not_stored() {
    let item = from_account(&AccountName::default(), &Account::default());
    let mut attributes: Vec<_> = item.keys().map(String::as_str).collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["pk", "ttl", "version"]);
}
