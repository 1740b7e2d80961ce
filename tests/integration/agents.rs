//! Agents beside their callers, in front of the real broker.

use crate::{front, http_client, world};
use emulators::convirza::{Endpoint, Outcome, Revoke};
use local::agent::{self, GUARD_TOKEN};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

const AGENTS: usize = 4;
const CALLERS: usize = 200;
const REQUESTS_EACH: usize = 5;
/// The session is revoked before this request. By then, each agent has its token and uses it.
const REVOKED_AT: u64 = 500;

/// Lists the users through an agent's proxy, and returns the status and the generation that was used.
async fn list_users(client: &reqwest::Client, agent: &str) -> (u16, u64) {
    let request = client.get(format!("{agent}/proxy/default/v3/users/list"));
    let response = request.header("x-token-broker-token", GUARD_TOKEN).send().await.expect("a response");
    let generation = &response.headers()["x-token-broker-generation"];
    (response.status().as_u16(), generation.to_str().expect("text").parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_behind_200_callers_is_healed_once() {
    let world = Arc::new(world().await);
    let (mut brokers, mut agents) = (Vec::new(), Vec::new());
    for _ in 0..AGENTS {
        // One instance of the broker for each agent. They share only the table.
        let broker = front(&world).await;
        agents.push(agent::start(&world, &broker.url(), Some("0"), None).await.expect("an agent"));
        brokers.push(broker);
    }
    let urls: Vec<_> = agents.iter().map(agent::LocalAgent::url).collect();
    let client = http_client();
    let mut before = 0;
    for url in &urls {
        let (status, generation) = list_users(&client, url).await;
        assert_eq!(status, 200);
        before = generation;
    }
    let mut events = world.convirza.subscribe();

    let sent = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (world, client, sent) = (Arc::clone(&world), client.clone(), Arc::clone(&sent));
            let url = urls[caller % AGENTS].clone();
            tokio::spawn(async move {
                for _ in 0..REQUESTS_EACH {
                    if sent.fetch_add(1, Ordering::Relaxed) == REVOKED_AT {
                        world.convirza.revoke_all_sessions(Revoke::AccessTokens);
                    }
                    assert_eq!(list_users(&client, &url).await.0, 200, "no caller sees a 401");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("every request is answered");
    }

    let (mut refused, mut probes) = (0, 0);
    while let Ok(event) = events.try_recv() {
        let is_refused = (event.endpoint, event.outcome) == (Endpoint::Api, Outcome::Answered(401));
        refused += u32::from(is_refused);
        probes += u32::from((event.endpoint, event.outcome) == (Endpoint::Profile, Outcome::Arrived));
    }
    assert!(refused > 0, "the session was revoked while callers were at work");
    let observed = world.convirza.observed();
    assert_eq!((probes, observed.refreshes, observed.logins_arrived), (1, 1, 1));
    for url in &urls {
        let (status, generation) = list_users(&client, url).await;
        assert!(status == 200 && generation > before, "each agent has the new token");
    }
}
