//! What the agent costs the function beside it: start, latency, memory, size.
//!
//! Start and latency are compared with a do-nothing extension, built on the same crates and run alternately in the same
//! run. `cargo bench -p token-broker-agent` prints the figures and their targets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures and prints, and fails by panicking"
)]

use emulators::fakes::{Api, Broker, Extensions, unused_port};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};
use token_broker_client::{
    SystemClock,
    http::{BaseUrl, HttpClient, Roots, Target, empty, full},
};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

/// The argument that turns this program into the do-nothing extension.
const DO_NOTHING: &str = "--do-nothing";
const GUARD: &str = "guard";
const STARTS: usize = 60;
const WARM_UP: usize = 1_000;
const REQUESTS: usize = 10_000;
const IN_FLIGHT: usize = 64;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if arguments.next().as_deref() == Some(DO_NOTHING) {
        let port = arguments.next().and_then(|port| port.parse().ok()).expect("a port");
        let lambda = arguments.next().expect("the address of the Extensions API");
        runtime.block_on(do_nothing(port, &lambda));
    } else {
        runtime.block_on(measure());
    }
}

/// Listens, registers, waits. Answers every request with the same bytes.
async fn do_nothing(port: u16, lambda: &str) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free");
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.expect("a connection");
            tcp.set_nodelay(true).expect("an open connection");
            let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(full(vec![b'x'; 190]))));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service));
        }
    });
    let http = HttpClient::new(SystemClock, Roots::default(), Duration::from_secs(1));
    let target = target(lambda);
    let register = Request::post("/2020-01-01/extension/register")
        .header("lambda-extension-name", "do-nothing")
        .body(full(r#"{"events":["SHUTDOWN"]}"#))
        .expect("a request");
    let response = http.send(&target, register).await.expect("a response");
    let identifier = response.headers()["lambda-extension-identifier"].clone();
    response.into_body().collect().await.expect("a body");
    let next = Request::get("/2020-01-01/extension/event/next")
        .header("lambda-extension-identifier", identifier)
        .body(empty())
        .expect("a request");
    // Ends with the benchmark.
    let _ = http.send(&target, next).await;
}

fn target(address: &str) -> Target {
    BaseUrl::parse(&format!("http://{address}")).expect("a URL").target
}

async fn measure() {
    let broker = Broker::start().await;
    let api = Api::start_encrypted(broker.acceptance()).await;
    let certificate = Path::new(env!("CARGO_TARGET_TMPDIR")).join("benchmark.pem");
    std::fs::write(&certificate, api.server().certificate().expect("it encrypts"))
        .expect("a writable folder");
    let lambda = Extensions::start().await;
    let agent = Path::new(env!("CARGO_BIN_EXE_token-broker-agent"));
    let environment = environment(&broker, &api, &lambda, &certificate);

    let (mut starts, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        starts.push(start(&lambda, &mut as_agent(agent, &environment, unused_port().await)).await.0);
        floor.push(start(&lambda, &mut as_nothing(&lambda, unused_port().await)).await.0);
    }
    compare("exec to registered, p50", starts, floor, "25 ms and 1.50");

    let (agent_port, nothing_port) = (unused_port().await, unused_port().await);
    let (_, agent_process) = start(&lambda, &mut as_agent(agent, &environment, agent_port)).await;
    let (_, _nothing) = start(&lambda, &mut as_nothing(&lambda, nothing_port)).await;
    let http = HttpClient::new(SystemClock, Roots::default(), Duration::from_secs(1));
    let (to_agent, to_nothing) =
        (target(&format!("127.0.0.1:{agent_port}")), target(&format!("127.0.0.1:{nothing_port}")));
    let (mut latencies, mut floor) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + REQUESTS {
        let latency = get(&http, &to_agent, "/v1/token").await;
        let floor_latency = get(&http, &to_nothing, "/v1/token").await;
        if number >= WARM_UP {
            latencies.push(latency);
            floor.push(floor_latency);
        }
    }
    compare("GET /v1/token, p50", latencies, floor, "1.20");
    println!("{:<30} {:>8.2} MB", "resident, one connection", megabytes(resident(&agent_process)));

    let http = Arc::new(http);
    let workers: Vec<_> = (0..IN_FLIGHT)
        .map(|worker| {
            let (http, to_agent) = (Arc::clone(&http), to_agent.clone());
            tokio::spawn(async move {
                for number in 0..REQUESTS / IN_FLIGHT {
                    let proxied = (worker + number) % 2 == 0;
                    get(&http, &to_agent, if proxied { "/proxy/default/v3/calls" } else { "/v1/token" })
                        .await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("no panic");
    }
    let resident = megabytes(resident(&agent_process));
    println!("{:<30} {resident:>8.2} MB       at most 12 MB", "resident, 64 in flight with TLS");
    size(agent);
}

fn environment(
    broker: &Broker,
    api: &Api,
    lambda: &Extensions,
    certificate: &Path,
) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        // As long as Lambda's session tokens, which are the guard token there.
        ("AWS_SESSION_TOKEN", "s".repeat(1_000)),
        ("AWS_REGION", "eu-west-1".to_owned()),
        ("AWS_ENDPOINT_URL_LAMBDA", broker.url()),
        ("AWS_LAMBDA_RUNTIME_API", lambda.address()),
        ("TOKEN_BROKER_FUNCTION", "token-broker:live".to_owned()),
        ("TOKEN_BROKER_TOKEN", GUARD.to_owned()),
        ("CONVIRZA_API_URL", api.server().url()),
        ("SSL_CERT_FILE", certificate.display().to_string()),
    ]
}

fn as_agent(program: &Path, environment: &[(&'static str, String)], port: u16) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(environment.iter().cloned()).env("TOKEN_BROKER_PORT", port.to_string());
    command
}

fn as_nothing(lambda: &Extensions, port: u16) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env_clear().args([DO_NOTHING, &port.to_string(), &lambda.address()]);
    command
}

/// The time from the start of a program until it has registered.
async fn start(lambda: &Extensions, command: &mut Command) -> (Duration, Child) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let registrations = lambda.registered().get();
    let began = Instant::now();
    let child = command.spawn().expect("the program");
    lambda.registered().reaches(registrations + 1).await;
    (began.elapsed(), child)
}

async fn get(http: &HttpClient, target: &Target, path: &str) -> Duration {
    let request = Request::builder().method(Method::GET).uri(path).header("x-token-broker-token", GUARD);
    let request = request.body(empty()).expect("a request");
    let began = Instant::now();
    let response = http.send(target, request).await.expect("a response");
    assert_eq!(response.status(), 200, "{path}");
    response.into_body().collect().await.expect("a body");
    began.elapsed()
}

fn compare(what: &str, measured: Vec<Duration>, floor: Vec<Duration>, target: &str) {
    let (measured, floor) = (median(measured), median(floor));
    let ratio = measured.as_secs_f64() / floor.as_secs_f64();
    let milliseconds = |span: Duration| span.as_secs_f64() * 1_000.0;
    println!(
        "{what:<30} {:>8.3} ms       at most {target} x the {:.3} ms of the do-nothing extension: {ratio:.2} x",
        milliseconds(measured),
        milliseconds(floor)
    );
}

fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans[spans.len() / 2]
}

fn resident(child: &Child) -> u64 {
    let id = child.id().expect("a running process");
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number")
        * 1024
}

fn size(program: &Path) {
    let binary = std::fs::metadata(program).expect("the program").len();
    println!("{:<30} {:>8.2} MB       {}", "binary", megabytes(binary), std::env::consts::ARCH);
    // A zip with one file is its deflated bytes and a hundred more, and so is gzip's.
    match std::process::Command::new("gzip").arg("-9c").arg(program).output() {
        Ok(output) => {
            let zip = output.stdout.len() as u64;
            println!("{:<30} {:>8.2} MB       at most 4 MB (arm64)", "zip", megabytes(zip));
        }
        Err(error) => println!("zip: not measured, there is no gzip: {error}"),
    }
}

#[allow(clippy::cast_precision_loss, reason = "two decimals are printed")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
