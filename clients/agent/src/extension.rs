//! Lambda's Extensions API.

use crate::log::{Level, log};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use serde_json::Value;
use std::time::Duration;
use token_broker_client::http::{BaseUrl, HttpClient, SendError, Sent, collect, full};
use tokio::time::{Instant, sleep};

const LONGEST_ANSWER: usize = 64 * 1024;
/// AWS's emulator starts extensions before its API listens.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);
const NAME: HeaderName = HeaderName::from_static("lambda-extension-name");
const IDENTIFIER: HeaderName = HeaderName::from_static("lambda-extension-identifier");

/// A registration with Lambda.
pub(crate) struct Extension {
    api: BaseUrl,
    http: HttpClient,
    identifier: HeaderValue,
}

impl Extension {
    /// Registers for SHUTDOWN only. Lambda Managed Instances refuse extensions that register for INVOKE, and the agent
    /// has nothing to do for an invocation.
    pub(crate) async fn register(http: HttpClient, runtime_api: &str, name: &str) -> Result<Self, String> {
        // Lambda gives only host and port, cargo-lambda's emulator a URL.
        let host = runtime_api.strip_prefix("http://").unwrap_or(runtime_api);
        let api = BaseUrl::parse_any(&format!("http://{host}"))
            .map_err(|error| format!("AWS_LAMBDA_RUNTIME_API is {error}"))?;
        let name = HeaderValue::from_str(name)
            .map_err(|_| "the program's name cannot be sent in a header".to_owned())?;
        let response = send_registration(&http, &api, &name).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        // Read to its end, so that the connection can be used again.
        let body = collect(body, LONGEST_ANSWER).await.unwrap_or_default();
        match head.headers.get(&IDENTIFIER).cloned() {
            Some(identifier) if head.status.is_success() => Ok(Self { api, http, identifier }),
            _ => Err(refused("the registration", head.status, &body)),
        }
    }

    /// Waits for Lambda to shut down the environment. The first call also tells Lambda that the extension is ready, so
    /// nothing may be awaited before it.
    pub(crate) async fn until_shutdown(&self) -> Result<(), String> {
        loop {
            let mut request = Request::new(full(""));
            *request.uri_mut() = http::Uri::from_static("/2020-01-01/extension/event/next");
            request.headers_mut().insert(IDENTIFIER, self.identifier.clone());
            let response =
                self.http.send(&self.api.target, request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body =
                collect(response.into_body(), LONGEST_ANSWER).await.map_err(|error| error.to_string())?;
            if !status.is_success() {
                return Err(refused("to give the next event", status, &body));
            }
            let event: Value = serde_json::from_slice(&body).unwrap_or_default();
            if event.get("eventType").and_then(Value::as_str) == Some("SHUTDOWN") {
                return Ok(());
            }
        }
    }
}

/// Lambda's reason is in the body, for example `Extension.InvalidExtensionName`.
fn refused(what: &str, status: StatusCode, body: &[u8]) -> String {
    let reason: Value = serde_json::from_slice(body).unwrap_or_default();
    let texts = ["errorType", "errorMessage"].into_iter().filter_map(|name| reason.get(name)?.as_str());
    let reason: String = texts.flat_map(|text| [" ", text]).collect();
    format!("Lambda refused {what}: HTTP {status}{reason}")
}

/// Sends the registration until there is a connection. A registration that may have arrived is not repeated.
async fn send_registration(http: &HttpClient, api: &BaseUrl, name: &HeaderValue) -> Result<Sent, SendError> {
    let mut gives_up_at = None;
    loop {
        let mut request = Request::new(full(r#"{"events":["SHUTDOWN"]}"#));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static("/2020-01-01/extension/register");
        request.headers_mut().insert(NAME, name.clone());
        let sent = http.send(&api.target, request).await;
        let Err(SendError::NotConnected(..)) = sent else { return sent };
        let until = *gives_up_at.get_or_insert_with(|| {
            log(Level::Info, "waiting for Lambda's Extensions API", &[]);
            Instant::now() + LONGEST_WAIT
        });
        if Instant::now() >= until {
            return sent;
        }
        sleep(PAUSE).await;
    }
}
