//! Rejected credentials and rotated secrets on real processes, counted by the upstream.

use crate::{
    instance::{self, PATIENT, invoke_all, start_many},
    world, world_with,
};
use emulators::{
    convirza::{DEFAULT_EMAIL, DEFAULT_PASSWORD, Endpoint, Fault, Settings},
    credentials_secret,
    runtime_api::Invocation,
};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn f20_rejected_credentials_cost_the_fleet_one_login() {
    let world = world().await;
    let wrong = credentials_secret("who@example.invalid", "wrong");
    world.put_secret("default", &wrong).await.expect("a version");
    let instances = start_many(&world, 4).await;
    for answer in invoke_all(&instances, 5, &json!({})).await {
        assert_eq!(answer.expect_err("no token")["errorType"], "credentials_rejected");
    }
    assert_eq!(world.convirza.observed().logins_arrived, 1);

    let default = credentials_secret(DEFAULT_EMAIL, DEFAULT_PASSWORD);
    world.put_secret("default", &default).await.expect("a version");
    let fresh = instance::start(&world, &[]).await;
    assert!(fresh.invoke(json!({})).await.is_ok(), "a new version is tried at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_a_rotated_secret_is_used_within_a_minute_by_one_login() {
    let world = world().await;
    world.convirza.set_password(DEFAULT_EMAIL, "rotated");
    let instances = start_many(&world, 4).await;
    for answer in invoke_all(&instances, 1, &json!({})).await {
        assert_eq!(answer.expect_err("no token")["errorType"], "credentials_rejected");
    }
    assert_eq!(world.convirza.observed().logins_arrived, 1);

    let rotated = credentials_secret(DEFAULT_EMAIL, "rotated");
    let version = world.put_secret("default", &rotated).await.expect("a version");
    let all_served = async {
        loop {
            let answers = invoke_all(&instances, 1, &json!({})).await;
            for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                assert!(!error.to_string().contains(&version), "only the old version is rejected: {error}");
            }
            if answers.iter().all(Result::is_ok) {
                break answers;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let answers = tokio::time::timeout(Duration::from_secs(60), all_served).await.expect("within a minute");
    let token = |answer: &Invocation| answer.as_ref().expect("a token")["access_token"].clone();
    assert!(answers.iter().all(|answer| token(answer) == token(&answers[0])));
    assert_eq!(world.convirza.observed().logins_arrived, 2, "one for each version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_refused_during_rotation_tries_the_new_version() {
    // A slow upstream, so that the secret is rotated during the login.
    let settings = Settings { latency: Duration::from_secs(2), ..Settings::default() };
    let world = world_with(settings).await;
    let mut events = world.convirza.subscribe();
    world.convirza.faults().set(Endpoint::Login, Fault::WrongPassword, Some(1));
    let instance = instance::start(&world, &PATIENT).await;
    let answer = instance.begin(json!({}));
    events.recv().await.expect("a login");
    let same = credentials_secret(DEFAULT_EMAIL, DEFAULT_PASSWORD);
    world.put_secret("default", &same).await.expect("a version");
    answer.await.expect("an answer").expect("a token");
    assert_eq!(world.convirza.observed().logins_arrived, 2);
}

/// The answer of a firewall or a maintenance page says nothing about the password.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_refused_with_400_or_403_rejects_no_secret() {
    for fault in [Fault::BadRequest, Fault::Forbidden] {
        let world = world().await;
        world.convirza.faults().set(Endpoint::Login, fault, Some(1));
        let instance = instance::start(&world, &[]).await;
        for _ in 0..2 {
            let error = instance.invoke(json!({})).await.expect_err("no token");
            assert_eq!(error["errorType"], "upstream_unavailable");
        }
        assert_eq!(world.convirza.observed().logins_arrived, 1, "the account is in cooldown");
        let status = instance.invoke(json!({"action": "status"})).await.expect("the status");
        assert_eq!(status["accounts"][0]["rejected_secret_version"], json!(null));
        let answer = instance.invoke(json!({"action": "unblock"})).await.expect("an answer");
        assert_eq!(answer, json!({"account": "default", "unblocked": true}));
        instance.invoke(json!({})).await.expect("a token");
    }
}
