//! Tokens and passwords go only to known hosts, whatever a secret or a stored item says.

use crate::{instance, items, lines, world};
use emulators::{World, convirza::Settings};
use protocol::UpstreamUrl;
use serde_json::json;
use token_broker::outbound::UpstreamHosts;

/// The hosts of settings that name no other.
pub(crate) fn none() -> UpstreamHosts {
    let url = UpstreamUrl::parse("https://oauth.example").expect("a URL");
    UpstreamHosts::new(&url, &url, vec![])
}

/// Another upstream, which must not see a token or a password.
async fn elsewhere() -> emulators::convirza::Convirza {
    emulators::convirza::Convirza::start(0, Settings::default()).await.expect("a free port")
}

fn secret(world_password: &str, field: &str, url: &str) -> String {
    json!({"email": emulators::convirza::DEFAULT_EMAIL, "password": world_password, field: url}).to_string()
}

fn host(url: &str) -> &str {
    url.trim_start_matches("http://")
}

async fn redirect_stored_pair(world: &World, field: &str, url: &str) {
    let mut item = items::get(world, items::DEFAULT_ACCOUNT).await;
    item["pair"]["M"]["origin"] = json!({"M": {field: {"S": url}}});
    items::put(world, &item).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_may_name_only_known_hosts() {
    let world = world().await;
    let elsewhere = elsewhere().await;
    for field in ["oauth_url", "api_url"] {
        for url in [elsewhere.url(), "https://tell-tale.example".to_owned()] {
            let text = secret(emulators::convirza::DEFAULT_PASSWORD, field, &url);
            world.put_secret("default", &text).await.expect("a version");
            let instance = instance::start(&world, &[("BROKER_UPSTREAM_HOSTS", "")]).await;
            let error = instance.invoke(json!({})).await.expect_err("no token");
            assert_eq!(error["errorType"], "bad_secret");
            let message = error["errorMessage"].as_str().expect("a message");
            assert!(message.contains(field) && !message.contains(host(&url)), "{message}");
        }
    }
    assert_eq!(elsewhere.observed().logins_arrived + world.convirza.observed().logins_arrived, 0);

    let text = secret(emulators::convirza::DEFAULT_PASSWORD, "oauth_url", &elsewhere.url());
    world.put_secret("default", &text).await.expect("a version");
    let url = elsewhere.url();
    let instance = instance::start(&world, &[("BROKER_UPSTREAM_HOSTS", host(&url))]).await;
    instance.invoke(json!({})).await.expect("a token of the host that the settings name");
    assert_eq!(elsewhere.observed().logins_arrived, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_in_a_secret_needs_settings_that_are_loopback() {
    let world = world().await;
    let elsewhere = elsewhere().await;
    let url = elsewhere.url();
    let text = secret(emulators::convirza::DEFAULT_PASSWORD, "oauth_url", &url);
    world.put_secret("default", &text).await.expect("a version");
    let deployed = [
        ("BROKER_OAUTH_URL", "https://platform-oauth.convirza.com"),
        ("BROKER_API_URL", "https://platform-api.convirza.com/v3"),
        ("BROKER_UPSTREAM_HOSTS", host(&url)),
    ];
    let instance = instance::start(&world, &deployed).await;
    assert_eq!(instance.invoke(json!({})).await.expect_err("no token")["errorType"], "bad_secret");
    assert_eq!(elsewhere.observed().logins_arrived, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_item_that_names_another_host_is_unreadable() {
    let world = world().await;
    let elsewhere = elsewhere().await;
    let before = instance::start(&world, &[]).await;
    let generation = before.invoke(json!({})).await.expect("a token")["generation"].clone();
    for field in ["oauth_url", "api_url"] {
        for url in [elsewhere.url(), "https://tell-tale.example".to_owned()] {
            redirect_stored_pair(&world, field, &url).await;
            let instance = instance::start(&world, &[]).await;
            for payload in [
                json!({}),
                json!({"rejected_generation": generation}),
                json!({"action": "refresh"}),
                json!({"action": "revoke"}),
            ] {
                let error = instance.invoke(payload).await.expect_err("an unreadable item");
                assert_eq!(error["errorType"], "internal");
                let message = error["errorMessage"].as_str().expect("a message");
                assert!(message.contains("origin") && message.contains("BROKER_UPSTREAM_HOSTS"), "{message}");
                assert!(!message.contains(host(&url)), "{message}");
            }
            let summary = instance.invoke(json!({"action": "maintain"})).await.expect("a summary");
            assert_eq!(summary["failed"], 1);
            let log = lines::invocations(&instance.output().await);
            assert!(log.iter().any(|line| line["level"] == "ERROR"), "{log:?}");
        }
    }
    let observed = elsewhere.observed();
    assert_eq!([observed.logins_arrived, observed.refreshes, observed.revocations], [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_revocation_goes_to_known_hosts_only() {
    let world = world().await;
    let elsewhere = elsewhere().await;
    let instance = instance::start(&world, &[]).await;
    instance.invoke(json!({})).await.expect("a token");
    let mut item = items::get(&world, items::DEFAULT_ACCOUNT).await;
    item["pending_revocations"] = json!({"L": [{"M": {
        "token": item["pair"]["M"]["access_token"],
        "kind": {"S": "access"},
        "expires_at_ms": item["pair"]["M"]["expires_at_ms"],
        "origin": {"M": {"oauth_url": {"S": elsewhere.url()}}},
    }}]});
    items::put(&world, &item).await;
    let fresh = instance::start(&world, &[]).await;
    assert_eq!(fresh.invoke(json!({"action": "maintain"})).await.expect("a summary")["failed"], 1);
    assert_eq!(elsewhere.observed().revocations, 0);
}
