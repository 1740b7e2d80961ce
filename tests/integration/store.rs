//! The table, through the real AWS SDK: conditional writes, ambiguous outcomes, and items nobody wrote.

use super::{
    front::context,
    handler, ports, world,
    world::{
        World,
        aws::{AwsFault, Operations},
        dynamodb,
    },
};
use futures_util::future::join_all;
use lambda_runtime::LambdaEvent;
use serde_json::{Value, json};
use std::time::Duration;
use protocol::{StoreError, WriteOutcome, Account, AccountName, Cooldown, CooldownReason, Permit, ApiVersion, Generation, Grant, Holder, Lease, LoginLimiter, Origin, Pair, Revocation, SecretVersion, TokenKind, Version, Timestamp, Secret};

const AT: Timestamp = Timestamp::from_millis(1_775_478_896_123);

fn name() -> AccountName {
    AccountName::default()
}

fn origin() -> Origin {
    Origin {
        api_version: ApiVersion::V2,
        oauth_url: Some("https://oauth.example".to_owned()),
        api_url: Some("https://api.example".to_owned()),
    }
}

fn full_account() -> Account {
    Account {
        version: Version(u64::MAX),
        pair: Some(Pair {
            generation: Generation(7),
            access_token: Secret::from("access"),
            refresh_token: Some(Secret::from("refresh")),
            refresh_token_consumed: true,
            issued_at: AT,
            expires_at: AT.plus(Duration::from_secs(1)),
            refresh_expires_at: Some(AT.plus(Duration::from_secs(2))),
            obtained_by: Grant::Refresh,
            replaces: Some(Generation(6)),
            origin: origin(),
            dead: true,
        }),
        lease: Some(Lease { holder: Holder(u64::MAX), until: AT }),
        cooldown: Some(Cooldown { until: AT, reason: CooldownReason::BudgetExhausted, failures: u32::MAX }),
        rejected_secret: Some(SecretVersion("v1".to_owned())),
        verified_at: Some(AT),
        no_probe_before: Some(AT),
        pending: vec![
            Revocation { token: Secret::from("old"), kind: TokenKind::Access, origin: origin() },
            Revocation { token: Secret::from("older"), kind: TokenKind::Refresh, origin: Origin::default() },
        ],
    }
}

async fn put(world: &World, item: &Value) {
    let request = json!({"TableName": world.table(), "Item": item});
    dynamodb::ask(&world.dynamodb, "PutItem", &request).await.expect("an item");
}

async fn get(world: &World, key: &str) -> Value {
    let request = json!({"TableName": world.table(), "Key": {"pk": {"S": key}}});
    let found = dynamodb::ask(&world.dynamodb, "GetItem", &request).await;
    found.expect("an answer")["Item"].clone()
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_written() {
    let world = world().await;
    let store = ports(&world).await.store;
    assert_eq!(store.read_account(&name()).await, Ok(Account::default()));
    let full = full_account();
    assert_eq!(store.write_account(&name(), Version(0), &full).await, WriteOutcome::Applied);
    assert_eq!(store.read_account(&name()).await, Ok(full.clone()));
    let bare = Account { version: Version(1), ..Account::default() };
    assert_eq!(store.write_account(&name(), full.version, &bare).await, WriteOutcome::Applied);
    assert_eq!(store.read_account(&name()).await, Ok(bare), "what is gone is gone");

    assert_eq!(store.read_login_limiter().await, Ok(LoginLimiter::default()));
    let permits = vec![Permit { at: AT, until: AT, by: Holder(1) }, Permit { at: AT, until: AT, by: Holder(2) }];
    let limiter = LoginLimiter { version: Version(3), permits, blocked_until: Some(AT) };
    assert_eq!(store.write_login_limiter(Version(0), &limiter).await, WriteOutcome::Applied);
    assert_eq!(store.read_login_limiter().await, Ok(limiter));
    assert_eq!(store.list_accounts().await.expect("the accounts").len(), 1, "the limiter is no account");
}

#[tokio::test]
async fn a_write_needs_the_version_that_was_read() {
    let world = world().await;
    let store = ports(&world).await.store;
    let version = |version| Account { version: Version(version), ..Account::default() };
    assert_eq!(
        store.write_account(&name(), Version(4), &version(5)).await,
        WriteOutcome::Conflict,
        "there is none"
    );
    assert_eq!(store.write_account(&name(), Version(0), &version(5)).await, WriteOutcome::Applied);
    assert_eq!(
        store.write_account(&name(), Version(0), &version(6)).await,
        WriteOutcome::Conflict,
        "there is one"
    );
    assert_eq!(
        store.write_account(&name(), Version(4), &version(6)).await,
        WriteOutcome::Conflict,
        "of another version"
    );
    assert_eq!(store.write_account(&name(), Version(5), &version(6)).await, WriteOutcome::Applied);
    assert_eq!(store.read_account(&name()).await, Ok(version(6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_all_who_write_on_one_version_at_once_one_succeeds() {
    let world = world().await;
    let (store, account) = (ports(&world).await.store, name());
    for version in 0..20 {
        let next = Account { version: Version(version + 1), ..Account::default() };
        let writers = (0..8).map(|_| store.write_account(&account, Version(version), &next));
        let mut written = join_all(writers).await;
        written.retain(|written| *written != WriteOutcome::Conflict);
        assert_eq!(written, [WriteOutcome::Applied]);
    }
}

#[tokio::test]
async fn f16_the_time_to_live_is_set_in_seconds_and_never_decides_anything() {
    let world = world().await;
    let store = ports(&world).await.store;
    let rejected_secret = full_account();
    store.write_account(&name(), Version(0), &rejected_secret).await;
    assert_eq!(
        get(&world, "account#default").await["ttl"],
        Value::Null,
        "a rejected_secret version must not be forgotten"
    );
    let free = Account { rejected_secret: None, pending: Vec::new(), version: Version(AT.as_millis()), ..rejected_secret };
    store.write_account(&name(), Version(u64::MAX), &free).await;
    let ttl: u64 =
        get(&world, "account#default").await["ttl"]["N"].as_str().expect("a ttl").parse().expect("a number");
    assert_eq!(ttl, (AT.as_millis() + 2000) / 1000 + 30 * 86_400);
}

#[tokio::test]
async fn a_list_of_accounts_is_read_page_by_page() {
    let world = world().await;
    let store = ports(&world).await.store;
    let long = "t".repeat(300 * 1024);
    for index in 0..6 {
        let mut account = full_account();
        account.pair = account.pair.map(|pair| Pair { access_token: Secret::from(long.as_str()), ..pair });
        let name = AccountName::parse(&format!("account-{index}")).unwrap();
        assert_eq!(store.write_account(&name, Version(0), &account).await, WriteOutcome::Applied);
    }
    let reads_before = world.dynamodb.counts().reads;
    let names: Vec<String> =
        store.list_accounts().await.expect("all").iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["account-0", "account-1", "account-2", "account-3", "account-4", "account-5"]);
    assert!(world.dynamodb.counts().reads - reads_before >= 2, "more than a megabyte is more than a page");
}

#[tokio::test]
async fn an_outage_is_no_telling_for_a_write_and_an_error_for_a_read() {
    let world = world().await;
    let store = ports(&world).await.store;
    for fault in
        [AwsFault::Unavailable, AwsFault::Throttled, AwsFault::Reset, AwsFault::AccessDenied, AwsFault::Hang]
    {
        world.dynamodb.faults().set(Operations::All, fault, None);
        assert_eq!(store.read_account(&name()).await, Err(StoreError::Unreachable), "{fault:?}");
        assert_eq!(
            store.write_account(&name(), Version(0), &full_account()).await,
            WriteOutcome::Unknown,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn the_sdks_own_retry_meets_its_first_write_and_nothing_is_lost_by_it() {
    // The acquiring write, the debit and the commit: each is carried out, and its reply lost.
    for lost in 1_u64..=3 {
        let world = world().await;
        let handler = handler(&world).await;
        let mut writes = 0;
        let asking = handler.handle(LambdaEvent::new(json!({}), context()));
        tokio::pin!(asking);
        // The fault is armed between two effects, by counting what has reached the store.
        let answer = loop {
            if writes < lost && world.dynamodb.counts().writes == lost - 1 {
                world.dynamodb.faults().set(Operations::Writes, AwsFault::LostReply, Some(1));
                writes = lost;
            }
            tokio::select! {
                biased;
                answer = &mut asking => break answer,
                () = tokio::task::yield_now() => {}
            }
        };
        assert_eq!(answer.expect("a token")["served_from"], "upstream");
        assert_eq!(world.dynamodb.counts().faults_played, 1, "write {lost}");
        assert_eq!(world.convirza.observed().logins_arrived, 1, "write {lost}");
        let stored = get(&world, "account#default").await;
        assert!(stored["pair"].is_object() && stored["lease"].is_null(), "write {lost}");
        assert_eq!(
            get(&world, "ledger").await["permits"]["L"].as_array().map(Vec::len),
            Some(1),
            "write {lost}"
        );
    }
}

#[tokio::test]
async fn f19_an_outage_is_survived_from_memory_and_makes_nobody_log_in() {
    let world = world().await;
    let warm = handler(&world).await;
    let ask = |handler: &token_broker::adapters::lambda::Handler| {
        let handler = handler.clone();
        async move { handler.handle(LambdaEvent::new(json!({"min_ttl_seconds": 60}), context())).await }
    };
    ask(&warm).await.expect("a token");
    world.dynamodb.faults().set(Operations::All, AwsFault::Reset, None);
    let cold = handler(&world).await;
    assert_eq!(ask(&cold).await.expect_err("no token").error_type, "store_unavailable");
    assert_eq!(ask(&warm).await.expect("a token")["served_from"], "memory");
    // A report that only the table could answer meets the outage itself.
    let report = json!({"rejected_generation": u64::MAX});
    let answer = warm.handle(LambdaEvent::new(report, context())).await.expect("a token");
    assert_eq!(answer["served_from"], "memory");
    assert_eq!(world.convirza.observed().logins_arrived, 1);
    world.dynamodb.faults().clear();
    assert_eq!(ask(&cold).await.expect("a token")["served_from"], "table");
}

#[tokio::test]
async fn an_item_that_cannot_be_read_is_an_error_and_left_as_it_is() {
    let garbage = [
        ("version", json!({"pk": {"S": "account#default"}})),
        ("version", json!({"pk": {"S": "account#default"}, "version": {"S": "tell-tale"}})),
        ("pair", json!({"pk": {"S": "account#default"}, "version": {"N": "1"}, "pair": {"S": "tell-tale"}})),
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
        put(&world, &item).await;
        let handler = handler(&world).await;
        let error = handler.handle(LambdaEvent::new(json!({}), context())).await.expect_err("no token");
        assert_eq!(error.error_type, "internal");
        let message = error.error_message;
        assert!(
            message.contains(&format!("`{attribute}`")) && message.contains("account#default"),
            "{message}"
        );
        assert!(!message.contains("tell-tale"), "{message}");
        assert_eq!(get(&world, "account#default").await, item, "it was left as it is");
        assert_eq!(world.convirza.observed().logins_arrived, 0);
    }
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_lets_nobody_log_in() {
    let world = world().await;
    put(&world, &json!({"pk": {"S": "ledger"}, "version": {"N": "1"}, "permits": {"S": "none"}})).await;
    let handler = handler(&world).await;
    let error = handler.handle(LambdaEvent::new(json!({}), context())).await.expect_err("no token");
    assert!(error.error_message.contains("item `ledger`"), "{}", error.error_message);
    assert_eq!(world.convirza.observed().logins_arrived, 0);
}

#[tokio::test]
async fn an_item_that_cannot_be_read_hides_no_other_account() {
    let world = world().await;
    let handler = handler(&world).await;
    let ask = |payload| handler.handle(LambdaEvent::new(payload, context()));
    ask(json!({})).await.expect("a token");
    put(&world, &json!({"pk": {"S": "account#broken"}, "version": {"S": "tell-tale"}})).await;
    let status = ask(json!({"action": "status"})).await.expect("a status");
    let broken =
        json!({"account": "broken", "unreadable": "attribute `version` is missing or of another form"});
    assert_eq!(status["accounts"][0], broken);
    assert_eq!(status["accounts"][1]["account"], "default");
    let done = ask(json!({"action": "maintain"})).await.expect("a summary");
    assert_eq!((&done["failed"], &done["accounts"][0]["error"]), (&json!(1), &json!("internal")));
    assert_eq!(done["accounts"][1]["account"], "default");
}
