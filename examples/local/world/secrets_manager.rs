//! Secrets Manager: as much of it as an AWS SDK needs to read and to replace secrets by name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};

use super::aws::{self, AwsFault, AwsFaults, Kind};
use super::clock::now;
use super::server::{Peer, Server};
use super::{REGION, StartError};

/// The emulated Secrets Manager.
#[derive(Debug)]
pub struct SecretsManager {
    server: Server,
    vault: Arc<Vault>,
}

#[derive(Debug, Default)]
struct Vault {
    secrets: Mutex<HashMap<String, Secret>>,
    reads: AtomicU64,
    faults: AwsFaults,
}

/// The current version of a secret; earlier ones are forgotten.
#[derive(Debug)]
struct Secret {
    version_id: String,
    text: String,
    created_at_seconds: i64,
}

impl SecretsManager {
    /// Starts an empty Secrets Manager on this port.
    pub async fn start(port: u16) -> Result<Self, StartError> {
        let vault = Arc::new(Vault::default());
        let routes = Router::new().route("/", post(handle)).with_state(Arc::clone(&vault));
        let server = Server::start("Secrets Manager", port, routes).await?;
        Ok(Self { server, vault })
    }

    /// The endpoint URL for the AWS SDK.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Stores a new version of a secret and returns its version id.
    pub fn put(&self, name: &str, secret_string: &str) -> String {
        let version_id = random_version_id();
        self.vault.put(name, version_id.clone(), secret_string.to_owned());
        version_id
    }

    /// Forgets a secret, all of its versions.
    pub fn remove(&self, name: &str) {
        self.vault.lock().remove(name);
    }

    /// How often a secret was asked for, faults included.
    pub fn reads(&self) -> u64 {
        self.vault.reads.load(Ordering::Relaxed)
    }

    /// The faults to plan and to clear.
    pub fn faults(&self) -> &AwsFaults {
        &self.vault.faults
    }
}

/// The parameters of all supported operations.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameters {
    name: Option<String>,
    secret_id: Option<String>,
    secret_string: Option<String>,
    version_id: Option<String>,
    client_request_token: Option<String>,
}

async fn handle(
    State(vault): State<Arc<Vault>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let operation = aws::operation(&headers);
    let kind = match operation {
        "GetSecretValue" | "DescribeSecret" => Kind::Read,
        "PutSecretValue" | "CreateSecret" => Kind::Write,
        _ => Kind::Other,
    };
    if operation == "GetSecretValue" {
        vault.reads.fetch_add(1, Ordering::Relaxed);
    }
    let fault = vault.faults.next(|operations| operations.cover(kind));
    if let Some(fault) = fault
        && let Some(response) = fault.instead_of_work(&peer, "ThrottlingException").await
    {
        return response;
    }
    let response = vault.carry_out(operation, &body);
    if fault == Some(AwsFault::LostReply) {
        return peer.close();
    }
    match response {
        Ok(body) => aws::answer(StatusCode::OK, &body),
        Err((error_type, message)) => aws::error(StatusCode::BAD_REQUEST, error_type, message),
    }
}

/// An error's type, and its message.
type Refusal = (&'static str, &'static str);

const NOT_FOUND: Refusal = ("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");

impl Vault {
    fn carry_out(&self, operation: &str, body: &[u8]) -> Result<Value, Refusal> {
        let parameters: Parameters = serde_json::from_slice(body)
            .map_err(|_| ("InvalidRequestException", "The body is not as expected."))?;
        match operation {
            "GetSecretValue" => self.get(parameters),
            "DescribeSecret" => self.describe(parameters),
            "PutSecretValue" => self.put_value(parameters),
            "CreateSecret" => self.create(parameters),
            _ => Err((
                "UnknownOperationException",
                "This emulator knows GetSecretValue, PutSecretValue, CreateSecret, DescribeSecret.",
            )),
        }
    }

    fn get(&self, parameters: Parameters) -> Result<Value, Refusal> {
        let name = name_of(required(parameters.secret_id)?);
        let secrets = self.lock();
        let secret = secrets.get(&name).ok_or(NOT_FOUND)?;
        if parameters.version_id.is_some_and(|wanted| wanted != secret.version_id) {
            return Err(NOT_FOUND);
        }
        Ok(json!({
            "ARN": arn(&name),
            "Name": name,
            "VersionId": secret.version_id,
            "SecretString": secret.text,
            "VersionStages": ["AWSCURRENT"],
            "CreatedDate": secret.created_at_seconds,
        }))
    }

    fn describe(&self, parameters: Parameters) -> Result<Value, Refusal> {
        let name = name_of(required(parameters.secret_id)?);
        let secrets = self.lock();
        let secret = secrets.get(&name).ok_or(NOT_FOUND)?;
        Ok(json!({
            "ARN": arn(&name),
            "Name": name,
            "VersionIdsToStages": { secret.version_id.as_str(): ["AWSCURRENT"] },
            "LastChangedDate": secret.created_at_seconds,
        }))
    }

    fn put_value(&self, parameters: Parameters) -> Result<Value, Refusal> {
        let name = name_of(required(parameters.secret_id)?);
        if !self.lock().contains_key(&name) {
            return Err(NOT_FOUND);
        }
        let secret_string = required(parameters.secret_string)?;
        Ok(self.store(&name, parameters.client_request_token, secret_string))
    }

    fn create(&self, parameters: Parameters) -> Result<Value, Refusal> {
        let name = required(parameters.name)?;
        if self.lock().contains_key(&name) {
            return Err(("ResourceExistsException", "A secret of this name exists already."));
        }
        let secret_string = required(parameters.secret_string)?;
        Ok(self.store(&name, parameters.client_request_token, secret_string))
    }

    fn store(&self, name: &str, token: Option<String>, text: String) -> Value {
        // As in AWS, the client's token is the version, so that a retry makes no second one.
        let version_id = token.unwrap_or_else(random_version_id);
        self.put(name, version_id.clone(), text);
        json!({
            "ARN": arn(name),
            "Name": name,
            "VersionId": version_id,
            "VersionStages": ["AWSCURRENT"],
        })
    }

    fn put(&self, name: &str, version_id: String, text: String) {
        let secret = Secret { version_id, text, created_at_seconds: now().unix_timestamp() };
        self.lock().insert(name.to_owned(), secret);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Secret>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn required(parameter: Option<String>) -> Result<String, Refusal> {
    parameter.ok_or(("ValidationException", "A required parameter is missing."))
}

fn arn(name: &str) -> String {
    format!("{}{name}{ARN_SUFFIX}", arn_prefix())
}

/// The name of the secret that a name or an ARN stands for.
fn name_of(secret_id: String) -> String {
    match secret_id.strip_prefix(&arn_prefix()) {
        Some(name) => name.strip_suffix(ARN_SUFFIX).unwrap_or(name).to_owned(),
        None => secret_id,
    }
}

fn arn_prefix() -> String {
    format!("arn:aws:secretsmanager:{REGION}:000000000000:secret:")
}

/// In AWS, six random characters.
const ARN_SUFFIX: &str = "-aBcDeF";

/// A random version 4 UUID.
fn random_version_id() -> String {
    let bits = fastrand::u128(..);
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        bits >> 96,
        (bits >> 80) & 0xffff,
        (bits >> 64) & 0xfff,
        (bits >> 48) & 0x3fff | 0x8000,
        bits & 0xffff_ffff_ffff,
    )
}
