//! The whole life of a token, on the real binary in several processes: rejected, probed, revoked, maintained,
//! rotated; counted by what the upstream saw.

use super::{
    instance::Instance,
    runtime_api::Invocation,
    world,
    world::{
        World,
        convirza::{Behaviour, DEFAULT_EMAIL, Endpoint, Fault, Revoke, Settings},
        dynamodb,
    },
    world_with,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

const INSTANCES: usize = 4;
const REPORTS_EACH: usize = 250;

async fn instances(world: &World) -> Vec<Instance> {
    join_all((0..INSTANCES).map(|_| Instance::start(world, &[]))).await
}

/// Every instance reports the generation many times at once.
async fn report(instances: &[Instance], generation: &Value) -> Vec<Value> {
    let payload = json!({"rejected_generation": generation});
    let reports =
        instances.iter().flat_map(|instance| (0..REPORTS_EACH).map(|_| instance.invoke(payload.clone())));
    join_all(reports).await.into_iter().map(|answer| answer.expect("a token")).collect()
}

/// A world whose upstream takes its time, so that what happens at once really does.
async fn slow_world() -> World {
    let settings = Settings { latency: Duration::from_millis(600), ..Settings::default() };
    world_with(settings).await
}

/// The stored record, as the engine has it.
async fn record(world: &World) -> Value {
    let key = json!({"TableName": world.table(), "Key": {"pk": {"S": "account#default"}}});
    let found = dynamodb::ask(&world.dynamodb, "GetItem", &key).await;
    found.expect("an answer")["Item"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_a_thousand_reports_on_a_dead_token_are_one_probe_and_one_renewal() {
    let world = world().await;
    let instances = instances(&world).await;
    let dead = instances[0].invoke(json!({})).await.expect("a token");
    world.convirza.revoke_all_sessions(Revoke::AccessTokens);
    let answers = report(&instances, &dead["generation"]).await;
    for answer in &answers {
        assert!(answer["generation"].as_u64() > dead["generation"].as_u64());
        assert_eq!(answer["access_token"], answers[0]["access_token"]);
    }
    let observed = world.convirza.observed();
    assert_eq!((observed.probes, observed.refreshes, observed.logins_arrived), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_where_the_refresh_token_is_dead_as_well_there_is_one_login() {
    let world = world().await;
    let instances = instances(&world).await;
    let dead = instances[0].invoke(json!({})).await.expect("a token");
    world.convirza.revoke_all_sessions(Revoke::AllTokens);
    report(&instances, &dead["generation"]).await;
    let observed = world.convirza.observed();
    assert_eq!((observed.probes, observed.logins_arrived), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_thousand_false_reports_change_nothing_and_cost_one_probe() {
    let world = world().await;
    let instances = instances(&world).await;
    let alive = instances[0].invoke(json!({})).await.expect("a token");
    for answer in report(&instances, &alive["generation"]).await {
        assert_eq!(answer["generation"], alive["generation"]);
    }
    let older = json!(alive["generation"].as_u64().expect("a number") - 1);
    report(&instances, &older).await;
    let observed = world.convirza.observed();
    assert_eq!((observed.probes, observed.refreshes, observed.logins_arrived), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_falls_back_where_there_is_no_profile_and_has_no_verdict_where_the_api_fails() {
    let world = world().await;
    let instance = Instance::start(&world, &[]).await;
    let pair = instance.invoke(json!({})).await.expect("a token");
    world.convirza.faults().set(Endpoint::Profile, Fault::ServerError, Some(1));
    let rejected = json!({"rejected_generation": pair["generation"]});
    let unchanged = instance.invoke(rejected.clone()).await.expect("a token");
    assert_eq!(unchanged["generation"], pair["generation"]);
    assert_eq!(world.convirza.observed().refreshes, 0);

    let other = super::world().await;
    other.convirza.set_behaviour(Behaviour { no_profile: true, ..Behaviour::default() });
    let instance = Instance::start(&other, &[]).await;
    let pair = instance.invoke(json!({})).await.expect("a token");
    other.convirza.revoke_all_sessions(Revoke::AccessTokens);
    let renewed = instance.invoke(json!({"rejected_generation": pair["generation"]})).await.expect("a token");
    assert!(renewed["generation"].as_u64() > pair["generation"].as_u64());
    let observed = other.convirza.observed();
    assert_eq!((observed.probes, observed.refreshes), (2, 1), "the profile, and then one user");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_pair_leaves_the_table_and_after_the_memory_ttl_nobody_hands_it_out() {
    let world = world().await;
    let settings = [("BROKER_MEMORY_TTL_SECONDS", "1")];
    let operator = Instance::start(&world, &settings).await;
    let other = Instance::start(&world, &settings).await;
    let pair = operator.invoke(json!({})).await.expect("a token");
    assert_eq!(other.invoke(json!({})).await.expect("a token")["access_token"], pair["access_token"]);

    let revoked = operator.invoke(json!({"action": "revoke"})).await.expect("a report");
    assert_eq!(revoked, json!({"account": "default", "revoked": true, "pending_revocations": 0}));
    assert_eq!(world.convirza.observed().revocations, 2);
    let stored = record(&world).await.to_string();
    assert!(!stored.contains("token"), "nothing of the pair is left: {stored}");

    let next = operator.invoke(json!({})).await.expect("a token");
    assert_ne!(next["access_token"], pair["access_token"]);
    // The other instance may serve its memory until that is a second old.
    let gone = async {
        while other.invoke(json!({})).await.expect("a token")["access_token"] == pair["access_token"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("the memory TTL passes");
    assert_eq!(world.convirza.observed().logins_arrived, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_is_killed_while_revoking_leaves_nothing_forgotten() {
    let world = world().await;
    let mut happenings = world.convirza.subscribe();
    let mut operator = Instance::start(&world, &[]).await;
    operator.invoke(json!({})).await.expect("a token");
    world.convirza.faults().set(Endpoint::Revoke, Fault::Hang, Some(1));
    let unanswered = operator.begin(json!({"action": "revoke"}));
    while happenings.recv().await.expect("a revocation").endpoint != Endpoint::Revoke {}
    operator.kill().await;

    let other = Instance::start(&world, &[]).await;
    let again = other.invoke(json!({"action": "revoke"})).await.expect("a report");
    assert_eq!(again["pending_revocations"], 0);
    assert_eq!(world.convirza.observed().revocations, 2);
    drop(unanswered);
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_renews_what_is_due_finishes_what_is_pending_and_answers_a_summary() {
    let settings = Settings { access_lifetime: Duration::from_secs(20), ..Settings::default() };
    let world = world_with(settings).await;
    world.add_account("emea", "emea@example.invalid", "local-emea").await.expect("an account");
    // Due at once, and a caller is content with what is there: nobody but the schedule renews.
    let instance = Instance::start(&world, &[("BROKER_MAX_TTL_SECONDS", "1")]).await;
    instance.invoke(json!({})).await.expect("a token");
    let emea = instance.invoke(json!({"account": "emea"})).await.expect("a token");
    world.convirza.faults().set(Endpoint::Revoke, Fault::ServerError, Some(2));
    let failed = instance.invoke(json!({"action": "revoke"})).await.expect("a report");
    assert_eq!((&failed["revoked"], &failed["pending_revocations"]), (&json!(false), &json!(2)));

    let done = instance.invoke(json!({"action": "maintain"})).await.expect("a summary");
    assert_eq!((&done["renewed"], &done["failed"]), (&json!(0), &json!(0)), "{done}");
    assert_eq!(
        done["accounts"][0],
        json!({"account": "default", "renewed": false, "pending_revocations": 0})
    );
    assert_eq!(world.convirza.observed().revocations, 2);

    // Half of its life is over before a pair of so short a life is due.
    let renewed = async {
        loop {
            let done = instance.invoke(json!({"action": "maintain"})).await.expect("a summary");
            if done["renewed"] == 1 {
                break done;
            }
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("it becomes due");
    assert_eq!(done["accounts"][1], json!({"account": "emea", "renewed": true, "pending_revocations": 0}));
    let after = instance.invoke(json!({"account": "emea"})).await.expect("a token");
    assert!(after["generation"].as_u64() > emea["generation"].as_u64());
    let observed = world.convirza.observed();
    assert_eq!((observed.refreshes, observed.logins_arrived), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_a_rotated_secret_unparks_all_running_instances_within_a_minute_by_one_login() {
    let world = world().await;
    world.convirza.set_password(DEFAULT_EMAIL, "rotated");
    let instances = instances(&world).await;
    let ask = || join_all(instances.iter().map(|instance| instance.invoke(json!({}))));
    for answer in ask().await {
        assert_eq!(answer.expect_err("no token")["errorType"], "credentials_rejected");
    }
    assert_eq!(world.convirza.observed().logins_arrived, 1);

    let rotated = world::credentials_secret(DEFAULT_EMAIL, "rotated");
    let version = world.put_secret("default", &rotated).await.expect("a version");
    let unparked = async {
        loop {
            let answers = ask().await;
            for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                assert!(!error.to_string().contains(&version), "only the old version is refused: {error}");
            }
            if answers.iter().all(Result::is_ok) {
                break answers;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let answers = tokio::time::timeout(Duration::from_secs(60), unparked).await.expect("within a minute");
    let token = |answer: &Invocation| answer.as_ref().expect("a token")["access_token"].clone();
    assert!(answers.iter().all(|answer| token(answer) == token(&answers[0])));
    assert_eq!(world.convirza.observed().logins_arrived, 2, "one for each version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_refused_while_the_secret_is_rotated_tries_the_newer_version_once() {
    let world = slow_world().await;
    let mut happenings = world.convirza.subscribe();
    world.convirza.faults().set(Endpoint::Login, Fault::WrongPassword, Some(1));
    let instance = Instance::start(&world, &[]).await;
    let answer = instance.begin(json!({}));
    happenings.recv().await.expect("a login");
    // The login that is on its way will be refused; by then the secret has a newer version.
    let same = world::credentials_secret(DEFAULT_EMAIL, world::convirza::DEFAULT_PASSWORD);
    world.put_secret("default", &same).await.expect("a version");
    answer.await.expect("an answer").expect("a token");
    assert_eq!(world.convirza.observed().logins_arrived, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_who_refresh_at_once_are_one() {
    let world = slow_world().await;
    let instances = instances(&world).await;
    let before = instances[0].invoke(json!({})).await.expect("a token");
    join_all(instances.iter().map(|instance| instance.invoke(json!({})))).await;
    let refreshed =
        join_all(instances.iter().map(|instance| instance.invoke(json!({"action": "refresh"})))).await;
    for answer in &refreshed {
        let answer = answer.as_ref().expect("a token");
        assert!(answer["generation"].as_u64() > before["generation"].as_u64());
    }
    let observed = world.convirza.observed();
    assert_eq!((observed.refreshes, observed.logins_arrived), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_that_overlap_renew_once() {
    let world = slow_world().await;
    let instances = instances(&world).await;
    instances[0].invoke(json!({})).await.expect("a token");
    let idle =
        join_all(instances.iter().map(|instance| instance.invoke(json!({"action": "maintain"})))).await;
    assert!(idle.iter().all(|done| done.as_ref().is_ok_and(|done| done["renewed"] == 0)));

    world.convirza.revoke_all_sessions(Revoke::AccessTokens);
    let pair = instances[0].invoke(json!({})).await.expect("a token");
    world.convirza.faults().set(Endpoint::Refresh, Fault::Reset, Some(1));
    let rejected = json!({"rejected_generation": pair["generation"]});
    instances[0].invoke(rejected).await.expect_err("the probe found it dead, and the renewal failed");
    let renewed = async {
        loop {
            let done =
                join_all(instances.iter().map(|instance| instance.invoke(json!({"action": "maintain"}))))
                    .await;
            let renewals =
                done.iter().filter(|done| done.as_ref().is_ok_and(|done| done["renewed"] == 1)).count();
            if renewals > 0 {
                break renewals;
            }
        }
    };
    let renewals = tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("the rest is over");
    assert_eq!(
        (renewals, world.convirza.observed().logins_arrived),
        (1, 2),
        "the refresh token may be spent"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn v2_logs_in_with_a_form_and_lives_the_same_life() {
    let world = world().await;
    let password = world::convirza::DEFAULT_PASSWORD;
    let secret = world::v2_secret(&world, DEFAULT_EMAIL, password);
    world.put_secret("default", &secret).await.expect("a version");
    let instances = instances(&world).await;
    let answers = join_all(instances.iter().map(|instance| instance.invoke(json!({})))).await;
    let first = answers[0].as_ref().expect("a token").clone();
    assert!(
        answers.iter().all(|answer| answer
            .as_ref()
            .is_ok_and(|answer| answer["access_token"] == first["access_token"]))
    );
    assert_eq!(world.convirza.observed().logins_arrived, 1);

    world.convirza.revoke_all_sessions(Revoke::AccessTokens);
    report(&instances, &first["generation"]).await;
    let observed = world.convirza.observed();
    assert_eq!((observed.probes, observed.logins_arrived, observed.refreshes), (1, 2, 0));
    let revoked = instances[0].invoke(json!({"action": "revoke"})).await.expect("a report");
    assert_eq!(revoked["revoked"], true, "V2 documents no revocation, so forgetting is all there is");
    assert_eq!(world.convirza.observed().revocations, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn v2s_two_ways_to_say_no_are_both_a_refusal() {
    let world = world().await;
    let wrong_password = world::v2_secret(&world, DEFAULT_EMAIL, "wrong");
    let wrong_client = wrong_password.replace(world::convirza::V2_CLIENT_SECRET, "another");
    for secret in [wrong_password, wrong_client] {
        let version = world.put_secret("default", &secret).await.expect("a version");
        let instance = Instance::start(&world, &[]).await;
        for _ in 0..2 {
            let error = instance.invoke(json!({})).await.expect_err("no token");
            assert_eq!(error["errorType"], "credentials_rejected");
            assert!(
                error["errorMessage"].as_str().is_some_and(|message| message.contains(&version)),
                "{error}"
            );
        }
    }
    assert_eq!(world.convirza.observed().logins_arrived, 2, "one for each version");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_everything_but_what_is_secret() {
    let world = world().await;
    let instance = Instance::start(&world, &[]).await;
    let pair = instance.invoke(json!({})).await.expect("a token");
    instance.invoke(json!({"rejected_generation": pair["generation"]})).await.expect("a token");
    let wrong = world::credentials_secret("emea@example.invalid", "wrong");
    world.put_secret("emea", &wrong).await.expect("a version");
    instance.invoke(json!({"account": "emea"})).await.expect_err("no token");

    let status = instance.invoke(json!({"action": "status"})).await.expect("a status");
    let default = &status["accounts"][0];
    assert_eq!((&default["account"], &default["generation"]), (&json!("default"), &pair["generation"]));
    for known in ["obtained_by", "issued_at", "due_at", "expires_at", "refresh_expires_at", "verified_at"] {
        assert!(default[known].is_string(), "{known} of {default}");
    }
    for none in ["lease_until", "cooldown", "parked_secret_version"] {
        assert!(default[none].is_null(), "{none} of {default}");
    }
    assert_eq!(default["pending_revocations"], 0);
    let emea = &status["accounts"][1];
    assert!(emea["parked_secret_version"].is_string() && emea["generation"].is_null(), "{emea}");
    assert_eq!(status["ledger"]["logins_counted"], 2);
    assert!(status["ledger"]["next_login_at"].is_null(), "the next login is free");
}
