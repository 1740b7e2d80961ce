//! `cargo local`: starts everything, says what runs where, and tells what happens.

use super::{
    front::{self, FUNCTION, LOCAL_IDENTITY},
    gateway, wiring,
    world::{
        DEFAULT_ACCOUNT, Ports, World,
        convirza::{DEFAULT_EMAIL, DEFAULT_PASSWORD, Endpoint, Happening, Outcome, Settings},
        v2_secret,
    },
};
use clap::Args;
use std::{error::Error, net::IpAddr, process::ExitCode, sync::Arc, time::Duration};
use token_broker::{outbound::SystemClock, inbound::Handler, broker::Broker};
use tokio::sync::broadcast::error::RecvError;

/// An account that logs in to the deprecated V2.
const V2_ACCOUNT: &str = "legacy";
/// One more account, which one of the files in `events/` asks for.
const SECOND_ACCOUNT: &str = "emea";

#[derive(Args)]
pub struct Options {
    /// The broker's port; Convirza, DynamoDB and Secrets Manager take the next three. 0: any free ones
    #[arg(long, default_value_t = 7070)]
    port: u16,
    /// How long an access token lives after its last use
    #[arg(long, value_name = "SECONDS", default_value_t = 7 * 86_400)]
    token_lifetime: u64,
    /// Lets containers in, too: the address at which they reach this machine, such as 172.17.0.1. Whoever reaches it needs no password
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<IpAddr>,
}

pub async fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let port = |offset| {
        if options.port == 0 { Ok(0) } else { options.port.checked_add(offset).ok_or("--port is too high") }
    };
    let ports = Ports { convirza: port(1)?, dynamodb: port(2)?, secrets_manager: port(3)? };
    let settings =
        Settings { access_lifetime: Duration::from_secs(options.token_lifetime), ..Settings::default() };
    let world = World::start(ports, settings).await?;
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
    let ports = wiring::ports(&world, &config, Arc::new(SystemClock)).await?;
    let handler = Handler::new(Broker::new(config.policy, ports), config.callers);
    let broker = front::start(options.port, handler).await?;
    let mut happenings = world.convirza.subscribe();
    print_welcome(&world, &broker.url(), options.gateway);
    loop {
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                println!("\nStopped. Everything was in memory, and is gone.");
                return Ok(ExitCode::SUCCESS);
            }
            happening = happenings.recv() => match happening {
                Ok(happening) if is_worth_a_line(&happening) => println!("{happening}"),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(ExitCode::SUCCESS),
            },
        }
    }
}

/// One line per login, refresh and fault: how it ended, and where it hangs that it has arrived.
fn is_worth_a_line(happening: &Happening) -> bool {
    let is_renewal = matches!(happening.endpoint, Endpoint::Login | Endpoint::Refresh | Endpoint::Revoke);
    let has_ended = happening.outcome != Outcome::Arrived;
    has_ended && (is_renewal || happening.fault.is_some())
}

fn print_welcome(world: &World, broker_url: &str, gateway: Option<IpAddr>) {
    let convirza_url = world.convirza.url();
    let open_to = gateway.map(|address| format!(", and for whoever reaches {address}")).unwrap_or_default();
    println!(
        "token-broker on its embedded default. Everything is in memory and on loopback{open_to}; Ctrl-C ends it.\n"
    );
    println!("  the broker       {broker_url}  POST /token, GET /status, POST /refresh, POST /revoke");
    println!(
        "  Lambda           {broker_url}  function {FUNCTION}, for AWS SDKs: AWS_ENDPOINT_URL_LAMBDA={broker_url}"
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
    println!("\nGet a token, in another terminal:\n\n  curl -s -X POST {broker_url}/token\n");
    println!("Run the function itself in this world, such as with sam local:\n");
    for (name, value) in world.environment() {
        // By name: a container may be told that `localhost` is this machine, but 127.0.0.1 is always its own.
        println!("  export {name}={}", value.replace("127.0.0.1", "localhost"));
    }
    println!("\nLogins, refreshes and faults (UTC):");
}
