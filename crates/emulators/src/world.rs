//! The services that a broker needs.

use crate::{
    StartError, convirza,
    convirza::{Convirza, DEFAULT_EMAIL, DEFAULT_PASSWORD, Settings},
    dynamodb, secrets_manager,
    server::Listen,
    service::{Engine, Service},
};

/// The account of a request that names none.
pub const DEFAULT_ACCOUNT: &str = "default";
/// The region of every service.
pub const REGION: &str = "us-east-1";

/// Where the services listen. The default is any free port of loopback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    /// All hosts of Convirza share one port.
    pub convirza: Listen,
    /// DynamoDB.
    pub dynamodb: Listen,
    /// Secrets Manager.
    pub secrets_manager: Listen,
}

/// The engines of DynamoDB and Secrets Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aws {
    /// Embedded in this process, for one world.
    Embedded,
    /// Another emulator of AWS at this URL. Worlds share it; each has its own table and secrets.
    At(String),
}

/// The services that a broker needs, up and running.
pub struct World {
    /// The upstream.
    pub convirza: Convirza,
    /// Holds the broker's table.
    pub dynamodb: Service,
    /// Holds the accounts' credentials.
    pub secrets_manager: Service,
    /// The table's name and the prefix of the secrets' names.
    name: String,
    embedded: Option<(dynamodb::Embedded, secrets_manager::Embedded)>,
}

impl World {
    /// Starts all services, creates the broker's table, and stores the secret of the account `default`. Convirza accepts
    /// its credentials.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StartError> {
        Self::start_on(Aws::Embedded, ports, settings).await
    }

    /// Like [`World::start`], with these engines.
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
        // moto checks a condition and writes in two steps, without a lock. Two conditional writes may both succeed.
        let writes_are_atomic = embedded.is_some();
        let engine = |url| Engine { url, writes_are_atomic };
        let clock = convirza.clock().clone();
        let dynamodb = dynamodb::front(ports.dynamodb, engine(tables), clock.clone()).await?;
        let secrets_manager = secrets_manager::front(ports.secrets_manager, engine(secrets), clock).await?;
        let world = Self { convirza, dynamodb, secrets_manager, name, embedded };
        dynamodb::create_table(&world.dynamodb, world.table()).await?;
        world.put_secret(DEFAULT_ACCOUNT, &credentials_secret(DEFAULT_EMAIL, DEFAULT_PASSWORD)).await?;
        world.mark_start();
        Ok(world)
    }

    /// Lets [`World::reset`] restore the current users, routes and secrets.
    pub fn mark_start(&self) {
        self.convirza.mark_start();
        if let Some((_, secrets)) = &self.embedded {
            secrets.mark_start();
        }
    }

    /// Resets everything: no sessions, items or faults, and counters at zero. The time stays, hanging requests keep
    /// hanging, and another emulator's secrets stay as they are.
    pub async fn reset(&self) -> Result<(), StartError> {
        self.convirza.reset();
        if let Some((_, secrets)) = &self.embedded {
            secrets.reset();
        }
        dynamodb::empty_table(&self.dynamodb, self.table()).await?;
        self.dynamodb.reset();
        self.secrets_manager.reset();
        Ok(())
    }

    /// The broker's table.
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

    /// Adds an account: its secret, and the user at Convirza.
    pub async fn add_account(&self, account: &str, email: &str, password: &str) -> Result<(), StartError> {
        self.convirza.set_password(email, password);
        self.put_secret(account, &credentials_secret(email, password)).await?;
        Ok(())
    }

    /// The environment variables that a broker process needs to use these services.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let convirza_url = self.convirza.url();
        let port = convirza_url.rsplit(':').next().unwrap_or_default();
        vec![
            ("AWS_ACCESS_KEY_ID", "local".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "local".to_owned()),
            ("AWS_REGION", REGION.to_owned()),
            // boto3 and the AWS CLI read this one.
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            // Otherwise an SDK may wait for an instance metadata service that does not exist.
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb.url()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.secrets_manager.url()),
            ("BROKER_TABLE", self.table().to_owned()),
            ("BROKER_SECRET_PREFIX", self.secret_name("")),
            ("BROKER_API_URL", format!("{convirza_url}/v3")),
            // Secrets name 127.0.0.1, even if the URLs of the settings name the host differently.
            ("BROKER_UPSTREAM_HOSTS", format!("127.0.0.1:{port},localhost:{port}")),
            ("BROKER_OAUTH_URL", convirza_url),
        ]
    }
}

/// The text of a secret for V2.
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

/// The text of a secret for V3.
pub fn credentials_secret(email: &str, password: &str) -> String {
    serde_json::json!({ "email": email, "password": password }).to_string()
}
