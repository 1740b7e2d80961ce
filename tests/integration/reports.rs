//! Callers report that the API refused their token (`rejected_generation`): real processes, counted by the upstream.

use crate::{
    instance::{self, invoke_all, start_many},
    world,
};
use emulators::{
    convirza::{Behaviour, Endpoint, Fault, Revoke},
    instance::Instance,
};
use serde_json::{Value, json};

const INSTANCES: usize = 4;
const REPORTS_EACH: usize = 250;

/// Every instance gets many reports of this generation at once. All of them have to be answered with a token.
async fn report(instances: &[Instance], generation: &Value) -> Vec<Value> {
    let answers = invoke_all(instances, REPORTS_EACH, &json!({"rejected_generation": generation})).await;
    answers.into_iter().map(|answer| answer.expect("a token")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_many_reports_of_a_dead_token_cause_one_renewal() {
    let world = world().await;
    let instances = start_many(&world, INSTANCES).await;
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
async fn f12_if_the_refresh_token_is_dead_too_there_is_one_login() {
    let world = world().await;
    let instances = start_many(&world, INSTANCES).await;
    let dead = instances[0].invoke(json!({})).await.expect("a token");
    world.convirza.revoke_all_sessions(Revoke::AllTokens);
    report(&instances, &dead["generation"]).await;
    let observed = world.convirza.observed();
    assert_eq!((observed.probes, observed.logins_arrived), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_many_false_reports_cost_one_probe_and_change_nothing() {
    let world = world().await;
    let instances = start_many(&world, INSTANCES).await;
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
async fn an_inconclusive_probe_leaves_the_pair_in_place() {
    let world = world().await;
    let instance = instance::start(&world, &[]).await;
    let pair = instance.invoke(json!({})).await.expect("a token");
    world.convirza.faults().set(Endpoint::Profile, Fault::ServerError, Some(1));
    let rejected = json!({"rejected_generation": pair["generation"]});
    let unchanged = instance.invoke(rejected).await.expect("a token");
    assert_eq!(unchanged["generation"], pair["generation"]);
    assert_eq!(world.convirza.observed().refreshes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_lists_one_user_where_there_is_no_profile() {
    let world = world().await;
    world.convirza.set_behaviour(Behaviour { no_profile: true, ..Behaviour::default() });
    let instance = instance::start(&world, &[]).await;
    let pair = instance.invoke(json!({})).await.expect("a token");
    world.convirza.revoke_all_sessions(Revoke::AccessTokens);
    let renewed = instance.invoke(json!({"rejected_generation": pair["generation"]})).await.expect("a token");
    assert!(renewed["generation"].as_u64() > pair["generation"].as_u64());
    let observed = world.convirza.observed();
    assert_eq!((observed.probes, observed.refreshes), (2, 1), "the profile, then one user");
}
