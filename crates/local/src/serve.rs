//! `cargo local`: starts all services, prints their addresses, and logs logins, refreshes and faults.

use crate::{MAX_LIFETIME, gateway};
use clap::Args;
use emulators::{
    DEFAULT_ACCOUNT, Ports, World,
    convirza::{DEFAULT_EMAIL, DEFAULT_PASSWORD, Settings},
    v2_secret,
};
use std::{error::Error, net::IpAddr, process::ExitCode, sync::Arc, time::Duration};
use token_broker::{
    outbound::SystemClock,
    telemetry::{InvocationLog, Style},
};
use token_broker_client::Environment;
use token_broker_local::{
    agent::{self, GUARD_TOKEN},
    console::{CALLERS, Console, is_logged},
    front::{self, FUNCTION, LOCAL_IDENTITY},
    wiring,
};
use tokio::sync::broadcast::error::RecvError;

/// An account of the deprecated V2.
const V2_ACCOUNT: &str = "legacy";
/// The account of `events/direct-token-with-options.json`.
const SECOND_ACCOUNT: &str = "emea";

#[derive(Args)]
pub(crate) struct Options {
    /// The broker's port; Convirza, DynamoDB and Secrets Manager take the next three. 0: any free ports. The agent's
    /// port is TOKEN_BROKER_PORT, or 2774
    #[arg(long, default_value_t = 7070)]
    port: u16,
    /// How long an access token lives after its last use
    #[arg(long, value_name = "SECONDS", default_value_t = 7 * 86_400, value_parser = clap::value_parser!(u64).range(1..=MAX_LIFETIME))]
    token_lifetime: u64,
    /// Lets containers in, too: the address at which they reach this machine, such as 172.17.0.1. Access needs no password
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<IpAddr>,
}

pub(crate) async fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let port = |offset| {
        if options.port == 0 { Ok(0) } else { options.port.checked_add(offset).ok_or("--port is too high") }
    };
    let ports = Ports { convirza: port(1)?, dynamodb: port(2)?, secrets_manager: port(3)? };
    let settings =
        Settings { access_lifetime: Duration::from_secs(options.token_lifetime), ..Settings::default() };
    let world = Arc::new(World::start(ports, settings).await?);
    world.put_secret(V2_ACCOUNT, &v2_secret(&world, DEFAULT_EMAIL, DEFAULT_PASSWORD)).await?;
    world.add_account(SECOND_ACCOUNT, "emea@example.invalid", "local-emea").await?;
    if let Some(address) = options.gateway {
        let urls = [world.convirza.url(), world.dynamodb.url(), world.secrets_manager.url()];
        gateway::open(address, &urls).await?;
    }
    let rules = format!(
        r#"[{{"caller":"direct","accounts":["*"],"actions":["*"]}},{{"caller":"{LOCAL_IDENTITY}","accounts":["*"],"actions":["*"]}}]"#
    );
    let config = wiring::config(&world, &[("BROKER_CALLERS", rules)])?;
    let ports = wiring::ports(&world, &config, Arc::new(SystemClock))?;
    let log = InvocationLog::new(&config.function, config.audit, Style::Readable, |line| print!("{line}"));
    let instance = || wiring::handler(&config, ports.clone());
    let console = Console::new(&world, &config, std::iter::repeat_with(instance).take(CALLERS))?;
    let handler = instance().behind(config.aliases.clone()).logging_to(log);
    let broker = front::start_with(options.port, handler, console.routes()).await?;
    let environment = Environment::of_process();
    let any_port = (options.port == 0).then_some("0");
    let agent_port = environment.get("TOKEN_BROKER_PORT").or(any_port);
    let agent = agent::start(&world, &broker.url(), agent_port).await?;
    let mut events = world.convirza.subscribe();
    print_welcome(&world, &broker.url(), &agent.url(), options.gateway);
    loop {
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                println!("\nStopped. Everything was in memory.");
                return Ok(ExitCode::SUCCESS);
            }
            event = events.recv() => match event {
                Ok(event) if is_logged(&event) => println!("{event}"),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(ExitCode::SUCCESS),
            },
        }
    }
}

fn print_welcome(world: &World, broker_url: &str, agent_url: &str, gateway: Option<IpAddr>) {
    let convirza_url = world.convirza.url();
    let open_to = gateway.map(|address| format!(", and open to all who reach {address}")).unwrap_or_default();
    println!(
        "token-broker on emulated services. Everything is in memory and on loopback{open_to}; Ctrl-C ends it.\n"
    );
    println!("  the console      {broker_url}/  watch it, and cause faults, in a browser");
    println!(
        "  the broker       {broker_url}  POST /token, GET /status, POST /refresh, POST /revoke, POST /unblock"
    );
    println!(
        "  Lambda           {broker_url}  function {FUNCTION}, for AWS SDKs: AWS_ENDPOINT_URL_LAMBDA={broker_url}"
    );
    println!(
        "  the agent        {agent_url}  its guard token is {GUARD_TOKEN}; its clients need TOKEN_BROKER_TOKEN={GUARD_TOKEN}"
    );
    println!("  Convirza         {convirza_url}  faults and counters: {convirza_url}/_emulator/");
    println!("  DynamoDB         {}  table {}", world.dynamodb.url(), world.table());
    println!(
        "  Secrets Manager  {}  secrets {}, {}, {} (V2)",
        world.secrets_manager.url(),
        world.secret_name(DEFAULT_ACCOUNT),
        world.secret_name(SECOND_ACCOUNT),
        world.secret_name(V2_ACCOUNT),
    );
    println!("\nGet a token, in another terminal, or call Convirza with one through the agent:\n");
    println!("  curl -s -X POST {broker_url}/token");
    println!("  curl -s {agent_url}/proxy/default/v3/users/list -H 'X-Token-Broker-Token: {GUARD_TOKEN}'\n");
    println!("Run the function itself on these services, such as with sam local:\n");
    for (name, value) in world.environment() {
        // A container can be told that `localhost` is this machine, but 127.0.0.1 is always its own.
        let is_url = value.starts_with("http");
        println!("  export {name}={}", if is_url { value.replace("127.0.0.1", "localhost") } else { value });
    }
    println!("\nAnswers, and what they cost upstream: logins, refreshes and faults (UTC):");
}
