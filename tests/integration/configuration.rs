//! Configuration: errors are reported together at start, and settings take effect.

use crate::{instance, world};
use serde_json::json;
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn all_errors_are_reported_at_start_and_nothing_is_answered() {
    let wrong = [
        ("AWS_REGION", "us-east-1"),
        ("BROKER_LOGIN_BUDGET", "0"),
        ("BROKER_LEASE_MS", "9999"),
        ("BROKER_OAUTH_URL", "http://platform-oauth.convirza.com"),
    ];
    let mut instance = instance::start_with(wrong.map(|(name, value)| (name, value.to_owned()))).await;
    let unanswered = instance.begin(json!({}));
    assert!(!instance.ended().await.success());
    assert_eq!(instance.api.polls(), 0);
    let reported = instance.api.init_error().expect("the error is reported to Lambda");
    let reported = reported["errorMessage"].to_string();
    let printed = instance.output().await;
    for variable in ["BROKER_TABLE", "BROKER_LOGIN_BUDGET", "BROKER_LEASE_MS", "BROKER_OAUTH_URL"] {
        assert!(printed.contains(variable), "{variable} is missing in {printed}");
        assert!(reported.contains(variable), "{variable} is missing in {reported}");
    }
    drop(unanswered);
}

#[test]
fn the_program_checks_a_configuration_outside_lambda() {
    let check = |callers: &str| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_token-broker"));
        let variables = [("BROKER_TABLE", "any"), ("BROKER_CALLERS", callers)];
        let output = program.arg("--check").env_clear().envs(variables).output().expect("it runs");
        (output.status.success(), String::from_utf8(output.stderr).expect("text"))
    };
    let rule = |action: &str| format!(r#"[{{"caller":"direct","accounts":["*"],"actions":["{action}"]}}]"#);
    assert_eq!(check(&rule("token")), (true, "token-broker: the configuration is valid\n".to_owned()));
    let (is_valid, printed) = check(&rule("tokn"));
    assert!(!is_valid && printed.contains("BROKER_CALLERS rule 1: `actions`"), "{printed}");
}

/// The report itself must not depend on the wrong setting.
#[tokio::test(flavor = "multi_thread")]
async fn unusable_certificates_are_reported_at_start() {
    let world = world().await;
    for (name, value) in [("SSL_CERT_FILE", "/no/such/file"), ("SSL_CERT_DIR", "/no/such/folder")] {
        let proxy = ("HTTP_PROXY", "http://127.0.0.1:9");
        let mut instance = instance::start(&world, &[(name, value), proxy]).await;
        let unanswered = instance.begin(json!({}));
        assert!(!instance.ended().await.success());
        let reported = instance.api.init_error().expect("the error is reported to Lambda");
        let printed = instance.output().await;
        let text = if name == "SSL_CERT_FILE" { value } else { name };
        assert!(printed.contains(text), "{printed}");
        assert!(reported["errorMessage"].to_string().contains(text), "{reported}");
        drop(unanswered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_policy_is_enforced_and_denials_are_logged() {
    let world = world().await;
    let rules = r#"[{"caller":"direct","accounts":["default"],"actions":["token"]}]"#;
    let instance = instance::start(&world, &[("BROKER_CALLERS", rules)]).await;
    assert!(instance.invoke(json!({})).await.is_ok());
    for denied in [json!({"action": "status"}), json!({"account": "emea"}), json!({"action": "refresh"})] {
        assert_eq!(instance.invoke(denied).await.expect_err("denied")["errorType"], "access_denied");
    }
    let operator = r#"[{"caller":"direct","accounts":["*"],"actions":["refresh"]}]"#;
    let refreshing = instance::start(&world, &[("BROKER_CALLERS", operator)]).await;
    let refreshed = refreshing.invoke(json!({"action": "refresh"})).await.expect("a refresh");
    assert!(
        refreshed["generation"].is_u64() && refreshed["access_token"].is_null(),
        "a caller without the action `token` gets no token from a refresh"
    );
    let log = instance.output().await;
    assert_eq!(log.matches("access denied").count(), 3, "{log}");
    assert!(log.contains(r#""caller":"direct""#), "{log}");
}

/// `sam local` sets every variable that the template names, without a value where the template has none.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_variable_of_the_sdk_counts_as_unset() {
    let world = world().await;
    let dynamodb_url = world.dynamodb.url();
    let settings = [("AWS_ENDPOINT_URL_DYNAMODB", ""), ("AWS_ENDPOINT_URL", &dynamodb_url)];
    let instance = instance::start(&world, &settings).await;
    let token = instance.invoke(json!({})).await.expect("a token");
    assert_eq!(token["served_from"], "upstream");
}
