//! HTTP in front of the real handler, as an HTTP API in front of the function: every request becomes a
//! payload of version 2, signed by a local identity.

use super::world::{StartError, server::Server};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Response, StatusCode, Uri},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};
use std::time::Duration;
use token_broker::{
    adapters::{clock::SystemClock, lambda::Handler},
    ports::Clock,
};

/// Who every local request comes from.
pub const LOCAL_IDENTITY: &str = "arn:aws:iam::000000000000:user/local";
/// The function's timeout, as the template sets it.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the contract's routes on this port of 127.0.0.1.
pub async fn start(port: u16, handler: Handler) -> Result<Server, StartError> {
    Server::start("the broker", port, Router::new().fallback(pass_on).with_state(handler)).await
}

/// The invocation context of a local request.
pub fn context() -> Context {
    let mut context = Context::default();
    context.request_id = format!("local-{:016x}", fastrand::u64(..));
    context.deadline = SystemClock.now().plus(FUNCTION_TIMEOUT).as_millis();
    context
}

async fn pass_on(
    State(handler): State<Handler>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let event = LambdaEvent::new(http_event(&method, &uri, &headers, &body), context());
    // On a task of its own: a client that hangs up does not end an invocation of a function either.
    let answer = match tokio::spawn(async move { handler.handle(event).await }).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => json!({"statusCode": 500, "body": error.error_message}),
        Err(_panicked) => json!({"statusCode": 500, "body": "the handler panicked"}),
    };
    http_response(&answer).unwrap_or_else(|| Response::new(Body::from("the handler's response is malformed")))
}

fn http_event(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Value {
    let headers: serde_json::Map<String, Value> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": uri.path(),
        "rawQueryString": uri.query().unwrap_or_default(),
        "headers": headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "authorizer": {"iam": {"accountId": "000000000000", "userArn": LOCAL_IDENTITY}},
            "domainName": "localhost",
            "http": {"method": method.as_str(), "path": uri.path(), "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "requestId": "local",
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": SystemClock.now().as_millis(),
        },
        "body": BASE64_STANDARD.encode(body),
        "isBase64Encoded": true,
    })
}

fn http_response(answer: &Value) -> Option<Response<Body>> {
    let status = answer.get("statusCode")?.as_u64().and_then(|status| u16::try_from(status).ok())?;
    let mut response = Response::builder().status(StatusCode::from_u16(status).ok()?);
    for (name, value) in answer.get("headers").and_then(Value::as_object).into_iter().flatten() {
        response = response.header(name, value.as_str()?);
    }
    let body = answer.get("body").and_then(Value::as_str).unwrap_or_default();
    response.body(Body::from(format!("{body}\n"))).ok()
}
