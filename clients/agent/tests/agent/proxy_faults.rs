//! The API is slow, closes, resets, or is absent.

use crate::support::{Agent, World, by_invoke, request};
use emulators::fakes::{ApiMode, Broker, accept_and_reset, unused_port};
use http::Method;
use token_broker_client::http::full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[tokio::test]
async fn a_request_that_may_have_had_an_effect_is_not_sent_again() {
    let world = World::start().await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::GET] {
        world.api.set_mode(ApiMode::Up);
        world.agent.get("/proxy/default/x").await;
        world.api.set_mode(ApiMode::Closing);
        let before = world.api.requests().get();
        let answer = world.agent.client().send(request(method, "/proxy/default/x", full("x"))).await;
        assert_eq!(answer.error(), (502, "upstream_unavailable".to_owned()));
        assert!(!answer.headers.contains_key("retry-after"), "nothing invites a retry");
        assert_eq!(world.api.requests().get(), before + 1);
    }
}

#[tokio::test]
async fn a_read_that_an_idle_connection_lost_is_sent_again_once() {
    let world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    world.api.set_mode(ApiMode::Closing);
    let before = world.api.requests().get();
    let answer = world.agent.get("/proxy/default/x").await;
    assert_eq!(answer.error(), (502, "upstream_unavailable".to_owned()));
    assert_eq!(world.api.requests().get(), before + 2, "over the idle connection and a new one");
}

#[tokio::test]
async fn a_reset_is_an_error_and_the_request_is_not_repeated() {
    let broker = Broker::start().await;
    let (address, requests) = accept_and_reset().await;
    let agent = Agent::serve(by_invoke(&broker.url(), &format!("http://{address}"))).await;
    for method in [Method::GET, Method::POST] {
        let answer = agent.client().send(request(method, "/proxy/default/x", full("x"))).await;
        assert_eq!(answer.error(), (502, "upstream_unavailable".to_owned()));
    }
    assert_eq!(requests.get(), 2);
}

#[tokio::test]
async fn a_response_with_an_odd_header_is_passed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let broker = Broker::start().await;
    let agent = Agent::serve(by_invoke(&broker.url(), &api)).await;
    for odd in ["X Y: 1", "X-\u{e9}: 1", "X-Long: a\r\n  b", "X-Blank : 1"] {
        let client = agent.client();
        let sent = tokio::spawn(async move { client.get("/proxy/default/x").await });
        let (mut caller, _) = listener.accept().await.unwrap();
        assert!(caller.read(&mut [0; 4096]).await.unwrap() > 0);
        let response =
            format!("HTTP/1.1 200 OK\r\n{odd}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        caller.write_all(response.as_bytes()).await.unwrap();
        let answer = sent.await.unwrap();
        assert!(answer.status == 200 && answer.body == "hi", "{odd}: {answer:?}");
    }
}

#[tokio::test]
async fn an_absent_api_is_an_error_worth_retrying() {
    let broker = Broker::start().await;
    let api = format!("http://127.0.0.1:{}", unused_port().await);
    let agent = Agent::serve(by_invoke(&broker.url(), &api)).await;
    let answer = agent.post("/proxy/default/x", "x").await;
    assert_eq!(answer.error(), (503, "upstream_unavailable".to_owned()));
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_costs_no_request() {
    let world = World::start().await;
    for round in 1..=10 {
        assert_eq!(world.agent.get("/proxy/default/x").await.status, 200);
        world.api.server().cut_connections();
        let answer = world.agent.get("/proxy/default/x").await;
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
    }
}

#[tokio::test]
async fn a_slow_api_is_waited_for_and_a_caller_that_leaves_ends_the_request() {
    let world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    world.api.set_mode(ApiMode::Hanging);
    let send = || {
        let client = world.agent.client();
        tokio::spawn(async move { client.get("/proxy/default/slow").await.status })
    };
    let (patient, hasty) = (send(), send());
    world.api.requests().reaches(3).await;
    hasty.abort();
    world.api.gone().reaches(1).await;
    world.api.set_mode(ApiMode::Up);
    assert_eq!(patient.await.unwrap(), 200);
}
