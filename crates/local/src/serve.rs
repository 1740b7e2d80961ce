//! `cargo local`: starts the stack, prints its addresses, and logs logins, refreshes and faults.

use crate::MAX_LIFETIME;
use clap::Args;
use emulators::{
    DEFAULT_ACCOUNT,
    convirza::{Route, Settings},
};
use std::{error::Error, fs, net::IpAddr, path::PathBuf, pin::pin, process::ExitCode, time::Duration};
use token_broker_client::{AccountName, Environment};
use token_broker_local::{
    agent::GUARD_TOKEN,
    console::is_logged,
    front::FUNCTION,
    stack::{self, NewAccount, SECOND_ACCOUNT, Stack, V2_ACCOUNT},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::broadcast::error::RecvError,
};

/// Shown after the options.
pub(crate) const ADDRESSES: &str = "\
Addresses, unless --port or TOKEN_BROKER_PORT moves them:
  http://127.0.0.1:7070  the broker, Lambda's Invoke API (function token-broker), and the console
  http://127.0.0.1:7071  Convirza; its routes, time, faults and reset: /_emulator/
  http://127.0.0.1:7072  DynamoDB
  http://127.0.0.1:7073  Secrets Manager
  http://127.0.0.1:2774  the agent; guard token local-guard";

#[derive(Args)]
pub(crate) struct Options {
    /// The broker's port; Convirza, DynamoDB and Secrets Manager take the next three. 0: any free ports. The agent's
    /// port is TOKEN_BROKER_PORT, or 2774
    #[arg(long, default_value_t = 7070)]
    port: u16,
    /// Also opens all ports at this address of the machine, such as 172.17.0.1 for containers, or 0.0.0.0 for every
    /// network. Access needs no password
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// Answers of the emulated API: a file with a JSON list, as for PUT /_emulator/routes
    #[arg(long, value_name = "FILE")]
    routes: Option<PathBuf>,
    /// Another account, with a user at Convirza. May be given several times
    #[arg(long = "account", value_name = "NAME[=EMAIL:PASSWORD]", value_parser = account)]
    accounts: Vec<NewAccount>,
    /// Another user of Convirza, for secrets that you create. May be given several times
    #[arg(long = "user", value_name = "EMAIL:PASSWORD", value_parser = user)]
    users: Vec<(String, String)>,
    /// How many logins a minute Convirza allows
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    login_limit: u32,
    /// How long an access token lives after its last use
    #[arg(long, value_name = "SECONDS", default_value_t = 7 * 86_400, value_parser = clap::value_parser!(u64).range(1..=MAX_LIFETIME))]
    token_lifetime: u64,
    /// A setting of the broker, such as BROKER_MAX_TTL_SECONDS=60. May be given several times
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
}

fn account(text: &str) -> Result<NewAccount, String> {
    let (name, credentials) = text.split_once('=').map_or((text, None), |(name, rest)| (name, Some(rest)));
    let name = AccountName::parse(name).ok_or_else(|| format!("the name must be {}", AccountName::RULE))?;
    let (email, password) = match credentials {
        Some(credentials) => user(credentials)?,
        None => (format!("{name}@example.invalid"), format!("local-{name}")),
    };
    Ok(NewAccount { name: name.to_string(), email, password })
}

fn user(text: &str) -> Result<(String, String), String> {
    let user = text.split_once(':').filter(|(email, password)| !email.is_empty() && !password.is_empty());
    user.map(|(email, password)| (email.to_owned(), password.to_owned()))
        .ok_or_else(|| "it must be EMAIL:PASSWORD".to_owned())
}

fn setting(text: &str) -> Result<(String, String), String> {
    let setting = text.split_once('=').filter(|(name, _)| name.starts_with("BROKER_"));
    setting
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "it must be NAME=VALUE, with a name that begins with BROKER_".to_owned())
}

fn routes(path: &PathBuf) -> Result<Vec<Route>, String> {
    let text = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

pub(crate) async fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let environment = Environment::of_process();
    let any_port = (options.port == 0).then_some("0");
    let accounts: Vec<String> = options.accounts.iter().map(|account| account.name.clone()).collect();
    let bind = options.bind;
    let stack = Stack::start(
        stack::Options {
            port: options.port,
            bind,
            agent_port: environment.get("TOKEN_BROKER_PORT").or(any_port).map(str::to_owned),
            convirza: Settings {
                access_lifetime: Duration::from_secs(options.token_lifetime),
                login_limit_per_minute: options.login_limit,
                ..Settings::default()
            },
            broker: options.settings,
            accounts: options.accounts,
            users: options.users,
            routes: options.routes.as_ref().map(routes).transpose()?.unwrap_or_default(),
        },
        |line| print!("{line}"),
    )
    .await?;
    let mut events = stack.world.convirza.subscribe();
    print_welcome(&stack, &accounts, bind);
    // The first process of a container receives only signals that it handles.
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async {
        tokio::select! {
            stopped = tokio::signal::ctrl_c() => stopped,
            _ = terminate.recv() => Ok(()),
        }
    };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            stopped = &mut stop => {
                stopped?;
                println!("\nStopped. Nothing was stored.");
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

fn print_welcome(stack: &Stack, accounts: &[String], bind: Option<IpAddr>) {
    let (world, broker_url, agent_url) = (&stack.world, stack.broker.url(), stack.agent.url());
    let convirza_url = world.convirza.url();
    let open_to = match bind {
        Some(all) if all.is_unspecified() => ", and open to all networks of this machine".to_owned(),
        Some(address) => format!(", and open to everyone who can reach {address}"),
        None => String::new(),
    };
    println!(
        "token-broker on emulated services. Everything is in memory and on loopback{open_to}; Ctrl-C ends it.\n"
    );
    println!("  the console      {broker_url}/  watch it, and cause faults, in a browser");
    println!(
        "  the broker       {broker_url}  POST /token, GET /status, POST /refresh, POST /revoke, POST /unblock"
    );
    println!(
        "  Lambda           {broker_url}  function {FUNCTION}:live, for AWS SDKs: AWS_ENDPOINT_URL_LAMBDA={broker_url}"
    );
    println!(
        "  the agent        {agent_url}  its guard token is {GUARD_TOKEN}; its clients need TOKEN_BROKER_TOKEN={GUARD_TOKEN}"
    );
    println!(
        "  Convirza         {convirza_url}  answers, time, faults, counters, reset: {convirza_url}/_emulator/"
    );
    println!("  DynamoDB         {}  table {}", world.dynamodb.url(), world.table());
    let mut secrets = vec![world.secret_name(DEFAULT_ACCOUNT), world.secret_name(SECOND_ACCOUNT)];
    secrets.push(format!("{} (V2)", world.secret_name(V2_ACCOUNT)));
    secrets.extend(accounts.iter().map(|account| world.secret_name(account)));
    println!("  Secrets Manager  {}  secrets {}", world.secrets_manager.url(), secrets.join(", "));
    println!("\nGet a token, in another terminal, or call Convirza with one through the agent:\n");
    println!("  curl -s -X POST {broker_url}/token");
    println!("  curl -s {agent_url}/proxy/default/v3/users/list -H 'X-Token-Broker-Token: {GUARD_TOKEN}'\n");
    println!("To run the function itself on these services, for example with sam local:\n");
    for (name, value) in world.environment() {
        // In a container, `localhost` can be made this machine, but 127.0.0.1 is always the container.
        let is_url = value.starts_with("http");
        println!("  export {name}={}", if is_url { value.replace("127.0.0.1", "localhost") } else { value });
    }
    println!("\nAnswers, and the logins, refreshes and faults upstream (UTC):");
}
