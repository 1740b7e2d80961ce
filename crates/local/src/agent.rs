//! The agent beside the local broker, so that code that uses the agent runs unchanged.
//!
//! It fetches nothing ahead, so that only requests cause logins in the local stack.

use crate::{clock::WorldClock, front::FUNCTION, wiring};
use emulators::{World, server::Listen};
use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use token_broker_agent::{Agent, Listening, Settings};
use token_broker_client::{BrokerClient, Environment, Limits, SystemClock, TokenSource, http::HttpClient};
use tokio::sync::watch;

/// The guard token of every local agent. It guards only emulators.
pub const GUARD_TOKEN: &str = "local-guard";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A running agent. It stops listening when it is dropped.
pub struct LocalAgent {
    address: SocketAddr,
    tokens: TokenSource,
    _running: watch::Sender<()>,
}

impl LocalAgent {
    /// The base URL, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The agent's tokens.
    pub fn tokens(&self) -> &TokenSource {
        &self.tokens
    }
}

/// Serves an agent that invokes the broker at this URL, and whose proxy talks to this world's Convirza. `port` is the
/// text of `TOKEN_BROKER_PORT`; without it, the agent listens on its usual port. If `also` is given, it listens on that
/// address too, and accepts requests for any host.
pub async fn start(
    world: &World,
    broker_url: &str,
    port: Option<&str>,
    also: Option<IpAddr>,
) -> Result<LocalAgent, Box<dyn Error>> {
    let variables = [
        ("TOKEN_BROKER_PORT", port.unwrap_or_default().to_owned()),
        ("TOKEN_BROKER_TOKEN", GUARD_TOKEN.to_owned()),
        ("CONVIRZA_API_URL", world.convirza.url()),
    ];
    let environment: Environment = variables.into_iter().collect();
    let settings = Settings { any_host: also.is_some(), ..Settings::parse(&environment)? };
    let listen = Listen { port: settings.port, also };
    let (listeners, address) = listen.bind().await.map_err(|(address, error)| taken(address, &error))?;
    let broker = BrokerClient::invoke(&environment, &format!("{FUNCTION}:live"));
    let broker = broker.with_aws(wiring::sdk(broker_url.to_owned()));
    let tokens = TokenSource::with(broker, WorldClock::of(world), Limits::default());
    let http = HttpClient::new(SystemClock, environment.roots(), CONNECT_TIMEOUT);
    let agent = Arc::new(Agent::new(&settings, tokens.clone(), http));
    let (running, stopped) = watch::channel(());
    for listener in listeners {
        let mut stopped = stopped.clone();
        let until = async move { while stopped.changed().await.is_ok() {} };
        tokio::spawn(Listening::of(listener)?.serve(Arc::clone(&agent), until, Duration::ZERO));
    }
    Ok(LocalAgent { address, tokens, _running: running })
}

fn taken(address: SocketAddr, error: &io::Error) -> String {
    format!(
        "the agent cannot listen on {address}: {error}. Stop the process that listens there, or set \
         TOKEN_BROKER_PORT to another port, or to 0 for any free one"
    )
}
