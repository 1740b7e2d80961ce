//! An account of Convirza's API V2 on real processes.

use crate::{
    instance::{self, invoke_all, start_many},
    world,
};
use emulators::{
    convirza::{DEFAULT_EMAIL, DEFAULT_PASSWORD, Endpoint, Fault, Revoke, V2_CLIENT_SECRET},
    v2_secret,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_renewed_by_logins_and_revoked_by_deletion() {
    let world = world().await;
    let secret = v2_secret(&world, DEFAULT_EMAIL, DEFAULT_PASSWORD);
    world.put_secret("default", &secret).await.expect("a version");
    let instances = start_many(&world, 4).await;
    let answers = invoke_all(&instances, 1, &json!({})).await;
    let first = answers[0].as_ref().expect("a token").clone();
    for answer in answers {
        assert_eq!(answer.expect("a token")["access_token"], first["access_token"]);
    }
    assert_eq!(world.convirza.observed().logins_arrived, 1);

    world.convirza.revoke_all_sessions(Revoke::AccessTokens);
    let report = json!({"rejected_generation": first["generation"]});
    for answer in invoke_all(&instances, 250, &report).await {
        answer.expect("a token");
    }
    let observed = world.convirza.observed();
    assert_eq!((observed.probes, observed.logins_arrived, observed.refreshes), (1, 2, 0));
    let revoked = instances[0].invoke(json!({"action": "revoke"})).await.expect("a report");
    assert_eq!(revoked["revoked"], true, "V2 documents no revocation, so the broker only deletes the pair");
    assert_eq!(world.convirza.observed().revocations, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_of_a_refusal_reject_the_credentials() {
    let world = world().await;
    let wrong_password = v2_secret(&world, DEFAULT_EMAIL, "wrong");
    let wrong_client = wrong_password.replace(V2_CLIENT_SECRET, "another");
    for secret in [wrong_password, wrong_client] {
        let version = world.put_secret("default", &secret).await.expect("a version");
        let instance = instance::start(&world, &[]).await;
        for _ in 0..2 {
            let error = instance.invoke(json!({})).await.expect_err("no token");
            assert_eq!(error["errorType"], "credentials_rejected");
            let message = error["errorMessage"].as_str();
            assert!(message.is_some_and(|message| message.contains(&version)), "{error}");
        }
    }
    assert_eq!(world.convirza.observed().logins_arrived, 2, "one for each version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_expiry_counts_as_an_hour() {
    let world = world().await;
    world
        .put_secret("default", &v2_secret(&world, DEFAULT_EMAIL, DEFAULT_PASSWORD))
        .await
        .expect("a version");
    world.convirza.faults().set(Endpoint::Login, Fault::ExpiryMissing, Some(1));
    let a_day = [("BROKER_MAX_TTL_SECONDS", "86400")];
    let instance = instance::start(&world, &a_day).await;
    let answer = instance.invoke(json!({})).await.expect("a token");
    let expires_in = answer["expires_in"].as_u64().expect("seconds");
    assert!((3_500..=3_600).contains(&expires_in), "{expires_in}");
}
