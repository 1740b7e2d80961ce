//! The guard token, `Host` and `X-Forwarded-For`.

use crate::support::{GUARD, World};
use emulators::fakes::exchange;

async fn status(world: &World, request: &str) -> String {
    let answer = exchange(world.agent.address, request.as_bytes()).await;
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    if status != "200" {
        assert!(!answer.contains("token-default"), "{answer}");
    }
    status
}

#[tokio::test]
async fn everything_but_ping_needs_the_guard_token() {
    let world = World::start().await;
    let get = |path: &str, header: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n");
    assert_eq!(status(&world, &get("/ping", "")).await, "200");
    for path in ["/v1/token", "/readyz", "/proxy/default/x", "/nothing"] {
        assert_eq!(status(&world, &get(path, "")).await, "401", "{path}");
        assert_eq!(status(&world, &get(path, "X-Token-Broker-Token: other\r\n")).await, "401", "{path}");
    }
    let [own, of_lambda] = ["X-Token-Broker-Token", "X-Aws-Parameters-Secrets-Token"]
        .map(|header| format!("{header}: {GUARD}\r\n"));
    for headers in [&own, &of_lambda, &format!("{own}{of_lambda}")] {
        assert_eq!(status(&world, &get("/v1/token", headers)).await, "200", "{headers}");
    }
}

#[tokio::test]
async fn requests_from_elsewhere_are_forbidden() {
    let world = World::start().await;
    let guarded = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nX-Token-Broker-Token: {GUARD}\r\n{headers}\r\n")
    };
    for headers in [
        "Host: localhost\r\nX-Forwarded-For: 10.0.0.1\r\n",
        "Host: example.com\r\n",
        "Host: 127.0.0.1.example.com\r\n",
        "Host: localhost\r\nHost: example.com\r\n",
        "",
    ] {
        assert_eq!(status(&world, &guarded("/v1/token", headers)).await, "403", "{headers}");
        assert_eq!(status(&world, &guarded("/ping", headers)).await, "403", "{headers}");
    }
    assert_eq!(status(&world, &guarded("/v1/token", "Host: 127.0.0.1:2774\r\n")).await, "200");
}

#[tokio::test]
async fn the_token_of_a_file_that_was_replaced_opens_each_way_in() {
    let path = std::env::temp_dir().join(format!("token-broker-agent-{}", std::process::id()));
    let file = format!("file://{}", path.display());
    let form = "client_secret=two&grant_type=client_credentials";
    let length = form.len();
    for request in [
        "GET /v1/token HTTP/1.1\r\nHost: localhost\r\nX-Token-Broker-Token: two\r\n\r\n".to_owned(),
        format!(
            "POST /oauth/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
        ),
    ] {
        std::fs::write(&path, "one\n").unwrap();
        let world = World::start_with(&[("TOKEN_BROKER_TOKEN", &file)]).await;
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(status(&world, &request).await, "200", "{request}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn the_session_token_guards_unless_another_is_named() {
    let world = World::start_with(&[("TOKEN_BROKER_TOKEN", "")]).await;
    let get = |guard: &str| {
        format!("GET /v1/token HTTP/1.1\r\nHost: localhost\r\nX-Token-Broker-Token: {guard}\r\n\r\n")
    };
    assert_eq!(status(&world, &get("session")).await, "200");
    assert_eq!(status(&world, &get(GUARD)).await, "401");
}
