//! HTTP in front of the real handler, in two forms.
//!
//! As an HTTP API, it turns a request into an event of payload version 2, signed by a local identity. As Lambda, it
//! serves AWS SDKs whose Lambda endpoint it is.

use crate::clock::WorldClock;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::{HeaderMap, Method, Response, StatusCode, Uri},
    routing::post,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::ErrorCode;
use emulators::{
    REGION, StartError,
    server::{Listen, Server},
};
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use protocol::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};
use token_broker::{
    inbound::{Handler, way_in::FUNCTION_TIMEOUT},
    outbound::SystemClock,
    ports::Clock,
};

/// The identity of every local request.
pub const LOCAL_IDENTITY: &str = "arn:aws:iam::000000000000:user/local";
/// The function's name for direct invocations.
pub const FUNCTION: &str = "token-broker";
/// The alias of the HTTP API.
pub const HTTP_ALIAS: &str = "http";
/// The alias of the schedule.
pub const SCHEDULE_ALIAS: &str = "schedule";
/// The aliases that the template publishes, and the unqualified function.
const QUALIFIERS: [&str; 5] = ["live", "operator", HTTP_ALIAS, SCHEDULE_ALIAS, "$LATEST"];

/// The function, with one instance of the broker at a time.
pub struct Function {
    instance: RwLock<Handler>,
    clock: Box<dyn Clock>,
}

impl Function {
    /// A function whose time is the world's.
    pub fn new(instance: Handler, clock: WorldClock) -> Self {
        Self { instance: RwLock::new(instance), clock: Box::new(clock) }
    }

    /// Replaces the instance, and with it its memory. Its invocations continue.
    pub fn replace(&self, instance: Handler) {
        *self.instance.write().unwrap_or_else(PoisonError::into_inner) = instance;
    }

    /// Runs an invocation on its own task. As in Lambda, it continues if the client hangs up.
    async fn run(&self, payload: Value, arn: String) -> Result<Value, Diagnostic> {
        let instance = self.instance.read().unwrap_or_else(PoisonError::into_inner).clone();
        let event = LambdaEvent::new(payload, invocation(self.clock.now(), arn));
        tokio::spawn(async move { instance.handle(event).await.map(Value::from) }).await.unwrap_or_else(
            |_panicked| {
                Err(Diagnostic {
                    error_type: ErrorCode::Internal.as_str().to_owned(),
                    error_message: "the handler panicked".to_owned(),
                })
            },
        )
    }
}

/// Serves the contract's routes and Lambda's Invoke API on this port of 127.0.0.1.
pub async fn start(port: u16, handler: Handler) -> Result<Server, StartError> {
    let function = Function { instance: RwLock::new(handler), clock: Box::new(SystemClock) };
    start_with(port.into(), Arc::new(function), Router::new()).await
}

/// Serves this function, and further routes.
pub async fn start_with(
    listen: Listen,
    function: Arc<Function>,
    further: Router,
) -> Result<Server, StartError> {
    let routes = Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .fallback(http_api)
        .with_state(function);
    Server::start("the broker", listen, routes.merge(further)).await
}

/// The context of a local invocation without an alias.
pub fn context() -> Context {
    invocation(SystemClock.now(), String::new())
}

/// The context of an invocation through this ARN.
pub(crate) fn invocation(now: Timestamp, arn: String) -> Context {
    let mut context = Context::default();
    context.request_id = format!("local-{:016x}", fastrand::u64(..));
    context.deadline = now.plus(FUNCTION_TIMEOUT).as_millis();
    context.invoked_function_arn = arn;
    context
}

async fn http_api(
    State(function): State<Arc<Function>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let event = http_event(&method, &uri, &headers, &body, function.clock.now());
    let answer = match function.run(event, arn_of(HTTP_ALIAS)).await {
        Ok(answer) => answer,
        Err(error) => json!({"statusCode": 500, "body": error.error_message}),
    };
    http_response(&answer).unwrap_or_else(|| Response::new(Body::from("the handler's response is malformed")))
}

/// Lambda's Invoke API. A function error has status 200 too, and a header that distinguishes it.
async fn invoke(
    State(function): State<Arc<Function>>,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    payload: Bytes,
) -> Response<Body> {
    let arn = match function_arn(&name, query.get("Qualifier").map(String::as_str)) {
        Ok(arn) => arn,
        Err(unknown) => {
            let message = format!("Function not found: {unknown}");
            return lambda_error(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message);
        }
    };
    let payload = if payload.is_empty() { Ok(json!({})) } else { serde_json::from_slice(&payload) };
    let Ok(payload) = payload else {
        let message = "Could not parse request body into json";
        return lambda_error(StatusCode::BAD_REQUEST, "InvalidRequestContentException", message);
    };
    match function.run(payload, arn).await {
        Ok(answer) => json_response(StatusCode::OK, None, &answer),
        Err(error) => {
            let error = json!({"errorType": error.error_type, "errorMessage": error.error_message});
            json_response(StatusCode::OK, Some(("x-amz-function-error", "Unhandled")), &error)
        }
    }
}

/// The ARN of the function, with an alias.
pub(crate) fn arn_of(alias: &str) -> String {
    format!("arn:aws:lambda:{REGION}:000000000000:function:{FUNCTION}:{alias}")
}

/// The function's ARN for a name or an ARN, with or without an alias. An error is the ARN of a function or alias that
/// does not exist.
fn function_arn(name: &str, qualifier: Option<&str>) -> Result<String, String> {
    let name = name.rsplit_once(":function:").map_or(name, |(_, name)| name);
    let (function, alias) =
        name.split_once(':').map_or((name, qualifier), |(name, alias)| (name, Some(alias)));
    let suffix = alias.map(|alias| format!(":{alias}")).unwrap_or_default();
    let arn = format!("arn:aws:lambda:{REGION}:000000000000:function:{function}{suffix}");
    let exists = function == FUNCTION && alias.is_none_or(|alias| QUALIFIERS.contains(&alias));
    if exists { Ok(arn) } else { Err(arn) }
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

fn http_event(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Value {
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
            "timeEpoch": now.as_millis(),
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
