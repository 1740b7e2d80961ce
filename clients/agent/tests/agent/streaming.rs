//! Bodies stream both ways, and memory stays bounded.

use crate::support::{Agent, GUARD, World, by_invoke, request};
use bytes::Bytes;
use emulators::fakes::{Body, Broker, Counter, Ending, Request, Server, exchange, respond, send_and_leave};
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt, Channel};
use std::{convert::Infallible, sync::Arc};
use token_broker_client::http::{BoxError, empty};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
};

const CHUNK: usize = 64 * 1024;
const CHUNKS: usize = 1024;
/// The agent's allowance for one stream of 64 MiB, in kilobytes.
const MOST_GROWTH: u64 = 8 * 1024;

/// An API that counts the bytes of a body, and one that sends 64 MiB.
async fn large_api() -> Server {
    Server::script(async |request| {
        if request.method() == Method::GET {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                for _ in 0..CHUNKS {
                    sender.send_data(Bytes::from(vec![b'x'; CHUNK])).await.unwrap();
                }
            });
            return Ending::Respond(Response::new(Body::new(body)));
        }
        let mut body = request.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame.unwrap().into_data().map_or(0, |data| data.len());
        }
        respond(200, length.to_string())
    })
    .await
}

#[tokio::test]
async fn large_bodies_pass_in_bounded_memory() {
    let (broker, api) = (Broker::start().await, large_api().await);
    let agent = Agent::serve(by_invoke(&broker.url(), &api.url())).await;
    agent.post("/proxy/default/x", "warm").await;
    let (before, _) = agent.resident();

    let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
    tokio::spawn(async move {
        for _ in 0..CHUNKS {
            sender.send_data(Bytes::from(vec![b'x'; CHUNK])).await.unwrap();
        }
    });
    let answer = agent.client().send(request(Method::POST, "/proxy/default/x", body.boxed_unsync())).await;
    assert_eq!(answer.body, (CHUNK * CHUNKS).to_string());

    let mut body = agent.client().open(request(Method::GET, "/proxy/default/x", empty())).await.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert_eq!(length, CHUNK * CHUNKS);
    let (_, most) = agent.resident();
    assert!(most < before + MOST_GROWTH, "{before} KB grew to {most} KB");
}

#[tokio::test]
async fn each_side_sees_a_part_before_the_other_has_ended() {
    // The API answers each part of the body when it arrives.
    let api = Server::script(async |request| {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            let mut parts = request.into_body();
            while let Some(frame) = parts.frame().await {
                if let Ok(data) = frame.unwrap().into_data() {
                    sender.send_data(data).await.unwrap();
                }
            }
        });
        Ending::Respond(Response::new(Body::new(body)))
    })
    .await;
    let broker = Broker::start().await;
    let agent = Agent::serve(by_invoke(&broker.url(), &api.url())).await;
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(1);
    let client = agent.client();
    let opened = tokio::spawn(async move {
        client.open(request(Method::POST, "/proxy/default/x", body.boxed_unsync())).await
    });
    sender.send_data("0".into()).await.unwrap();
    let mut answer = opened.await.unwrap().into_body();
    for number in 0..10 {
        let part = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(part, number.to_string());
        sender.send_data((number + 1).to_string().into()).await.unwrap();
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let seen = Arc::new(std::sync::Mutex::new(None));
    let shared = Arc::clone(&seen);
    let api = Server::script(move |request: Request| {
        let shared = Arc::clone(&shared);
        async move {
            let te = request.headers().get("te").cloned();
            let body = request.into_body().collect().await.unwrap();
            *shared.lock().unwrap() = Some((te, body.trailers().cloned()));
            let trailers = HeaderMap::from_iter([("x-api-sum".parse().unwrap(), "9".parse().unwrap())]);
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(2);
            sender.send_data(Bytes::from_static(b"hello")).await.unwrap();
            sender.send_trailers(trailers).await.unwrap();
            let mut response = Response::new(Body::new(body));
            response.headers_mut().insert("trailer", "x-api-sum".parse().unwrap());
            response.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
            Ending::Respond(response)
        }
    })
    .await;
    let broker = Broker::start().await;
    let agent = Agent::serve(by_invoke(&broker.url(), &api.url())).await;
    let request = format!(
        "POST /proxy/default/x HTTP/1.1\r\nHost: localhost\r\nX-Token-Broker-Token: {GUARD}\r\nTE: trailers\r\n\
         Connection: TE, close\r\nTrailer: x-own-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nx-own-sum: 5\r\n\r\n"
    );
    let answer = exchange(agent.address, request.as_bytes()).await;
    let (te, trailers) = seen.lock().unwrap().take().unwrap();
    assert_eq!(te.unwrap(), "trailers");
    assert_eq!(trailers.unwrap()["x-own-sum"], "5");
    assert!(answer.contains("x-api-sum: 9"), "{answer}");
}

#[tokio::test]
async fn a_response_that_breaks_off_breaks_off_for_the_caller() {
    let counter = Counter::default();
    let cut = Arc::new(Semaphore::new(0));
    let (begun, released) = (counter.clone(), Arc::clone(&cut));
    let api = Server::script(move |_| {
        let (begun, released) = (begun.clone(), Arc::clone(&released));
        async move {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                sender.send_data("part".into()).await.unwrap();
                begun.add();
                let _never = released.acquire().await;
            });
            Ending::Respond(Response::new(Body::new(body)))
        }
    })
    .await;
    let broker = Broker::start().await;
    let agent = Agent::serve(by_invoke(&broker.url(), &api.url())).await;
    let mut body = agent.client().open(request(Method::GET, "/proxy/default/x", empty())).await.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
    api.cut_connections();
    assert!(body.frame().await.unwrap().is_err(), "a truncated body must not look complete");
    assert_eq!(counter.get(), 1);
}

#[tokio::test]
async fn a_body_that_reads_like_a_refusal_is_passed_on() {
    const TEXT: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let head_arrived = Arc::new(Semaphore::new(0));
    let released = Arc::clone(&head_arrived);
    let api = Server::script(move |_| {
        let released = Arc::clone(&released);
        async move {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                let _permit = released.acquire().await;
                sender.send_data(TEXT.into()).await.unwrap();
            });
            let mut response = Response::new(Body::new(body));
            response.headers_mut().insert("content-length", TEXT.len().into());
            Ending::Respond(response)
        }
    })
    .await;
    let broker = Broker::start().await;
    let agent = Agent::serve(by_invoke(&broker.url(), &api.url())).await;
    let response = agent.client().open(request(Method::GET, "/proxy/default/x", empty())).await;
    head_arrived.add_permits(1);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), TEXT);
}

#[tokio::test]
async fn a_response_of_an_old_server_breaks_off_too() {
    let (broker, listener) = (Broker::start().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let api = format!("http://{}", listener.local_addr().unwrap());
    let agent = Agent::serve(by_invoke(&broker.url(), &api)).await;
    let client = agent.client();
    let opened =
        tokio::spawn(async move { client.open(request(Method::GET, "/proxy/default/x", empty())).await });
    let (mut tcp, _) = listener.accept().await.unwrap();
    assert!(tcp.read(&mut [0; 1024]).await.unwrap() > 0);
    tcp.write_all(b"HTTP/1.0 200 OK\r\n\r\npart").await.unwrap();
    let mut response = opened.await.unwrap();
    assert_eq!(response.version(), http::Version::HTTP_11);
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "part");
    tcp.set_zero_linger().unwrap();
    drop(tcp);
    assert!(response.body_mut().frame().await.unwrap().is_err(), "a truncated body must not look complete");
}

#[tokio::test]
async fn an_upload_that_breaks_off_breaks_off_for_the_api() {
    let world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    let request = format!(
        "POST /proxy/default/x HTTP/1.1\r\nHost: localhost\r\nX-Token-Broker-Token: {GUARD}\r\n\
         Content-Length: 100000\r\n\r\npart"
    );
    let answer = send_and_leave(world.agent.address, request.as_bytes()).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(world.api.requests().get(), 1, "the API never sees it as complete");
}
