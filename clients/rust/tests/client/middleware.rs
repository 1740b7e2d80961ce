//! The `reqwest-middleware`.

use crate::transports::by_invoke;
use emulators::fakes::{Api, ApiMode, Broker, Counter, Ending, Server};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use token_broker_client::{AccountName, BearerToken};

async fn start() -> (Broker, Api, ClientWithMiddleware) {
    let broker = Broker::start().await;
    let api = Api::start(broker.acceptance()).await;
    let source = by_invoke(&broker.url());
    let bearer = BearerToken::new(source, AccountName::default(), api.server().url().parse().unwrap());
    let client = ClientBuilder::new(reqwest::Client::new()).with(bearer).build();
    (broker, api, client)
}

#[tokio::test]
async fn each_request_carries_the_token() {
    let (broker, api, client) = start().await;
    for _ in 0..3 {
        let response = client.post(format!("{}/x", api.server().url())).body("hello").send().await.unwrap();
        assert_eq!((response.status().as_u16(), response.text().await.unwrap().as_str()), (200, "hello"));
    }
    assert_eq!(broker.called().get(), 1);
}

#[tokio::test]
async fn a_refused_token_is_reported_and_the_request_sent_again_once() {
    let (broker, api, client) = start().await;
    let url = format!("{}/x", api.server().url());
    client.get(&url).send().await.unwrap();
    broker.revoke_session("default");
    let response = client.post(&url).body("hello").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(broker.calls().last().unwrap().1["rejected_generation"], 7);
    assert_eq!(api.requests().get(), 3);
    api.set_mode(ApiMode::Refusing);
    assert_eq!(client.post(&url).body("hello").send().await.unwrap().status(), 401);
    assert_eq!(api.requests().get(), 4, "the token is alive, so nothing is sent again");
}

#[tokio::test]
async fn a_request_for_another_host_carries_no_token() {
    let (broker, _api, client) = start().await;
    let other = Api::start(|_| true).await;
    client.get(other.server().url()).send().await.unwrap();
    assert!(!other.received()[0].head.headers.contains_key("authorization"));
    assert_eq!(broker.called().get(), 0);
}

#[tokio::test]
async fn a_post_from_before_a_redirect_is_not_repeated() {
    let broker = Broker::start().await;
    let (effects, accepts) = (Counter::default(), broker.acceptance());
    let counter = effects.clone();
    let api = Server::script(move |request: emulators::fakes::Request| {
        let token = request.headers()["authorization"].to_str().unwrap().replace("Bearer ", "");
        let is_effect = request.uri().path() == "/effect";
        if is_effect {
            counter.add();
        }
        let mut response = http::Response::new(emulators::fakes::Body::from(""));
        *response.status_mut() = match (is_effect, accepts(&token)) {
            (true, _) => http::StatusCode::SEE_OTHER,
            (false, true) => http::StatusCode::OK,
            (false, false) => http::StatusCode::UNAUTHORIZED,
        };
        response.headers_mut().insert("location", "/items".parse().unwrap());
        std::future::ready(Ending::Respond(response))
    })
    .await;
    let source = by_invoke(&broker.url());
    let bearer = BearerToken::new(source.clone(), AccountName::default(), api.url().parse().unwrap());
    let client = ClientBuilder::new(reqwest::Client::new()).with(bearer).build();
    let url = format!("{}/effect#part", api.url());
    for (method, status, sent) in [(reqwest::Method::POST, 401, 1), (reqwest::Method::GET, 200, 3)] {
        source.get(&AccountName::default()).await.unwrap();
        broker.revoke_session("default");
        assert_eq!(client.request(method, &url).send().await.unwrap().status(), status);
        assert_eq!(effects.get(), sent);
    }
    assert_eq!(source.get(&AccountName::default()).await.unwrap().generation.0, 9, "each was reported");
}

#[tokio::test]
async fn a_fragment_is_not_a_redirect() {
    let (broker, api, client) = start().await;
    let url = format!("{}/x#part", api.server().url());
    client.get(&url).send().await.unwrap();
    broker.revoke_session("default");
    assert_eq!(client.post(&url).body("hello").send().await.unwrap().status(), 200);
}
