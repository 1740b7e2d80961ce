//! The table, through the real AWS SDK: conditional writes, outages and unreadable items.

mod full;

use self::full::{full_account, full_grant, full_limiter};
use crate::{front::context, handler, items, ports, wiring, world};
use emulators::aws::{AwsFault, Operations};
use lambda_runtime::{Diagnostic, LambdaEvent};
use protocol::{
    Account, AccountName, LimiterName, LoginLimiter, Pair, Secret, StoreError, Timestamp, UpstreamUrl,
    Verdict, Version, WriteOutcome, testing,
};
use serde_json::{Value, json};
use std::sync::Arc;
use token_broker::{inbound::Handler, outbound::SystemClock, ports::Store};

const AT: Timestamp = Timestamp::from_millis(1_775_478_896_123);

fn name() -> AccountName {
    AccountName::default()
}

/// Writes every attribute, except those that exclude each other.
pub(crate) async fn write_everything(store: &dyn Store) {
    let mut account = full_account();
    account.pair.as_mut().unwrap().verdict = Verdict::Alive { at: AT };
    assert_eq!(store.write_account(&name(), Version(0), &account).await, WriteOutcome::Applied);
    let crm = AccountName::parse("crm").unwrap();
    let grant = Account { grant: Some(Box::new(full_grant())), ..account };
    assert_eq!(store.write_account(&crm, Version(0), &grant).await, WriteOutcome::Applied);
    let limiter_name = LimiterName::default();
    let written = store.write_login_limiter(&limiter_name, Version(0), &full_limiter()).await;
    assert_eq!(written, WriteOutcome::Applied);
}

async fn invoke(handler: &Handler, payload: Value) -> Result<Value, Diagnostic> {
    handler.handle(LambdaEvent::new(payload, context())).await.map(Value::from)
}

mod stored_items {
    use super::*;

    #[tokio::test]
    async fn an_account_is_read_as_it_was_written() {
        let world = world().await;
        let hosts = [("BROKER_UPSTREAM_HOSTS", "oauth.example,api.example".to_owned())];
        let config = wiring::config(&world, &hosts).expect("a valid configuration");
        let store = wiring::ports(&world, &config, Arc::new(SystemClock)).expect("the adapters").store;
        assert_eq!(store.read_account(&name()).await, Ok(Account::default()));
        let mut full = full_account();
        let mut expected = Version(0);
        for verdict in [
            Verdict::Unverified,
            Verdict::Alive { at: AT },
            Verdict::Inconclusive { probe_after: AT },
            Verdict::Dead,
        ] {
            full.pair.as_mut().unwrap().verdict = verdict;
            assert_eq!(store.write_account(&name(), expected, &full).await, WriteOutcome::Applied);
            assert_eq!(store.read_account(&name()).await, Ok(full.clone()));
            expected = full.version;
        }
        let bare = Account { version: Version(1), ..Account::default() };
        assert_eq!(store.write_account(&name(), expected, &bare).await, WriteOutcome::Applied);
        assert_eq!(store.read_account(&name()).await, Ok(bare), "absent attributes are deleted");
    }

    #[tokio::test]
    async fn a_grant_is_stored_where_earlier_releases_do_not_look() {
        let world = world().await;
        let store = ports(&world).store;
        let pair = testing::pair(AT);
        let grant = Account {
            version: Version(1),
            pair: Some(pair.clone()),
            grant: Some(Box::new(full_grant())),
            ..Account::default()
        };
        assert_eq!(store.write_account(&name(), Version(0), &grant).await, WriteOutcome::Applied);
        assert_eq!(items::get(&world, items::DEFAULT_ACCOUNT).await, Value::Null);
        assert_eq!(items::get(&world, "grant#default").await["ttl"], Value::Null, "it is never forgotten");
        assert_eq!(store.read_account(&name()).await, Ok(grant.clone()));
        assert_eq!(store.list_accounts().await, Ok(vec![(name(), Ok(grant.clone()))]));
        let without_a_pair = Account { version: Version(1), ..Account::default() };
        assert_eq!(store.write_account(&name(), Version(0), &without_a_pair).await, WriteOutcome::Applied);
        assert_eq!(store.read_account(&name()).await, Ok(grant.clone()), "the other item has no pair");
        assert_eq!(store.list_accounts().await, Ok(vec![(name(), Ok(grant))]), "one entry per name");
        let with_a_pair = Account { version: Version(2), pair: Some(pair), ..Account::default() };
        assert_eq!(store.write_account(&name(), Version(1), &with_a_pair).await, WriteOutcome::Applied);
        assert_eq!(
            store.read_account(&name()).await,
            Ok(with_a_pair.clone()),
            "the grant is an older account"
        );
        assert_eq!(store.list_accounts().await, Ok(vec![(name(), Ok(with_a_pair))]));
    }

    #[tokio::test]
    async fn the_login_limiter_is_read_as_it_was_written() {
        let world = world().await;
        let store = ports(&world).store;
        let of = |oauth_url| LimiterName::of(&protocol::testing::origin_at(oauth_url));
        let (limiter_name, other) = (of(None), of(UpstreamUrl::parse("https://oauth.example").ok()));
        assert_eq!(store.read_login_limiter(&limiter_name).await, Ok(LoginLimiter::default()));
        let limiter = full_limiter();
        assert_eq!(
            store.write_login_limiter(&limiter_name, Version(0), &limiter).await,
            WriteOutcome::Applied
        );
        assert_eq!(store.read_login_limiter(&limiter_name).await, Ok(limiter.clone()));
        assert_eq!(store.read_login_limiter(&other).await, Ok(LoginLimiter::default()), "another host's");

        let account = Account { version: Version(1), ..Account::default() };
        assert_eq!(store.write_account(&name(), Version(0), &account).await, WriteOutcome::Applied);
        let accounts = store.list_accounts().await.expect("the accounts");
        assert_eq!(accounts.len(), 1, "the limiter is not an account");
    }

    #[tokio::test]
    async fn f16_the_ttl_is_in_seconds_and_does_not_expire_a_pair() {
        let world = world().await;
        let store = ports(&world).store;
        let account = full_account();
        store.write_account(&name(), Version(0), &account).await;
        assert_eq!(
            items::get(&world, items::DEFAULT_ACCOUNT).await["ttl"],
            Value::Null,
            "a rejected secret version must not be forgotten"
        );
        let free = Account {
            rejected_secret: None,
            pending_revocations: Vec::new(),
            version: Version(AT.as_millis()),
            ..account
        };
        store.write_account(&name(), Version(u64::MAX), &free).await;
        let stored = items::get(&world, items::DEFAULT_ACCOUNT).await;
        let ttl: u64 = stored["ttl"]["N"].as_str().expect("a ttl").parse().expect("a number");
        assert_eq!(ttl, (AT.as_millis() + 2000) / 1000 + 30 * 86_400);
    }

    #[tokio::test]
    async fn accounts_are_listed_page_by_page() {
        let world = world().await;
        let store = ports(&world).store;
        let long = "t".repeat(300 * 1024);
        for index in 0..6 {
            let mut account = full_account();
            account.pair =
                account.pair.map(|pair| Pair { access_token: Secret::from(long.as_str()), ..pair });
            let name = AccountName::parse(&format!("account-{index}")).unwrap();
            assert_eq!(store.write_account(&name, Version(0), &account).await, WriteOutcome::Applied);
        }
        let reads_before = world.dynamodb.counts().reads;
        let names: Vec<String> =
            store.list_accounts().await.expect("all").iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["account-0", "account-1", "account-2", "account-3", "account-4", "account-5"]);
        let reads = world.dynamodb.counts().reads - reads_before;
        assert!(reads >= 2, "a page holds one megabyte at most");
    }
}

mod conditional_writes {
    use super::*;
    use futures_util::future::join_all;

    #[tokio::test]
    async fn need_the_version_that_was_read() {
        let world = world().await;
        let store = ports(&world).store;
        let version = |version| Account { version: Version(version), ..Account::default() };
        for (expected, next, outcome) in [
            (4, 5, WriteOutcome::Conflict), // there is no item
            (0, 5, WriteOutcome::Applied),
            (0, 6, WriteOutcome::Conflict), // there is an item
            (4, 6, WriteOutcome::Conflict), // it has another version
            (5, 6, WriteOutcome::Applied),
        ] {
            let written = store.write_account(&name(), Version(expected), &version(next)).await;
            assert_eq!(written, outcome, "from {expected} to {next}");
        }
        assert_eq!(store.read_account(&name()).await, Ok(version(6)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_concurrent_writes_of_one_version_one_is_applied() {
        let world = world().await;
        let (store, account) = (ports(&world).store, name());
        for version in 0..20 {
            let next = Account { version: Version(version + 1), ..Account::default() };
            let writers = (0..8).map(|_| store.write_account(&account, Version(version), &next));
            let mut outcomes = join_all(writers).await;
            outcomes.retain(|outcome| *outcome != WriteOutcome::Conflict);
            assert_eq!(outcomes, [WriteOutcome::Applied]);
        }
    }

    #[tokio::test]
    async fn lose_nothing_if_an_sdk_retry_meets_its_own_write() {
        // The write that takes the lease, the permit and the commit: each is carried out, and its reply is lost.
        for lost in 1_u64..=3 {
            let world = world().await;
            let handler = handler(&world);
            let mut writes = 0;
            let invocation = invoke(&handler, json!({}));
            tokio::pin!(invocation);
            // The fault is set between two effects, by counting the writes that reached the store.
            let answer = loop {
                if writes < lost && world.dynamodb.counts().writes == lost - 1 {
                    world.dynamodb.faults().set(Operations::Writes, AwsFault::LostReply, Some(1));
                    writes = lost;
                }
                tokio::select! {
                    biased;
                    answer = &mut invocation => break answer,
                    () = tokio::task::yield_now() => {}
                }
            };
            assert_eq!(answer.expect("a token")["served_from"], "upstream");
            assert_eq!(world.dynamodb.counts().faults_injected, 1, "write {lost}");
            assert_eq!(world.convirza.observed().logins_arrived, 1, "write {lost}");
            let stored = items::get(&world, items::DEFAULT_ACCOUNT).await;
            assert!(stored["pair"].is_object() && stored["lease"].is_null(), "write {lost}");
            let limiter = items::get(&world, items::LOGIN_LIMITER).await;
            assert_eq!(limiter["permits"]["L"].as_array().map(Vec::len), Some(1), "write {lost}");
        }
    }
}

mod outages {
    use super::*;

    #[tokio::test]
    async fn make_reads_fail_and_the_outcome_of_writes_unknown() {
        let world = world().await;
        let store = ports(&world).store;
        for fault in [
            AwsFault::Unavailable,
            AwsFault::Throttled,
            AwsFault::EmptySuccess,
            AwsFault::Unproven,
            AwsFault::Reset,
            AwsFault::Hang,
        ] {
            world.dynamodb.faults().set(Operations::All, fault, None);
            assert_eq!(store.read_account(&name()).await, Err(StoreError::Unreachable), "{fault:?}");
            let written = store.write_account(&name(), Version(0), &full_account()).await;
            assert_eq!(written, WriteOutcome::Unknown, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn are_believed_rather_than_a_strangers_response() {
        for fault in [AwsFault::EmptySuccess, AwsFault::Unproven] {
            let world = world().await;
            world.dynamodb.faults().set(Operations::All, fault, None);
            let error = invoke(&handler(&world), json!({})).await.expect_err("no token");
            assert_eq!(error.error_type, "store_unavailable", "{fault:?}");
            assert_eq!(world.convirza.observed().logins_arrived, 0, "{fault:?}");
        }
        let world = world().await;
        world.dynamodb.faults().set(Operations::Writes, AwsFault::EmptySuccess, None);
        invoke(&handler(&world), json!({})).await.expect_err("no token");
        assert_eq!(world.convirza.observed().logins_arrived, 0, "no lease was taken");
        // A read shows that each write was carried out.
        world.dynamodb.faults().set(Operations::Writes, AwsFault::Unproven, None);
        invoke(&handler(&world), json!({})).await.expect("a token");
        assert_eq!(world.convirza.observed().logins_arrived, 1);
    }

    #[tokio::test]
    async fn are_distinguished_from_a_missing_permission() {
        let world = world().await;
        world.dynamodb.faults().set(Operations::All, AwsFault::AccessDenied, None);
        let error = invoke(&handler(&world), json!({})).await.expect_err("no token");
        assert_eq!(error.error_type, "misconfigured");
        let message = error.error_message;
        assert!(message.contains("DynamoDB refused GetItem with AccessDeniedException"), "{message}");
        assert!(!message.contains("retry_after"), "{message}");
        assert_eq!(world.convirza.observed().logins_arrived, 0);
    }

    #[tokio::test]
    async fn f19_an_outage_is_bridged_by_the_cache_without_a_login() {
        let world = world().await;
        let warm = handler(&world);
        let request = json!({"min_ttl_seconds": 60});
        invoke(&warm, request.clone()).await.expect("a token");
        world.dynamodb.faults().set(Operations::All, AwsFault::Reset, None);
        let cold = handler(&world);
        let error = invoke(&cold, request.clone()).await.expect_err("no token");
        assert_eq!(error.error_type, "store_unavailable");
        assert_eq!(invoke(&warm, request.clone()).await.expect("a token")["served_from"], "memory");
        // Only the table can answer a report of a later generation, so this request notices the outage first.
        let report = json!({"rejected_generation": u64::MAX});
        assert_eq!(invoke(&warm, report).await.expect("a token")["served_from"], "memory");
        assert_eq!(world.convirza.observed().logins_arrived, 1);
        world.dynamodb.faults().clear();
        assert_eq!(invoke(&cold, request).await.expect("a token")["served_from"], "table");
    }
}

mod unreadable_items {
    use super::*;

    #[tokio::test]
    async fn are_errors_and_stay_unchanged() {
        let garbage = [
            ("version", json!({"pk": {"S": "account#default"}})),
            ("version", json!({"pk": {"S": "account#default"}, "version": {"S": "tell-tale"}})),
            (
                "pair",
                json!({"pk": {"S": "account#default"}, "version": {"N": "1"}, "pair": {"S": "tell-tale"}}),
            ),
            ("generation", json!({"pk": {"S": "account#default"}, "version": {"N": "1"}, "pair": {"M": {}}})),
            (
                "until_ms",
                json!({"pk": {"S": "account#default"}, "version": {"N": "1"}, "lease": {"M": {"holder": {"N": "1"}}}}),
            ),
            (
                "reason",
                json!({"pk": {"S": "account#default"}, "version": {"N": "1"},
                "cooldown": {"M": {"until_ms": {"N": "1"}, "reason": {"S": "tell-tale"}, "failures": {"N": "1"}}}}),
            ),
        ];
        for (attribute, item) in garbage {
            let world = world().await;
            items::put(&world, &item).await;
            let error = invoke(&handler(&world), json!({})).await.expect_err("no token");
            assert_eq!(error.error_type, "internal");
            let message = error.error_message;
            assert!(
                message.contains(&format!("`{attribute}`")) && message.contains("account#default"),
                "{message}"
            );
            assert!(!message.contains("tell-tale"), "{message}");
            assert_eq!(items::get(&world, items::DEFAULT_ACCOUNT).await, item, "it was left as it is");
            assert_eq!(world.convirza.observed().logins_arrived, 0);
        }
    }

    #[tokio::test]
    async fn an_unreadable_login_limiter_prevents_logins() {
        let world = world().await;
        let item =
            json!({"pk": {"S": items::LOGIN_LIMITER}, "version": {"N": "1"}, "permits": {"S": "none"}});
        items::put(&world, &item).await;
        let error = invoke(&handler(&world), json!({})).await.expect_err("no token");
        assert!(error.error_message.contains("item `login_limiter`"), "{}", error.error_message);
        assert_eq!(world.convirza.observed().logins_arrived, 0);
        let status = invoke(&handler(&world), json!({"action": "status"})).await.expect("a status");
        assert!(status["login_limiter"]["unreadable"].to_string().contains("`permits`"), "{status}");
        assert_eq!(status["accounts"][0]["account"], "default", "the accounts are shown anyway");
    }

    #[tokio::test]
    async fn hide_no_other_account() {
        let world = world().await;
        let handler = handler(&world);
        invoke(&handler, json!({})).await.expect("a token");
        let item = json!({"pk": {"S": "account#broken"}, "version": {"S": "tell-tale"}});
        items::put(&world, &item).await;
        let status = invoke(&handler, json!({"action": "status"})).await.expect("a status");
        let what = "item `account#broken`: attribute `version` is missing or malformed";
        assert_eq!(status["accounts"][0], json!({"account": "broken", "unreadable": what}));
        assert_eq!(status["accounts"][1]["account"], "default");
        let one = invoke(&handler, json!({"action": "status", "account": "broken"})).await.expect("a status");
        assert!(one["accounts"][0]["unreadable"].to_string().contains("`version`"), "{one}");
        let summary = invoke(&handler, json!({"action": "maintain"})).await.expect("a summary");
        assert_eq!((&summary["failed"], &summary["accounts"][0]["error"]), (&json!(1), &json!("internal")));
    }
}
