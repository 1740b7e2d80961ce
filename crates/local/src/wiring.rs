//! A real broker on emulated services, with the function's own adapters.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use emulators::{REGION, World};
use rustls::ClientConfig;
use std::{cell::RefCell, collections::HashSet, error::Error, sync::Arc};
use token_broker::{
    config::Config,
    outbound::{Roots, SystemClock, Table, aws_http},
    ports::{Clock, Ports},
    wiring,
};

pub use wiring::handler;

/// The configuration of a broker in this world. `settings` take precedence over the world's variables.
pub fn config(world: &World, settings: &[(&str, String)]) -> Result<Config, Box<dyn Error>> {
    let environment = world.environment();
    let all = || settings.iter().chain(&environment);
    let known = RefCell::new(HashSet::new());
    let config = Config::from_environment(|name| {
        known.borrow_mut().insert(name.to_owned());
        all().find(|(variable, _)| *variable == name).map(|(_, value)| value.clone())
    })?;
    match settings.iter().find(|(name, _)| !known.borrow().contains(*name)) {
        Some((unknown, _)) => Err(format!("the broker has no setting {unknown}").into()),
        None => Ok(config),
    }
}

/// The adapters of a broker in this world. Brokers may share them, because they cache nothing.
pub fn ports(world: &World, config: &Config, clock: Arc<dyn Clock>) -> Result<Ports, Box<dyn Error>> {
    let tls = Roots::default().tls_config()?;
    let dynamodb = with_client(sdk(world.dynamodb.url()), tls.clone())?;
    let secrets_manager = with_client(sdk(world.secrets_manager.url()), tls.clone())?;
    Ok(wiring::ports(config, [&dynamodb, &secrets_manager], tls, clock))
}

/// The table without its front, so that operations are not counted and meet no faults.
pub fn unobserved_table(world: &World, config: &Config) -> Result<Table, Box<dyn Error>> {
    let settings = sdk(world.dynamodb.engine_url().to_owned());
    let sdk = with_client(settings, Roots::default().tls_config()?)?;
    let clock = Arc::new(SystemClock);
    Ok(Table::new(&sdk, config.table.clone(), config.upstream_hosts.clone(), clock))
}

/// Settings of the AWS SDK for an emulated service.
pub(crate) fn sdk(endpoint_url: String) -> SdkConfig {
    let credentials = Credentials::new("local", "local", None, None, "local");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint_url)
        .build()
}

fn with_client(settings: SdkConfig, tls: ClientConfig) -> Result<SdkConfig, Box<dyn Error>> {
    Ok(settings.into_builder().http_client(aws_http::http_client(tls)?).build())
}
