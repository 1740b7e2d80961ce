//! The local stack as a test double: routes, reset, time, options and addresses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use emulators::convirza::Settings;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use token_broker_local::{
    agent::GUARD_TOKEN,
    stack::{NewAccount, Options, Stack},
};

async fn stack(options: Options) -> Stack {
    let options = Options { agent_port: Some("0".to_owned()), ..options };
    Stack::start(options, |_| {}).await.expect("the stack starts")
}

fn client() -> Client {
    Client::builder().no_proxy().build().expect("a client")
}

/// Status and body, which is null if it is not JSON.
async fn send(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("a response");
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.expect("a body")).unwrap_or_default())
}

async fn broker_token(stack: &Stack) -> Value {
    let (status, token) = send(client().post(format!("{}/token", stack.broker.url()))).await;
    assert_eq!(status, 200, "{token}");
    token
}

async fn agent_token(stack: &Stack) -> Value {
    let request = client().get(format!("{}/v1/token", stack.agent.url()));
    let (status, token) = send(request.header("x-token-broker-token", GUARD_TOKEN)).await;
    assert_eq!(status, 200, "{token}");
    token
}

/// What the emulated API answers to this token.
async fn call_api(stack: &Stack, method: Method, path: &str, token: &Value) -> (u16, Value) {
    let url = format!("{}{path}", stack.world.convirza.url());
    send(client().request(method, url).bearer_auth(token["access_token"].as_str().unwrap())).await
}

async fn control(stack: &Stack, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}/_emulator/{path}", stack.world.convirza.url());
    send(client().request(method, url).body(if body.is_null() { String::new() } else { body.to_string() }))
        .await
}

#[tokio::test]
async fn a_route_answers_live_tokens_only() {
    let stack = stack(Options::default()).await;
    let routes =
        json!([{"path": "/v3/calls/*", "status": 201, "headers": {"x-own": "7"}, "body": {"id": 7}}]);
    assert_eq!(control(&stack, Method::PUT, "routes", &routes).await.0, 204);
    let token = broker_token(&stack).await;
    assert_eq!(call_api(&stack, Method::GET, "/v3/calls/7", &token).await, (201, json!({"id": 7})));
    let request = client().get(format!("{}/proxy/default/v3/calls/7", stack.agent.url()));
    let answer = request.header("x-token-broker-token", GUARD_TOKEN).send().await.expect("an answer");
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-own"]), (201, &"7".parse().unwrap()));
    let stranger = json!({"access_token": "another"});
    assert_eq!(call_api(&stack, Method::GET, "/v3/calls/7", &stranger).await.0, 401);
    assert_eq!(send(client().get(format!("{}/v3/calls/7", stack.world.convirza.url()))).await.0, 401);
}

#[tokio::test]
async fn a_path_without_a_route_says_how_to_add_one() {
    let stack = stack(Options::default()).await;
    let token = broker_token(&stack).await;
    let (status, hint) = call_api(&stack, Method::POST, "/v3/notes", &token).await;
    assert_eq!((status, &hint["error"]), (404, &json!("no_route")));
    let example = hint["example"].as_str().expect("an example");
    let url = format!("{}/_emulator/routes", stack.world.convirza.url());
    let body =
        example.strip_prefix(&format!("curl -X PUT {url} -d '")).and_then(|rest| rest.strip_suffix('\''));
    let body = serde_json::from_str(body.expect("a command")).expect("JSON");
    assert_eq!(control(&stack, Method::PUT, "routes", &body).await.0, 204);
    assert_eq!(call_api(&stack, Method::POST, "/v3/notes", &token).await, (200, json!({})));
}

#[tokio::test]
async fn a_reset_clears_everything() {
    let routes = serde_json::from_value(json!([{"path": "/v3/kept"}])).expect("a route");
    let stack = stack(Options { routes, ..Options::default() }).await;
    let before = broker_token(&stack).await;
    assert_eq!(agent_token(&stack).await["access_token"], before["access_token"]);
    assert_eq!(control(&stack, Method::PUT, "routes", &json!([{"path": "/v3/gone"}])).await.0, 204);
    let fault = json!({"endpoint": "login", "fault": "server_error"});
    assert_eq!(control(&stack, Method::PUT, "faults", &fault).await.0, 204);
    assert_eq!(control(&stack, Method::POST, "clock?forward_seconds=100", &Value::Null).await.0, 200);
    stack.world.put_secret("default", "{}").await.expect("stored");
    stack.world.put_secret("new", "{}").await.expect("stored");

    assert_eq!(control(&stack, Method::POST, "reset", &Value::Null).await, (204, Value::Null));

    assert_eq!(call_api(&stack, Method::GET, "/v3/kept", &before).await.0, 401, "no session is left");
    let agents = agent_token(&stack).await;
    let after = broker_token(&stack).await;
    assert_ne!(after["access_token"], before["access_token"]);
    assert_eq!(agents["access_token"], after["access_token"], "the agent has forgotten its token, too");
    assert_eq!(call_api(&stack, Method::GET, "/v3/kept", &after).await.0, 200);
    assert_eq!(call_api(&stack, Method::GET, "/v3/gone", &after).await.0, 404);
    let (_, observed) = control(&stack, Method::GET, "observed", &Value::Null).await;
    assert_eq!((&observed["logins_arrived"], &observed["faults_injected"]), (&json!(1), &json!(0)));
    assert_eq!(control(&stack, Method::GET, "clock", &Value::Null).await.1["ahead_seconds"], 100);
    assert!(after["generation"].as_u64() > before["generation"].as_u64(), "callers keep the newer token");
    let unknown = client().post(format!("{}/token", stack.broker.url())).body(r#"{"account":"new"}"#);
    assert_eq!(send(unknown).await.0, 404, "secrets that were added are gone");
}

#[tokio::test]
async fn time_set_forward_expires_tokens_everywhere() {
    let stack = stack(Options::default()).await;
    let (first, agents) = (broker_token(&stack).await, agent_token(&stack).await);
    assert_eq!(agents["generation"], first["generation"]);

    // Past the broker's longest expires_in: callers ask again, and the pair stays.
    assert_eq!(control(&stack, Method::POST, "clock?forward_seconds=3600", &Value::Null).await.0, 200);
    let later = agent_token(&stack).await;
    assert_eq!(later["generation"], first["generation"]);
    assert_ne!(later["expires_at"], agents["expires_at"]);

    // Past the life of the pair.
    let week = 8 * 86_400;
    let (_, clock) =
        control(&stack, Method::POST, &format!("clock?forward_seconds={week}"), &Value::Null).await;
    assert_eq!(clock["ahead_seconds"], week + 3600);
    assert_eq!(call_api(&stack, Method::GET, "/v3/users/list", &first).await.0, 401);
    let renewed = agent_token(&stack).await;
    assert_ne!(renewed["generation"], first["generation"]);
    assert_eq!(call_api(&stack, Method::GET, "/v3/users/list", &renewed).await.0, 200);
    let observed = stack.world.convirza.observed();
    assert_eq!((observed.logins_arrived, observed.refreshes), (1, 1), "by the refresh token");
    let answer = client().get(stack.world.dynamodb.url()).send().await.expect("an answer");
    let date = answer.headers()["date"].to_str().expect("text");
    let date = contract::rfc3339::parse_http_date(date).expect("a date");
    let now = contract::rfc3339::parse(clock["now"].as_str().expect("text")).expect("an instant");
    assert!(date.since(now).as_secs() < 60 && now.since(date).as_secs() < 60, "DynamoDB has the same time");
    assert_eq!(control(&stack, Method::POST, "clock?forward_seconds=99999999999", &Value::Null).await.0, 400);
}

/// What Lambda answers to an invocation of this function, with an operator's or a caller's payload.
async fn invoke(stack: &Stack, function: &str, payload: &Value) -> (u16, Value) {
    let url = format!("{}/2015-03-31/functions/{function}/invocations", stack.broker.url());
    send(client().post(url).body(payload.to_string())).await
}

#[tokio::test]
async fn an_alias_may_do_what_the_template_lets_it_do() {
    let stack = stack(Options::default()).await;
    let action = |action: &str| json!({"action": action, "account": "default"});
    let maintain = json!({"action": "maintain"});
    for (alias, payload, is_allowed) in [
        ("live", action("token"), true),
        ("live", action("status"), true),
        ("live", action("unblock"), false),
        ("live", maintain.clone(), false),
        ("operator", action("unblock"), true),
        ("operator", maintain.clone(), false),
        ("schedule", maintain, true),
        ("http", action("token"), false),
        ("$LATEST", action("token"), false),
    ] {
        let (status, answer) = invoke(&stack, &format!("token-broker:{alias}"), &payload).await;
        assert_eq!(
            (status, answer["errorType"] == "access_denied"),
            (200, !is_allowed),
            "{alias} {payload}: {answer}"
        );
    }
    assert_eq!(invoke(&stack, "token-broker:lvie", &json!({})).await.0, 404);
    let unblock = client().post(format!("{}/unblock", stack.broker.url())).body("{}");
    assert_eq!(send(unblock).await.0, 200, "the local identity may do everything over HTTP");
}

#[tokio::test]
async fn accounts_users_and_limits_are_options() {
    let crm = NewAccount {
        name: "crm".to_owned(),
        email: "a@example.invalid".to_owned(),
        password: "p".to_owned(),
    };
    let convirza = Settings { login_limit_per_minute: 1, ..Settings::default() };
    let broker = vec![("BROKER_MAX_TTL_SECONDS".to_owned(), "60".to_owned())];
    let users = vec![("b@example.invalid".to_owned(), "q".to_owned())];
    let stack = stack(Options { accounts: vec![crm], convirza, broker, users, ..Options::default() }).await;
    let token = |body: &'static str| client().post(format!("{}/token", stack.broker.url())).body(body);
    let (status, answer) = send(token(r#"{"account":"crm"}"#)).await;
    assert_eq!((status, &answer["account"], &answer["expires_in"]), (200, &json!("crm"), &json!(60)));
    assert_eq!(send(token("{}")).await.1["error"], "upstream_rate_limited");
    let login = json!({"email": "b@example.invalid", "password": "q"}).to_string();
    stack.world.convirza.reset_all().await.expect("a reset");
    let login = client().post(format!("{}/oauth/token", stack.world.convirza.url())).body(login);
    assert_eq!(send(login).await.0, 200, "the user is there after a reset, too");
}

#[tokio::test]
async fn all_ports_are_open_at_the_bound_address() {
    // All of 127.0.0.0/8 is this machine.
    let elsewhere = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    for (bind, is_open) in
        [(None, false), (Some(elsewhere), true), (Some(Ipv4Addr::UNSPECIFIED.into()), true)]
    {
        let stack = stack(Options { bind, ..Options::default() }).await;
        let world = &stack.world;
        let agent = format!("{}/v1/token", stack.agent.url());
        let urls = [
            stack.broker.url(),
            world.convirza.url(),
            world.dynamodb.url(),
            world.secrets_manager.url(),
            agent,
        ];
        for url in urls {
            assert!(client().get(&url).send().await.is_ok(), "{url}");
            let url = url.replace("127.0.0.1", "127.0.0.2");
            let request = client()
                .get(&url)
                .header("x-token-broker-token", GUARD_TOKEN)
                .header("host", "token-broker:1");
            let answer = request.send().await;
            assert_eq!(answer.is_ok(), is_open, "{bind:?}: {url}");
            if let (Ok(answer), true) = (answer, url.ends_with("/v1/token")) {
                assert_eq!(answer.status().as_u16(), 200, "the agent lets any host in");
            }
        }
    }
}
