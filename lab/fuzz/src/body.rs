//! Bodies and queries of HTTP requests, above all OAuth 2.0 forms. A body is the same request in both payload versions,
//! in base64 and as text.

use crate::{
    MARK,
    invocation::{SESSION, deployed, invoke},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::Field;
use serde_json::{Value, json};
use token_broker::inbound::authorization::{Callers, Rule, Scope, Who};

const MEDIA_TYPES: [&str; 4] = [
    "application/x-www-form-urlencoded",
    "application/json",
    "APPLICATION/X-WWW-FORM-URLENCODED; charset=utf-8",
    "text/plain",
];
const ROUTES: [(&str, &str); 6] = [
    ("POST", "/token"),
    ("GET", "/status"),
    ("POST", "/refresh"),
    ("POST", "/revoke"),
    ("POST", "/unblock"),
    ("POST", "/prod/token/"),
];

/// Checks one body. The first byte selects the media type and the route.
pub(crate) fn check(bytes: &[u8]) {
    let (selector, body) = bytes.split_first().unwrap_or((&b'0', &[]));
    let selector = usize::from(selector.wrapping_sub(b'0'));
    let media_type = MEDIA_TYPES[selector % MEDIA_TYPES.len()];
    let (method, path) = ROUTES[selector / MEDIA_TYPES.len() % ROUTES.len()];
    let text = std::str::from_utf8(body).ok();
    let encoded = BASE64_STANDARD.encode(body);
    let as_text = text.map_or((encoded.as_str(), true), |text| (text, false));
    // Alternately, so that each version sees both forms.
    let forms =
        if body.len() % 2 == 0 { [(encoded.as_str(), true), as_text] } else { [as_text, (&encoded, true)] };
    let first = answer(&version_1(method, path, media_type, forms[0], text));
    let second = answer(&version_2(method, path, media_type, forms[1], text));
    // A map of parameters has no order, so the error may name another wrong one.
    assert!(if method == "GET" { first.0 == second.0 } else { first == second }, "{first:?}, {second:?}");
    if body.len() % 4 == 3 {
        check_marked(method, path, body);
    }
    let (status, answer) = first;
    if status == 200 && method == "POST" {
        check_accepted(media_type, path, body, &answer);
    }
}

/// No answer repeats a value of a form.
fn check_marked(method: &str, path: &str, body: &[u8]) {
    let mut marked = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(body) {
        marked.append_pair(&name, &format!("{value}{MARK}"));
    }
    let body = marked.finish();
    let (_, answer) = answer(&version_2(method, path, MEDIA_TYPES[0], (&body, false), Some(&body)));
    assert!(!answer.to_string().contains(MARK), "{answer}");
}

/// The request that got an answer is well-formed.
fn check_accepted(media_type: &str, path: &str, body: &[u8], answer: &Value) {
    let is_form = media_type.to_ascii_lowercase().starts_with(MEDIA_TYPES[0]);
    if is_form {
        assert!(path.contains("token"), "forms are for tokens");
        let parameters: Vec<_> = form_urlencoded::parse(body).collect();
        let values = |name: &str| {
            let values = parameters.iter().filter(|(parameter, _)| parameter == name);
            values.map(|(_, value)| value.as_ref()).collect::<Vec<_>>()
        };
        assert_eq!(values("grant_type"), ["client_credentials"]);
        assert!(Field::ALL.iter().all(|field| !field.is_parameter() || values(field.name()).len() <= 1));
        let account = values("account").first().copied().filter(|account| !account.is_empty());
        let account = account.unwrap_or("default");
        assert_eq!(answer["account"], account);
        assert_eq!(answer["token_type"], "Bearer");
        assert!(answer.get("expires_at").is_none(), "RFC 6749 has no such field");
    } else {
        assert_eq!(media_type, "application/json");
        let fields = serde_json::from_slice(body).unwrap_or(Value::Null);
        assert!(fields.is_object() || body.trim_ascii().is_empty());
        let account = fields.get("account").filter(|account| !account.is_null());
        assert_eq!(answer["account"], *account.unwrap_or(&json!("default")));
    }
}

/// The status and the body, for a caller who may do everything.
fn answer(event: &Value) -> (i64, Value) {
    let (aliases, _) = deployed();
    let who = Who::Arn("arn:aws:iam::123456789012:role/caller".to_owned());
    let rule = Rule { who, accounts: Scope::All, actions: Scope::All, audit: true };
    let invocation = invoke(event.to_string().as_bytes(), "http", aliases, Callers::Rules(vec![rule]));
    assert_eq!(invocation.line()["entry"], "http");
    invocation.http().expect("an HTTP event gets an HTTP response")
}

fn version_1(
    method: &str,
    path: &str,
    media_type: &str,
    (body, is_base64_encoded): (&str, bool),
    query: Option<&str>,
) -> Value {
    let mut parameters = serde_json::Map::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let values = parameters.entry(name.into_owned()).or_insert_with(|| json!([]));
        values.as_array_mut().expect("an array").push(value.into());
    }
    json!({
        "httpMethod": method, "path": path, "body": body, "isBase64Encoded": is_base64_encoded,
        "multiValueHeaders": {"content-type": [media_type]}, "multiValueQueryStringParameters": parameters,
        "requestContext": {"identity": {"userArn": format!("{SESSION}one")}},
    })
}

fn version_2(
    method: &str,
    path: &str,
    media_type: &str,
    (body, is_base64_encoded): (&str, bool),
    query: Option<&str>,
) -> Value {
    json!({
        "version": "2.0", "rawPath": path, "body": body, "isBase64Encoded": is_base64_encoded,
        "headers": {"Content-Type": media_type}, "rawQueryString": query.unwrap_or_default(),
        "requestContext": {
            "http": {"method": method}, "authorizer": {"iam": {"userArn": format!("{SESSION}two")}}
        },
    })
}
