//! Nothing secret is logged, not even at the most detailed level and during faults.

use crate::{instance, world};
use emulators::{
    convirza::{DEFAULT_PASSWORD, Endpoint, Fault},
    dynamodb,
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn no_token_password_or_body_is_logged() {
    let world = world().await;
    let instance = instance::start(&world, &[("BROKER_LOG", "trace")]).await;
    let mut answers = vec![instance.invoke(json!({})).await.expect("a token")];
    for fault in [Fault::ServerError, Fault::WrongPassword, Fault::Truncated, Fault::BadGatewayHtml] {
        world.convirza.faults().set(Endpoint::Refresh, fault, Some(1));
        if let Ok(answer) = instance.invoke(json!({"action": "refresh"})).await {
            answers.push(answer);
        }
    }
    world.put_secret("bad", r#"{"email":"tell-tale"}"#).await.expect("a version");
    let error = instance.invoke(json!({"account": "bad"})).await.expect_err("a bad secret");
    assert_eq!(error["errorType"], "bad_secret");
    answers.push(error);

    let table = json!({"TableName": world.table()});
    let stored = dynamodb::call(&world.dynamodb, "Scan", &table).await.expect("the table");
    let mut secrets = vec![DEFAULT_PASSWORD.to_owned(), "tell-tale".to_owned()];
    collect_tokens(&stored, &mut secrets);
    secrets.extend(answers.iter().filter_map(|answer| answer["access_token"].as_str()).map(str::to_owned));
    assert!(secrets.len() >= 5, "the stored tokens, and those in the answers");

    let log = instance.output().await;
    assert!(log.contains("upstream call"), "the log is on: {log}");
    for secret in secrets {
        assert!(!log.contains(&secret), "a secret is in the log");
    }
    assert!(!answers.iter().any(|answer| answer.to_string().contains("tell-tale")));
}

fn collect_tokens(stored: &Value, secrets: &mut Vec<String>) {
    match stored {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name.ends_with("_token") {
                    secrets.extend(value["S"].as_str().map(str::to_owned));
                }
                collect_tokens(value, secrets);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_tokens(item, secrets)),
        _ => {}
    }
}
