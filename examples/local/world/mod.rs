//! The outside world, emulated in one process: Convirza's login service and API, `DynamoDB`, and
//! Secrets Manager. For development and tests only; nothing of it is ever linked into the function.
//!
//! Each service listens on 127.0.0.1, counts what reaches it, and can be told to misbehave while it
//! runs. A service stops, and cuts its connections, when its handle is dropped.
#![allow(dead_code, reason = "two crates include this module, and neither uses all of it")]

pub mod aws;
mod clock;
pub mod convirza;
pub mod dynamodb;
pub mod faults;
pub mod secrets_manager;
pub mod server;

use std::io;

use self::convirza::{Convirza, DEFAULT_EMAIL, DEFAULT_PASSWORD, Settings};
use self::dynamodb::DynamoDb;
use self::secrets_manager::SecretsManager;

/// The table that a broker in this world uses.
pub const TABLE: &str = "token-broker";
/// The secret of the account `default`.
pub const DEFAULT_SECRET: &str = "token-broker/default";
/// The only region of this world.
pub const REGION: &str = "us-east-1";

/// Where the services listen; 0 stands for any free port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    /// The port of both Convirza hosts.
    pub convirza: u16,
    /// The port of `DynamoDB`.
    pub dynamodb: u16,
    /// The port of Secrets Manager.
    pub secrets_manager: u16,
}

/// Everything outside the function, up and running.
pub struct World {
    /// The upstream: logins, refreshes, and the API that the tokens are for.
    pub convirza: Convirza,
    /// Where the broker keeps its token pairs.
    pub dynamodb: DynamoDb,
    /// Where the broker reads its credentials.
    pub secrets_manager: SecretsManager,
}

impl World {
    /// Starts all services, creates the broker's table, and stores the secret of the account
    /// `default`, whose credentials Convirza accepts.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StartError> {
        let convirza = Convirza::start(ports.convirza, settings).await?;
        let dynamodb = DynamoDb::start(ports.dynamodb).await?;
        dynamodb.create_table(TABLE)?;
        let secrets_manager = SecretsManager::start(ports.secrets_manager).await?;
        secrets_manager.put(DEFAULT_SECRET, &credentials_secret(DEFAULT_EMAIL, DEFAULT_PASSWORD));
        Ok(Self { convirza, dynamodb, secrets_manager })
    }

    /// Opens one more account: its secret, and the credentials in it at Convirza.
    pub fn add_account(&self, account: &str, email: &str, password: &str) {
        self.convirza.set_password(email, password);
        self.secrets_manager.put(&format!("token-broker/{account}"), &credentials_secret(email, password));
    }

    /// The environment variables that a broker process needs to live in this world.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let convirza_url = self.convirza.url();
        vec![
            ("AWS_ACCESS_KEY_ID", "local".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            // Nobody should wait for an instance metadata service that is not there.
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb.url()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.secrets_manager.url()),
            ("BROKER_TABLE", TABLE.to_owned()),
            ("BROKER_API_URL", format!("{convirza_url}/v3")),
            ("BROKER_OAUTH_URL", convirza_url),
        ]
    }
}

/// A secret for V2, in the form that the broker reads.
pub fn v2_secret(world: &World, email: &str, password: &str) -> String {
    serde_json::json!({
        "dialect": "convirza-v2",
        "email": email,
        "password": password,
        "client_id": convirza::V2_CLIENT_ID,
        "client_secret": convirza::V2_CLIENT_SECRET,
        "oauth_url": world.convirza.v2_url(),
        "api_url": format!("{}/v3", world.convirza.url()),
    })
    .to_string()
}

/// A secret in the form that the broker reads.
pub fn credentials_secret(email: &str, password: &str) -> String {
    serde_json::json!({ "email": email, "password": password }).to_string()
}

/// Why the world could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port is taken, or may not be used.
    #[error(
        "{service} cannot listen on 127.0.0.1:{port}: {source}. Stop what listens there, choose \
         another port, or use port 0 for any free one"
    )]
    Listen {
        /// The service that was to listen.
        service: &'static str,
        /// The port that it was given.
        port: u16,
        /// What the operating system said.
        source: io::Error,
    },
    /// The in-memory database or its table could not be made.
    #[error("the emulated DynamoDB did not start: {reason}. This is a defect of the emulator")]
    Database {
        /// What the database engine said.
        reason: String,
    },
    /// The HTTP client between the `DynamoDB` front and its engine could not be made.
    #[error("the emulated DynamoDB has no HTTP client: {0}. This is a defect of the emulator")]
    HttpClient(#[from] reqwest::Error),
}
