//! `cargo local` as a user starts it, and the agent that it serves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use http::Request;
use serde_json::Value;
use std::{process::Stdio, time::Duration};
use token_broker_client::{
    AccountName, BrokerClient, Environment, SystemClock, TokenSource,
    http::{BaseUrl, Body, HttpClient, Roots, collect, full},
};
use token_broker_local::agent::GUARD_TOKEN;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn command(variables: &[(&str, &str)]) -> Command {
    with_arguments(&["--port", "0"], variables)
}

fn with_arguments(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker-local"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running `cargo local`, and what it prints about itself.
struct Local {
    _process: Child,
    broker: String,
    agent: String,
    guard: String,
}

impl Local {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let mut process = command(variables).spawn().expect("the program");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let mut welcome = String::new();
        while !welcome.ends_with("(UTC):\n") {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time");
            welcome += &(line.expect("a pipe").expect("it runs") + "\n");
        }
        // Keeps reading, because a full pipe would stop the program.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let after = |text: &str| {
            let rest = welcome.split(text).nth(1).unwrap_or_else(|| panic!("{text} is missing:\n{welcome}"));
            rest.split_whitespace().next().expect("a word").to_owned()
        };
        Self {
            broker: after("\n  the broker"),
            agent: after("\n  the agent"),
            guard: after("TOKEN_BROKER_TOKEN="),
            _process: process,
        }
    }
}

/// Status and JSON of a response.
async fn send(base: &str, request: Request<Body>) -> (u16, Value) {
    let target = BaseUrl::parse(base).expect("a URL").target;
    let http = HttpClient::new(SystemClock, Roots::default(), PATIENCE);
    let response = tokio::time::timeout(PATIENCE, http.send(&target, request)).await.expect("in time");
    let (head, body) = response.expect("a response").into_parts();
    let body = collect(body, 1 << 20).await.expect("a body");
    (head.status.as_u16(), serde_json::from_slice(&body).expect("JSON"))
}

fn get(path: &str, guard: &str) -> Request<Body> {
    Request::get(path).header("x-token-broker-token", guard).body(full("")).expect("a request")
}

#[tokio::test]
async fn the_agent_hands_out_the_brokers_token() {
    let local = Local::start(&[]).await;
    let post = Request::post("/token").body(full("")).expect("a request");
    let (_, of_the_broker) = send(&local.broker, post).await;
    let (status, token) = send(&local.agent, get("/v1/token", &local.guard)).await;
    assert_eq!((status, &token["access_token"]), (200, &of_the_broker["access_token"]));

    let form = format!("grant_type=client_credentials&client_id=any&client_secret={}", local.guard);
    let post = Request::post("/oauth/token").header("content-type", "application/x-www-form-urlencoded");
    let (status, token) = send(&local.agent, post.body(full(form)).expect("a request")).await;
    assert_eq!((status, &token["access_token"]), (200, &of_the_broker["access_token"]));

    let (status, users) = send(&local.agent, get("/proxy/default/v3/users/list", &local.guard)).await;
    assert_eq!((status, &users["result"]), (200, &"success".into()));
    let (status, refusal) = send(&local.agent, get("/v1/token", "another")).await;
    assert_eq!((status, &refusal["error"]), (401, &"access_denied".into()));
}

#[tokio::test]
async fn a_client_of_the_agent_finds_it_by_its_own_variables() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = free.local_addr().expect("an address").port().to_string();
    drop(free);
    let local = Local::start(&[("TOKEN_BROKER_PORT", &port)]).await;
    assert_eq!(local.agent, format!("http://127.0.0.1:{port}"));
    let caller = [("TOKEN_BROKER_PORT", port.as_str()), ("TOKEN_BROKER_TOKEN", &local.guard)];
    let caller: Environment = caller.into_iter().collect();
    let source = TokenSource::new(BrokerClient::agent(&caller).expect("a guard token and a port"));
    for account in ["default", "emea", "legacy"] {
        let account = AccountName::parse(account).expect("a name");
        assert_eq!(source.get(&account).await.expect("a token").account, account);
    }
}

/// What the program prints when it refuses to start.
async fn refusal(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = with_arguments(arguments, variables).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("in time").expect("the program");
    let printed = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "{printed}");
    printed
}

#[tokio::test]
async fn a_taken_agent_port_is_reported_with_its_variable() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for (port, message) in
        [(port.as_str(), "set TOKEN_BROKER_PORT to another port"), ("x", "must be a number")]
    {
        let printed = refusal(&["--port", "0"], &[("TOKEN_BROKER_PORT", port)]).await;
        assert!(printed.contains(message), "{printed}");
    }
}

#[tokio::test]
async fn a_service_whose_port_is_taken_is_reported_with_the_option() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    // Convirza has the port after the broker's.
    let port = taken.local_addr().expect("an address").port();
    let printed = refusal(&["--port", &(port - 1).to_string()], &[]).await;
    assert!(printed.contains(&format!("127.0.0.1:{port}")) && printed.contains("--port"), "{printed}");
}

#[tokio::test]
async fn wrong_options_are_refused_by_name() {
    for (option, value, reason) in [
        ("--set", "BROKER_LOGIN_BUGDET=5", "no setting BROKER_LOGIN_BUGDET"),
        ("--set", "BROKER_LOGIN_BUDGET=50", "BROKER_LOGIN_BUDGET"),
        ("--set", "LOGIN_BUDGET=5", "begins with BROKER_"),
        ("--account", "EMEA", "lower-case"),
        ("--account", "crm=me", "EMAIL:PASSWORD"),
        ("--user", "me", "EMAIL:PASSWORD"),
        ("--routes", "/no/such/file", "cannot read /no/such/file"),
        ("--bind", "localhost", "--bind"),
    ] {
        let printed = refusal(&["--port", "0", option, value], &[("TOKEN_BROKER_PORT", "0")]).await;
        assert!(printed.contains(reason), "{option} {value}: {printed}");
    }
}

#[tokio::test]
async fn the_help_names_all_addresses() {
    let output = with_arguments(&["--help"], &[]).output().await.expect("the program");
    let printed = String::from_utf8(output.stdout).expect("text");
    let agent = contract::agent::PORT.to_string();
    for address in ["7070", "7071", "7072", "7073", &agent, "/_emulator/", GUARD_TOKEN] {
        assert!(printed.contains(address), "{address}: {printed}");
    }
}

#[tokio::test]
async fn options_that_would_have_no_effect_are_refused() {
    let printed = refusal(&["--port", "0", "fleet", "--requests", "1"], &[]).await;
    assert!(printed.contains("cannot be used with"), "{printed}");
    for lifetime in ["0", "2592001"] {
        for command in [&[][..], &["fleet"]] {
            let printed = refusal(&[command, &["--token-lifetime", lifetime]].concat(), &[]).await;
            assert!(printed.contains("is not in"), "{printed}");
        }
    }
}
