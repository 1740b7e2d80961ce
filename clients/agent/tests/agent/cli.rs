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
        (vec!["unblock"], r#"{"action":"unblock"}"#),
    ] {
        let output = run(&broker, &arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
        let expected: Value = serde_json::from_str(payload).unwrap();
        assert_eq!(broker.calls().pop().unwrap().1, expected);
    }
    assert_eq!(broker.called().get(), 5);
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
