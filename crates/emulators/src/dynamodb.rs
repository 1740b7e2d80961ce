//! `DynamoDB`: an in-memory engine, its front, and the table that a broker needs.

use dynoxide::Database;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::service::{Engine, Service};
use super::{StartError, server};

const SERVICE: &str = "DynamoDB";
const THROTTLING_ERROR: &str = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";

/// Engines insist on the form of a signature, and moto reads there which service is meant. None
/// checks it.
const UNCHECKED_SIGNATURE: &str = "AWS4-HMAC-SHA256 \
     Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=none";

/// The embedded `DynamoDB`. It stops when it is dropped.
#[derive(Debug)]
pub(super) struct Embedded {
    pub url: String,
    serving: JoinHandle<()>,
}

impl Embedded {
    /// Starts an empty `DynamoDB` on any free port.
    pub async fn start() -> Result<Self, StartError> {
        let database =
            Database::memory().map_err(|error| StartError::Engine { reason: error.to_string() })?;
        let (listener, address) = server::listen(SERVICE, 0).await?;
        let serving = tokio::spawn(dynoxide::server::serve_on(listener, database));
        Ok(Self { url: format!("http://{address}"), serving })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The service, with this engine.
pub(super) async fn front(port: u16, engine: Engine) -> Result<Service, StartError> {
    Service::start(SERVICE, port, engine, THROTTLING_ERROR).await
}

/// Creates a table in the form that the broker needs: key `pk`, TTL attribute `ttl`.
pub(super) async fn create_table(dynamodb: &Service, name: &str) -> Result<(), StartError> {
    let table = json!({
        "TableName": name,
        "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
        "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
        "BillingMode": "PAY_PER_REQUEST",
    });
    ask(dynamodb, "CreateTable", &table).await?;
    let time_to_live = json!({
        "TableName": name,
        "TimeToLiveSpecification": { "AttributeName": "ttl", "Enabled": true },
    });
    ask(dynamodb, "UpdateTimeToLive", &time_to_live).await?;
    Ok(())
}

/// Asks the engine itself, in `DynamoDB`'s own JSON: neither counted nor disturbed.
pub async fn ask(dynamodb: &Service, operation: &str, parameters: &Value) -> Result<Value, StartError> {
    let answer = dynamodb
        .engine_request()
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("DynamoDB_20120810.{operation}"))
        .header("x-amz-date", "20260101T000000Z")
        .header("authorization", UNCHECKED_SIGNATURE)
        .body(parameters.to_string())
        .send()
        .await?;
    let status = answer.status();
    let text = answer.text().await?;
    match serde_json::from_str(&text) {
        Ok(answer) if status.is_success() => Ok(answer),
        _ => Err(StartError::Engine { reason: format!("{operation} came to {status}: {text}") }),
    }
}
