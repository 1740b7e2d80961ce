//! Accounts with the dialect `oauth2`, on real processes and a scripted OAuth 2.0 server.

use super::host::{Host, Script, response};
use crate::{instance, items, world};
use emulators::{World, instance::Instance};
use serde_json::{Value, json};

const GRANT: &str = r#"{"access_token":"first","token_type":"bearer","expires_in":"3600",
    "refresh_token":"next","instance_url":"https://x.example"}"#;

fn respond(status: u16, body: &str) -> Script {
    Script::Respond(response(status, &[], body))
}

fn secret(host: &Host, changes: &Value) -> Value {
    let mut secret = json!({
        "dialect": "oauth2", "grant": "password", "username": "user", "password": "word",
        "client_id": "id", "client_secret": "tell-tale", "answer_fields": ["instance_url"],
        "token_url": format!("{}/o/token/", host.url()), "revoke_url": format!("{}/revoke", host.url()),
    });
    secret.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    secret
}

/// An instance that may call the host, and has to read everything from the table.
pub(crate) async fn start(world: &World, host: &Host) -> Instance {
    let hosts = host.address().to_string();
    instance::start(world, &[("BROKER_UPSTREAM_HOSTS", &hosts), ("BROKER_PREFETCH", "")]).await
}

async fn world_with(host: &Host, changes: &Value) -> World {
    let world = world().await;
    world.put_secret("default", &secret(host, changes).to_string()).await.expect("a version");
    world
}

/// A host that grants one pair, and a world whose account asks it.
pub(crate) async fn world_with_a_pair() -> (World, Host) {
    let host = Host::start([respond(200, GRANT)]).await;
    let world = world_with(&host, &json!({})).await;
    (world, host)
}

fn bodies(host: &Host) -> Vec<String> {
    host.requests().into_iter().map(|request| request.body).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn are_served_and_refreshed_with_their_extra_fields() {
    let second = r#"{"access_token":"second","token_type":"Bearer","expires_in":3600}"#;
    let host = Host::start([respond(200, GRANT), respond(200, second)]).await;
    let world = world_with(&host, &json!({})).await;
    let first = start(&world, &host).await.invoke(json!({})).await.expect("a token");
    let extra = json!({"instance_url": "https://x.example"});
    assert_eq!((&first["access_token"], &first["token_type"]), (&json!("first"), &json!("Bearer")));
    assert_eq!(first["extra"], extra);
    let other = start(&world, &host).await;
    let served = other.invoke(json!({})).await.expect("a token");
    assert_eq!((&served["served_from"], &served["extra"]), (&json!("table"), &extra));
    let refreshed = other.invoke(json!({"action": "refresh"})).await.expect("a token");
    assert_eq!((&refreshed["access_token"], &refreshed["extra"]), (&json!("second"), &extra));
    assert_eq!(
        bodies(&host),
        ["grant_type=password&username=user&password=word", "grant_type=refresh_token&refresh_token=next"]
    );
    assert_eq!(world.convirza.observed().logins_arrived, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_only_a_person_can_renew_are_revoked_if_confirmed() {
    let host = Host::start([respond(200, GRANT), respond(200, ""), respond(200, "")]).await;
    let bootstrap = json!({"grant": "refresh_token", "refresh_token": "start"});
    let world = world_with(&host, &bootstrap).await;
    let instance = start(&world, &host).await;
    let token = instance.invoke(json!({})).await.expect("a token");
    assert_eq!(token["access_token"], "first");

    let refused = instance.invoke(json!({"action": "revoke"})).await.expect_err("it is not confirmed");
    assert!(refused.to_string().contains("invalid_request"), "{refused}");
    assert_eq!(bodies(&host), ["grant_type=refresh_token&refresh_token=start"]);
    let revoked = instance.invoke(json!({"action": "revoke", "confirm": true})).await.expect("a report");
    assert_eq!(revoked["revoked"], true);
    assert!(bodies(&host)[1].starts_with("token=next"), "{:?}", bodies(&host));
}

#[tokio::test(flavor = "multi_thread")]
async fn store_no_credentials_and_nothing_that_0_1_0_would_send() {
    let host = Host::start([respond(200, GRANT), respond(503, ""), respond(503, "")]).await;
    let world = world_with(&host, &json!({})).await;
    let instance = start(&world, &host).await;
    instance.invoke(json!({})).await.expect("a token");
    let item = items::get(&world, items::DEFAULT_ACCOUNT).await;
    let origin = &item["pair"]["M"]["origin"]["M"];
    // 0.1.0 neither refreshes, probes nor revokes a pair of V2 whose hosts are the default ones.
    assert_eq!(origin["api_version"]["S"], "convirza-v2");
    assert!(origin["oauth_url"].is_null() && origin["api_url"].is_null(), "{origin}");
    let text = item.to_string();
    for secret in ["tell-tale", "word", "client"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    instance.invoke(json!({"action": "revoke"})).await.expect("a report");
    let item = items::get(&world, items::DEFAULT_ACCOUNT).await;
    assert_eq!(item["pending_oauth2_revocations"]["L"].as_array().map(Vec::len), Some(2));
    assert!(item["pending_revocations"].is_null(), "0.1.0 would send these to Convirza");
}

#[tokio::test(flavor = "multi_thread")]
async fn that_0_1_0_has_rewritten_log_in_again() {
    let host = Host::start([respond(200, GRANT), respond(200, &GRANT.replace("first", "second"))]).await;
    let world = world_with(&host, &json!({})).await;
    let generation =
        start(&world, &host).await.invoke(json!({})).await.expect("a token")["generation"].clone();
    let mut item = items::get(&world, items::DEFAULT_ACCOUNT).await;
    let pair = item["pair"]["M"].as_object_mut().expect("a pair");
    pair.remove("extra");
    pair["origin"]["M"].as_object_mut().expect("an origin").retain(|name, _| name == "api_version");
    items::put(&world, &item).await;
    let instance = start(&world, &host).await;
    assert_eq!(instance.invoke(json!({})).await.expect("a token")["generation"], generation);
    instance.invoke(json!({"action": "refresh"})).await.expect("a token");
    assert!(bodies(&host)[1].starts_with("grant_type=password"), "{:?}", bodies(&host));
    assert_eq!(world.convirza.observed().refreshes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fail_by_the_code_of_the_refusal() {
    for (status, code, error) in [
        (400, "invalid_grant", "credentials_rejected"),
        (200, "invalid_grant", "credentials_rejected"),
        (401, "invalid_client", "credentials_rejected"),
        (400, "invalid_scope", "upstream_unavailable"),
        (400, "slow_down", "upstream_rate_limited"),
        (503, "temporarily_unavailable", "upstream_unavailable"),
    ] {
        let host = Host::start([respond(status, &format!(r#"{{"error":"{code}"}}"#))]).await;
        let world = world_with(&host, &json!({})).await;
        let failure = start(&world, &host).await.invoke(json!({})).await.expect_err("no token");
        assert_eq!(failure["errorType"], error, "{status} {code}");
        assert_eq!(host.requests().len(), 1, "{status} {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_urls_leave_the_known_hosts_send_nothing() {
    let (host, elsewhere) = (Host::start([respond(200, GRANT)]).await, Host::start([]).await);
    let url = format!("{}/x", elsewhere.url());
    for field in ["token_url", "revoke_url", "probe_url"] {
        let world = world_with(&host, &json!({field: url})).await;
        let error = start(&world, &host).await.invoke(json!({})).await.expect_err("no token");
        let message = error["errorMessage"].as_str().expect("a message");
        assert!(error["errorType"] == "bad_secret" && message.contains(field), "{error}");
        assert!(!message.contains(&elsewhere.address().to_string()), "{message}");
    }
    let world = world_with(&host, &json!({})).await;
    start(&world, &host).await.invoke(json!({})).await.expect("a token");
    let good = items::get(&world, items::DEFAULT_ACCOUNT).await;
    for field in ["token_url", "revoke_url", "probe_url"] {
        let mut item = good.clone();
        item["pair"]["M"]["origin"]["M"][field] = json!({"S": url});
        items::put(&world, &item).await;
        let instance = start(&world, &host).await;
        for payload in [json!({}), json!({"action": "refresh"}), json!({"action": "revoke"})] {
            assert_eq!(instance.invoke(payload).await.expect_err("unreadable")["errorType"], "internal");
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}
