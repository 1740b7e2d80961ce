//! Many instances of the function, each a process of its own, on one table.

use super::{
    QUICK,
    instance::Instance,
    world,
    world::{
        World,
        convirza::{Endpoint, Fault, Outcome},
    },
    world_with,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

const INSTANCES: usize = 8;
const REQUESTS_EACH: usize = 30;

async fn instances(world: &World, count: usize) -> Vec<Instance> {
    join_all((0..count).map(|_| Instance::start(world, &[]))).await
}

fn token(answer: &Value) -> &str {
    answer["access_token"].as_str().expect("a token")
}

#[tokio::test(flavor = "multi_thread")]
async fn f02_f04_two_hundred_requests_at_eight_instances_are_one_login() {
    let world = world().await;
    let instances = instances(&world, INSTANCES).await;
    let requests =
        instances.iter().flat_map(|instance| (0..REQUESTS_EACH).map(|_| instance.invoke(json!({}))));
    let answers = join_all(requests).await;

    assert_eq!(answers.len(), 240);
    let first = answers[0].as_ref().expect("a token").clone();
    for answer in &answers {
        let answer = answer.as_ref().expect("a token");
        assert_eq!(token(answer), token(&first));
        assert_eq!(answer["generation"], first["generation"]);
    }
    let observed = world.convirza.observed();
    assert_eq!((observed.logins_arrived, observed.refreshes), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f08_f09_the_others_recover_within_the_lease_when_its_holder_is_killed_in_its_upstream_call() {
    let world = world().await;
    let mut happenings = world.convirza.subscribe();
    world.convirza.faults().set(Endpoint::Login, Fault::Hang, Some(1));
    let mut instances = instances(&world, INSTANCES).await;
    let mut holder = instances.pop().expect("an instance");

    let unanswered = holder.begin(json!({}));
    loop {
        let happening = happenings.recv().await.expect("a login");
        if (happening.endpoint, happening.outcome) == (Endpoint::Login, Outcome::Arrived) {
            break;
        }
    }
    holder.kill().await;
    let requests = instances.iter().flat_map(|instance| (0..10).map(|_| instance.invoke(json!({}))));
    // The lease, one upstream call, and what eight processes need on two cores.
    let lease = Duration::from_millis(QUICK[1].1.parse().expect("milliseconds"));
    let answers = tokio::time::timeout(lease + Duration::from_secs(4), join_all(requests)).await;

    let answers = answers.expect("recovered within the lease");
    let first = answers[0].as_ref().expect("a token").clone();
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| token(answer) == token(&first))));
    let observed = world.convirza.observed();
    assert_eq!(observed.logins_arrived, 2, "the one that was lost, and the one that repaired it");
    drop(unanswered);
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_a_pair_that_expires_is_refreshed_once_by_all_instances_together() {
    let settings = world::convirza::Settings {
        access_lifetime: Duration::from_secs(6),
        ..world::convirza::Settings::default()
    };
    let world = world_with(settings).await;
    let mut happenings = world.convirza.subscribe();
    let instances = instances(&world, 4).await;
    join_all(instances.iter().map(|instance| instance.invoke(json!({})))).await;
    // Keeps asking until the pair has been renewed twice.
    let mut refreshes = 0;
    while refreshes < 2 {
        let answers = join_all(instances.iter().map(|instance| instance.invoke(json!({})))).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        while let Ok(happening) = happenings.try_recv() {
            refreshes += u32::from(
                happening.endpoint == Endpoint::Refresh && happening.outcome == Outcome::Answered(200),
            );
        }
    }
    let observed = world.convirza.observed();
    assert_eq!((observed.logins_arrived, observed.refresh_tokens_sent_twice), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concurrent_environment_shares_its_memory_and_renews_once() {
    let settings = world::convirza::Settings {
        latency: Duration::from_millis(200),
        ..world::convirza::Settings::default()
    };
    let world = world_with(settings).await;
    let instance = Instance::start(&world, &[("AWS_LAMBDA_MAX_CONCURRENCY", "16")]).await;
    let answers = join_all((0..64).map(|_| instance.invoke(json!({})))).await;

    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(world.convirza.observed().logins_arrived, 1);
    let counts = world.dynamodb.counts();
    // The record and the ledger are read once, and written twice and once, however many ask.
    assert_eq!((counts.reads, counts.writes, counts.conditional_conflicts), (2, 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_refused_credentials_cost_one_login_whatever_the_number_of_instances() {
    let world = world().await;
    let wrong = world::credentials_secret("who@example.invalid", "wrong");
    world.put_secret("default", &wrong).await.expect("a version");
    let instances = instances(&world, 4).await;
    let answers =
        join_all(instances.iter().flat_map(|instance| (0..5).map(|_| instance.invoke(json!({}))))).await;
    for answer in answers {
        let error = answer.expect_err("no token");
        assert_eq!(error["errorType"], "credentials_rejected");
    }
    assert_eq!(world.convirza.observed().logins_arrived, 1);

    let default =
        world::credentials_secret(world::convirza::DEFAULT_EMAIL, world::convirza::DEFAULT_PASSWORD);
    world.put_secret("default", &default).await.expect("a version");
    let fresh = Instance::start(&world, &[]).await;
    assert!(fresh.invoke(json!({})).await.is_ok(), "a new version is tried at once");
}
