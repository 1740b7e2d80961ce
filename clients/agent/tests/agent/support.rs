//! Starts the agent's program and talks to it.

use bytes::Bytes;
use emulators::fakes::{Api, Broker};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use std::{net::SocketAddr, process::Stdio, time::Duration};
use token_broker_client::{
    SystemClock,
    http::{BaseUrl, Body, HttpClient, Roots, Sent, Target, full},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

pub(crate) const GUARD: &str = "a guard token";
/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The agent's program, as it is built for this test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker-agent"));
    command.env_clear().kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Region and credentials, for signed calls.
pub(crate) const AWS: [(&str, &str); 5] = [
    ("AWS_REGION", "eu-west-1"),
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("AWS_SESSION_TOKEN", "session"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

/// The environment of an agent that invokes the broker directly.
pub(crate) fn by_invoke(broker: &str, api: &str) -> Vec<(&'static str, String)> {
    let own = [
        ("TOKEN_BROKER_FUNCTION", "token-broker:live"),
        ("AWS_ENDPOINT_URL_LAMBDA", broker),
        ("CONVIRZA_API_URL", api),
        ("TOKEN_BROKER_TOKEN", GUARD),
        ("TOKEN_BROKER_PORT", "0"),
    ];
    AWS.into_iter().chain(own).map(|(name, value)| (name, value.to_owned())).collect()
}

/// A response with its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// Status and code of an error.
    pub(crate) fn error(&self) -> (u16, String) {
        let body = self.json();
        assert!(body["error_description"].is_string() && body["request_id"].is_string(), "{body}");
        (self.status.as_u16(), body["error"].as_str().expect("a code").to_owned())
    }

    pub(crate) fn generation(&self) -> &str {
        self.headers["x-token-broker-generation"].to_str().expect("text")
    }
}

pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) log: Lines<BufReader<ChildStderr>>,
    http: HttpClient,
    target: Target,
}

impl Agent {
    /// Starts `token-broker-agent serve`, and waits until it listens.
    pub(crate) async fn serve(environment: Vec<(&'static str, String)>) -> Self {
        Self::start(environment, &["serve"]).await
    }

    pub(crate) async fn start(environment: Vec<(&'static str, String)>, arguments: &[&str]) -> Self {
        Self::spawn(program().args(arguments).envs(environment)).await
    }

    pub(crate) async fn spawn(command: &mut Command) -> Self {
        command.kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let line = log.next_line().await.expect("a pipe").expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["message"], "serving", "{line}");
        let address: SocketAddr = line["address"].as_str().expect("an address").parse().expect("an address");
        let target = BaseUrl::parse(&format!("http://{address}")).expect("a URL").target;
        let http = HttpClient::new(SystemClock, Roots::default(), PATIENCE);
        Self { child, address, log, http, target }
    }

    /// A handle for concurrent requests.
    pub(crate) fn client(&self) -> Client {
        Client { http: self.http.clone(), target: self.target.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.client().get(path).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.client().send(request(Method::POST, path, full(body))).await
    }

    /// How many file descriptors are open.
    pub(crate) fn descriptors(&self) -> usize {
        let id = self.child.id().expect("a running process");
        std::fs::read_dir(format!("/proc/{id}/fd")).expect("a running process").count()
    }

    /// Resident memory in kilobytes: now, and at most.
    pub(crate) fn resident(&self) -> (u64, u64) {
        let id = self.child.id().expect("a running process");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
            line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
        };
        (of("VmRSS:"), of("VmHWM:"))
    }
}

/// Sends requests to an agent.
#[derive(Clone)]
pub(crate) struct Client {
    http: HttpClient,
    target: Target,
}

impl Client {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, full(""))).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (head, body) = self.open(request).await.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("in time").expect("a body");
        Answer { status: head.status, headers: head.headers, body: body.to_bytes() }
    }

    /// Sends a request whose response is read by the test.
    pub(crate) async fn open(&self, request: Request<Body>) -> Sent {
        let sent = self.http.send(&self.target, request);
        tokio::time::timeout(PATIENCE, sent).await.expect("in time").expect("a response")
    }
}

/// A request with the guard token.
pub(crate) fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("x-token-broker-token", GUARD)
        .body(body)
        .expect("a request")
}

/// A broker, an API that takes its tokens, and an agent between them.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) api: Api,
    pub(crate) agent: Agent,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(further: &[(&'static str, &str)]) -> Self {
        let broker = Broker::start().await;
        let api = Api::start(broker.acceptance()).await;
        let mut environment = by_invoke(&broker.url(), &api.server().url());
        environment.extend(further.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let agent = Agent::serve(environment).await;
        Self { broker, api, agent }
    }

    /// Ends the session of the default account upstream, unknown to broker and agent.
    pub(crate) fn revoke(&self) {
        self.broker.revoke_session("default");
    }
}
