//! An HTTP client for the AWS SDK that returns scripted responses, and records every request and setting.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{
    Credentials, HttpClient, RuntimeComponents,
    http::{HttpRequest, HttpResponse},
};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        result::ConnectorError,
    },
    http::StatusCode,
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// How a service handles a request.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    Respond(u16, Value),
    /// A success with this body and these headers.
    Forge(&'static str, &'static [(&'static str, &'static str)]),
    /// A 400 with this body, without proof that the service wrote it.
    ForgeError(&'static str),
    Reset,
    Hang,
}

/// An error in the form of the AWS JSON protocols.
pub(crate) fn error(status: u16, error_type: &str) -> Script {
    Script::Respond(status, json!({"__type": error_type, "message": "tell-tale"}))
}

/// A service of AWS. Clones are the same service.
#[derive(Clone, Debug)]
pub(crate) struct Service(Arc<State>);

#[derive(Debug)]
struct State {
    started: Instant,
    scripts: Mutex<VecDeque<Script>>,
    requests: Mutex<Vec<Received>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) target: String,
    pub(crate) body: Value,
    /// Time since the service was started.
    pub(crate) after: Duration,
}

impl Service {
    pub(crate) fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self(Arc::new(State {
            started: Instant::now(),
            scripts: Mutex::new(scripts.into_iter().collect()),
            requests: Mutex::default(),
        }))
    }

    pub(crate) async fn sdk(&self) -> SdkConfig {
        aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("local", "local", None, None, "local"))
            .endpoint_url("http://aws.invalid")
            .http_client(self.clone())
            .load()
            .await
    }

    pub(crate) fn requests(&self) -> Vec<Received> {
        self.0.requests.lock().unwrap().clone()
    }

    /// The only request: its target and its body.
    pub(crate) fn request(&self) -> (String, Value) {
        let [request] = <[Received; 1]>::try_from(self.requests()).expect("one request");
        (request.target, request.body)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }
}

impl HttpClient for Service {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// In DynamoDB's form.
pub(crate) fn checksum(body: &str) -> String {
    crc32fast::hash(body.as_bytes()).to_string()
}

fn response(status: u16, body: &str, headers: &[(&'static str, &str)]) -> HttpResponse {
    let status = StatusCode::try_from(status).expect("a status");
    let mut response = HttpResponse::new(status, body.to_owned().into());
    for (name, value) in headers {
        response.headers_mut().insert(*name, (*value).to_owned());
    }
    response
}

impl HttpConnector for Service {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").expect("a target").to_owned();
        let body = serde_json::from_slice(request.body().bytes().expect("a body")).expect("JSON");
        let received = Received { target, body, after: self.elapsed() };
        self.0.requests.lock().unwrap().push(received);
        let script = self.0.scripts.lock().unwrap().pop_front().unwrap_or(Script::Hang);
        HttpConnectorFuture::new(async move {
            match script {
                Script::Respond(status, body) => {
                    let body = body.to_string();
                    let proof = [("x-amzn-requestid", "an id"), ("x-amz-crc32", &checksum(&body))];
                    Ok(response(status, &body, &proof))
                }
                Script::Forge(body, headers) => Ok(response(200, body, headers)),
                Script::ForgeError(body) => Ok(response(400, body, &[])),
                Script::Reset => Err(ConnectorError::io("connection reset".into())),
                Script::Hang => std::future::pending().await,
            }
        })
    }
}
