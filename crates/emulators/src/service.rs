//! An AWS service: an engine behind a thin front that counts operations and injects faults.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use crate::aws::{self, AwsFault, AwsFaults, OperationKind};
use crate::clock::Clock;
use crate::server::{Listen, Peer, Server};
use crate::{REGION, StartError};

const CONFLICT: &[u8] = b"ConditionalCheckFailedException";

/// The engine behind a front.
#[derive(Debug)]
pub struct Engine {
    /// The engine's URL.
    pub url: String,
    /// Whether it checks a condition and writes atomically. If not, the front forwards one write at a time.
    pub writes_are_atomic: bool,
}

/// An AWS service, up and running.
#[derive(Debug)]
pub struct Service {
    server: Server,
    front: Arc<Front>,
}

/// The requests so far, including those that met a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Operations that read items or secrets.
    pub reads: u64,
    /// Operations that change items or secrets.
    pub writes: u64,
    /// Writes that were answered with `ConditionalCheckFailedException`.
    pub conditional_conflicts: u64,
    /// Faults that were injected.
    pub faults_injected: u64,
}

#[derive(Debug)]
struct Front {
    engine: Engine,
    writing: tokio::sync::Mutex<()>,
    client: reqwest::Client,
    throttling_error: &'static str,
    faults: AwsFaults,
    reads: AtomicU64,
    writes: AtomicU64,
    conditional_conflicts: AtomicU64,
    operations: Mutex<BTreeSet<String>>,
    clock: Clock,
}

impl Service {
    /// Starts the front of an engine. `throttling_error` is the service's error type for throttling.
    pub async fn start(
        name: &'static str,
        listen: Listen,
        engine: Engine,
        throttling_error: &'static str,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let front = Arc::new(Front {
            engine,
            writing: tokio::sync::Mutex::default(),
            client: engine_client()?,
            throttling_error,
            faults: AwsFaults::default(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            conditional_conflicts: AtomicU64::new(0),
            operations: Mutex::default(),
            clock,
        });
        let routes = Router::new()
            .fallback(pass_on)
            // DynamoDB's own limit.
            .layer(DefaultBodyLimit::max(16 * 1024 * 1024))
            .with_state(Arc::clone(&front));
        Ok(Self { server: Server::start(name, listen, routes).await?, front })
    }

    /// The endpoint URL for the AWS SDK.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.server.connections().get()
    }

    /// The requests so far.
    pub fn counts(&self) -> Counts {
        let front = &self.front;
        Counts {
            reads: front.reads.load(Ordering::Relaxed),
            writes: front.writes.load(Ordering::Relaxed),
            conditional_conflicts: front.conditional_conflicts.load(Ordering::Relaxed),
            faults_injected: front.faults.injected(),
        }
    }

    /// The names of the operations so far.
    pub fn operations(&self) -> BTreeSet<String> {
        self.front.operations().clone()
    }

    /// The planned faults.
    pub fn faults(&self) -> &AwsFaults {
        &self.front.faults
    }

    /// Clears all faults, and counts from zero again.
    pub(crate) fn reset(&self) {
        self.front.faults.reset();
        for count in [&self.front.reads, &self.front.writes, &self.front.conditional_conflicts] {
            count.store(0, Ordering::Relaxed);
        }
        self.front.operations().clear();
    }

    /// The engine's own endpoint URL, whose requests are not counted and meet no fault.
    pub fn engine_url(&self) -> &str {
        &self.front.engine.url
    }

    /// Sends an operation to the engine itself, in the service's JSON, without counting it or applying a fault. An
    /// error is the engine's text.
    pub(crate) async fn call(
        &self,
        api: &Api,
        operation: &str,
        parameters: &Value,
    ) -> Result<Result<Value, String>, StartError> {
        let response = self
            .front
            .client
            .post(&self.front.engine.url)
            .header("content-type", api.content_type)
            .header("x-amz-target", format!("{}.{operation}", api.target))
            .header("x-amz-date", "20260101T000000Z")
            .header("authorization", api.unchecked_signature())
            .body(parameters.to_string())
            .send()
            .await?;
        let status = response.status();
        let text = response.text().await?;
        Ok(match serde_json::from_str(&text) {
            Ok(output) if status.is_success() => Ok(output),
            _ => Err(format!("{operation} returned {status}: {text}")),
        })
    }
}

/// How a service names its operations.
pub(crate) struct Api {
    pub(crate) target: &'static str,
    pub(crate) content_type: &'static str,
    /// The service's name in a signature.
    pub(crate) signing_name: &'static str,
}

impl Api {
    /// Engines require a well-formed signature but do not check it. moto takes the service's name from it.
    fn unchecked_signature(&self) -> String {
        let scope = format!("local/20260101/{REGION}/{}/aws4_request", self.signing_name);
        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none")
    }
}

fn engine_client() -> Result<reqwest::Client, StartError> {
    Ok(reqwest::Client::builder()
        .no_proxy()
        // Reading the machine's certificates takes a while, and no connection here uses TLS.
        .tls_certs_only([])
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_mins(1))
        .build()?)
}

async fn pass_on(
    State(front): State<Arc<Front>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = aws::operation(&headers);
    front.operations().insert(operation.to_owned());
    let kind = kind(operation);
    match kind {
        OperationKind::Read => front.reads.fetch_add(1, Ordering::Relaxed),
        OperationKind::Write => front.writes.fetch_add(1, Ordering::Relaxed),
        OperationKind::Other => 0,
    };
    let fault = front.faults.next(|operations| operations.cover(kind, &body));
    if let Some(fault) = fault
        && let Some(response) = fault.response(&peer, front.throttling_error).await
    {
        return response;
    }
    // As in AWS, a request that has arrived is carried out even if the client hangs up.
    let response = tokio::spawn(Arc::clone(&front).carry_out(kind, headers, body)).await;
    match fault {
        Some(AwsFault::LostReply) => return peer.close(),
        Some(AwsFault::Slow) => tokio::time::sleep(aws::SLOW).await,
        _ => {}
    }
    let response = response.unwrap_or_else(|panicked| bad_gateway(&panicked));
    if fault == Some(AwsFault::Unproven) { aws::without_proof(response) } else { response }
}

impl Front {
    fn operations(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(self: Arc<Self>, kind: OperationKind, headers: HeaderMap, body: Bytes) -> Response {
        let _writing = match kind {
            OperationKind::Write if !self.engine.writes_are_atomic => Some(self.writing.lock().await),
            _ => None,
        };
        self.pass_to_engine(headers, body).await.unwrap_or_else(|error| bad_gateway(&error))
    }

    async fn pass_to_engine(&self, mut headers: HeaderMap, body: Bytes) -> Result<Response, reqwest::Error> {
        strip_hop_by_hop(&mut headers);
        let answer = self.client.post(&self.engine.url).headers(headers).body(body).send().await?;
        let status = answer.status();
        let mut headers = answer.headers().clone();
        strip_hop_by_hop(&mut headers);
        headers.insert(DATE, self.clock.http_date());
        let body = answer.bytes().await?;
        if status == StatusCode::BAD_REQUEST && contains(&body, CONFLICT) {
            self.conditional_conflicts.fetch_add(1, Ordering::Relaxed);
        }
        Ok((status, headers, body).into_response())
    }
}

fn bad_gateway(error: &dyn std::fmt::Display) -> Response {
    (StatusCode::BAD_GATEWAY, error.to_string()).into_response()
}

/// The two connections of the front have their own framing.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn kind(operation: &str) -> OperationKind {
    match operation {
        "GetItem" | "BatchGetItem" | "TransactGetItems" | "Query" | "Scan" | "GetSecretValue"
        | "DescribeSecret" => OperationKind::Read,
        "PutItem" | "UpdateItem" | "DeleteItem" | "BatchWriteItem" | "TransactWriteItems"
        | "PutSecretValue" | "CreateSecret" | "DeleteSecret" => OperationKind::Write,
        _ => OperationKind::Other,
    }
}
