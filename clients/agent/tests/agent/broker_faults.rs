//! The broker is down: at start, during a renewal, for longer than a token lives.

use crate::support::{Agent, World, by_invoke};
use emulators::fakes::{Broker, BrokerMode, unused_port};
use std::time::{Duration, Instant};

#[tokio::test]
async fn down_at_start_the_agent_serves_and_recovers() {
    let port = unused_port().await;
    let agent = Agent::serve(by_invoke(&format!("http://127.0.0.1:{port}"), "http://127.0.0.1:9")).await;
    assert_eq!(agent.get("/ping").await.status, 200);
    assert_eq!(agent.get("/v1/token").await.error(), (503, "upstream_unavailable".to_owned()));
    assert_eq!(agent.get("/readyz").await.error(), (503, "upstream_unavailable".to_owned()));
    let broker = Broker::start_at(port).await;
    // The agent recovers by itself.
    broker.called().reaches(1).await;
    assert_eq!(agent.get("/readyz").await.status, 200);
    assert_eq!(agent.get("/v1/token").await.json()["generation"], 7);
}

#[tokio::test]
async fn an_outage_is_one_line_at_its_start_and_one_at_its_end() {
    let broker = Broker::start().await;
    broker.set_mode(BrokerMode::Down);
    let mut agent = Agent::serve(by_invoke(&broker.url(), "http://127.0.0.1:9")).await;
    // A failed call is repeated once, so this is a later attempt of the agent.
    broker.called().reaches(3).await;
    let request_id = async || agent.get("/v1/token").await.json()["request_id"].to_string();
    let (first, second) = (request_id().await, request_id().await);
    assert!(first.starts_with("\"agent-") && first != second, "{first} {second}");
    broker.set_mode(BrokerMode::Up);
    for expected in ["WARN", "INFO"] {
        let line = agent.log.next_line().await.unwrap().unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["level"], expected, "{line}");
    }
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "measures")]
async fn a_request_waits_for_a_silent_broker_for_five_seconds() {
    let broker = Broker::start().await;
    let agent = Agent::serve(by_invoke(&broker.url(), "http://127.0.0.1:9")).await;
    assert_eq!(agent.get("/v1/token").await.status, 200);
    broker.set_mode(BrokerMode::Hanging);
    let began = Instant::now();
    let client = agent.client();
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/v1/token?min_ttl_seconds=901").await.error() })
        })
        .collect();
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap(), (503, "refresh_in_progress".to_owned()));
    }
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(8), "{waited:?}");
    // The first token, and one call for all of them.
    assert_eq!(broker.called().get(), 2);
}

#[tokio::test]
async fn down_during_a_renewal_the_valid_token_is_served() {
    let broker = Broker::start().await;
    broker.set_expires_in(6);
    let agent = Agent::serve(by_invoke(&broker.url(), "http://127.0.0.1:9")).await;
    agent.get("/v1/token").await;
    broker.set_mode(BrokerMode::Down);
    // The renewal at two thirds fails.
    broker.called().reaches(2).await;
    let token = agent.get("/v1/token?min_ttl_seconds=1").await;
    assert_eq!((token.status.as_u16(), token.json()["generation"].as_u64()), (200, Some(7)));
    broker.set_expires_in(900);
    broker.set_mode(BrokerMode::Up);
    broker.called().reaches(3).await;
    let answer = agent.get("/v1/token?min_ttl_seconds=800").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn down_for_longer_than_a_token_lives_is_an_error() {
    let broker = Broker::start().await;
    broker.set_expires_in(2);
    let agent = Agent::serve(by_invoke(&broker.url(), "http://127.0.0.1:9")).await;
    agent.get("/v1/token").await;
    broker.set_mode(BrokerMode::Down);
    // Requests go on while the token expires: each has a token that is still valid, or the error.
    loop {
        let answer = agent.get("/v1/token").await;
        if answer.status != 200 {
            assert_eq!(answer.error(), (503, "upstream_unavailable".to_owned()));
            break;
        }
        let left = answer.json()["expires_in"].as_u64().unwrap();
        assert!((1..=2).contains(&left), "{left}");
    }
    broker.set_mode(BrokerMode::Up);
    let before = broker.called().get();
    broker.called().reaches(before + 1).await;
    assert_eq!(agent.get("/v1/token").await.status, 200);
}

#[tokio::test]
async fn a_background_renewal_needs_no_request() {
    let broker = Broker::start().await;
    broker.set_expires_in(3);
    let _agent = Agent::serve(by_invoke(&broker.url(), "http://127.0.0.1:9")).await;
    broker.called().reaches(3).await;
    assert_eq!(broker.most_under_way(), 1);
}

#[tokio::test]
async fn a_killed_agent_is_replaced_on_the_same_port() {
    let world = World::start().await;
    let port = world.agent.address.port().to_string();
    let mut first = world.agent;
    first.get("/v1/token").await;
    first.child.kill().await.unwrap();
    let mut environment = by_invoke(&world.broker.url(), &world.api.server().url());
    environment.push(("TOKEN_BROKER_PORT", port));
    let second = Agent::serve(environment).await;
    assert_eq!(second.address, first.address);
    assert_eq!(second.get("/v1/token").await.json()["generation"], 7);
    assert_eq!(second.get("/proxy/default/v3/calls").await.status, 200);
}
