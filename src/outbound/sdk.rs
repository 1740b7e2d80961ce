//! The AWS SDK's settings from the environment. An empty variable counts as unset, as the broker's own do.
//!
//! `sam local` passes on an empty variable for every variable of the template that has no value, and the SDK would
//! panic on an empty `AWS_ENDPOINT_URL_DYNAMODB`.

use super::aws_http::{self, Unproven};
use aws_config::{
    BehaviorVersion, SdkConfig,
    environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider},
};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

/// Reads the settings that all services share. Region and credentials come from Lambda's variables where these are set, so
/// that a cold start builds no chain of providers.
///
/// # Errors
/// The HTTP library cannot be set up.
pub async fn load(
    lookup: impl Fn(&str) -> Option<String>,
    tls: rustls::ClientConfig,
) -> Result<SdkConfig, reqwest::Error> {
    let is_set = |name| lookup(name).is_some_and(|value| !value.is_empty());
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(aws_http::http_client(tls)?);
    if is_set("AWS_REGION") {
        loader = loader.region(EnvironmentVariableRegionProvider::new());
    }
    if is_set("AWS_ACCESS_KEY_ID") && is_set("AWS_SECRET_ACCESS_KEY") {
        loader = loader.credentials_provider(EnvironmentVariableCredentialsProvider::new());
    }
    let settings = loader.load().await;
    Ok(settings.clone().into_builder().service_config(EmptyIsUnset(settings)).build())
}

/// Why a call to AWS failed, for the log: the service's own code, or what kept the call from being answered.
pub(super) fn failure_code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> &str {
    match error {
        SdkError::ConstructionFailure(_) => "not sent: no credentials or Region",
        SdkError::TimeoutError(_) => "timeout",
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error().and_then(std::error::Error::source);
            if cause.is_some_and(<dyn std::error::Error>::is::<Unproven>) {
                "unproven answer"
            } else {
                "no connection"
            }
        }
        SdkError::ResponseError(_) => "unreadable answer",
        _ => error.code().unwrap_or("no code"),
    }
}

#[derive(Debug)]
struct EmptyIsUnset(SdkConfig);

impl LoadServiceConfig for EmptyIsUnset {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        self.0.service_config()?.load_config(key).filter(|value| !value.is_empty())
    }
}
