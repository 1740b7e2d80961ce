//! The alias decides the way in.

use crate::{events, instance, items, lines, world};
use emulators::{World, instance::Instance};
use serde_json::{Value, json};

const OPERATOR: &str = "arn:aws:iam::123456789012:role/operator";
const SETTINGS: [(&str, &str); 3] = [
    ("BROKER_HTTP_ALIAS", "http"),
    ("BROKER_SCHEDULE_ALIAS", "schedule"),
    (
        "BROKER_CALLERS",
        r#"[{"caller":"direct:live","accounts":["default"],"actions":["token"]},
            {"caller":"arn:aws:iam::123456789012:role/operator","accounts":["*"],"actions":["*"]}]"#,
    ),
];
/// Every alias of the template, a version, and none.
const QUALIFIERS: [Option<&str>; 7] =
    [None, Some("live"), Some("operator"), Some("schedule"), Some("$LATEST"), Some("12"), Some("http2")];

/// The events of every payload shape, with an operator's session as their caller.
fn forged(action: &str) -> Vec<(&'static str, Value)> {
    let session = "arn:aws:sts::123456789012:assumed-role/operator/me";
    let mut rest = events::read("rest-token");
    rest["path"] = json!(format!("/{action}"));
    rest["requestContext"]["identity"]["userArn"] = json!(session);
    let version_2 = |name| {
        let mut event = events::read(name);
        event["rawPath"] = json!(format!("/{action}"));
        event["requestContext"]["authorizer"]["iam"]["userArn"] = json!(session);
        event
    };
    let mut forged = vec![("rest", rest), ("http", version_2("http-token")), ("url", version_2("url-token"))];
    for (_, event) in &mut forged {
        event["body"] = json!(r#"{"account":"default"}"#);
    }
    forged
}

async fn start(world: &World) -> Instance {
    instance::start(world, &SETTINGS).await
}

async fn generation(world: &World) -> Value {
    items::get(world, items::DEFAULT_ACCOUNT).await["pair"]["M"]["generation"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_http_event_is_denied_by_every_other_alias() {
    let world = world().await;
    let instance = start(&world).await;
    instance.invoke_through(Some("live"), "{}").await.expect("a token");
    let before = generation(&world).await;
    let mut forgeries = 0;
    for action in ["token", "refresh", "revoke"] {
        for (shape, event) in forged(action) {
            for qualifier in QUALIFIERS {
                let denied = instance.invoke_through(qualifier, &event).await;
                let denied = denied.expect_err("a function error, and no HTTP response");
                assert_eq!(denied["errorType"], "access_denied", "{shape} through {qualifier:?}");
                forgeries += 1;
            }
        }
    }
    assert_eq!(generation(&world).await, before);
    for (shape, event) in forged("refresh") {
        let answer = instance.invoke_through(Some("http"), &event).await.expect("an HTTP response");
        assert_eq!(answer["statusCode"], 200, "{shape} through its own alias: {answer}");
    }

    let log = instance.output().await;
    let warnings: Vec<Value> =
        lines::invocations(&log).into_iter().filter(|line| line["outcome"] == "access_denied").collect();
    assert_eq!(warnings.len(), forgeries);
    for warning in warnings {
        assert_eq!((&warning["level"], &warning["entry"]), (&json!("WARN"), &json!("direct")));
        assert!(warning["message"].as_str().is_some_and(|text| text.contains("BROKER_HTTP_ALIAS")));
        assert!(warning["caller"].as_str().is_some_and(|caller| caller.starts_with("direct")), "{warning}");
        assert!(!warning.to_string().contains(OPERATOR), "the forged identity is not logged as the caller");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_payload_through_the_http_alias_is_denied() {
    let world = world().await;
    let instance = start(&world).await;
    // The fields of an HTTP event in their order, which a lenient parser takes for the event.
    let array = r#"[[null,["POST"],[["arn:aws:iam::123456789012:role/operator"]]],"{}",false,null,null,null,null,null,null,"/token",""]"#;
    for payload in ["{}", r#"{"action":"status"}"#, r#"{"action":"maintain"}"#, "[]", array, "not JSON"] {
        let denied = instance.invoke_through(Some("http"), payload).await.expect_err("denied");
        assert_eq!(denied["errorType"], "access_denied", "{payload}");
    }
    assert_eq!(world.convirza.observed().logins_arrived, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn maintain_comes_through_the_schedule_alias_only() {
    let world = world().await;
    let instance = start(&world).await;
    let maintain = r#"{"action":"maintain"}"#;
    for qualifier in QUALIFIERS.into_iter().filter(|qualifier| *qualifier != Some("schedule")) {
        let denied = instance.invoke_through(qualifier, maintain).await.expect_err("denied");
        assert_eq!(denied["errorType"], "access_denied", "{qualifier:?}");
    }
    let counts = instance.invoke_through(Some("schedule"), maintain).await.expect("counts");
    assert_eq!(counts, json!({"renewed": 0, "failed": 0, "postponed": 0, "accounts": []}));
    let token = instance.invoke_through(Some("schedule"), "{}").await.expect_err("no rule allows it");
    assert_eq!(token["errorType"], "access_denied");
    let log = lines::answers(&instance.output().await);
    let entries: Vec<&Value> = log.iter().map(|line| &line["entry"]).collect();
    assert_eq!(entries[entries.len() - 2..], ["schedule", "schedule"]);
    assert!(entries[..entries.len() - 2].iter().all(|entry| *entry == "direct"), "{entries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_http_event_is_400_and_never_a_payload() {
    let world = world().await;
    let without_aliases = instance::start(&world, &[]).await;
    let with_aliases = start(&world).await;
    without_aliases.invoke(json!({})).await.expect("a token");
    let before = generation(&world).await;
    for context in [
        "null",
        "7",
        "[]",
        "{}",
        r#"{"http":{}}"#,
        r#"{"http":{"method":7}}"#,
        r#"{"http":{"method":"POST"},"authorizer":{"iam":7}}"#,
        r#"{},"requestContext":{"http":{"method":"POST"}}"#,
    ] {
        let event = format!(r#"{{"action":"revoke","requestContext":{context}}}"#);
        for (instance, qualifier) in [(&without_aliases, None), (&with_aliases, Some("http"))] {
            let answer = instance.invoke_through(qualifier, &event).await.expect("an HTTP response");
            assert_eq!(answer["statusCode"], 400, "{event}");
            assert!(answer["body"].as_str().is_some_and(|body| body.contains("invalid_request")), "{answer}");
        }
    }
    assert_eq!(generation(&world).await, before, "nothing was revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_json_or_too_deep_is_invalid() {
    let world = world().await;
    let instance = instance::start(&world, &[]).await;
    let deep = format!(r#"{{"account":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for (payload, says) in [
        ("", "JSON object"),
        ("{", "JSON object"),
        ("tell-tale", "JSON object"),
        (&deep, "nested too deeply"),
    ] {
        let error = instance.invoke_through(None, payload).await.expect_err("invalid");
        assert_eq!(error["errorType"], "invalid_request", "{says}");
        let message = error["errorMessage"].as_str().expect("a message");
        assert!(message.contains(says) && !message.contains("tell-tale"), "{message}");
    }
    let mut http = events::read("http-token");
    http["body"] = json!(deep);
    let answer = instance.invoke_through(None, http).await.expect("an HTTP response");
    assert_eq!(answer["statusCode"], 400);
    assert!(answer["body"].as_str().is_some_and(|body| body.contains("nested too deeply")), "{answer}");
    instance.invoke(json!({})).await.expect("the instance still serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_a_megabyte_bloats_neither_log_nor_answer() {
    let world = world().await;
    let instance = instance::start(&world, &[]).await;
    let megabyte = "x\n\"é".repeat(200_000);
    let mut event = events::read("http-token");
    event["requestContext"]["authorizer"]["iam"]["userArn"] = json!(megabyte);
    event["headers"]["content-type"] = json!(megabyte);
    let mut unknown = json!({"action": "token"});
    unknown[&megabyte] = json!(megabyte);
    let answer = instance.invoke_through(None, event).await.expect("an HTTP response");
    assert!(answer.to_string().len() < 1000, "{}", answer.to_string().len());
    for payload in [json!({"account": megabyte}), json!({"action": megabyte}), unknown] {
        let error = instance.invoke(payload).await.expect_err("invalid");
        assert!(error.to_string().len() < 1000, "{}", error.to_string().len());
    }
    let log = instance.output().await;
    assert_eq!(lines::invocations(&log).len(), 4, "each of them within the limit");
}
