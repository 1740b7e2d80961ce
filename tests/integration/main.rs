//! The broker against emulated services: the real adapters through the real AWS SDK, and the real binary under an
//! emulated Runtime API. Nothing needs to be installed.
//!
//! `BROKER_TEST_AWS_ENDPOINT` names another AWS emulator, such as moto, to use instead of the embedded one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod instance;
mod items;
mod lines;

mod agents;
mod audit;
mod bounds;
mod callers;
mod causes;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod clocks;
mod configuration;
mod costs;
mod credentials;
mod direct_invoke;
mod events;
mod hosts;
mod http;
mod invoke_api;
mod maintenance;
mod oauth;
mod operator;
mod panics;
mod pinned;
mod prefetch;
mod processes;
mod proxies;
mod reports;
mod secrecy;
mod secrets;
mod store;
mod template;
mod thaw;
mod upgrade;
mod upstream;
mod v2;
mod ways_in;

use emulators::{Aws, World, convirza::Settings, server::Server};
use local::{front, wiring};
use std::sync::Arc;
use token_broker::{
    config::Config,
    inbound::Handler,
    outbound::{Roots, SystemClock},
    ports::Ports as Adapters,
};

/// No test uses TLS.
fn tls() -> rustls::ClientConfig {
    Roots::default().tls_config().expect("the compiled list")
}

/// A world whose upstream has its default settings.
async fn world() -> World {
    world_with(Settings::default()).await
}

async fn world_with(settings: Settings) -> World {
    #[expect(clippy::disallowed_methods, reason = "a switch of these tests, read only here")]
    let aws = std::env::var("BROKER_TEST_AWS_ENDPOINT").map_or(Aws::Embedded, Aws::At);
    World::start_on(aws, emulators::Ports::default(), settings).await.expect("the world starts")
}

/// A configuration with short timeouts, so that faults end soon.
fn config(world: &World) -> Config {
    let quick = instance::QUICK.map(|(name, value)| (name, value.to_owned()));
    wiring::config(world, &quick).expect("a valid configuration")
}

fn ports(world: &World) -> Adapters {
    wiring::ports(world, &config(world), Arc::new(SystemClock)).expect("the adapters")
}

/// A broker in this process, with its own cache.
fn handler(world: &World) -> Handler {
    wiring::handler(&config(world), ports(world))
}

/// A broker in this process, behind the local stack's front.
async fn front(world: &World) -> Server {
    front::start(0, handler(world)).await.expect("a front")
}

fn http_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

async fn json_of(response: reqwest::Response) -> serde_json::Value {
    serde_json::from_str(&response.text().await.expect("a body")).expect("JSON")
}
