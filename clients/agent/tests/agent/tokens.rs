//! `GET /v1/token`, and the ways to the broker.

use crate::support::{Agent, GUARD, World, by_invoke};
use emulators::fakes::{Broker, BrokerMode};
use token_broker_client::{AccountName, BrokerClient, Environment, ErrorCode, TokenSource};

#[tokio::test]
async fn a_token_is_the_brokers_answer() {
    let world = World::start().await;
    let answer = world.agent.get("/v1/token").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["content-type"], "application/json");
    let token = answer.json();
    assert_eq!(token["access_token"], "token-default-7");
    assert_eq!(token["token_type"], "Bearer");
    assert_eq!((token["account"].as_str(), token["generation"].as_u64()), (Some("default"), Some(7)));
    let expires_in = token["expires_in"].as_u64().unwrap();
    assert!((890..=900).contains(&expires_in), "{expires_in}");
    assert!(token["expires_at"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn later_requests_are_answered_from_memory() {
    let world = World::start().await;
    world.agent.get("/v1/token").await;
    for _ in 0..10 {
        assert_eq!(world.agent.get("/v1/token?account=default").await.json()["served_from"], "memory");
    }
    assert_eq!(world.broker.called().get(), 1);
}

#[tokio::test]
async fn direct_invokes_are_signed_for_lambda() {
    let world = World::start().await;
    world.agent.get("/v1/token?account=emea&min_ttl_seconds=90").await;
    let calls = world.broker.calls();
    let (headers, payload) = calls.iter().find(|(_, payload)| payload["account"] == "emea").unwrap();
    assert_eq!(payload["action"], "token");
    assert_eq!(payload["min_ttl_seconds"], 90);
    let authorization = headers["authorization"].to_str().unwrap();
    assert!(authorization.contains("/eu-west-1/lambda/aws4_request"), "{authorization}");
    assert_eq!(headers["x-amz-security-token"], "session");
}

#[tokio::test]
async fn calls_of_the_http_api_are_signed_for_execute_api() {
    let broker = Broker::start().await;
    let mut environment = by_invoke(&broker.url(), "http://127.0.0.1:9");
    environment.retain(|(name, _)| *name != "TOKEN_BROKER_FUNCTION");
    environment.push(("TOKEN_BROKER_URL", format!("{}/prod", broker.url())));
    let agent = Agent::serve(environment).await;
    assert_eq!(agent.get("/v1/token").await.json()["generation"], 7);
    let (headers, payload) = broker.calls().remove(0);
    assert_eq!(payload["action"], "token");
    let authorization = headers["authorization"].to_str().unwrap();
    assert!(authorization.contains("/eu-west-1/execute-api/aws4_request"), "{authorization}");
}

#[tokio::test]
async fn a_report_brings_the_next_generation() {
    let world = World::start().await;
    world.agent.get("/v1/token").await;
    world.revoke();
    let token = world.agent.get("/v1/token?rejected_generation=7&min_ttl_seconds=60").await.json();
    assert_eq!(
        (token["access_token"].as_str(), token["generation"].as_u64()),
        (Some("token-default-8"), Some(8))
    );
    let before = world.broker.called().get();
    assert_eq!(world.agent.get("/v1/token?rejected_generation=7").await.json()["generation"], 8);
    assert_eq!(world.broker.called().get(), before, "an old report needs no call");
}

#[tokio::test]
async fn a_token_lives_as_long_as_requested_or_is_an_error() {
    let world = World::start().await;
    assert!(
        world.agent.get("/v1/token?min_ttl_seconds=900").await.json()["expires_in"].as_u64() >= Some(899)
    );
    world.broker.set_expires_in(45);
    let answer = world.agent.get("/v1/token?account=emea&min_ttl_seconds=46").await;
    assert_eq!(answer.error(), (503, "upstream_unavailable".to_owned()));
    assert_eq!(world.agent.get("/v1/token?account=emea&min_ttl_seconds=40").await.status, 200);
}

#[tokio::test]
async fn errors_have_the_brokers_code_and_time() {
    let world = World::start().await;
    world.agent.get("/v1/token").await;
    world.broker.set_mode(BrokerMode::Failing("login_budget_exhausted", Some(7)));
    let answer = world.agent.get("/v1/token?account=emea").await;
    assert_eq!(answer.error(), (503, "login_budget_exhausted".to_owned()));
    assert_eq!(
        (answer.headers["retry-after"].to_str().unwrap(), &answer.json()["retry_after"]),
        ("7", &7.into())
    );
    let calls = world.broker.called().get();
    assert_eq!(world.agent.get("/v1/token?account=emea").await.error().1, "login_budget_exhausted");
    assert_eq!(world.broker.called().get(), calls, "no call before its time");
    world.broker.set_mode(BrokerMode::Failing("unknown_account", None));
    assert_eq!(
        world.agent.get("/v1/token?account=nobody").await.error(),
        (404, "unknown_account".to_owned())
    );
}

#[tokio::test]
async fn unknown_parameters_are_refused() {
    let world = World::start().await;
    let answer = world.agent.get("/v1/token?acount=emea").await;
    assert_eq!(answer.error(), (400, "invalid_request".to_owned()));
    let answer = world.agent.get("/nothing").await;
    assert_eq!(answer.error(), (404, "invalid_request".to_owned()));
    let answer = world.agent.post("/v1/token", "").await;
    assert_eq!((answer.error().0, answer.headers["allow"].to_str().unwrap()), (405, "GET"));
}

#[tokio::test]
async fn the_rust_client_works_against_the_agent() {
    let world = World::start().await;
    let environment = |guard: &str| -> Environment {
        let port = world.agent.address.port().to_string();
        [("TOKEN_BROKER_PORT", port.as_str()), ("TOKEN_BROKER_TOKEN", guard)].into_iter().collect()
    };
    let source = TokenSource::new(BrokerClient::agent(&environment(GUARD)).unwrap());
    let account = AccountName::default();
    let token = source.get(&account).await.unwrap();
    assert_eq!(token.access_token.expose(), "token-default-7");
    world.revoke();
    assert_eq!(source.report(&account, token.generation).await.unwrap().generation.0, 8);
    let stranger = TokenSource::new(BrokerClient::agent(&environment("another")).unwrap());
    assert_eq!(stranger.get(&account).await.unwrap_err().code(), ErrorCode::AccessDenied);
}
