//! One line for each invocation: log, audit record and metrics at once.

use crate::{events, instance, lines, world, world_with};
use axum::{Router, response::AppendHeaders, routing::get};
use emulators::{
    aws::{AwsFault, Operations},
    convirza::{Endpoint, Fault, Settings},
    credentials_secret,
    instance::Instance,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    future::{IntoFuture, pending},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;

/// Longer than an instance takes to end, on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

fn fingerprint(answer: &Value) -> String {
    let token = answer["access_token"].as_str().expect("a token");
    let digest = Sha256::digest(token);
    let start: [u8; 8] = digest[..8].try_into().expect("eight bytes");
    format!("{:016x}", u64::from_be_bytes(start))
}

async fn only_line(instance: Instance) -> Value {
    let answers = lines::answers(&instance.output().await);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.into_iter().next().expect("a line")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_a_line_with_the_tokens_fingerprint() {
    let world = world().await;
    let first = instance::start(&world, &[]).await;
    let from_upstream = first.invoke_through(Some("live"), "{}").await.expect("a token");
    first.invoke_through(Some("live"), "{}").await.expect("a token");
    let second = instance::start(&world, &[("BROKER_PREFETCH", "")]).await;
    let from_table = second.invoke(events::read("http-token")).await.expect("a response");
    let from_table: Value = serde_json::from_str(from_table["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(from_table["served_from"], "table");

    let log = first.output().await;
    let lines = lines::invocations(&log);
    let sources: Vec<&Value> = lines.iter().map(|line| &line["served_from"]).collect();
    assert_eq!(sources, ["upstream", "memory"]);
    for line in &lines {
        assert_eq!(line["token_sha256"], fingerprint(&from_upstream));
        assert_eq!(line["generation"], from_upstream["generation"]);
        assert_eq!(line["trace_id"], "1-5759e988-bd862e3fe1be46a994272793");
        assert!(line["duration_ms"].is_u64() && line["request_id"].as_str().is_some_and(|id| id.len() == 36));
        for (field, value) in [
            ("level", "INFO"),
            ("message", "answered"),
            ("entry", "direct"),
            ("alias", "live"),
            ("caller", "direct:live"),
            ("action", "token"),
            ("account", "default"),
            ("outcome", "ok"),
        ] {
            assert_eq!(line[field], value, "{field}");
        }
    }
    let line = only_line(second).await;
    assert_eq!(line["token_sha256"], fingerprint(&from_table));
    assert_eq!((&line["entry"], &line["alias"]), (&json!("http"), &Value::Null));
    assert_eq!(line["caller"], "arn:aws:iam::123456789012:role/call-reporting");
}

/// The sizes on which the costs in `docs/OPERATIONS.md` rest.
#[tokio::test(flavor = "multi_thread")]
async fn lines_are_short() {
    let world = world().await;
    world.add_account("customer-number-7", "emea@example.invalid", "word").await.expect("an account");
    let first = instance::start(&world, &[("BROKER_HTTP_ALIAS", "http")]).await;
    let second = instance::start(&world, &[("BROKER_HTTP_ALIAS", "http")]).await;
    let mut event = events::read("http-token");
    event["body"] = json!(r#"{"account":"customer-number-7"}"#);
    for instance in [&first, &first, &second] {
        instance.invoke_through(Some("http"), &event).await.expect("a response");
    }
    let mut denied = event.clone();
    denied["rawPath"] = json!("/prod/refresh");
    second.invoke_through(Some("http"), denied).await.expect("a response");
    let mut sizes = Vec::new();
    for instance in [first, second] {
        for line in instance.output().await.lines() {
            let parsed: Value = serde_json::from_str(line).expect("JSON");
            let kind =
                parsed["served_from"].as_str().or(parsed["outcome"].as_str()).expect("a kind").to_owned();
            sizes.push((kind, line.len() + 1));
        }
    }
    for (kind, size) in &sizes {
        let most = match kind.as_str() {
            "memory" => 450,
            // Written a few times a day.
            "upstream" => 1000,
            _ => 700,
        };
        assert!(*size <= most, "{kind}: {size} bytes");
    }
    assert_eq!(sizes.len(), 4, "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_carries_its_metrics_and_one_from_memory_none() {
    let world = world().await;
    let instance = instance::start(&world, &[("BROKER_PREFETCH", "")]).await;
    for _ in 0..2 {
        instance.invoke(json!({})).await.expect("a token");
    }
    let lines = lines::invocations(&instance.output().await);
    let by_function = vec!["Function".to_owned()];
    let by_account = vec!["Function".to_owned(), "Function,Account".to_owned()];
    let expected = [
        ("Answers", 1, &by_function),
        ("AnswersFromUpstream", 1, &by_function),
        ("ColdStarts", 1, &by_function),
        ("LoginPermitsLeft", 4, &by_function),
        ("Logins", 1, &by_account),
    ];
    let expected = expected.map(|(name, value, dimensions)| (name.to_owned(), (value, dimensions.clone())));
    assert_eq!(lines::metrics(&lines[0]), expected.into());
    assert_eq!((&lines[0]["Function"], &lines[0]["Account"]), (&json!("token-broker"), &json!("default")));
    assert_eq!(lines[1].get("_aws"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_and_error_has_a_line() {
    let world = world().await;
    world.add_account("emea", "emea@example.invalid", "word").await.expect("an account");
    world.put_secret("bad", r#"{"email":"tell-tale"}"#).await.expect("a version");
    world.put_secret("wrong", &credentials_secret("who@example.invalid", "wrong")).await.expect("a version");
    let instance = instance::start(&world, &[]).await;
    let mut expected = Vec::new();
    for (payload, code, level, errors) in [
        (json!({"acount": "x"}), "invalid_request", "WARN", 0),
        (json!({"account": "none"}), "unknown_account", "WARN", 0),
        (json!({"account": "bad"}), "bad_secret", "WARN", 1),
        (json!({"account": "wrong"}), "credentials_rejected", "WARN", 1),
        (json!({"account": "wrong"}), "credentials_rejected", "WARN", 1),
    ] {
        assert_eq!(instance.invoke(payload).await.expect_err("an error")["errorType"], code);
        expected.push((code, level, errors));
    }
    let denied = instance.invoke(events::read("http-refresh")).await.expect("a response");
    assert_eq!(denied["statusCode"], 403);
    expected.push(("access_denied", "WARN", 0));
    world.convirza.faults().set(Endpoint::Login, Fault::ServerError, Some(1));
    instance.invoke(json!({"account": "emea"})).await.expect_err("an error");
    expected.push(("upstream_unavailable", "WARN", 1));
    for (account, fault, code, level) in [
        ("other", AwsFault::Unavailable, "store_unavailable", "WARN"),
        ("another", AwsFault::AccessDenied, "misconfigured", "ERROR"),
    ] {
        world.dynamodb.faults().set(Operations::All, fault, None);
        instance.invoke(json!({"account": account})).await.expect_err("an error");
        expected.push((code, level, 1));
    }

    let log = instance.output().await;
    let lines = lines::invocations(&log);
    assert_eq!(lines.len(), expected.len(), "{log}");
    for (line, (code, level, errors)) in lines.iter().zip(expected) {
        assert_eq!((&line["outcome"], &line["level"]), (&json!(code), &json!(level)), "{line}");
        let metrics = lines::values(line);
        assert_eq!(metrics["Answers"], 1, "{line}");
        assert_eq!(metrics.get("Errors").copied().unwrap_or_default(), errors, "{line}");
        let rejected = u64::from(code == "credentials_rejected");
        assert_eq!(metrics.get("CredentialsRejected").copied().unwrap_or_default(), rejected, "{line}");
        assert_eq!(line.get("token_sha256"), None);
    }
    assert!(lines[2]["message"].as_str().is_some_and(|message| message.contains("`password` is missing")));
    let unknown = lines::metrics(&lines[7]);
    assert_eq!(unknown["Errors"].1, ["Function"], "a caller cannot make metrics with names that it invents");
    assert_eq!(lines::metrics(&lines[6])["Errors"].1, ["Function", "Function,Account"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_line_has_no_fingerprint() {
    let world = world().await;
    let rules = r#"[{"caller":"direct","accounts":["*"],"actions":["refresh","status","revoke","unblock"]}]"#;
    let instance = instance::start(&world, &[("BROKER_CALLERS", rules)]).await;
    for action in ["refresh", "status", "unblock", "revoke"] {
        instance.invoke(json!({"action": action})).await.expect("an answer");
    }
    let lines = lines::answers(&instance.output().await);
    let actions: Vec<&Value> = lines.iter().map(|line| &line["action"]).collect();
    assert_eq!(actions, ["refresh", "status", "unblock", "revoke"]);
    assert!(lines[0]["generation"].is_u64());
    assert!(
        lines.iter().all(|line| line["outcome"] == "ok" && line.get("token_sha256").is_none()),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_changes_an_answer_from_memory_has_no_line() {
    let world = world().await;
    let rules = r#"[{"caller":"direct:old","accounts":["*"],"actions":["token"],"audit":true},
                    {"caller":"direct:live","accounts":["*"],"actions":["token"]}]"#;
    let settings = [("BROKER_AUDIT", "changes"), ("BROKER_CALLERS", rules)];
    let instance = instance::start(&world, &settings).await;
    for alias in ["live", "live", "old"] {
        instance.invoke_through(Some(alias), "{}").await.expect("a token");
    }
    let lines = lines::answers(&instance.output().await);
    let seen: Vec<_> = lines.iter().map(|line| (&line["served_from"], &line["audit_rule"])).collect();
    let expected = [(json!("upstream"), Value::Null), (json!("memory"), json!(1))];
    let expected: Vec<_> = expected.iter().map(|(source, rule)| (source, rule)).collect();
    assert_eq!(seen, expected, "an audited answer has a line in any case");
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_reports_each_account() {
    let settings = Settings { access_lifetime: Duration::from_secs(3600), ..Settings::default() };
    let world = world_with(settings).await;
    world.add_account("emea", "emea@example.invalid", "word").await.expect("an account");
    world.put_secret("wrong", &credentials_secret("who@example.invalid", "wrong")).await.expect("a version");
    let instance = instance::start(&world, &[("BROKER_SCHEDULE_ALIAS", "schedule")]).await;
    for account in ["default", "emea", "wrong"] {
        let _ = instance.invoke(json!({"account": account})).await;
    }
    world.convirza.faults().set(Endpoint::Revoke, Fault::ServerError, Some(2));
    instance.invoke(json!({"action": "revoke", "account": "emea"})).await.expect("a report");
    world.convirza.faults().set(Endpoint::Revoke, Fault::ServerError, Some(2));
    instance.invoke_through(Some("schedule"), r#"{"action":"maintain"}"#).await.expect("a summary");

    let lines = lines::invocations(&instance.output().await);
    let lines: Vec<_> = lines.iter().filter(|line| line["action"] == "maintain").collect();
    assert_eq!(lines.len(), 4, "the invocation and its accounts: {lines:?}");
    assert!(lines.iter().all(|line| line["request_id"] == lines[0]["request_id"]));
    assert_eq!((&lines[0]["entry"], &lines[0]["alias"]), (&json!("schedule"), &json!("schedule")));
    assert_eq!((&lines[0]["renewed"], &lines[0]["postponed"]), (&json!(0), &json!(0)));
    let summary = lines::values(lines[0]);
    assert_eq!(summary["LoginPermitsLeft"], 2, "three logins in the last minute");

    let accounts: Vec<&Value> = lines[1..].iter().map(|line| &line["account"]).collect();
    assert_eq!(accounts, ["default", "emea", "wrong"]);
    let messages: Vec<&Value> = lines[1..].iter().map(|line| &line["message"]).collect();
    assert_eq!(messages, ["nothing is due", "maintained", "nothing is due"]);
    assert!(lines[1..].iter().all(|line| line["outcome"] == "ok"));
    let [default, emea, wrong] = [1, 2, 3].map(|index| lines::metrics(lines[index]));
    let by_account = ["Function", "Function,Account"];
    assert!((3000..=3600).contains(&default["TokenSecondsLeft"].0), "{default:?}");
    assert!(default["RefreshTokenSecondsLeft"].0 > 86_400, "{default:?}");
    assert_eq!((default["PendingRevocations"].0, default["CredentialsRejected"].0), (0, 0));
    assert!(default.values().all(|(_, dimensions)| *dimensions == by_account), "{default:?}");
    assert_eq!(emea["PendingRevocations"].0, 2, "{emea:?}");
    assert!(!emea.contains_key("TokenSecondsLeft"), "the account has no pair");
    assert_eq!(wrong["CredentialsRejected"].0, 1, "{wrong:?}");
    assert!(lines[1..].iter().all(|line| !line.to_string().contains("Answers")), "one answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn diagnostic_events_are_json_lines_too() {
    let world = world().await;
    let instance = instance::start(&world, &[("BROKER_LOG", "trace")]).await;
    instance.invoke(json!({})).await.expect("a token");
    let log = instance.output().await;
    assert_eq!(lines::invocations(&log).len(), 1);
    assert!(log.contains("upstream call") && log.contains("lease acquired"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_table_is_in_the_log_with_operation_and_code() {
    let world = world().await;
    let instance = instance::start(&world, &[("BROKER_PREFETCH", "")]).await;
    world.dynamodb.faults().set(Operations::All, AwsFault::AccessDenied, None);
    instance.invoke(json!({})).await.expect_err("no token");
    let log = instance.output().await;
    let failure = log.lines().find(|line| line.contains("DynamoDB failed")).expect("a line");
    assert!(failure.contains("GetItem") && failure.contains("AccessDeniedException"), "{failure}");
}

/// What an instance logs if one worker receives an event with these additional headers. The instance has to end, although
/// the other workers wait for events.
async fn log_of_the_end(headers: &'static [(&str, &str)], workers: &str) -> String {
    let world = world().await;
    let is_first = Arc::new(AtomicBool::new(true));
    let event = move || async move {
        if !is_first.swap(false, Ordering::SeqCst) {
            pending::<()>().await;
        }
        let arn = "arn:aws:lambda:us-east-1:123456789012:function:broker";
        let id = "00000000-0000-4000-8000-000000000001";
        let common = [("lambda-runtime-aws-request-id", id), ("lambda-runtime-invoked-function-arn", arn)];
        AppendHeaders(common.into_iter().chain(headers.iter().copied()))
    };
    let api = Router::new().route("/2018-06-01/runtime/invocation/next", get(event));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(axum::serve(listener, api).into_future());
    let settings = [("AWS_LAMBDA_RUNTIME_API", address.as_str()), ("AWS_LAMBDA_MAX_CONCURRENCY", workers)];
    let mut instance = instance::start(&world, &settings).await;
    let ended = tokio::time::timeout(LIMIT, instance.ended()).await.expect("one worker ends the instance");
    assert!(!ended.success());
    instance.output().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_runtime_is_a_line_without_its_reason() {
    // A client context has to be JSON, and a direct caller writes it.
    let odd =
        &[("lambda-runtime-deadline-ms", "1775478896000"), ("lambda-runtime-client-context", "tell-tale")];
    for workers in ["1", "4"] {
        let log = log_of_the_end(odd, workers).await;
        let line: Value = serde_json::from_str(&log).expect("one line");
        assert_eq!(line["message"], "the Lambda runtime failed, and the instance ends", "{workers} workers");
        assert_eq!(line["level"], "ERROR");
        assert!(!log.contains("tell-tale"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_header_of_the_runtime_is_named() {
    for workers in ["1", "4"] {
        let log = log_of_the_end(&[], workers).await;
        assert!(log.contains(r#""missing_header":"lambda-runtime-deadline-ms""#), "{workers} workers: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_of_diagnostic_events_leaves_the_audit_alone() {
    let world = world().await;
    let instance = instance::start(&world, &[("BROKER_LOG", "off")]).await;
    instance.invoke(json!({})).await.expect("a token");
    assert_eq!(only_line(instance).await["outcome"], "ok");
}
