//! No request makes the proxy talk to another host.

use crate::support::{GUARD, World};
use emulators::fakes::{Server, exchange, respond};

#[tokio::test]
async fn no_request_line_leads_to_another_host() {
    let other = Server::script(async |_| respond(200, "you should not be here")).await;
    let world = World::start().await;
    let host = other.address();
    let lines = [
        format!("GET http://{host}/ HTTP/1.1"),
        format!("GET http://{host}/proxy/default/x HTTP/1.1"),
        format!("GET http://localhost/proxy/default/http://{host}/ HTTP/1.1"),
        format!("CONNECT {host} HTTP/1.1"),
        "CONNECT /proxy/default/x HTTP/1.1".to_owned(),
        format!("GET //{host}/proxy/default/x HTTP/1.1"),
        format!("GET /proxy/default//{host}/x HTTP/1.1"),
        format!("GET /proxy/default/%2f{host}/x HTTP/1.1"),
        format!("GET /proxy/default/%2F%2F{host}/x HTTP/1.1"),
        format!("GET /proxy/default/\\\\{host}/x HTTP/1.1"),
        format!("GET /proxy/default/../../{host}/x HTTP/1.1"),
        "GET /proxy/default/%2e%2e/%2e%2e/x HTTP/1.1".to_owned(),
        "GET /proxy/default/..%2f..%2fx HTTP/1.1".to_owned(),
        format!("GET /proxy/@{host}/x HTTP/1.1"),
        format!("GET /proxy/default@{host}/x HTTP/1.1"),
        "OPTIONS * HTTP/1.1".to_owned(),
    ];
    for line in lines {
        let request = format!("{line}\r\nHost: localhost\r\nX-Token-Broker-Token: {GUARD}\r\n\r\n");
        let answer = exchange(world.agent.address, request.as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('4'), "{line}: {answer}");
    }
    assert_eq!(world.api.requests().get(), 0);
    // A path that merely names a host reaches the API, as a path.
    for path in [
        format!("/proxy/default/http://{host}/"),
        format!("/proxy/default/a//{host}"),
        format!("/proxy/default/@{host}/"),
    ] {
        assert_eq!(world.agent.get(&path).await.status, 200, "{path}");
    }
    assert_eq!(world.api.requests().get(), 3);
    assert_eq!(other.connections().get(), 0);
}

#[tokio::test]
async fn no_header_leads_to_another_host() {
    let other = Server::script(async |_| respond(200, "you should not be here")).await;
    let world = World::start().await;
    let host = other.address();
    for headers in [
        format!("X-Forwarded-Host: {host}"),
        format!("Forwarded: host={host}"),
        format!("X-Original-URL: http://{host}/"),
        "Connection: host, authorization, x-token-broker-token".to_owned(),
        "Connection: Upgrade\r\nUpgrade: websocket".to_owned(),
    ] {
        let request = format!(
            "GET /proxy/default/x HTTP/1.1\r\nHost: localhost\r\nX-Token-Broker-Token: {GUARD}\r\n{headers}\r\n\r\n"
        );
        let answer = exchange(world.agent.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{headers}: {answer}");
        let received = world.api.received().pop().unwrap();
        assert_eq!(received.head.headers["host"], world.api.server().address().to_string());
        assert!(received.accepted && !received.head.headers.contains_key("upgrade"));
    }
    assert_eq!(other.connections().get(), 0);
}

#[tokio::test]
async fn a_smuggled_request_is_refused_or_is_a_body() {
    let world = World::start().await;
    let head =
        format!("POST /proxy/default/x HTTP/1.1\r\nHost: localhost\r\nX-Token-Broker-Token: {GUARD}\r\n");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ] {
        exchange(world.agent.address, format!("{head}{framing}{smuggled}").as_bytes()).await;
    }
    let paths: Vec<_> = world.api.received().iter().map(|received| received.head.uri.to_string()).collect();
    assert!(paths.iter().all(|path| path == "/x"), "{paths:?}");
}

#[tokio::test]
async fn a_redirect_is_followed_by_neither_agent_nor_caller() {
    let other = Server::script(async |_| respond(200, "you should not be here")).await;
    let broker = emulators::fakes::Broker::start().await;
    let location = other.url();
    let api = Server::script(move |_| {
        let location = location.clone();
        async move {
            let mut response = http::Response::new(emulators::fakes::Body::from(""));
            *response.status_mut() = http::StatusCode::FOUND;
            response.headers_mut().insert("location", location.parse().unwrap());
            emulators::fakes::Ending::Respond(response)
        }
    })
    .await;
    let agent = crate::support::Agent::serve(crate::support::by_invoke(&broker.url(), &api.url())).await;
    let answer = agent.get("/proxy/default/x").await;
    assert_eq!((answer.status.as_u16(), answer.headers.get("location")), (502, None));
    assert_eq!(other.connections().get(), 0);
}
