//! DynamoDB: an in-memory engine, its front, and the broker's table.

use std::io;
use std::net::Ipv4Addr;

use dynoxide::Database;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::StartError;
use crate::clock::Clock;
use crate::server::Listen;
use crate::service::{Api, Engine, Service};

const SERVICE: &str = "DynamoDB";
const THROTTLING_ERROR: &str = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException";

const API: Api =
    Api { target: "DynamoDB_20120810", content_type: "application/x-amz-json-1.0", signing_name: "dynamodb" };

/// The embedded DynamoDB. It stops when it is dropped.
#[derive(Debug)]
pub(super) struct Embedded {
    pub(super) url: String,
    serving: JoinHandle<()>,
}

impl Embedded {
    pub(super) async fn start() -> Result<Self, StartError> {
        let database =
            Database::memory().map_err(|error| StartError::Engine { reason: error.to_string() })?;
        let failed = |error: io::Error| StartError::Engine { reason: error.to_string() };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let serving = tokio::spawn(dynoxide::server::serve_on(listener, database));
        Ok(Self { url: format!("http://{address}"), serving })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Starts the service on this engine.
pub(super) async fn front(listen: Listen, engine: Engine, clock: Clock) -> Result<Service, StartError> {
    Service::start(SERVICE, listen, engine, THROTTLING_ERROR, clock).await
}

/// Creates the broker's table: key `pk`, TTL attribute `ttl`.
pub(super) async fn create_table(dynamodb: &Service, name: &str) -> Result<(), StartError> {
    let table = json!({
        "TableName": name,
        "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }],
        "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }],
        "BillingMode": "PAY_PER_REQUEST",
    });
    call(dynamodb, "CreateTable", &table).await?;
    let time_to_live = json!({
        "TableName": name,
        "TimeToLiveSpecification": { "AttributeName": "ttl", "Enabled": true },
    });
    call(dynamodb, "UpdateTimeToLive", &time_to_live).await?;
    Ok(())
}

/// Deletes all items.
pub(super) async fn empty_table(dynamodb: &Service, name: &str) -> Result<(), StartError> {
    let scan = json!({ "TableName": name, "ProjectionExpression": "pk" });
    loop {
        let page = call(dynamodb, "Scan", &scan).await?;
        for key in page.get("Items").and_then(Value::as_array).into_iter().flatten() {
            call(dynamodb, "DeleteItem", &json!({ "TableName": name, "Key": key })).await?;
        }
        // The items found are deleted, so the next scan starts with the rest.
        if page.get("LastEvaluatedKey").is_none() {
            return Ok(());
        }
    }
}

/// Sends an operation to the engine itself, in DynamoDB's JSON, without counting it or applying a fault.
pub async fn call(dynamodb: &Service, operation: &str, parameters: &Value) -> Result<Value, StartError> {
    dynamodb.call(&API, operation, parameters).await?.map_err(|reason| StartError::Engine { reason })
}
