//! The command line.

use crate::support::{by_invoke, program};
use emulators::fakes::{Broker, BrokerMode};
use serde_json::Value;
use std::process::Output;

async fn run(broker: &Broker, arguments: &[&str]) -> Output {
    program().envs(by_invoke(&broker.url(), "http://127.0.0.1:9")).args(arguments).output().await.unwrap()
}

#[tokio::test]
async fn every_action_is_one_call() {
    let broker = Broker::start().await;
    for (arguments, payload) in [
        (vec!["token"], r#"{"action":"token"}"#),
        (vec!["status"], r#"{"action":"status"}"#),
        (vec!["refresh", "--account", "emea"], r#"{"action":"refresh","account":"emea"}"#),
        (vec!["revoke", "--account=emea"], r#"{"action":"revoke","account":"emea"}"#),
        (vec!["revoke", "--confirm"], r#"{"action":"revoke","confirm":true}"#),
        (vec!["unblock"], r#"{"action":"unblock"}"#),
        (
            vec!["token", "--min-ttl", "90", "--rejected-generation", "6", "--account", "emea"],
            r#"{"action":"token","account":"emea","min_ttl_seconds":90,"rejected_generation":6}"#,
        ),
    ] {
        let output = run(&broker, &arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
        let expected: Value = serde_json::from_str(payload).unwrap();
        assert_eq!(broker.calls().pop().unwrap().1, expected);
    }
    assert_eq!(broker.called().get(), 7);
}

#[tokio::test]
async fn a_raw_token_is_the_text_alone() {
    let broker = Broker::start().await;
    let output = run(&broker, &["token", "--raw"]).await;
    assert_eq!(output.stdout, b"token-default-7\n");
}

#[tokio::test]
async fn a_command_gets_the_token_in_its_environment() {
    let broker = Broker::start().await;
    let output = run(&broker, &["exec", "--", "/bin/sh", "-c", "echo $ACCESS_TOKEN; exit 7"]).await;
    assert_eq!((output.status.code(), output.stdout), (Some(7), b"token-default-7\n".to_vec()));
    let line = ["exec", "--env", "MINE", "--account", "emea", "--", "/bin/sh", "-c", "echo $MINE"];
    assert_eq!(run(&broker, &line).await.stdout, b"token-emea-7\n");
    let output = run(&broker, &["exec", "--", "/does/not/exist"]).await;
    assert_eq!(output.status.code(), Some(127));
    broker.set_mode(BrokerMode::Failing("unknown_account", None));
    let output = run(&broker, &["exec", "--", "/bin/echo", "ran"]).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "it does not run without a token");
}

#[tokio::test]
async fn a_call_carries_the_name_of_its_process() {
    let broker = Broker::start().await;
    let environment = by_invoke(&broker.url(), "http://127.0.0.1:9");
    let named =
        program().envs(environment).env("TOKEN_BROKER_CLIENT", "billing").arg("status").output().await;
    assert!(named.unwrap().status.success());
    assert_eq!(broker.calls().pop().unwrap().1["client"], "billing");
}

#[tokio::test]
async fn a_failure_is_one_line_with_its_code() {
    let broker = Broker::start().await;
    broker.set_mode(BrokerMode::Failing("login_budget_exhausted", Some(12)));
    let output = run(&broker, &["token"]).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(
        (line["error"].as_str(), line["retry_after"].as_u64()),
        (Some("login_budget_exhausted"), Some(12))
    );
}

#[tokio::test]
async fn a_wrong_line_explains_itself() {
    let broker = Broker::start().await;
    let output = run(&broker, &["tokens"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--help"));
    let output = run(&broker, &["--help"]).await;
    assert!(String::from_utf8(output.stdout).unwrap().contains("TOKEN_BROKER_FUNCTION"));
    assert_eq!(broker.called().get(), 0);
}
