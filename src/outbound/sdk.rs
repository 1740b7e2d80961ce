//! The AWS SDK's settings from the environment. An empty variable counts as unset, as the broker's own do.
//!
//! `sam local` passes on an empty variable for every variable of the template that has no value, and the SDK would
//! panic on an empty `AWS_ENDPOINT_URL_DYNAMODB`.

use super::aws_http;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

/// Reads the settings that all services share.
///
/// # Errors
/// The HTTP library cannot be set up.
pub async fn load(tls: rustls::ClientConfig) -> Result<SdkConfig, reqwest::Error> {
    let http = aws_http::http_client(tls)?;
    let loaded = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    Ok(loaded.clone().into_builder().service_config(EmptyIsUnset(loaded)).build())
}

#[derive(Debug)]
struct EmptyIsUnset(SdkConfig);

impl LoadServiceConfig for EmptyIsUnset {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        self.0.service_config()?.load_config(key).filter(|value| !value.is_empty())
    }
}
