//! Requests and responses that pass through the proxy.

use crate::support::{Agent, Answer, World, by_invoke, request};
use emulators::fakes::{Api, ApiMode, Broker, BrokerMode, Ending, Server};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use token_broker_client::http::{empty, full};

#[tokio::test]
async fn a_request_passes_with_the_token_and_without_the_guard() {
    let world = World::start().await;
    let sent = Request::builder()
        .method("PROPFIND")
        .uri("/proxy/default/v3/calls%2F1/?from=2026-04-06&to=%2F..")
        .header("x-token-broker-token", crate::support::GUARD)
        .header("authorization", "Basic eDp5")
        .header("x-own", "1")
        .header("x-own", "2")
        .body(full("hello"))
        .unwrap();
    let answer = world.agent.client().send(sent).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, b"hello".as_slice()));
    assert_eq!(answer.generation(), "7");
    let received = world.api.received().remove(0);
    let head = &received.head;
    assert_eq!(
        (head.method.as_str(), head.uri.to_string().as_str()),
        ("PROPFIND", "/v3/calls%2F1/?from=2026-04-06&to=%2F..")
    );
    assert_eq!(head.headers["authorization"], "Bearer token-default-7");
    assert_eq!(head.headers["host"], world.api.server().address().to_string());
    assert_eq!(head.headers.get_all("x-own").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert!(!head.headers.contains_key("x-token-broker-token"));
}

#[tokio::test]
async fn each_account_has_its_own_token() {
    let world = World::start().await;
    for account in ["default", "emea"] {
        let answer = world.agent.get(&format!("/proxy/{account}/x")).await;
        assert_eq!(answer.status, 200);
        let authorization = world.api.received().pop().unwrap().head.headers["authorization"].clone();
        assert_eq!(authorization, format!("Bearer token-{account}-7"));
    }
}

#[tokio::test]
async fn the_base_path_of_the_api_comes_first() {
    let world = World::start().await;
    let mut environment =
        crate::support::by_invoke(&world.broker.url(), &format!("{}/v3/", world.api.server().url()));
    environment.push(("TOKEN_BROKER_PORT", "0".to_owned()));
    let agent = crate::support::Agent::serve(environment).await;
    agent.get("/proxy/default/calls").await;
    agent.get("/proxy/default").await;
    let paths: Vec<_> = world.api.received().iter().map(|received| received.head.uri.to_string()).collect();
    assert_eq!(paths, ["/v3/calls", "/v3"]);
}

#[tokio::test]
async fn a_dead_token_is_replaced_and_the_request_sent_again() {
    let world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    world.revoke();
    let answer = world.agent.post("/proxy/default/x", "once more").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, b"once more".as_slice()));
    assert_eq!(answer.generation(), "8");
    assert_eq!(world.api.requests().get(), 3);
    assert_eq!(world.broker.calls().last().unwrap().1["rejected_generation"], 7);
}

#[tokio::test]
async fn a_body_of_64_kib_is_sent_again_and_a_longer_one_is_not() {
    let world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    world.revoke();
    let answer = world.agent.post("/proxy/default/x", vec![b'x'; 64 * 1024]).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 64 * 1024));
    world.revoke();
    let before = world.api.requests().get();
    let answer = world.agent.post("/proxy/default/x", vec![b'x'; 64 * 1024 + 1]).await;
    assert_eq!((answer.status.as_u16(), answer.generation()), (401, "8"));
    assert_eq!(world.api.requests().get(), before + 1, "the API may have begun to act on it");
    // It was still reported, so the next request has a good token.
    let answer = world.agent.get("/proxy/default/x").await;
    assert_eq!((answer.status.as_u16(), answer.generation()), (200, "9"));
}

#[tokio::test]
async fn a_body_of_unknown_length_is_sent_again_with_its_trailers() {
    let world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    world.revoke();
    let trailers = http::HeaderMap::from_iter([("x-sum".parse().unwrap(), "5".parse().unwrap())]);
    let body = full("hello").with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync();
    let mut sent = request(Method::POST, "/proxy/default/x", body);
    sent.headers_mut().insert("trailer", "x-sum".parse().unwrap());
    sent.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
    let answer = world.agent.client().send(sent).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, b"hello".as_slice()));
    let received = world.api.received();
    for again in received.iter().skip(1) {
        assert_eq!(again.body, "hello");
        assert_eq!(again.trailers.as_ref().unwrap()["x-sum"], "5");
    }
    assert_eq!(received.len(), 3);
}

#[tokio::test]
async fn a_chunked_body_of_get_and_head_passes_and_is_sent_again() {
    for method in [Method::GET, Method::HEAD] {
        let world = World::start().await;
        world.agent.get("/proxy/default/x").await;
        world.revoke();
        let body = full("hello").with_trailers(std::future::ready(None)).boxed_unsync();
        let mut sent = request(method.clone(), "/proxy/default/x", body);
        sent.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
        let answer = world.agent.client().send(sent).await;
        assert_eq!((answer.status.as_u16(), answer.generation()), (200, "8"));
        let bodies: Vec<_> = world.api.received().into_iter().skip(1).map(|received| received.body).collect();
        assert_eq!(bodies, ["hello", "hello"], "{method}");
    }
}

#[tokio::test]
async fn a_401_for_another_reason_passes_and_is_reported_once() {
    let world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    world.api.set_mode(ApiMode::Refusing);
    for _ in 0..20 {
        let answer = world.agent.post("/proxy/default/x", "x").await;
        assert_eq!((answer.status.as_u16(), answer.generation()), (401, "7"));
        assert_eq!(answer.body, "refused for another reason");
    }
    assert_eq!(world.api.requests().get(), 21, "no request is sent again with the same token");
    let reports = world.broker.calls().iter().filter(|(_, call)| call["rejected_generation"] == 7).count();
    assert_eq!(reports, 1);
}

#[tokio::test]
async fn a_401_passes_if_the_broker_cannot_help() {
    let world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    world.revoke();
    world.broker.set_mode(BrokerMode::Down);
    let answer = world.agent.post("/proxy/default/x", "x").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (401, b"bad token".as_slice()));
    assert_eq!(world.api.requests().get(), 2);
}

#[tokio::test]
async fn without_a_token_the_request_is_not_sent() {
    let world = World::start().await;
    world.broker.set_mode(BrokerMode::Failing("credentials_rejected", None));
    let answer = world.agent.get("/proxy/emea/x").await;
    assert_eq!(answer.error(), (502, "credentials_rejected".to_owned()));
    assert_eq!(world.api.requests().get(), 0);
}

#[tokio::test]
async fn connections_are_reused() {
    let world = World::start().await;
    for _ in 0..50 {
        assert_eq!(world.agent.get("/proxy/default/x").await.status, 200);
    }
    assert_eq!(world.api.server().connections().get(), 1);
}

#[tokio::test]
async fn a_head_request_has_no_body() {
    let world = World::start().await;
    let answer = world.agent.client().send(request(Method::HEAD, "/proxy/default/x", empty())).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
}

/// The answer to a request that the API redirects to `location`.
async fn redirected(location: Option<&'static str>) -> Answer {
    let api = Server::script(move |request: emulators::fakes::Request| {
        let url = format!("http://{}", request.headers()["host"].to_str().unwrap());
        async move {
            let mut response = Response::new(emulators::fakes::Body::from("moved"));
            *response.status_mut() = StatusCode::FOUND;
            if let Some(location) = location.map(|location| location.replace("API", &url)) {
                response.headers_mut().insert("location", location.parse().unwrap());
            }
            Ending::Respond(response)
        }
    })
    .await;
    let broker = Broker::start().await;
    let agent = Agent::serve(by_invoke(&broker.url(), &api.url())).await;
    agent.get("/proxy/default/v3/items").await
}

#[tokio::test]
async fn a_redirect_on_the_api_leads_to_the_agent() {
    for location in ["/v3/items/7?a=b#c", "items/7?a=b#c", "API/v3/items/7?a=b#c"] {
        let answer = redirected(Some(location)).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (302, b"moved".as_slice()));
        assert_eq!(answer.headers["location"], "/proxy/default/v3/items/7?a=b#c", "{location}");
    }
}

#[tokio::test]
async fn a_redirect_to_another_server_is_an_error_that_names_it() {
    for (location, host) in [
        ("https://example.com/x", "example.com"),
        ("//example.com/x", "example.com"),
        ("http://localhost/x", "localhost"),
    ] {
        let answer = redirected(Some(location)).await;
        assert_eq!(answer.error(), (502, "upstream_unavailable".to_owned()), "{location}");
        assert!(answer.json()["error_description"].as_str().unwrap().contains(host), "{location}");
        assert!(!answer.headers.contains_key("location"), "{location}");
    }
    assert_eq!(redirected(None).await.status, 302);
}

#[tokio::test]
async fn the_next_page_is_on_the_agent() {
    let api = Server::script(|request: emulators::fakes::Request| {
        let url = format!("http://{}", request.headers()["host"].to_str().unwrap());
        async move {
            let mut response = Response::new(emulators::fakes::Body::from("page"));
            let link = format!("<{url}/v3/items?page=2>; rel=\"next\"");
            response.headers_mut().insert("link", link.parse().unwrap());
            for number in 0..120 {
                let name: http::HeaderName = format!("x-header-{number}").parse().unwrap();
                response.headers_mut().insert(name, number.into());
            }
            Ending::Respond(response)
        }
    })
    .await;
    let broker = Broker::start().await;
    let agent = Agent::serve(by_invoke(&broker.url(), &api.url())).await;
    let answer = agent.get("/proxy/default/v3/items").await;
    let expected = format!("<http://{}/proxy/default/v3/items?page=2>; rel=\"next\"", agent.address);
    assert_eq!(answer.headers["link"], expected);
    assert_eq!(answer.headers["x-header-119"], "119", "more headers than usual are passed on");
}

#[tokio::test]
async fn an_account_may_have_its_own_api() {
    let broker = Broker::start().await;
    let [own, usual] = [Api::start(broker.acceptance()).await, Api::start(broker.acceptance()).await];
    let mut environment = by_invoke(&broker.url(), &usual.server().url());
    environment.push(("TOKEN_BROKER_API_URLS", format!("crm={}/v2", own.server().url())));
    let agent = Agent::serve(environment).await;
    assert_eq!(agent.get("/proxy/crm/calls").await.status, 200);
    assert_eq!(agent.get("/proxy/default/calls").await.status, 200);
    assert_eq!((own.requests().get(), usual.requests().get()), (1, 1));
    assert_eq!(own.received()[0].head.uri.path(), "/v2/calls");
}

#[tokio::test]
async fn a_path_without_account_names_the_segment_that_it_used() {
    let world = World::start().await;
    world.broker.set_mode(BrokerMode::Failing("unknown_account", None));
    let answer = world.agent.get("/proxy/v3/calls").await;
    assert_eq!(answer.error(), (404, "unknown_account".to_owned()));
    let description = answer.json()["error_description"].to_string();
    assert!(description.contains("v3") && description.contains("/proxy/ACCOUNT/PATH"), "{description}");
}
