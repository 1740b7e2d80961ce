//! The agent beside the local broker, so that code that uses the agent runs unchanged.
//!
//! It fetches nothing ahead: only requests cause logins in the local stack.

use crate::front::FUNCTION;
use emulators::{REGION, World};
use std::{error::Error, io, net::SocketAddr, sync::Arc, time::Duration};
use token_broker_agent::{Agent, Listening, Settings};
use token_broker_client::{BrokerClient, Environment, SystemClock, TokenSource, http::HttpClient};
use tokio::sync::oneshot;

/// The guard token of every local agent. It guards nothing but emulators.
pub const GUARD_TOKEN: &str = "local-guard";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A running agent. It stops listening when it is dropped.
pub struct LocalAgent {
    address: SocketAddr,
    _running: oneshot::Sender<()>,
}

impl LocalAgent {
    /// The base URL, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Serves an agent that invokes the broker at this URL, and whose proxy talks to this world's Convirza. `port` is the
/// text of `TOKEN_BROKER_PORT`; without it, the agent listens on its usual port.
pub async fn start(
    world: &World,
    broker_url: &str,
    port: Option<&str>,
) -> Result<LocalAgent, Box<dyn Error>> {
    let variables = [
        ("TOKEN_BROKER_PORT", port.unwrap_or_default().to_owned()),
        ("TOKEN_BROKER_TOKEN", GUARD_TOKEN.to_owned()),
        ("CONVIRZA_API_URL", world.convirza.url()),
        ("AWS_ENDPOINT_URL_LAMBDA", broker_url.to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", "local".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
    ];
    let environment: Environment = variables.into_iter().collect();
    let settings = Settings::parse(&environment)?;
    let listening = Listening::on(settings.port).await.map_err(|error| taken(settings.port, &error))?;
    let address = listening.address();
    let source = TokenSource::new(BrokerClient::invoke(&environment, &format!("{FUNCTION}:live")));
    let http = HttpClient::new(SystemClock, environment.roots(), CONNECT_TIMEOUT);
    let agent = Arc::new(Agent::new(&settings, source, http));
    let (running, stopped) = oneshot::channel();
    let until = async {
        let _dropped = stopped.await;
    };
    tokio::spawn(listening.serve(agent, until, Duration::ZERO));
    Ok(LocalAgent { address, _running: running })
}

fn taken(port: u16, error: &io::Error) -> String {
    format!(
        "the agent cannot listen on 127.0.0.1:{port}: {error}. Stop the process that listens there, or set \
         TOKEN_BROKER_PORT to another port, or to 0 for any free one"
    )
}
