//! Many instances of the function, one process each, on one table.

use crate::{
    instance::{self, invoke_all, start_many},
    world, world_with,
};
use axum::{Router, routing::get};
use emulators::{
    aws::{AwsFault, Operations},
    convirza::{Endpoint, Event, Fault, Outcome, Revoke, Settings},
};
use serde_json::{Value, json};
use std::{future::IntoFuture, time::Duration};
use tokio::{
    net::TcpSocket,
    sync::{broadcast, mpsc},
};

const INSTANCES: usize = 8;
const REQUESTS_EACH: usize = 30;

/// Waits until a request arrives at this endpoint.
async fn arrival(events: &mut broadcast::Receiver<Event>, endpoint: Endpoint) {
    loop {
        let event = events.recv().await.expect("an event");
        if (event.endpoint, event.outcome) == (endpoint, Outcome::Arrived) {
            return;
        }
    }
}

fn token(answer: &Value) -> &str {
    answer["access_token"].as_str().expect("a token")
}

#[tokio::test(flavor = "multi_thread")]
async fn f02_f04_240_requests_at_8_cold_instances_cause_one_login() {
    let world = world().await;
    let instances = start_many(&world, INSTANCES).await;
    let answers = invoke_all(&instances, REQUESTS_EACH, &json!({})).await;

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
async fn f08_f09_a_holder_killed_in_its_call_costs_others_one_lease() {
    let world = world().await;
    let mut events = world.convirza.subscribe();
    world.convirza.faults().set(Endpoint::Login, Fault::Hang, Some(1));
    let mut instances = start_many(&world, INSTANCES).await;
    let mut holder = instances.pop().expect("an instance");

    let unanswered = holder.begin(json!({}));
    arrival(&mut events, Endpoint::Login).await;
    holder.kill().await;
    // On an idle machine, within the lease. The promise is the number of logins.
    let limit = Duration::from_secs(25);
    let answers = tokio::time::timeout(limit, invoke_all(&instances, 10, &json!({}))).await;

    let answers = answers.expect("recovered after the lease");
    let first = answers[0].as_ref().expect("a token").clone();
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| token(answer) == token(&first))));
    let observed = world.convirza.observed();
    assert_eq!(observed.logins_arrived, 2, "the lost login, and one more");
    drop(unanswered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_frozen_in_its_call_does_not_replace_the_newer_pair() {
    // The holder must be frozen within half of the latency, before its refresh token is consumed, and stay frozen until
    // after the answer.
    let settings = Settings { latency: Duration::from_millis(1500), ..Settings::default() };
    let world = world_with(settings).await;
    let mut events = world.convirza.subscribe();
    let settings = [("BROKER_UPSTREAM_TIMEOUT_MS", "3000"), ("BROKER_LEASE_MS", "7000")];
    let holder = instance::start(&world, &settings).await;
    let other = instance::start(&world, &settings).await;
    let first = holder.invoke(json!({})).await.expect("a token");
    other.invoke(json!({})).await.expect("a token");

    let late = holder.begin(json!({"action": "refresh"}));
    arrival(&mut events, Endpoint::Refresh).await;
    holder.freeze().await;
    world.convirza.revoke_all_sessions(Revoke::AccessTokens);
    let report = json!({"rejected_generation": first["generation"]});
    let newer = other.invoke(report).await.expect("a token, when the lease is over");
    let observed = world.convirza.observed();
    assert_eq!(
        (observed.refreshes, observed.logins),
        (1, 2),
        "the holder's pair is issued, and then another one"
    );
    holder.thaw().await;

    // The holder receives the answer to its refresh, but its lease has lapsed.
    drop(late.await.expect("an answer"));
    for instance in [&holder, &other] {
        let answer = instance.invoke(json!({})).await.expect("a token");
        assert_eq!((token(&answer), &answer["generation"]), (token(&newer), &newer["generation"]));
    }
    let fresh = instance::start(&world, &[]).await;
    assert_eq!(token(&fresh.invoke(json!({})).await.expect("a token")), token(&newer));
    assert_eq!(world.convirza.observed().refresh_tokens_sent_twice, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f01_an_expiring_pair_is_refreshed_once_by_the_fleet() {
    let settings = Settings { access_lifetime: Duration::from_secs(6), ..Settings::default() };
    let world = world_with(settings).await;
    let mut events = world.convirza.subscribe();
    let instances = start_many(&world, 4).await;
    invoke_all(&instances, 1, &json!({})).await;
    // Requests continue until the pair has been refreshed twice.
    let mut refreshes = 0;
    while refreshes < 2 {
        let answers = invoke_all(&instances, 1, &json!({})).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        while let Ok(event) = events.try_recv() {
            let is_refresh = event.endpoint == Endpoint::Refresh && event.outcome == Outcome::Answered(200);
            refreshes += u32::from(is_refresh);
        }
    }
    let observed = world.convirza.observed();
    assert_eq!((observed.logins_arrived, observed.refresh_tokens_sent_twice), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_invocations_share_one_cache_and_one_renewal() {
    let settings = Settings { latency: Duration::from_millis(200), ..Settings::default() };
    let world = world_with(settings).await;
    let instance = instance::start(&world, &[("AWS_LAMBDA_MAX_CONCURRENCY", "16")]).await;
    let answers = invoke_all(&[instance], 64, &json!({})).await;

    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(world.convirza.observed().logins_arrived, 1);
    let counts = world.dynamodb.counts();
    // Five reads and three writes, whatever the number of requests: the record is read at the start and before the
    // login, each time under both of its keys, the login rate limiter once; the record is written twice, the limiter
    // once.
    assert_eq!((counts.reads, counts.writes, counts.conditional_conflicts), (5, 3, 0));
}

/// AWS's emulator of Lambda may start the function before its Runtime API listens.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_waits_for_a_runtime_api_that_does_not_listen_yet() {
    let world = world().await;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = socket.local_addr().expect("an address").to_string();
    // Nothing reports that a connection was refused. But the instance has one thread, and connects to the Runtime API
    // before its prefetch sends a read to the table.
    world.dynamodb.faults().set(Operations::Reads, AwsFault::Unavailable, Some(1));
    let _instance = instance::start(&world, &[("AWS_LAMBDA_RUNTIME_API", &address)]).await;
    let prefetched = world.dynamodb.faults().met(&Operations::Reads);
    tokio::time::timeout(Duration::from_secs(20), prefetched).await.expect("the instance prefetches");
    let (polled, mut polls) = mpsc::unbounded_channel();
    let next = move || async move {
        polled.send(()).expect("the test waits");
        std::future::pending::<()>().await;
    };
    let api = Router::new().route("/2018-06-01/runtime/invocation/next", get(next));
    tokio::spawn(axum::serve(socket.listen(16).expect("a listener"), api).into_future());
    let first = tokio::time::timeout(Duration::from_secs(20), polls.recv()).await;
    first.expect("the instance requests an event").expect("a poll");
}
