//! Secrets Manager: the operations that an AWS SDK needs to read and to replace secrets by name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::{Clock, machine_now};
use crate::server::{Listen, Server};
use crate::service::{Api, Engine, Service};
use crate::{REGION, StartError, aws};

const SERVICE: &str = "Secrets Manager";
const THROTTLING_ERROR: &str = "ThrottlingException";
const API: Api = Api {
    target: "secretsmanager",
    content_type: "application/x-amz-json-1.1",
    signing_name: "secretsmanager",
};

/// The embedded Secrets Manager. It stops when it is dropped.
#[derive(Debug)]
pub(super) struct Embedded {
    server: Server,
    vault: Arc<Vault>,
}

#[derive(Debug, Default)]
struct Vault {
    secrets: Mutex<HashMap<String, Secret>>,
    /// The secrets that a reset restores.
    start: Mutex<HashMap<String, Secret>>,
}

/// The current version of a secret. Earlier versions are dropped.
#[derive(Debug, Clone)]
struct Secret {
    version_id: String,
    text: String,
    created_at_seconds: i64,
    /// As in AWS, a deleted secret is kept for recovery; here, forever.
    deleted: bool,
}

impl Embedded {
    pub(super) async fn start() -> Result<Self, StartError> {
        let vault = Arc::<Vault>::default();
        let routes = Router::new().route("/", post(handle)).with_state(Arc::clone(&vault));
        Ok(Self { server: Server::start(SERVICE, 0, routes).await?, vault })
    }

    /// Lets a reset restore the current secrets.
    pub(super) fn mark_start(&self) {
        self.vault.start().clone_from(&self.vault.lock());
    }

    pub(super) fn reset(&self) {
        self.vault.lock().clone_from(&self.vault.start());
    }

    pub(super) fn url(&self) -> String {
        self.server.url()
    }
}

/// Starts the service on this engine.
pub(super) async fn front(listen: Listen, engine: Engine, clock: Clock) -> Result<Service, StartError> {
    Service::start(SERVICE, listen, engine, THROTTLING_ERROR, clock).await
}

/// Stores a new version of a secret, creating it if needed, and returns its version id.
pub(super) async fn put(service: &Service, name: &str, text: &str) -> Result<String, StartError> {
    let value = json!({ "SecretId": name, "SecretString": text, "ClientRequestToken": random_version_id() });
    let stored = match service.call(&API, "PutSecretValue", &value).await? {
        Err(error) if error.contains(NOT_FOUND.0) => {
            let secret =
                json!({ "Name": name, "SecretString": text, "ClientRequestToken": random_version_id() });
            service.call(&API, "CreateSecret", &secret).await?
        }
        stored => stored,
    };
    let stored = stored.map_err(|reason| StartError::Engine { reason })?;
    let version_id = stored.get("VersionId").and_then(Value::as_str).map(str::to_owned);
    version_id.ok_or_else(|| StartError::Engine { reason: format!("the secret {name} has no version") })
}

/// Deletes a secret, with a recovery window.
pub(super) async fn delete(service: &Service, name: &str) -> Result<(), StartError> {
    let deleted = service.call(&API, "DeleteSecret", &json!({ "SecretId": name })).await?;
    deleted.map(|_| ()).map_err(|reason| StartError::Engine { reason })
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

async fn handle(State(vault): State<Arc<Vault>>, headers: HeaderMap, body: Bytes) -> Response {
    match vault.carry_out(aws::operation(&headers), &body) {
        Ok(body) => aws::response(StatusCode::OK, &body),
        Err((error_type, message)) => aws::error(StatusCode::BAD_REQUEST, error_type, message),
    }
}

/// An error's type and message.
type Refusal = (&'static str, &'static str);

const NOT_FOUND: Refusal = ("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
const DELETED: Refusal =
    ("InvalidRequestException", "You can't perform this operation on a secret that is marked for deletion.");

impl Vault {
    fn carry_out(&self, operation: &str, body: &[u8]) -> Result<Value, Refusal> {
        let parameters: Parameters = serde_json::from_slice(body)
            .map_err(|_| ("InvalidRequestException", "The body is malformed."))?;
        match operation {
            "GetSecretValue" => self.get(parameters),
            "DescribeSecret" => self.describe(parameters),
            "PutSecretValue" => self.put_value(parameters),
            "CreateSecret" => self.create(parameters),
            "DeleteSecret" => self.delete(parameters),
            _ => Err((
                "UnknownOperationException",
                "This emulator knows GetSecretValue, PutSecretValue, CreateSecret, DeleteSecret, DescribeSecret.",
            )),
        }
    }

    fn get(&self, parameters: Parameters) -> Result<Value, Refusal> {
        let name = name_of(required(parameters.secret_id)?);
        let secrets = self.lock();
        let secret = secrets.get(&name).ok_or(NOT_FOUND)?;
        if secret.deleted {
            return Err(DELETED);
        }
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

    fn delete(&self, parameters: Parameters) -> Result<Value, Refusal> {
        let name = name_of(required(parameters.secret_id)?);
        let mut secrets = self.lock();
        let secret = secrets.get_mut(&name).ok_or(NOT_FOUND)?;
        secret.deleted = true;
        Ok(json!({ "ARN": arn(&name), "Name": name, "DeletionDate": machine_now().unix_timestamp() }))
    }

    fn put_value(&self, parameters: Parameters) -> Result<Value, Refusal> {
        let name = name_of(required(parameters.secret_id)?);
        if self.lock().get(&name).ok_or(NOT_FOUND)?.deleted {
            return Err(DELETED);
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
        // As in AWS, the client's token is the version id, so that a retry stores no second version.
        let version_id = token.unwrap_or_else(random_version_id);
        let secret = Secret {
            version_id: version_id.clone(),
            text,
            created_at_seconds: machine_now().unix_timestamp(),
            deleted: false,
        };
        self.lock().insert(name.to_owned(), secret);
        json!({
            "ARN": arn(name),
            "Name": name,
            "VersionId": version_id,
            "VersionStages": ["AWSCURRENT"],
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Secret>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> MutexGuard<'_, HashMap<String, Secret>> {
        self.start.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn required(parameter: Option<String>) -> Result<String, Refusal> {
    parameter.ok_or(("ValidationException", "A required parameter is missing."))
}

fn arn(name: &str) -> String {
    format!("{}{name}{ARN_SUFFIX}", arn_prefix())
}

/// The secret's name, from a name or an ARN.
fn name_of(secret_id: String) -> String {
    match secret_id.strip_prefix(&arn_prefix()) {
        Some(name) => name.strip_suffix(ARN_SUFFIX).unwrap_or(name).to_owned(),
        None => secret_id,
    }
}

fn arn_prefix() -> String {
    format!("arn:aws:secretsmanager:{REGION}:000000000000:secret:")
}

/// AWS appends six random characters.
const ARN_SUFFIX: &str = "-aBcDeF";

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
