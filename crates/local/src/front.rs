//! HTTP in front of the real handler, in two forms.
//!
//! As an HTTP API: a request becomes an event of payload version 2, signed by a local identity. As Lambda: an AWS SDK
//! whose Lambda endpoint is this server invokes the function directly.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, Method, Response, StatusCode, Uri},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use emulators::{REGION, StartError, server::Server};
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use token_broker::{inbound::Handler, outbound::SystemClock, ports::Clock};

/// The identity of every local request.
pub const LOCAL_IDENTITY: &str = "arn:aws:iam::000000000000:user/local";
/// The function's name for direct invokes.
pub const FUNCTION: &str = "token-broker";
/// The function's timeout, as the template sets it.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves the contract's routes and Lambda's Invoke API on this port of 127.0.0.1.
pub async fn start(port: u16, handler: Handler) -> Result<Server, StartError> {
    start_with(port, handler, Router::new()).await
}

/// Like [`start`], with further routes.
pub async fn start_with(port: u16, handler: Handler, further: Router) -> Result<Server, StartError> {
    let routes = Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .fallback(http_api)
        .with_state(handler);
    Server::start("the broker", port, routes.merge(further)).await
}

/// The invocation context of a local request.
pub fn context() -> Context {
    let mut context = Context::default();
    context.request_id = format!("local-{:016x}", fastrand::u64(..));
    context.deadline = SystemClock.now().plus(FUNCTION_TIMEOUT).as_millis();
    context
}

async fn http_api(
    State(handler): State<Handler>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let event = LambdaEvent::new(http_event(&method, &uri, &headers, &body), context());
    let answer = match run(handler, event).await {
        Ok(answer) => answer,
        Err(error) => json!({"statusCode": 500, "body": error.error_message}),
    };
    http_response(&answer).unwrap_or_else(|| Response::new(Body::from("the handler's response is malformed")))
}

/// Lambda's Invoke API. An error of the function has status 200 too; a header tells them apart.
async fn invoke(
    State(handler): State<Handler>,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    payload: Bytes,
) -> Response<Body> {
    let Some(arn) = function_arn(&name, query.get("Qualifier").map(String::as_str)) else {
        let message = format!("Function not found: {name}");
        return lambda_error(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message);
    };
    let payload = if payload.is_empty() { Ok(json!({})) } else { serde_json::from_slice(&payload) };
    let Ok(payload) = payload else {
        let message = "Could not parse request body into json";
        return lambda_error(StatusCode::BAD_REQUEST, "InvalidRequestContentException", message);
    };
    let mut context = context();
    context.invoked_function_arn = arn;
    match run(handler, LambdaEvent::new(payload, context)).await {
        Ok(answer) => json_response(StatusCode::OK, None, &answer),
        Err(error) => {
            let error = json!({"errorType": error.error_type, "errorMessage": error.error_message});
            json_response(StatusCode::OK, Some(("x-amz-function-error", "Unhandled")), &error)
        }
    }
}

/// Runs an invocation on its own task. As in Lambda, it goes on if the client hangs up.
async fn run(handler: Handler, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
    tokio::spawn(async move { handler.handle(event).await.map(Value::from) }).await.unwrap_or_else(
        |_panicked| {
            Err(Diagnostic {
                error_type: "internal".to_owned(),
                error_message: "the handler panicked".to_owned(),
            })
        },
    )
}

/// The ARN that the function gets, from a name or an ARN, with or without an alias.
fn function_arn(name: &str, qualifier: Option<&str>) -> Option<String> {
    let name = name.rsplit_once(":function:").map_or(name, |(_, name)| name);
    let (function, alias) =
        name.split_once(':').map_or((name, qualifier), |(name, alias)| (name, Some(alias)));
    let alias = alias.map(|alias| format!(":{alias}")).unwrap_or_default();
    (function == FUNCTION).then(|| format!("arn:aws:lambda:{REGION}:000000000000:function:{FUNCTION}{alias}"))
}

fn lambda_error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    json_response(status, Some(("x-amzn-errortype", code)), &json!({"Type": "User", "Message": message}))
}

fn json_response(status: StatusCode, header: Option<(&str, &str)>, body: &Value) -> Response<Body> {
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    if let Some((name, value)) = header {
        response = response.header(name, value);
    }
    response.body(Body::from(body.to_string())).unwrap_or_default()
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
