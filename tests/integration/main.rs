//! The broker against the emulated world: the real adapters through the real AWS SDK, and the real binary
//! under a Runtime API that these tests serve. Nothing has to be installed.
//!
//! `BROKER_TEST_AWS_ENDPOINT` names another AWS in the place of the embedded one, such as moto.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../../examples/local/front.rs"]
mod front;
#[path = "../../examples/local/wiring.rs"]
mod wiring;
#[path = "../../examples/local/world/mod.rs"]
mod world;

mod instance;
mod recorder;
mod runtime_api;

mod configuration;
mod events;
mod http;
mod invoke_api;
mod life;
mod oauth;
mod one_process;
mod panics;
mod processes;
mod secrecy;
mod secrets;
mod store;
mod template;
mod upstream;

use token_broker::{inbound::Handler, broker::Broker, config::Config, ports::Ports};
use world::{Aws, World, convirza::Settings};

/// A world with the upstream as it is.
async fn world() -> World {
    world_with(Settings::default()).await
}

/// A world with this upstream.
async fn world_with(settings: Settings) -> World {
    #[expect(clippy::disallowed_methods, reason = "the switch of these tests, read here alone")]
    let aws = std::env::var("BROKER_TEST_AWS_ENDPOINT").map_or(Aws::Embedded, Aws::At);
    World::start_on(aws, world::Ports::default(), settings).await.expect("the world starts")
}

/// A configuration whose faults are over quickly.
const QUICK: [(&str, &str); 2] = [("BROKER_UPSTREAM_TIMEOUT_MS", "1000"), ("BROKER_LEASE_MS", "3000")];

fn config(world: &World) -> Config {
    let quick = QUICK.map(|(name, value)| (name, value.to_owned()));
    wiring::config(world, &quick).expect("a good configuration")
}

async fn ports(world: &World) -> Ports {
    let clock = std::sync::Arc::new(token_broker::adapters::clock::SystemClock);
    wiring::ports(world, &config(world), clock).await.expect("the adapters")
}

/// A broker of its own, in this process.
async fn handler(world: &World) -> Handler {
    let config = config(world);
    Handler::new(Broker::new(config.policy, ports(world).await), config.callers)
}
