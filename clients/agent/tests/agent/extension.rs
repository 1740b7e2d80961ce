//! As a Lambda extension.

use crate::support::{AWS, Agent, GUARD, by_invoke, program};
use emulators::fakes::{Broker, BrokerMode, Extensions, Server, exchange, respond, unused_port};
use std::process::Stdio;
use tokio::time::Instant;

async fn start(broker: &Broker, lambda: &Extensions, further: &[(&'static str, &str)]) -> Agent {
    start_at(broker, lambda.address(), further).await
}

async fn start_at(broker: &Broker, lambda: String, further: &[(&'static str, &str)]) -> Agent {
    let mut environment = by_invoke(&broker.url(), "http://127.0.0.1:9");
    environment.push(("AWS_LAMBDA_RUNTIME_API", lambda));
    environment.extend(further.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Agent::start(environment, &[]).await
}

#[tokio::test]
async fn it_registers_for_shutdown_only_and_exits_on_it() {
    let (broker, lambda) = (Broker::start().await, Extensions::start().await);
    let mut agent = start(&broker, &lambda, &[]).await;
    lambda.polls().reaches(1).await;
    let registrations = lambda.registrations();
    let (headers, body) = &registrations[0];
    assert_eq!(headers["lambda-extension-name"], "token-broker-agent");
    assert_eq!(body, &serde_json::json!({"events": ["SHUTDOWN"]}));
    assert_eq!(agent.get("/v1/token").await.json()["generation"], 7);
    lambda.shut_down();
    assert_eq!(agent.child.wait().await.unwrap().code(), Some(0));
    assert_eq!((registrations.len(), lambda.polls().get()), (1, 1));
}

#[tokio::test]
async fn it_listens_before_it_registers() {
    let port = unused_port().await;
    // Lambda's side of the registration is a caller of the agent.
    let lambda = Server::script(move |_| async move {
        let ping = "GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        let answer = exchange(address, ping.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        respond(500, r#"{"errorType":"Extension.InvalidExtensionName","errorMessage":"no such file"}"#)
    })
    .await;
    let broker = Broker::start().await;
    let mut environment = by_invoke(&broker.url(), "http://127.0.0.1:9");
    environment.push(("AWS_LAMBDA_RUNTIME_API", lambda.address().to_string()));
    environment.push(("TOKEN_BROKER_PORT", port.to_string()));
    let mut agent = Agent::start(environment, &[]).await;
    let line = agent.log.next_line().await.unwrap().unwrap();
    assert!(line.contains("HTTP 500"), "it was refused after it had answered: {line}");
    assert!(line.contains("Extension.InvalidExtensionName no such file"), "{line}");
    assert_eq!(agent.child.wait().await.unwrap().code(), Some(1));
}

#[tokio::test]
async fn it_waits_for_an_api_that_comes_up_later_and_registers_once() {
    let (broker, port) = (Broker::start().await, unused_port().await);
    let mut agent = start_at(&broker, format!("http://127.0.0.1:{port}"), &[]).await;
    let line = agent.log.next_line().await.unwrap().unwrap();
    assert!(line.contains("waiting for Lambda"), "{line}");
    let lambda = Extensions::start_at(port).await;
    lambda.polls().reaches(1).await;
    assert_eq!(lambda.registrations().len(), 1);
    lambda.shut_down();
    assert_eq!(agent.child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn without_the_api_it_gives_up_after_a_second() {
    let (broker, began) = (Broker::start().await, Instant::now());
    let mut agent = start_at(&broker, "127.0.0.1:9".to_owned(), &[]).await;
    assert_eq!(agent.child.wait().await.unwrap().code(), Some(1));
    let seconds = began.elapsed().as_secs_f64();
    assert!((1.0..10.0).contains(&seconds), "{seconds}");
    assert_eq!(broker.called().get(), 0);
}

#[tokio::test]
async fn it_prefetches_without_delaying_the_start() {
    let (broker, lambda) = (Broker::start().await, Extensions::start().await);
    broker.set_mode(BrokerMode::Hanging);
    let agent = start(&broker, &lambda, &[("TOKEN_BROKER_ACCOUNTS", "default,emea")]).await;
    // It is ready as far as Lambda is concerned, although the broker has not answered.
    lambda.polls().reaches(1).await;
    broker.called().reaches(2).await;
    broker.set_mode(BrokerMode::Up);
    for account in ["default", "emea"] {
        assert_eq!(agent.get(&format!("/v1/token?account={account}")).await.status, 200);
    }
    assert_eq!(broker.called().get(), 2);
}

#[tokio::test]
async fn under_snapstart_nothing_is_prefetched() {
    let (broker, lambda) = (Broker::start().await, Extensions::start().await);
    let agent = start(&broker, &lambda, &[("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")]).await;
    lambda.polls().reaches(1).await;
    assert_eq!(agent.get("/ping").await.status, 200);
    assert_eq!(broker.called().get(), 0);
    assert_eq!(agent.get("/v1/token").await.status, 200);
    assert_eq!(broker.called().get(), 1);
}

#[tokio::test]
async fn a_broker_outage_stops_neither_agent_nor_function() {
    let (broker, lambda) = (Broker::start().await, Extensions::start().await);
    broker.set_mode(BrokerMode::Down);
    let mut agent = start(&broker, &lambda, &[]).await;
    lambda.polls().reaches(1).await;
    broker.called().reaches(1).await;
    assert_eq!(agent.get("/v1/token").await.error().0, 503);
    assert!(agent.child.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn a_wrong_configuration_is_reported_at_once_and_in_full() {
    let output = program()
        .envs(AWS)
        .env("TOKEN_BROKER_TOKEN", GUARD)
        .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
        .env("TOKEN_BROKER_PORT", "x")
        .stderr(Stdio::piped())
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let line = String::from_utf8(output.stderr).unwrap();
    for name in ["TOKEN_BROKER_PORT", "TOKEN_BROKER_FUNCTION"] {
        assert!(line.contains(name), "{line}");
    }
    assert!(!line.contains(GUARD));
}
