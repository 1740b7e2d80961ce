//! Every file in `events/` gets the answer that its name says.

use crate::{front::context, handler, world};
use lambda_runtime::LambdaEvent;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// The answer to each event without a caller policy: the HTTP status; for a direct invocation 200, or its error code.
const EVENTS: [(&str, &str); 17] = [
    ("direct-token", "200"),
    ("direct-token-with-options", "200"),
    ("direct-status", "200"),
    ("direct-refresh", "200"),
    ("direct-revoke", "200"),
    ("schedule-maintain", "200"),
    ("rest-token", "200"),
    ("rest-token-form", "200"),
    ("rest-status", "200"),
    ("rest-refresh", "403"),
    ("rest-revoke", "403"),
    ("http-token", "200"),
    ("http-token-form", "200"),
    ("http-status", "200"),
    ("http-refresh", "403"),
    ("http-revoke", "403"),
    ("url-token", "200"),
];

#[tokio::test]
async fn every_event_gets_its_answer() {
    let world = world().await;
    world.add_account("emea", "emea@example.invalid", "local-emea").await.expect("an account");
    let handler = handler(&world);
    for (name, expected) in EVENTS {
        let payload = read(name);
        let is_http = payload.get("requestContext").is_some();
        let answer = handler.handle(LambdaEvent::new(payload, context())).await.map(Value::from);
        let code = match answer {
            Ok(answer) if is_http => answer["statusCode"].to_string(),
            Ok(_) => "200".to_owned(),
            Err(error) => error.error_type,
        };
        assert_eq!(code, expected, "{name}");
    }
}

#[test]
fn every_file_is_listed() {
    let files = fs::read_dir(folder()).expect("the folder").map(|file| file.expect("a file").file_name());
    let files: BTreeSet<String> =
        files.map(|name| name.to_string_lossy().trim_end_matches(".json").to_owned()).collect();
    let listed: BTreeSet<String> = EVENTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, listed);
}

pub(crate) fn read(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(format!("{name}.json"))).expect("the file");
    serde_json::from_str(&text).expect("JSON")
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/events"))
}
