//! Payloads of Lambda, through every alias: direct payloads, HTTP events of both versions, and everything else.

use crate::{
    MARK, append, has_mark,
    invocation::{Invocation, ROLE, SESSION, deployed, invoke},
    ports::ACCESS_TOKEN,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use token_broker::inbound::{Aliases, authorization::Callers};

/// The aliases for direct payloads, and none.
const DIRECT: [&str; 4] = ["live", "operator", "schedule", ""];

/// The kind of a payload, by another parser than the broker's.
enum Shape {
    /// An object with the key `requestContext`.
    Http(Value),
    /// Any other JSON.
    Direct(Value),
    /// Not JSON.
    Broken,
    /// Nested too deeply, or with half a surrogate pair, which this oracle's parser rejects.
    Unknown,
}

fn shape(payload: &[u8]) -> Shape {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let Ok(text) = Box::<RawValue>::deserialize(&mut json) else { return Shape::Broken };
    match serde_json::from_str(text.get()) {
        Ok(Value::Object(object)) if object.contains_key("requestContext") => Shape::Http(object.into()),
        Ok(value) => Shape::Direct(value),
        Err(_) => Shape::Unknown,
    }
}

/// Checks one payload.
pub(crate) fn check(payload: &[u8]) {
    let shape = shape(payload);
    // One of the other aliases is enough for each payload: none accepts an HTTP event, and most payloads recur.
    let sum = payload.iter().fold(0, |sum: usize, byte| sum + usize::from(*byte));
    for alias in ["http", DIRECT[sum % DIRECT.len()]] {
        let (aliases, callers) = deployed();
        check_deployed(&invoke(payload, alias, aliases, callers), alias, &shape);
    }
    let is_http = matches!(shape, Shape::Http(_));
    check_by_shape(&invoke(payload, "", Aliases::default(), Callers::Unset), &shape);
    if let Shape::Http(mut value) | Shape::Direct(mut value) = shape
        && sum % 8 < 2
        && !has_mark(payload)
    {
        append(&mut value, MARK);
        let marked = value.to_string();
        let (aliases, callers) = deployed();
        let text =
            invoke(marked.as_bytes(), if is_http { "http" } else { "operator" }, aliases, callers).text();
        assert!(!text.contains(MARK), "no answer repeats a value: {text}");
    }
}

/// With the aliases of the template, the alias decides.
fn check_deployed(invocation: &Invocation, alias: &str, shape: &Shape) {
    match (alias, shape) {
        ("http", Shape::Http(event)) => {
            let (status, body) = invocation.http().expect("an HTTP event gets an HTTP response");
            assert_eq!(invocation.line()["entry"], "http");
            assert_eq!(invocation.renewals, 0, "the role may fetch tokens only");
            if status == 200 {
                assert!(is_role(event) && body["access_token"] == ACCESS_TOKEN, "{body}");
            }
        }
        ("http", Shape::Direct(_) | Shape::Broken) | (_, Shape::Http(_)) => {
            invocation.assert_denied();
        }
        (_, Shape::Direct(Value::Object(fields))) => {
            assert!(invocation.http().is_none(), "a direct payload gets no HTTP response");
            if invocation.result.is_ok() {
                check_allowed(alias, fields, invocation);
            }
        }
        (_, Shape::Direct(_) | Shape::Broken) => {
            assert_eq!(invocation.code().as_deref(), Some("invalid_request"));
        }
        (_, Shape::Unknown) => {
            if invocation.http().is_none() {
                assert!(invocation.result.is_err(), "{:?}", invocation.result);
            } else {
                assert_eq!(alias, "http");
            }
            assert_eq!(invocation.renewals, 0);
        }
    }
}

/// The alias allows the action that was answered.
fn check_allowed(alias: &str, fields: &serde_json::Map<String, Value>, invocation: &Invocation) {
    let action = fields.get("action").map_or("token", |action| action.as_str().expect("an action is a text"));
    let account = fields.get("account").map(|account| account.as_str().expect("an account is a text"));
    match alias {
        "live" => {
            assert!(action == "token" || (action == "status" && account.is_some()), "{action}");
            assert_eq!(account.unwrap_or("default"), "default");
        }
        "operator" => assert_ne!(action, "maintain"),
        _ => {
            assert_eq!((alias, action), ("schedule", "maintain"));
            let accounts = invocation.result.as_ref().map(|answer| answer["accounts"].clone());
            assert_eq!(accounts.ok(), Some(Value::Array(vec![])), "the schedule may not know accounts");
        }
    }
    let known = ["action", "account", "min_ttl_seconds", "rejected_generation"];
    assert_eq!(fields.keys().find(|name| !known.contains(&name.as_str())), None);
}

/// Without aliases, as with `sam local`, the shape decides, and HTTP callers need an identity.
fn check_by_shape(invocation: &Invocation, shape: &Shape) {
    let response = invocation.http();
    let entry = invocation.line()["entry"].as_str().unwrap_or_default();
    match shape {
        Shape::Http(event) => {
            let (status, body) = response.expect("an HTTP event gets an HTTP response");
            assert_eq!(entry, "http");
            assert_eq!(invocation.renewals, 0, "an HTTP caller does not renew: {body}");
            if status == 200 {
                let action = &invocation.line()["action"];
                assert!(has_identity(event) && (action == "token" || action == "status"), "{body}");
            }
        }
        Shape::Direct(_) | Shape::Broken => assert!(response.is_none() && entry != "http"),
        Shape::Unknown => assert_eq!(response.is_some(), entry == "http"),
    }
}

/// The identity where API Gateway writes it. If a part is not an object, it may be anywhere in the context.
fn identity(event: &Value) -> Vec<&str> {
    let context = &event["requestContext"];
    let (path, is_plain) = match &context["http"] {
        Value::Null => (&context["identity"], context.is_object() && context["identity"].is_object()),
        _ => {
            let (authorizer, iam) = (&context["authorizer"], &context["authorizer"]["iam"]);
            (iam, context.is_object() && authorizer.is_object() && iam.is_object())
        }
    };
    if is_plain { path["userArn"].as_str().into_iter().collect() } else { texts(context) }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => vec![],
    }
}

fn is_role(event: &Value) -> bool {
    identity(event).iter().any(|arn| *arn == ROLE || arn.starts_with(SESSION))
}

fn has_identity(event: &Value) -> bool {
    identity(event).iter().any(|arn| !arn.is_empty())
}
