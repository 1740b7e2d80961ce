//! Direct invocations of one instance: answers, errors and accounts follow the contract.

use crate::{instance, world};
use emulators::convirza::{Endpoint, Fault};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_answer_has_the_fields_of_the_contract() {
    let world = world().await;
    let instance = instance::start(&world, &[]).await;
    let answer = instance.invoke(json!({})).await.expect("a token");
    let fields: Vec<&String> = answer.as_object().expect("an object").keys().collect();
    assert_eq!(
        fields,
        ["access_token", "account", "expires_at", "expires_in", "generation", "served_from", "token_type"]
    );
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["account"], "default");
    assert_eq!(answer["expires_in"], 900);
    assert_eq!(answer["served_from"], "upstream");
    let again =
        instance.invoke(json!({"action": "token", "account": "default", "min_ttl_seconds": 900})).await;
    assert_eq!(again.expect("a token")["served_from"], "memory");
    let other = instance::start(&world, &[("BROKER_PREFETCH", "")]).await;
    assert_eq!(other.invoke(json!({})).await.expect("a token")["served_from"], "table");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_payload_is_refused_by_field_and_the_next_is_served() {
    let world = world().await;
    let instance = instance::start(&world, &[]).await;
    for (payload, field) in [
        (json!({"acount": "default"}), "acount"),
        (json!({"action": "dance"}), "action"),
        (json!({"account": "../other"}), "account"),
        (json!({"min_ttl_seconds": 901}), "min_ttl_seconds"),
        (json!({"rejected_generation": "seven"}), "rejected_generation"),
        (json!([]), "JSON object"),
    ] {
        let error = instance.invoke(payload).await.expect_err("no token");
        assert_eq!(error["errorType"], "invalid_request");
        assert!(error["errorMessage"].as_str().is_some_and(|message| message.contains(field)), "{error}");
    }
    assert!(instance.invoke(json!({})).await.is_ok());
    assert_eq!(world.convirza.observed().logins_arrived, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_states_retry_after_at_the_end_of_its_message() {
    let world = world().await;
    let too_many = Fault::RateLimited { retry_after: Some("90".to_owned()) };
    world.convirza.faults().set(Endpoint::Login, too_many, Some(1));
    let instance = instance::start(&world, &[]).await;
    let error = instance.invoke(json!({})).await.expect_err("no token");
    assert_eq!(error["errorType"], "upstream_rate_limited");
    let message = error["errorMessage"].as_str().expect("a message");
    let seconds = message.strip_suffix(')').and_then(|text| text.rsplit("(retry_after=").next());
    let seconds: u64 = seconds.and_then(|text| text.parse().ok()).expect("the contract's ending");
    assert!((89..=99).contains(&seconds), "{message}");
    let error = instance.invoke(json!({"account": "emea"})).await.expect_err("no token");
    assert_eq!(error["errorType"], "unknown_account");
    assert_eq!(world.convirza.observed().logins_arrived, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_no_account_is_answered_with_the_pair_of_another() {
    let world = world().await;
    world.add_account("emea", "emea@example.invalid", "local-emea").await.expect("an account");
    let instance = instance::start(&world, &[]).await;
    let default = instance.invoke(json!({})).await.expect("a token");
    let emea = instance.invoke(json!({"account": "emea"})).await.expect("a token");
    assert_ne!(default["access_token"], emea["access_token"]);
    assert_eq!(emea["account"], "emea");
    assert_eq!(instance.invoke(json!({})).await.expect("a token")["access_token"], default["access_token"]);
}
