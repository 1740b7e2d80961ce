//! The accounts' credentials in Secrets Manager, read when a login needs them and never cached.

use super::{UpstreamHosts, aws_http, sdk, secret};
use crate::ports::Secrets;
use async_trait::async_trait;
use aws_sdk_secretsmanager::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    operation::get_secret_value::GetSecretValueError,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use protocol::{AccountName, Credentials, SecretError, SecretVersion};
use std::{sync::LazyLock, time::Duration};
use zeroize::Zeroizing;

const ATTEMPT: Duration = Duration::from_millis(1500);
const ALL_ATTEMPTS: Duration = Duration::from_millis(4000);

const NO_VALUE: &str = "it has no value yet";

/// The secrets whose names begin with a prefix.
pub struct SecretsManager {
    /// Built on the first read, because most instances never log in.
    client: LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>,
    prefix: String,
    hosts: UpstreamHosts,
}

impl SecretsManager {
    /// The secrets below `prefix`, which may name only these hosts. The timeouts let all attempts fit into one request.
    pub fn new(sdk: &aws_config::SdkConfig, prefix: String, hosts: UpstreamHosts) -> Self {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(ATTEMPT)
            .operation_timeout(ALL_ATTEMPTS)
            .build();
        let mut config = aws_sdk_secretsmanager::config::Builder::from(sdk)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard());
        config
            .set_http_client(sdk.http_client().map(|client| aws_http::proven(client, has_request_id, None)));
        let config = config.build();
        Self { client: LazyLock::new(Box::new(|| Client::from_conf(config))), prefix, hosts }
    }
}

#[async_trait]
impl Secrets for SecretsManager {
    async fn read(&self, name: &AccountName) -> Result<Credentials, SecretError> {
        let id = format!("{}{name}", self.prefix);
        let output = self.client.get_secret_value().secret_id(id).send().await;
        let output = output.map_err(|error| {
            match error.as_service_error() {
                // Only the message distinguishes a secret without a value from a missing one.
                Some(GetSecretValueError::ResourceNotFoundException(missing))
                    if missing.message().is_some_and(|message| message.contains("staging label")) =>
                {
                    return SecretError::Bad(NO_VALUE.to_owned());
                }
                // For a deleted secret that can still be recovered, AWS reports an invalid request.
                Some(
                    GetSecretValueError::ResourceNotFoundException(_)
                    | GetSecretValueError::InvalidRequestException(_),
                ) => return SecretError::Missing,
                _ => {}
            }
            tracing::warn!(account = %name, code = sdk::failure_code(&error), "Secrets Manager failed");
            sdk::refusal("Secrets Manager", "GetSecretValue", &error)
                .map_or(SecretError::Unreachable, SecretError::Misconfigured)
        })?;
        let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if !is_set(&output.arn) || !is_set(&output.version_id) {
            tracing::warn!(account = %name, code = "unproven response", "Secrets Manager failed");
            return Err(SecretError::Unreachable);
        }
        let version = SecretVersion(output.version_id.unwrap_or_default());
        let what = if output.secret_binary.is_some() { "it is binary, but must be text" } else { NO_VALUE };
        let text = output.secret_string.map(Zeroizing::new);
        let text = text.ok_or_else(|| SecretError::Bad(what.to_owned()))?;
        secret::parse(&text, version, &self.hosts).map_err(SecretError::Bad)
    }
}

fn has_request_id(response: &HttpResponse) -> bool {
    response.headers().get("x-amzn-requestid").is_some_and(|id| !id.is_empty())
}
