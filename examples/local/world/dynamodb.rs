//! `DynamoDB`: an in-memory engine behind a thin front that counts operations and plays faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use dynoxide::Database;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::StartError;
use super::aws::{self, AwsFault, AwsFaults, Kind};
use super::server::{self, Peer, Server};

const SERVICE: &str = "DynamoDB";
const THROTTLING_ERROR: &str = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";
const CONFLICT: &[u8] = b"ConditionalCheckFailedException";

/// The emulated `DynamoDB`.
pub struct DynamoDb {
    server: Server,
    front: Arc<Front>,
    database: Database,
    engine: JoinHandle<()>,
}

/// What has reached the emulated `DynamoDB` so far, faults included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Operations that only read items.
    pub reads: u64,
    /// Operations that change items.
    pub writes: u64,
    /// Writes that were answered with `ConditionalCheckFailedException`.
    pub conditional_conflicts: u64,
    /// Faults that have happened.
    pub faults_played: u64,
}

#[derive(Debug)]
struct Front {
    engine_url: String,
    client: reqwest::Client,
    faults: AwsFaults,
    reads: AtomicU64,
    writes: AtomicU64,
    conditional_conflicts: AtomicU64,
}

impl DynamoDb {
    /// Starts an empty `DynamoDB` on this port.
    pub async fn start(port: u16) -> Result<Self, StartError> {
        let database = Database::memory().map_err(|error| defect(&error))?;
        let (listener, address) = server::listen(SERVICE, 0).await?;
        let front = Arc::new(Front {
            engine_url: format!("http://{address}/"),
            client: engine_client()?,
            faults: AwsFaults::default(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            conditional_conflicts: AtomicU64::new(0),
        });
        let routes = Router::new()
            .fallback(pass_on)
            // DynamoDB's own limit.
            .layer(DefaultBodyLimit::max(16 * 1024 * 1024))
            .with_state(Arc::clone(&front));
        let server = Server::start(SERVICE, port, routes).await?;
        let engine = tokio::spawn(dynoxide::server::serve_on(listener, database.clone()));
        Ok(Self { server, front, database, engine })
    }

    /// The endpoint URL for the AWS SDK.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What has reached this service so far.
    pub fn counts(&self) -> Counts {
        let front = &self.front;
        Counts {
            reads: front.reads.load(Ordering::Relaxed),
            writes: front.writes.load(Ordering::Relaxed),
            conditional_conflicts: front.conditional_conflicts.load(Ordering::Relaxed),
            faults_played: front.faults.played(),
        }
    }

    /// The faults to plan and to clear.
    pub fn faults(&self) -> &AwsFaults {
        &self.front.faults
    }

    /// The engine itself: what is done here is neither counted nor disturbed.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Creates a table in the form that the broker needs: key `pk`, TTL attribute `ttl`.
    pub fn create_table(&self, name: &str) -> Result<(), StartError> {
        self.database
            .create_table(request(json!({
                "TableName": name,
                "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
                "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
                "BillingMode": "PAY_PER_REQUEST",
            }))?)
            .map_err(|error| defect(&error))?;
        self.database
            .update_time_to_live(request(json!({
                "TableName": name,
                "TimeToLiveSpecification": { "AttributeName": "ttl", "Enabled": true },
            }))?)
            .map_err(|error| defect(&error))?;
        Ok(())
    }
}

impl Drop for DynamoDb {
    fn drop(&mut self) {
        self.engine.abort();
    }
}

fn request<T: DeserializeOwned>(json: Value) -> Result<T, StartError> {
    serde_json::from_value(json).map_err(|error| defect(&error))
}

fn defect(error: &dyn std::fmt::Display) -> StartError {
    StartError::Database { reason: error.to_string() }
}

fn engine_client() -> Result<reqwest::Client, StartError> {
    Ok(reqwest::Client::builder()
        .no_proxy()
        // Nothing here is TLS, and reading the machine's certificates takes a while.
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
    let kind = kind(aws::operation(&headers));
    match kind {
        Kind::Read => front.reads.fetch_add(1, Ordering::Relaxed),
        Kind::Write => front.writes.fetch_add(1, Ordering::Relaxed),
        Kind::Other => 0,
    };
    let fault = front.faults.next(|operations| operations.cover(kind));
    if let Some(fault) = fault
        && let Some(response) = fault.instead_of_work(&peer, THROTTLING_ERROR).await
    {
        return response;
    }
    let response = front.ask_engine(headers, body).await;
    if fault == Some(AwsFault::LostReply) {
        return peer.close();
    }
    response.unwrap_or_else(|error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response())
}

impl Front {
    async fn ask_engine(&self, mut headers: HeaderMap, body: Bytes) -> Result<Response, reqwest::Error> {
        strip_hop_by_hop(&mut headers);
        let answer = self.client.post(&self.engine_url).headers(headers).body(body).send().await?;
        let status = answer.status();
        let mut headers = answer.headers().clone();
        strip_hop_by_hop(&mut headers);
        let body = answer.bytes().await?;
        if status == StatusCode::BAD_REQUEST && contains(&body, CONFLICT) {
            self.conditional_conflicts.fetch_add(1, Ordering::Relaxed);
        }
        Ok((status, headers, body).into_response())
    }
}

/// Each side of the front has its own connection, with its own framing.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn kind(operation: &str) -> Kind {
    match operation {
        "GetItem" | "BatchGetItem" | "TransactGetItems" | "Query" | "Scan" => Kind::Read,
        "PutItem" | "UpdateItem" | "DeleteItem" | "BatchWriteItem" | "TransactWriteItems" => Kind::Write,
        _ => Kind::Other,
    }
}
