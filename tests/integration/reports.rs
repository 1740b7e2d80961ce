//! Callers report that the API refused their token (`rejected_generation`): real processes, counted by the upstream.

use crate::{
    instance::{self, invoke_all, start_many},
    items, world, world_with,
};
use emulators::{
    World,
    convirza::{Behaviour, Endpoint, Fault, Revoke, Settings},
    instance::Instance,
};
use serde_json::{Value, json};
use std::time::Duration;

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

/// The API's status for a caller that uses the token of this answer.
async fn api_status(world: &World, answer: &Value) -> u16 {
    let users = format!("{}/v3/users/list", world.convirza.url());
    let token = answer["access_token"].as_str().expect("a token");
    crate::http_client().get(users).bearer_auth(token).send().await.expect("an answer").status().as_u16()
}

/// We assume that it stays valid for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_dies_with_its_refresh_is_replaced_without_another() {
    let world = world().await;
    let killing = Behaviour { refresh_kills_access_token: true, ..Behaviour::default() };
    world.convirza.set_behaviour(killing);
    let instances = start_many(&world, INSTANCES).await;
    let dead = instances[0].invoke(json!({})).await.expect("a token");
    // All instances have the old pair in their caches.
    invoke_all(&instances, 1, &json!({})).await;
    let refreshed = instances[0].invoke(json!({"action": "refresh"})).await.expect("a token");
    assert_eq!((api_status(&world, &dead).await, api_status(&world, &refreshed).await), (401, 200));
    let calls_of_the_api = world.convirza.observed().probes;
    for answer in report(&instances, &dead["generation"]).await {
        assert_eq!(answer["access_token"], refreshed["access_token"]);
    }
    let observed = world.convirza.observed();
    let calls = (observed.probes - calls_of_the_api, observed.refreshes, observed.logins_arrived);
    assert_eq!(calls, (0, 1, 1), "the table has the answer");
}

/// The documentation says that a refresh consumes its token, but has an example in which it returns the same one.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_is_returned_again_is_used_again() {
    let settings = Settings { access_lifetime: Duration::from_secs(6), ..Settings::default() };
    let world = world_with(settings).await;
    let keeping = Behaviour { refresh_keeps_refresh_token: true, ..Behaviour::default() };
    world.convirza.set_behaviour(keeping);
    let instance = instance::start(&world, &[]).await;
    let mut answer = instance.invoke(json!({})).await.expect("a token");
    let stored = async || {
        let item = items::get(&world, items::DEFAULT_ACCOUNT).await;
        item["pair"]["M"]["refresh_token"]["S"].clone()
    };
    let refresh_token = stored().await;
    assert!(refresh_token.is_string(), "{refresh_token}");
    for _ in 0..2 {
        let before = answer.clone();
        while answer["generation"] == before["generation"] {
            answer = instance.invoke(json!({})).await.expect("a token");
        }
        assert_ne!(answer["access_token"], before["access_token"]);
        assert_eq!(stored().await, refresh_token);
    }
    let observed = world.convirza.observed();
    assert_eq!((observed.refreshes, observed.logins_arrived), (2, 1));
}
