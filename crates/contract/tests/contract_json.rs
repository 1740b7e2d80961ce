//! `contract.json` agrees with the code.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use serde_json::{Value, json};
use std::fmt::Write;
use token_broker_contract::{
    AccountName, Action, ClientErrorCode, ClientName, DEFAULT_MIN_TTL, ErrorAnswer, ErrorCode, Extra, Field,
    Generation, LONGEST_LIFETIME_SECONDS, Secret, ServedFrom, Timestamp, TokenAnswer, agent, unknown_field,
};

/// The names of a written object's fields in its order, which a `Value` would not keep.
fn field_names(text: &str) -> Vec<Value> {
    let names = text.split('"').skip(1).step_by(2).filter(|name| text.contains(&format!("\"{name}\":")));
    names.filter(|name| *name != "x").map(Value::from).collect()
}

fn answer() -> TokenAnswer {
    TokenAnswer {
        access_token: Some(Secret::from("t")),
        expires_in: 900,
        expires_at: Some(Timestamp::default()),
        account: AccountName::default(),
        generation: Generation(7),
        served_from: ServedFrom::Table,
        extra: Extra::parse(r#"{"x":1}"#),
    }
}

fn error() -> ErrorAnswer {
    let (code, description, request_id) = ("c".to_owned(), String::new(), Some("r".to_owned()));
    ErrorAnswer { code, description, retry_after_seconds: Some(12), request_id }
}

fn kind(field: Field) -> &'static str {
    match field {
        Field::Action | Field::Account | Field::Client => "text",
        Field::MinTtl | Field::RejectedGeneration => "whole number",
        Field::Confirm => "boolean",
    }
}

/// The contract's parts, each with its entries, one per line.
fn parts() -> [(&'static str, Vec<Value>); 10] {
    let actions = Action::ALL.map(|action| {
        let route = action.method().map(|method| format!("{method} /{}", action.name()));
        json!({"name": action.name(), "route": route})
    });
    let fields = Field::ALL.map(|field| {
        let actions: Vec<_> =
            Action::ALL.into_iter().filter(|action| field.belongs_to(*action)).map(Action::name).collect();
        json!({"name": field.name(), "type": kind(field), "parameter": field.is_parameter(), "actions": actions})
    });
    let errors = ErrorCode::ALL.map(|code| {
        json!({
            "code": code.as_str(),
            "status": code.http_status(),
            "retry": code.retry_can_help(),
            "summary": code.summary(),
        })
    });
    let texts = |texts: &[&str]| texts.iter().copied().map(Value::from).collect();
    [
        ("actions", actions.into()),
        ("fields", fields.into()),
        ("answer_fields", field_names(&serde_json::to_string(&answer()).unwrap())),
        ("served_from", texts(&ServedFrom::ALL.map(ServedFrom::name))),
        ("errors", errors.into()),
        ("error_fields", field_names(&error().to_json())),
        ("client_errors", texts(&ClientErrorCode::ALL.map(ClientErrorCode::as_str))),
        (
            "names",
            vec![
                json!({"of": "account", "pattern": AccountName::PATTERN, "rule": AccountName::RULE, "default": AccountName::DEFAULT}),
                json!({"of": "client", "pattern": ClientName::PATTERN, "rule": ClientName::RULE}),
            ],
        ),
        (
            "agent",
            vec![
                json!({"port": agent::PORT, "guard_headers": agent::GUARD_HEADERS, "token_path": agent::TOKEN_PATH}),
            ],
        ),
        (
            "messages",
            vec![
                json!({"of": "how an error of a direct invocation ends if it says to wait for 12 s", "text": error().to_message()}),
                json!({"of": "how the error of a broker begins that is older than the field `client`", "text": unknown_field(Field::Client)}),
            ],
        ),
    ]
}

fn written() -> String {
    let mut text = "{\n".to_owned();
    for (name, entries) in parts() {
        let entries: Vec<_> = entries.iter().map(|entry| format!("        {entry}")).collect();
        write!(text, "    \"{name}\": [\n{}\n    ],\n", entries.join(",\n")).unwrap();
    }
    let min_ttl = DEFAULT_MIN_TTL.as_secs();
    write!(
        text,
        "    \"default_min_ttl_seconds\": {min_ttl},\n    \"longest_lifetime_seconds\": {LONGEST_LIFETIME_SECONDS}\n}}\n"
    )
    .unwrap();
    text
}

/// `UPDATE_CONTRACT=1 cargo test -p token-broker-contract` writes the file.
#[test]
fn contract_json_agrees_with_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/contract.json");
    let text = written();
    assert!(serde_json::from_str::<Value>(&text).unwrap().is_object());
    if std::env::var_os("UPDATE_CONTRACT").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == text, "contract.json is out of date: run this test with UPDATE_CONTRACT=1");
}
