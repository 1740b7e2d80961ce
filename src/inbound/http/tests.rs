use super::*;
use crate::inbound::event::Event;
use contract::{AccountName, CallError, ClientName, Generation, Secret, ServedFrom, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;

const ARN: &str = "arn:aws:iam::123456789012:role/reports";

/// An event of an HTTP API.
fn version_2(method: &str, path: &str) -> Value {
    json!({
        "rawPath": path,
        "rawQueryString": "",
        "requestContext": {"http": {"method": method}, "authorizer": {"iam": {"userArn": ARN}}},
        "body": null,
    })
}

/// An event of a REST API.
fn version_1(method: &str, path: &str) -> Value {
    json!({
        "httpMethod": method,
        "path": path,
        "requestContext": {"identity": {"userArn": ARN}},
        "body": null,
    })
}

fn request(text: &str) -> HttpRequest {
    let Event::Http(Some(request)) = Event::parse(text) else { panic!("an HTTP request") };
    request
}

fn call_of(event: &Value) -> Result<Call, RequestError> {
    request(&event.to_string()).call()
}

fn emea() -> AccountName {
    AccountName::parse("emea").unwrap()
}

fn call(action: Action) -> Call {
    Call::new(action, None)
}

fn call_for_emea(action: Action) -> Call {
    Call::new(action, Some(emea()))
}

fn is_malformed(call: &Result<Call, RequestError>) -> bool {
    matches!(call, Err(RequestError::Malformed(CallError::Invalid(_))))
}

#[test]
fn a_route_is_a_method_and_the_last_part_of_the_path() {
    for (action, method) in Action::ALL.into_iter().filter_map(|action| Some((action, action.method()?))) {
        for path in [format!("/{}", action.name()), format!("/prod/base/{}/", action.name())] {
            for event in [version_1(method, &path), version_2(method, &path)] {
                assert_eq!(call_of(&event), Ok(call(action)), "{event}");
            }
            let other = if method == "GET" { "POST" } else { "GET" };
            for event in [version_1(other, &path), version_2(other, &path), version_2("DELETE", &path)] {
                assert_eq!(call_of(&event), Err(RequestError::WrongMethod { allow: method }), "{event}");
            }
        }
    }
    for path in ["", "/", "/maintain", "/token/more", "/tokens"] {
        assert_eq!(call_of(&version_1("POST", path)), Err(RequestError::NoSuchPath), "{path}");
    }
}

#[test]
fn a_query_is_a_text_or_one_or_several_values() {
    let mut event = version_2("GET", "/status");
    event["rawQueryString"] = json!("account=emea&client=a%2Fb");
    let named = Call { client: ClientName::parse("a/b"), ..call_for_emea(Action::Status) };
    assert_eq!(call_of(&event), Ok(named.clone()));
    let mut event = version_1("GET", "/status");
    event["queryStringParameters"] = json!({"account": "emea"});
    assert_eq!(call_of(&event), Ok(call_for_emea(Action::Status)));
    event["multiValueQueryStringParameters"] = json!({"account": ["emea"], "client": ["a/b"]});
    event["queryStringParameters"] = json!({"account": "apac", "client": "a/b"});
    assert_eq!(call_of(&event), Ok(named), "the multi-value form is more complete");
    event["multiValueQueryStringParameters"] = json!({"account": ["emea", "apac"]});
    assert_eq!(call_of(&event), Err(RequestError::invalid("`account` is given twice")));
}

#[test]
fn a_query_that_a_route_does_not_take_is_refused() {
    for (method, action, query) in
        [("GET", "status", "acount=x"), ("POST", "token", "account=emea"), ("POST", "revoke", "x=")]
    {
        let mut second = version_2(method, &format!("/{action}"));
        second["rawQueryString"] = json!(query);
        let mut first = version_1(method, &format!("/{action}"));
        let (name, value) = query.split_once('=').unwrap();
        first["queryStringParameters"] = json!({name: value});
        for event in [first, second] {
            assert!(is_malformed(&call_of(&event)), "{event}");
        }
    }
}

/// The call of a request for a token with this body.
fn with_body(action: &str, content_type: Option<&str>, body: &str) -> Result<Call, RequestError> {
    let path = format!("/{action}");
    let mut calls = Vec::new();
    for mut event in [version_1("POST", &path), version_2("POST", &path)] {
        for (text, is_base64) in [(body.to_owned(), false), (BASE64_STANDARD.encode(body), true)] {
            event["body"] = json!(text);
            event["isBase64Encoded"] = json!(is_base64);
            for name in ["content-type", "Content-Type"] {
                // Another header comes first, and only the first value counts.
                let several = content_type.map_or(json!({}), |text| json!({name: [text, "text/html"]}));
                event["headers"] = json!({"accept": "text/html", name: content_type, "x-type": "text/html"});
                calls.push(call_of(&event));
                event["multiValueHeaders"] = several;
                event["headers"] = Value::Null;
                calls.push(call_of(&event));
            }
        }
    }
    calls.dedup();
    assert_eq!(calls.len(), 1, "all forms of the event mean the same: {calls:?}");
    calls.remove(0)
}

#[test]
fn a_body_is_json_unless_it_says_otherwise() {
    let body = r#"{"account":"emea"}"#;
    for content_type in [None, Some("application/json"), Some(" Application/JSON ; charset=utf-8")] {
        assert_eq!(
            with_body("token", content_type, body),
            Ok(call_for_emea(Action::Token)),
            "{content_type:?}"
        );
        assert_eq!(with_body("token", content_type, " \n"), Ok(call(Action::Token)));
        assert!(is_malformed(&with_body("token", content_type, "{")));
    }
    assert_eq!(with_body("refresh", None, body), Ok(call_for_emea(Action::Refresh)));
    for content_type in ["", "text/plain", "application/jsonp"] {
        let refused = with_body("token", Some(content_type), body);
        assert!(is_malformed(&refused), "{content_type}");
    }
}

#[test]
fn a_form_requests_a_token_by_oauth() {
    let form = |body: &str| with_body("token", Some(FORM), body);
    let full = Call {
        min_ttl: Some(Duration::from_secs(90)),
        rejected: Some(Generation(7)),
        ..call_for_emea(Action::Token)
    };
    assert_eq!(
        form("grant_type=client_credentials&account=emea&min_ttl_seconds=90&rejected_generation=7&scope=a"),
        Ok(full)
    );
    let json = form(r#"{"account":"emea"}"#).unwrap_err().description();
    assert!(json.contains("grant_type") && json.contains(FORM), "{json}");
    assert_eq!(form("grant_type=password"), Err(CallError::UnsupportedGrantType.into()));
    for body in ["", "account=emea", "grant_type=client_credentials&grant_type=client_credentials"] {
        assert!(is_malformed(&form(body)), "{body}");
    }
    let refused = with_body("refresh", Some(FORM), "grant_type=client_credentials");
    assert!(is_malformed(&refused), "{refused:?}");
}

#[test]
fn a_body_that_is_not_base64_is_refused() {
    let mut event = version_2("POST", "/token");
    event["isBase64Encoded"] = json!(true);
    event["body"] = json!("%");
    assert_eq!(call_of(&event), Err(RequestError::invalid("the body must be valid base64")));
}

#[test]
fn the_first_content_type_counts() {
    let text = version_2("POST", "/token").to_string();
    let headers = r#"{"headers":{"content-type":"application/json","Content-Type":"text/html"},"#;
    let text = text.replacen('{', headers, 1);
    assert!(request(&text).call().is_ok(), "{text}");
}

#[test]
fn a_caller_is_who_iam_says() {
    for mut event in [version_1("POST", "/token"), version_2("POST", "/token")] {
        let caller = |event: &Value| request(&event.to_string()).caller();
        assert_eq!(caller(&event), Caller::from_arn(ARN));
        event["requestContext"] =
            serde_json::from_str(&event["requestContext"].to_string().replace(ARN, "")).unwrap();
        assert_eq!(caller(&event), Caller::Anonymous);
    }
}

#[test]
fn a_response_has_the_form_of_its_request() {
    let answer = TokenAnswer {
        access_token: Some(Secret::from("token")),
        expires_in: 900,
        expires_at: Some(Timestamp::from_millis(1_775_478_896_000)),
        account: AccountName::default(),
        generation: Generation(1),
        served_from: ServedFrom::Memory,
        extra: None,
    };
    for (mut event, has_cookies) in
        [(version_1("POST", "/token"), false), (version_2("POST", "/token"), true)]
    {
        for (content_type, has_expires_at) in [("application/json", true), (FORM, false)] {
            event["headers"] = json!({"content-type": content_type});
            let text = event.to_string();
            let reply = Ok(Reply::Token(answer.clone()));
            let response = respond(reply, request(&text).form(), "id");
            let response = serde_json::to_value(response).unwrap();
            assert_eq!((&response["statusCode"], &response["isBase64Encoded"]), (&json!(200), &json!(false)));
            assert_eq!(response["cookies"], if has_cookies { json!([]) } else { Value::Null });
            let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
            assert_eq!(
                (&body["access_token"], body["expires_at"].is_string()),
                (&json!("token"), has_expires_at)
            );
        }
    }
}

#[test]
fn an_error_has_the_headers_that_tell_what_to_do() {
    let common =
        json!({"content-type": "application/json", "cache-control": "no-store", "pragma": "no-cache"});
    let with = |name: &str, value: &str| {
        let mut headers = common.clone();
        headers[name] = json!(value);
        headers
    };
    let limited = protocol::Failure::UpstreamRateLimited { retry_after: Duration::from_secs(12) };
    for (error, status, headers) in [
        (RequestError::NoSuchPath, 404, common.clone()),
        (RequestError::WrongMethod { allow: "POST" }, 405, with("allow", "POST")),
        (limited.into(), 503, with("retry-after", "12")),
    ] {
        let response = serde_json::to_value(respond(Err(error), HttpForm::default(), "id")).unwrap();
        assert_eq!((&response["statusCode"], &response["headers"]), (&json!(status), &headers));
        let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["request_id"], "id");
    }
}
