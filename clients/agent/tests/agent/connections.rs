//! Other processes on the machine: without the guard token, misbehaving, or disappearing.

use crate::support::{Agent, GUARD, World, by_invoke, program, request};
use emulators::fakes::{Broker, Ending, Server, respond, send_and_leave};
use http::Method;
use serde_json::Value;
use std::{process::Stdio, time::Duration};
use token_broker_client::http::full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{Instant, timeout},
};

async fn send_signal(agent: &Agent, signal: &str) {
    let id = agent.child.id().unwrap().to_string();
    let status = Command::new("kill").args([signal, &id]).status().await.unwrap();
    assert!(status.success());
}

async fn ended_within(agent: &mut Agent, seconds: u64) {
    let ended = timeout(Duration::from_secs(seconds), agent.child.wait()).await;
    assert_eq!(ended.expect("it ends in time").unwrap().code(), Some(0));
}

/// An agent that may open 256 files.
async fn with_few_files(broker: &Broker) -> Agent {
    let mut shell = Command::new("sh");
    let agent = program().as_std().get_program().to_str().unwrap().to_owned();
    shell.args(["-c", "ulimit -n 256; exec \"$0\" serve", &agent]);
    Agent::spawn(shell.env_clear().envs(by_invoke(&broker.url(), "http://127.0.0.1:9"))).await
}

#[tokio::test]
async fn without_the_token_block_no_one() {
    let broker = Broker::start().await;
    let mut agent = with_few_files(&broker).await;
    let mut idle = Vec::new();
    for _ in 0..600 {
        let mut tcp = TcpStream::connect(agent.address).await.unwrap();
        // The head of a request that never ends. The agent may have closed the connection.
        let _ = tcp.write_all(b"GET /v1/token HTTP/1.1\r\nHost: localhost\r\n").await;
        idle.push(tcp);
        if idle.len() % 100 == 0 {
            assert_eq!(agent.get("/v1/token").await.status, 200, "after {} connections", idle.len());
        }
    }
    let mut newest = idle.pop().unwrap();
    newest.write_all(format!("X-Token-Broker-Token: {GUARD}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    newest.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200", "the oldest was closed, and not the newest");
    agent.child.start_kill().unwrap();
    let mut lines = Vec::new();
    while let Some(line) = agent.log.next_line().await.unwrap() {
        lines.push(line);
    }
    assert!(lines.len() == 1 && lines[0].contains("without the guard token"), "one line: {lines:?}");
}

#[tokio::test]
async fn with_the_token_are_not_closed_for_others() {
    let broker = Broker::start().await;
    let agent = with_few_files(&broker).await;
    let mut known = TcpStream::connect(agent.address).await.unwrap();
    let ask = format!("GET /v1/token HTTP/1.1\r\nHost: localhost\r\nX-Token-Broker-Token: {GUARD}\r\n\r\n");
    let mut buffer = [0; 4096];
    known.write_all(ask.as_bytes()).await.unwrap();
    assert!(known.read(&mut buffer).await.unwrap() > 0);
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(TcpStream::connect(agent.address).await.unwrap());
    }
    assert_eq!(agent.get("/ping").await.status, 200);
    known.write_all(ask.as_bytes()).await.unwrap();
    assert!(known.read(&mut buffer).await.unwrap() > 0, "it is open");
}

#[tokio::test]
async fn an_incomplete_request_does_not_delay_the_end() {
    let head = format!("Host: localhost\r\nX-Token-Broker-Token: {GUARD}\r\n");
    for unfinished in [
        "GET /v1/token HTTP/1.1\r\nHost: loc".to_owned(),
        format!("POST /proxy/default/x HTTP/1.1\r\n{head}Content-Length: 100\r\n\r\nabc"),
        format!("POST /proxy/default/x HTTP/1.1\r\n{head}Content-Length: 100000\r\n\r\nabc"),
        format!("POST /proxy/default/x HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        "POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 100\r\n\r\ngrant_type="
            .to_owned(),
    ] {
        let mut world = World::start().await;
        let mut caller = TcpStream::connect(world.agent.address).await.unwrap();
        caller.write_all(unfinished.as_bytes()).await.unwrap();
        // Answered after the agent has seen the other one.
        assert_eq!(world.agent.get("/v1/token").await.status, 200);
        send_signal(&world.agent, "-TERM").await;
        ended_within(&mut world.agent, 4).await;
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let world = World::start().await;
    let mut tcp = TcpStream::connect(world.agent.address).await.unwrap();
    tcp.write_all(b"GET /v1/token HTTP/1.1\r\nHost: loc").await.unwrap();
    let mut rest = Vec::new();
    let closed = timeout(Duration::from_secs(50), tcp.read_to_end(&mut rest)).await;
    closed.expect("the agent closes the connection").unwrap();
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_end() {
    let mut world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    world.api.set_mode(emulators::fakes::ApiMode::Hanging);
    let client = world.agent.client();
    let waiting = tokio::spawn(async move { client.get("/proxy/default/slow").await.status });
    world.api.requests().reaches(2).await;
    send_signal(&world.agent, "-TERM").await;
    // The port closes when the agent notices.
    while TcpStream::connect(world.agent.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    // Longer than the agent waits for a request that is incomplete.
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.api.set_mode(emulators::fakes::ApiMode::Up);
    assert_eq!(waiting.await.unwrap(), 200);
    ended_within(&mut world.agent, 4).await;
}

#[tokio::test]
async fn callers_that_do_not_read_cost_little_and_are_given_up() {
    const CALLERS: usize = 100;
    static LONG: [u8; 16 * 1024 * 1024] = [b'x'; 16 * 1024 * 1024];
    let (broker, api) =
        (Broker::start().await, Server::script(async |_| respond(200, LONG.as_slice())).await);
    let agent = Agent::serve(by_invoke(&broker.url(), &api.url())).await;
    assert_eq!(agent.get("/v1/token").await.status, 200);
    let before = agent.resident().0;
    let ask =
        format!("GET /proxy/default/x HTTP/1.1\r\nHost: localhost\r\nX-Token-Broker-Token: {GUARD}\r\n\r\n");
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = TcpStream::connect(agent.address).await.unwrap();
        caller.write_all(ask.as_bytes()).await.unwrap();
        let mut first = [0; 1];
        caller.read_exact(&mut first).await.unwrap();
        callers.push(caller);
    }
    let began = Instant::now();
    let mut most = 0;
    // Until the agent gives them up.
    timeout(Duration::from_secs(60), async {
        while agent.descriptors() > 20 {
            most = most.max(agent.resident().0);
            assert_eq!(agent.get("/ping").await.status, 200);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await
    .expect("they are given up");
    assert!(began.elapsed() > Duration::from_secs(20), "{:?}: a pause alone is not enough", began.elapsed());
    let grown = most.saturating_sub(before) / 1024;
    assert!(grown < 32, "{grown} MB for {CALLERS} callers");
}

fn pipelined(path: &str, count: usize) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Token-Broker-Token: {GUARD}\r\n\r\n").repeat(count)
}

#[tokio::test]
async fn a_caller_that_pipelines_and_leaves_is_noticed() {
    let world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    world.api.set_mode(emulators::fakes::ApiMode::Hanging);
    for (left, count) in [1, 2, 100, 1_000].into_iter().enumerate() {
        let mut caller = TcpStream::connect(world.agent.address).await.unwrap();
        caller.write_all(pipelined("/proxy/default/slow", count).as_bytes()).await.unwrap();
        let before = u64::try_from(left).unwrap();
        world.api.requests().reaches(before + 2).await;
        drop(caller);
        let gone = timeout(Duration::from_secs(5), world.api.gone().reaches(before + 1)).await;
        assert!(gone.is_ok(), "{count} requests");
    }
}

#[tokio::test]
async fn a_caller_that_pipelines_and_closes_its_side_is_answered() {
    let world = World::start().await;
    for (path, count) in
        [("/ping", 1_000), ("/v1/token", 1), ("/proxy/default/x", 1), ("/proxy/default/x", 10)]
    {
        let answers = send_and_leave(world.agent.address, pipelined(path, count).as_bytes()).await;
        assert_eq!(answers.matches("HTTP/1.1 200").count(), count, "{path}");
    }
}

#[tokio::test]
async fn a_caller_that_uploads_and_closes_its_side_is_answered() {
    let world = World::start().await;
    world.agent.get("/proxy/default/x").await;
    let body = "x".repeat(1024 * 1024);
    let request = format!(
        "POST /proxy/default/x HTTP/1.1\r\nHost: localhost\r\nX-Token-Broker-Token: {GUARD}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = send_and_leave(world.agent.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&body), "{} bytes", answer.len());
}

#[tokio::test]
async fn a_caller_whose_long_upload_is_refused_learns_why() {
    const LENGTH: usize = 32 * 1024 * 1024;
    let world = World::start().await;
    let mut caller = TcpStream::connect(world.agent.address).await.unwrap();
    let head =
        format!("POST /proxy/default/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LENGTH}\r\n\r\n");
    caller.write_all(head.as_bytes()).await.unwrap();
    caller.write_all(&vec![b'x'; LENGTH]).await.expect("the agent reads on");
    let mut answer = [0; 12];
    caller.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn a_call_interrupted_by_a_freeze_is_made_again() {
    let lambda = Server::script({
        let calls = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        move |_| {
            let number = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                if number == 0 {
                    std::future::pending::<()>().await;
                }
                respond(200, r#"{"access_token":"t","expires_in":900,"account":"default","generation":7}"#)
            }
        }
    })
    .await;
    let agent = Agent::serve(by_invoke(&lambda.url(), "http://127.0.0.1:9")).await;
    lambda.connections().reaches(1).await;
    let client = agent.client();
    let waiting = tokio::spawn(async move { client.get("/v1/token").await });
    send_signal(&agent, "-STOP").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    send_signal(&agent, "-CONT").await;
    let answer = agent.get("/v1/token").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(waiting.await.unwrap().status, 200, "a caller from before the freeze");
}

#[tokio::test]
async fn one_transient_answer_of_lambda_is_tried_again() {
    let reset = None;
    for status in [Some(429), Some(500), Some(502), Some(503), reset] {
        for by_http in [false, true] {
            let calls = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
            let lambda = Server::script(move |_| {
                let is_first = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
                async move {
                    let token = r#"{"access_token":"t","expires_in":900,"account":"default","generation":7}"#;
                    match status {
                        Some(status) if is_first => respond(status, r#"{"message":"later"}"#),
                        None if is_first => Ending::Close,
                        _ => respond(200, token),
                    }
                }
            })
            .await;
            let mut command = program();
            command.envs(by_invoke(&lambda.url(), "http://127.0.0.1:9"));
            if by_http {
                command.env_remove("TOKEN_BROKER_FUNCTION").env("TOKEN_BROKER_URL", lambda.url());
            }
            let output = command.args(["token", "--raw"]).output().await.unwrap();
            assert_eq!(output.stdout, b"t\n", "{status:?}: {output:?}");
        }
    }
}

#[tokio::test]
async fn a_missing_function_is_not_retried() {
    let lambda = Server::script(async |_| {
        let mut response =
            http::Response::new(emulators::fakes::Body::from(r#"{"Message":"Function not found"}"#));
        *response.status_mut() = http::StatusCode::NOT_FOUND;
        response.headers_mut().insert("x-amzn-errortype", "ResourceNotFoundException".parse().unwrap());
        emulators::fakes::Ending::Respond(response)
    })
    .await;
    let agent = Agent::serve(by_invoke(&lambda.url(), "http://127.0.0.1:9")).await;
    let answer = agent.get("/v1/token").await;
    assert_eq!(answer.error(), (500, "misconfigured".to_owned()));
    assert!(!answer.headers.contains_key("retry-after"));
    let description = answer.json()["error_description"].to_string();
    assert!(
        description.contains("token-broker:live") && description.contains("Function not found"),
        "{description}"
    );
}

#[tokio::test]
async fn probes_may_ask_by_head_and_by_the_command_line() {
    let mut world = World::start().await;
    for path in ["/ping", "/readyz"] {
        let answer = world.agent.client().send(request(Method::HEAD, path, full(""))).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0), "{path}");
    }
    let health = async |port: u16, arguments: &'static [&'static str]| {
        let mut command = program();
        command.arg("health").args(arguments).env("TOKEN_BROKER_PORT", port.to_string());
        command.env("TOKEN_BROKER_TOKEN", GUARD).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().await.unwrap().code()
    };
    let port = world.agent.address.port();
    assert_eq!(health(port, &[]).await, Some(0));
    assert_eq!(health(port, &["--ready"]).await, Some(0));
    send_signal(&world.agent, "-TERM").await;
    ended_within(&mut world.agent, 4).await;
    assert_eq!(health(port, &[]).await, Some(1));
}

#[tokio::test]
async fn a_guard_token_is_trimmed_and_a_blank_one_is_refused() {
    let broker = Broker::start().await;
    let mut environment = by_invoke(&broker.url(), "http://127.0.0.1:9");
    environment.push(("TOKEN_BROKER_TOKEN", format!(" {GUARD}\r\n")));
    environment.push(("TOKEN_BROKER_PORT", "0\n".to_owned()));
    let agent = Agent::serve(environment.clone()).await;
    assert_eq!(agent.get("/v1/token").await.status, 200);
    environment.push(("TOKEN_BROKER_TOKEN", " \n".to_owned()));
    let output = program().envs(environment).arg("serve").output().await.unwrap();
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(line["message"].as_str().unwrap().contains("TOKEN_BROKER_TOKEN is blank"), "{line}");
}

#[tokio::test]
async fn a_port_that_kubernetes_injects_is_ignored_with_a_warning() {
    let broker = Broker::start().await;
    let mut environment = by_invoke(&broker.url(), "http://127.0.0.1:9");
    environment.push(("TOKEN_BROKER_PORT", "tcp://10.0.0.1:443".to_owned()));
    let mut child = program().envs(environment).arg("serve").stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut log = tokio::io::BufReader::new(child.stderr.take().unwrap());
    tokio::io::AsyncBufReadExt::read_line(&mut log, &mut line).await.unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    // If the usual port is taken on this machine, the line says that instead.
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("Kubernetes") || message.contains("127.0.0.1:2774"), "{message}");
}

#[tokio::test]
async fn bytes_that_are_not_http_get_the_contracts_error() {
    let world = World::start().await;
    for bytes in
        ["GET /v1/token HTTP/1.1\r\nHost : x\r\n\r\n", "GET / x HTTP/1.1\r\n\r\n", "nonsense\r\n\r\n"]
    {
        let answer = send_and_leave(world.agent.address, bytes.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert!(head.starts_with("HTTP/1.1 400"), "{answer}");
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        assert_eq!(body["error"], "invalid_request", "{answer}");
    }
}
