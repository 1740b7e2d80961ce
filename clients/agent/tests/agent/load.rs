//! Many requests at a time.

use crate::support::{Client, World, request};
use http::Method;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use token_broker_client::http::full;

const REQUESTS: u64 = 10_000;
const IN_FLIGHT: u64 = 64;

/// Runs `REQUESTS` requests, `IN_FLIGHT` at a time.
async fn hammer<F, R>(client: Client, one: F)
where
    F: Fn(Client, u64) -> R + Send + Sync + Copy + 'static,
    R: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (client, next) = (client.clone(), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= REQUESTS {
                        return;
                    }
                    one(client.clone(), number).await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_tokens_are_one_call() {
    let world = World::start().await;
    hammer(world.agent.client(), async |client, _| {
        assert_eq!(client.get("/v1/token").await.json()["generation"], 7);
    })
    .await;
    assert_eq!(world.broker.called().get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_proxied_requests_arrive_once_each() {
    let world = World::start().await;
    hammer(world.agent.client(), async |client, number| {
        let body = number.to_string();
        let answer = client.send(request(Method::POST, "/proxy/default/echo", full(body.clone()))).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, body.as_bytes()));
    })
    .await;
    let mut bodies: Vec<u64> = world
        .api
        .received()
        .iter()
        .map(|received| std::str::from_utf8(&received.body).unwrap().parse().unwrap())
        .collect();
    bodies.sort_unstable();
    assert!(bodies.into_iter().eq(0..REQUESTS), "each request once");
    let connections = world.api.server().connections().get();
    assert!(connections <= IN_FLIGHT * 2, "{connections} connections");
    let (_, most) = world.agent.resident();
    // The debug build; the benchmark measures the release build.
    assert!(most < 64 * 1024, "{most} KB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_revoked_under_load_is_healed_once() {
    let world = World::start().await;
    let broker = Arc::new(world.broker);
    let revoked = Arc::clone(&broker);
    let client = world.agent.client();
    let callers: Vec<_> = (0..200)
        .map(|caller| {
            let (client, broker) = (client.clone(), Arc::clone(&revoked));
            tokio::spawn(async move {
                for number in 0..20 {
                    if (caller, number) == (100, 10) {
                        broker.revoke_session("default");
                    }
                    let body = full(format!("{caller}/{number}"));
                    let answer = client.send(request(Method::POST, "/proxy/default/echo", body)).await;
                    assert_eq!(answer.status, 200, "no caller sees a 401");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let reports = broker.calls().iter().filter(|(_, call)| call["rejected_generation"] == 7).count();
    assert_eq!(reports, 1, "one report for all callers");
    let mut accepted: Vec<_> = world
        .api
        .received()
        .into_iter()
        .filter(|request| request.accepted)
        .map(|request| request.body)
        .collect();
    assert_eq!(accepted.len(), 4_000);
    accepted.sort();
    accepted.dedup();
    assert_eq!(accepted.len(), 4_000, "nothing was accepted twice");
}
