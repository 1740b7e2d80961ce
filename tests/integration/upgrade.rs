//! Two builds on one table. `stored/` has the items in each form that was ever written.
//!
//! A build ignores unknown attributes, and drops them with its next write. It refuses an item that lacks a required
//! attribute or has an unknown value, and leaves it unchanged.

use crate::{front::context, handler, instance, items, world};
use emulators::{World, convirza::Revoke, instance::Instance};
use lambda_runtime::{Diagnostic, LambdaEvent};
use local::wiring;
use serde_json::{Value, json};
use std::{fs, path::PathBuf, sync::Arc};
use token_broker::outbound::SystemClock;

/// The attributes of an item without which no build can serve it.
const REQUIRED: [&str; 3] = ["pk", "version", "pair"];
const REQUIRED_IN_PAIR: [&str; 7] = [
    "generation",
    "access_token",
    "refresh_token",
    "refresh_token_state",
    "issued_at_ms",
    "expires_at_ms",
    "obtained_by",
];

async fn invoke(world: &World, payload: Value) -> Result<Value, Diagnostic> {
    handler(world).handle(LambdaEvent::new(payload, context())).await.map(Value::from)
}

/// The stored forms of a kind of item, the oldest first.
fn stored(kind: &str) -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/integration/stored");
    let files = fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").path());
    let mut forms: Vec<_> = files
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.to_owned();
            let text = fs::read_to_string(&path).expect("a text");
            let item = serde_json::from_str(&text).expect("JSON");
            name.starts_with(kind).then_some((name, item))
        })
        .collect();
    forms.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert!(!forms.is_empty(), "a form of {kind}");
    forms
}

/// The names of an item's attributes, at every depth, with their types.
fn form(item: &Value) -> Vec<String> {
    let mut names = Vec::new();
    for (name, value) in item.as_object().expect("a map") {
        let (kind, value) = value.as_object().and_then(|value| value.iter().next()).expect("a type");
        names.push(format!("{name}: {kind}"));
        let elements = value.as_array().into_iter().flatten().filter_map(|element| element.get("M"));
        for inner in elements.chain(Some(value).filter(|_| kind == "M")) {
            names.extend(form(inner).into_iter().map(|inner| format!("{name}.{inner}")));
        }
    }
    names.sort();
    names.dedup();
    names
}

fn keep(item: &mut Value, names: &[&str]) {
    item.as_object_mut().expect("a map").retain(|name, _| names.contains(&name.as_str()));
}

mod forms {
    use super::*;

    /// If this fails, the stored form has changed: add a file with the new form, keep the previous one, and say in
    /// CHANGELOG.md which versions can read which.
    #[tokio::test]
    async fn are_what_this_build_writes() {
        let world = world().await;
        let store = crate::ports(&world).store;
        crate::store::write_everything(&*store).await;
        for (kind, key) in [
            ("account", items::DEFAULT_ACCOUNT),
            ("grant", "grant#crm"),
            ("login_limiter", items::LOGIN_LIMITER),
        ] {
            let written = items::get(&world, key).await;
            let (name, last) = stored(kind).pop().expect("a form");
            assert_eq!(form(&written), form(&last), "{name}: {written}");
        }
    }

    #[tokio::test]
    async fn of_earlier_builds_are_served() {
        let later = u64::MAX.to_string();
        for (name, mut item) in stored("account") {
            let world = world().await;
            // The form is that of the file, with new times: the file's pair and lease have expired.
            item["pair"]["M"]["expires_at_ms"]["N"] = json!("4000000000000");
            item.as_object_mut().expect("a map").remove("rejected_secret");
            item["version"]["N"] = json!(later);
            for (_, limiter) in stored("login_limiter") {
                items::put(&world, &limiter).await;
            }
            items::put(&world, &item).await;
            let hosts = [("BROKER_UPSTREAM_HOSTS", "oauth.example,api.example".to_owned())];
            let config = wiring::config(&world, &hosts).expect("a valid configuration");
            let ports = wiring::ports(&world, &config, Arc::new(SystemClock)).expect("the adapters");
            let handler = wiring::handler(&config, ports);
            let answer = handler.handle(LambdaEvent::new(json!({}), context())).await;
            let answer: Value = answer.unwrap_or_else(|error| panic!("{name}: {error:?}")).into();
            let token = &item["pair"]["M"]["access_token"]["S"];
            assert_eq!((&answer["access_token"], &answer["served_from"]), (token, &json!("table")), "{name}");
            assert_eq!(world.convirza.observed().logins_arrived, 0, "{name}");
        }
    }
}

mod an_older_item {
    use super::*;

    /// What every build has written: the version, and the pair with its tokens.
    #[tokio::test]
    async fn is_served_and_refreshed_without_a_login() {
        let world = world().await;
        let first = invoke(&world, json!({})).await.expect("a token");
        let mut item = items::get(&world, items::DEFAULT_ACCOUNT).await;
        keep(&mut item, &REQUIRED);
        keep(&mut item["pair"]["M"], &REQUIRED_IN_PAIR);
        items::put(&world, &item).await;

        let served = invoke(&world, json!({})).await.expect("a token");
        assert_eq!((&served["served_from"], &served["generation"]), (&json!("table"), &first["generation"]));
        invoke(&world, json!({"action": "refresh"})).await.expect("a new pair");
        let observed = world.convirza.observed();
        assert_eq!((observed.logins_arrived, observed.refreshes), (1, 1));
    }

    #[tokio::test]
    async fn with_a_permit_that_names_no_account_is_refused_and_kept() {
        let world = world().await;
        invoke(&world, json!({})).await.expect("a token");
        let mut limiter = items::get(&world, items::LOGIN_LIMITER).await;
        limiter["permits"]["L"][0]["M"].as_object_mut().expect("a permit").remove("account");
        items::put(&world, &limiter).await;
        assert_eq!(invoke(&world, json!({})).await.expect("a token")["served_from"], "table");
        invoke(&world, json!({"action": "revoke"})).await.expect("a report");
        let error = invoke(&world, json!({})).await.expect_err("no login");
        assert_eq!(error.error_type, "internal");
        assert!(error.error_message.contains("wait five minutes before you delete it"), "{error:?}");
        assert_eq!(items::get(&world, items::LOGIN_LIMITER).await, limiter);
        assert_eq!(world.convirza.observed().logins_arrived, 1);
    }
}

mod a_newer_item {
    use super::*;

    #[tokio::test]
    async fn is_served_and_refreshed_and_loses_what_is_not_known() {
        let world = world().await;
        invoke(&world, json!({})).await.expect("a token");
        let known = items::get(&world, items::DEFAULT_ACCOUNT).await;
        let mut item = known.clone();
        let news = json!({"M": {"at_ms": {"N": "1"}, "why": {"S": "a newer build"}}});
        item["news"] = news.clone();
        item["pair"]["M"]["news"] = news.clone();
        items::put(&world, &item).await;
        let mut limiter = items::get(&world, items::LOGIN_LIMITER).await;
        limiter["news"] = news.clone();
        limiter["permits"]["L"][0]["M"]["news"] = news;
        items::put(&world, &limiter).await;

        assert_eq!(invoke(&world, json!({})).await.expect("a token")["served_from"], "table");
        assert_eq!(items::get(&world, items::DEFAULT_ACCOUNT).await, item, "reading changes nothing");
        invoke(&world, json!({"action": "refresh"})).await.expect("a new pair");
        invoke(&world, json!({"action": "revoke"})).await.expect("a report");
        invoke(&world, json!({})).await.expect("a login, with the newer build's permit");
        let observed = world.convirza.observed();
        assert_eq!((observed.logins_arrived, observed.refreshes), (2, 1));
        for key in [items::DEFAULT_ACCOUNT, items::LOGIN_LIMITER] {
            let stored = items::get(&world, key).await.to_string();
            assert!(!stored.contains("news"), "{stored}");
        }
        let permits = items::get(&world, items::LOGIN_LIMITER).await["permits"]["L"].as_array().map(Vec::len);
        assert_eq!(permits, Some(2), "the permit of the newer build still counts");
    }

    #[tokio::test]
    async fn with_a_value_that_is_not_known_is_refused_and_kept() {
        let world = world().await;
        invoke(&world, json!({})).await.expect("a token");
        let good = items::get(&world, items::DEFAULT_ACCOUNT).await;
        let cooldown = json!({"M": {
            "until_ms": {"N": "4000000000000"}, "reason": {"S": "newer"}, "failures": {"N": "1"},
        }});
        let revocation = json!({"M": {
            "token": {"S": "old"}, "kind": {"S": "newer"}, "expires_at_ms": {"N": "4000000000000"},
        }});
        for (attribute, pointer, value) in [
            ("obtained_by", "/pair/M/obtained_by", json!({"S": "newer"})),
            ("refresh_token_state", "/pair/M/refresh_token_state", json!({"S": "newer"})),
            ("state", "/pair/M/verdict", json!({"M": {"state": {"S": "newer"}}})),
            ("api_version", "/pair/M/origin", json!({"M": {"api_version": {"S": "newer"}}})),
            ("access_token", "/pair/M/access_token", json!({"M": {"sealed": {"S": "newer"}}})),
            ("reason", "/cooldown", cooldown),
            ("kind", "/pending_revocations", json!({"L": [revocation]})),
        ] {
            let mut item = good.clone();
            let (parent, name) = pointer.rsplit_once('/').expect("a path");
            item.pointer_mut(parent).expect("the parent")[name] = value;
            items::put(&world, &item).await;
            let error = invoke(&world, json!({})).await.expect_err("no token");
            assert_eq!(error.error_type, "internal", "{attribute}");
            assert!(error.error_message.contains(&format!("`{attribute}`")), "{error:?}");
            assert_eq!(items::get(&world, items::DEFAULT_ACCOUNT).await, item, "{attribute}: it is kept");
        }
        let observed = world.convirza.observed();
        assert_eq!((observed.logins_arrived, observed.refreshes), (1, 0));
        // When the rollback is undone, the newer build finds its item unchanged.
        items::put(&world, &good).await;
        assert_eq!(invoke(&world, json!({})).await.expect("a token")["served_from"], "table");
    }
}

/// Another build, as a program: `tests/system.sh upgrade` builds it.
mod two_builds {
    use super::*;

    /// A new instance of this build, or of the other one. Its memory is empty, so it reads the stored items.
    async fn start(world: &World, is_this_build: bool) -> Instance {
        if is_this_build {
            // Otherwise it would answer from memory with what it read at its start.
            return instance::start(world, &[("BROKER_PREFETCH", "")]).await;
        }
        #[expect(clippy::disallowed_methods, reason = "a switch of this test, read only here")]
        let program = std::env::var("BROKER_TEST_OTHER_BUILD").expect("tests/system.sh upgrade sets it");
        let quick = instance::QUICK.iter().chain(&[("BROKER_PREFETCH", "")]);
        let quick = quick.map(|(name, value)| (*name, (*value).to_owned()));
        Instance::start_program(&PathBuf::from(program), &[], world.environment().into_iter().chain(quick))
            .await
    }

    async fn invoke(world: &World, is_this_build: bool, payload: Value) -> Value {
        let instance = start(world, is_this_build).await;
        let answer = instance.invoke(payload.clone()).await;
        answer.unwrap_or_else(|error| panic!("this build: {is_this_build}, {payload}: {error}"))
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "tests/system.sh upgrade runs it"]
    async fn serve_and_renew_what_the_other_wrote() {
        for writer in [false, true] {
            let (world, reader) = (world().await, !writer);
            let mut generation = invoke(&world, writer, json!({})).await["generation"].clone();
            // Each build in turn renews the other's pair: by a refresh, then by a login after a report.
            for (renewer, observer) in [(reader, writer), (writer, reader)] {
                let served = invoke(&world, renewer, json!({})).await;
                assert_eq!((&served["generation"], &served["served_from"]), (&generation, &json!("table")));
                let refresh = json!({"action": "refresh"});
                generation = invoke(&world, renewer, refresh).await["generation"].clone();
                assert_eq!(invoke(&world, observer, json!({})).await["generation"], generation);
                world.convirza.revoke_all_sessions(Revoke::AllTokens);
                let renewed = invoke(&world, renewer, json!({"rejected_generation": generation})).await;
                assert_ne!(renewed["generation"], generation);
                generation = renewed["generation"].clone();
                let served = invoke(&world, observer, json!({})).await;
                assert_eq!((&served["generation"], &served["served_from"]), (&generation, &json!("table")));
            }
            for build in [writer, reader] {
                let maintained = invoke(&world, build, json!({"action": "maintain"})).await;
                assert_eq!(maintained["failed"], 0, "{maintained}");
            }
            // Both counted each other's permits: the fourth login of the account in a minute is not sent.
            world.convirza.revoke_all_sessions(Revoke::AllTokens);
            for build in [writer, reader] {
                let report = json!({"rejected_generation": generation});
                let error = start(&world, build).await.invoke(report).await.expect_err("no login");
                assert_eq!(error["errorType"], "login_budget_exhausted", "{error}");
            }
            let observed = world.convirza.observed();
            assert_eq!((observed.logins_arrived, observed.refresh_tokens_sent_twice), (3, 0));
        }
    }

    /// 0.1.0 hands out the pair of an OAuth 2.0 account while it is valid, and sends its tokens nowhere; a build that
    /// knows the dialect, only where they belong.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "tests/system.sh upgrade runs it"]
    async fn send_no_token_of_another_dialect_elsewhere() {
        let (world, host) = crate::pinned::oauth2_accounts::world_with_a_pair().await;
        let first = crate::pinned::oauth2_accounts::start(&world, &host).await;
        let answer = first.invoke(json!({})).await.expect("a token");
        let other = start(&world, false).await;
        let served = other.invoke(json!({})).await.expect("the pair");
        assert_eq!((&served["generation"], &served["served_from"]), (&answer["generation"], &json!("table")));
        for payload in [
            json!({"rejected_generation": answer["generation"]}),
            json!({"action": "refresh"}),
            json!({"action": "maintain"}),
            json!({"action": "revoke"}),
            json!({}),
        ] {
            // An answer or an error: what counts is what was sent.
            let _ = other.invoke(payload).await;
        }
        let strays = |line: &str| !line.starts_with("POST /o/token/ ") && !line.starts_with("POST /revoke ");
        assert!(!host.requests().iter().any(|request| strays(&request.line)), "{:?}", host.requests());
        let observed = world.convirza.observed();
        let sent = [observed.logins_arrived, observed.refreshes, observed.probes, observed.revocations];
        assert_eq!(sent, [0; 4]);
    }
}
