//! The outside world, emulated in one process: Convirza's login service and API, `DynamoDB`, and
//! Secrets Manager. For development and tests only; nothing of it is ever linked into the function.
//!
//! In the place of the embedded `DynamoDB` and Secrets Manager there may be an AWS that others emulate.
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
pub mod service;

use std::io;

use self::convirza::{Convirza, DEFAULT_EMAIL, DEFAULT_PASSWORD, Settings};
use self::service::{Engine, Service};

/// The account that needs no naming.
pub const DEFAULT_ACCOUNT: &str = "default";
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

/// Which AWS is behind the fronts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aws {
    /// That of this process, made for one world.
    Embedded,
    /// One that others wrote, at this URL. Worlds share it, each with a table and secrets of its own.
    At(String),
}

/// Everything outside the function, up and running.
pub struct World {
    /// The upstream: logins, refreshes, and the API that the tokens are for.
    pub convirza: Convirza,
    /// Where the broker keeps its token pairs.
    pub dynamodb: Service,
    /// Where the broker reads its credentials.
    pub secrets_manager: Service,
    /// The table's name, and what the secrets' names begin with.
    name: String,
    _embedded: Option<(dynamodb::Embedded, secrets_manager::Embedded)>,
}

impl World {
    /// Starts all services, creates the broker's table, and stores the secret of the account
    /// `default`, whose credentials Convirza accepts.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StartError> {
        Self::start_on(Aws::Embedded, ports, settings).await
    }

    /// As [`World::start`], on this AWS.
    pub async fn start_on(aws: Aws, ports: Ports, settings: Settings) -> Result<Self, StartError> {
        let convirza = Convirza::start(ports.convirza, settings).await?;
        let (name, tables, secrets, embedded) = match aws {
            Aws::Embedded => {
                let tables = dynamodb::Embedded::start().await?;
                let secrets = secrets_manager::Embedded::start().await?;
                ("token-broker".to_owned(), tables.url.clone(), secrets.url(), Some((tables, secrets)))
            }
            Aws::At(url) => (format!("token-broker-{:016x}", fastrand::u64(..)), url.clone(), url, None),
        };
        // moto looks at an item and writes it in two steps, without a lock between its threads: two
        // conditional writes may both succeed.
        let writes_are_atomic = embedded.is_some();
        let engine = |url| Engine { url, writes_are_atomic };
        let dynamodb = dynamodb::front(ports.dynamodb, engine(tables)).await?;
        let secrets_manager = secrets_manager::front(ports.secrets_manager, engine(secrets)).await?;
        let world = Self { convirza, dynamodb, secrets_manager, name, _embedded: embedded };
        dynamodb::create_table(&world.dynamodb, world.table()).await?;
        world.put_secret(DEFAULT_ACCOUNT, &credentials_secret(DEFAULT_EMAIL, DEFAULT_PASSWORD)).await?;
        Ok(world)
    }

    /// The table that a broker in this world uses.
    pub fn table(&self) -> &str {
        &self.name
    }

    /// The name of an account's secret.
    pub fn secret_name(&self, account: &str) -> String {
        format!("{}/{account}", self.name)
    }

    /// Stores a new version of an account's secret and returns its version id.
    pub async fn put_secret(&self, account: &str, text: &str) -> Result<String, StartError> {
        secrets_manager::put(&self.secrets_manager, &self.secret_name(account), text).await
    }

    /// Deletes an account's secret.
    pub async fn delete_secret(&self, account: &str) -> Result<(), StartError> {
        secrets_manager::delete(&self.secrets_manager, &self.secret_name(account)).await
    }

    /// Opens one more account: its secret, and the credentials in it at Convirza.
    pub async fn add_account(&self, account: &str, email: &str, password: &str) -> Result<(), StartError> {
        self.convirza.set_password(email, password);
        self.put_secret(account, &credentials_secret(email, password)).await?;
        Ok(())
    }

    /// The environment variables that a broker process needs to live in this world.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let convirza_url = self.convirza.url();
        vec![
            ("AWS_ACCESS_KEY_ID", "local".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            // What boto3 and the AWS CLI read.
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            // Nobody should wait for an instance metadata service that is not there.
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb.url()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.secrets_manager.url()),
            ("BROKER_TABLE", self.table().to_owned()),
            ("BROKER_SECRET_PREFIX", self.secret_name("")),
            ("BROKER_API_URL", format!("{convirza_url}/v3")),
            ("BROKER_OAUTH_URL", convirza_url),
        ]
    }
}

/// A secret for V2, in the form that the broker reads.
pub fn v2_secret(world: &World, email: &str, password: &str) -> String {
    serde_json::json!({
        "api_version": "convirza-v2",
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
    /// `DynamoDB` or Secrets Manager did not do what the world needs of it.
    #[error("the emulated AWS does not do as it should: {reason}")]
    Engine {
        /// What it said.
        reason: String,
    },
    /// `DynamoDB` or Secrets Manager could not be asked.
    #[error("the emulated AWS cannot be reached: {0}")]
    HttpClient(#[from] reqwest::Error),
}
