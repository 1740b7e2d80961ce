//! The AWS SDK's settings from the environment. As with the broker's own variables, an empty one counts as unset.
//!
//! `sam local` passes an empty variable for each variable of the template without a value, and the SDK would panic on
//! an empty `AWS_ENDPOINT_URL_DYNAMODB`.

use super::aws_http::{self, Unproven};
use aws_config::{
    BehaviorVersion, SdkConfig,
    environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider},
};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use protocol::ServiceRefusal;

/// Reads the settings that all services share. Region and credentials come from Lambda's variables if these are set, so
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

/// Why a call to AWS failed, for the log: the service's code, or why there is no usable response.
pub(super) fn failure_code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> &str {
    match error {
        SdkError::ConstructionFailure(_) => "not sent: no credentials or Region",
        SdkError::TimeoutError(_) => "timeout",
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error().and_then(std::error::Error::source);
            if cause.is_some_and(<dyn std::error::Error>::is::<Unproven>) {
                "unproven response"
            } else {
                "no connection"
            }
        }
        SdkError::ResponseError(_) => "unreadable response",
        _ => error.code().unwrap_or("no code"),
    }
}

/// Error codes of requests that may succeed later: too many requests, a table that is being changed, and errors that
/// depend on the time or on this instance's clock.
const PASSING: [&str; 15] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidSignatureException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestExpired",
    "RequestLimitExceeded",
    "RequestTimeTooSkewed",
    "RequestTimeoutException",
    "ResourceInUseException",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TransactionConflictException",
];

/// A configuration error of the broker, such as a missing table or permission. Retrying does not help.
pub(super) fn refusal<E: ProvideErrorMetadata>(
    service: &'static str,
    operation: &'static str,
    error: &SdkError<E, HttpResponse>,
) -> Option<ServiceRefusal> {
    let SdkError::ServiceError(refused) = error else { return None };
    let code = refused.err().code().filter(|code| !PASSING.contains(code))?;
    let is_final = refused.raw().status().is_client_error();
    is_final.then(|| ServiceRefusal { service, operation, code: code.to_owned() })
}

#[derive(Debug)]
struct EmptyIsUnset(SdkConfig);

impl LoadServiceConfig for EmptyIsUnset {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        self.0.service_config()?.load_config(key).filter(|value| !value.is_empty())
    }
}
