//! The accounts' credentials in Secrets Manager. They are read when a login needs them, and never cached.

use super::{UpstreamHosts, aws_http, sdk};
use crate::ports::Secrets;
use async_trait::async_trait;
use aws_sdk_secretsmanager::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    operation::get_secret_value::GetSecretValueError,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use protocol::{
    AccountName, ApiVersion, ClientAuth, Credentials, GrantType, Login, Origin, Secret, SecretError,
    SecretVersion, UpstreamUrl,
};
use serde_json::{Map, Value};
use std::{sync::LazyLock, time::Duration};
use zeroize::Zeroizing;

const ATTEMPT: Duration = Duration::from_millis(1500);
const ALL_ATTEMPTS: Duration = Duration::from_millis(4000);

const NO_VALUE: &str = "it has no value yet";

/// The secrets whose names begin with a prefix.
pub struct SecretsManager {
    /// Built with the first read: most instances never log in.
    client: LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>,
    prefix: String,
    hosts: UpstreamHosts,
}

impl SecretsManager {
    /// The secrets below `prefix`, which may name these hosts. Timeouts are set so that all attempts fit into one request.
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
                // A secret without a value is told from a missing one by the message alone.
                Some(GetSecretValueError::ResourceNotFoundException(missing))
                    if missing.message().is_some_and(|message| message.contains("staging label")) =>
                {
                    return SecretError::Bad(NO_VALUE.to_owned());
                }
                // A deleted secret that can still be recovered is an invalid request.
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
            tracing::warn!(account = %name, code = "unproven answer", "Secrets Manager failed");
            return Err(SecretError::Unreachable);
        }
        let version = SecretVersion(output.version_id.unwrap_or_default());
        let what = if output.secret_binary.is_some() { "it is binary, and has to be text" } else { NO_VALUE };
        let text = output.secret_string.map(Zeroizing::new);
        let text = text.ok_or_else(|| SecretError::Bad(what.to_owned()))?;
        parse(&text, version, &self.hosts).map_err(SecretError::Bad)
    }
}

fn has_request_id(response: &HttpResponse) -> bool {
    response.headers().get("x-amzn-requestid").is_some_and(|id| !id.is_empty())
}

/// Parses the JSON of a secret. An error names the field that is missing or of another form, and never its value.
///
/// # Errors
/// The first rule that the text breaks.
pub fn parse(text: &str, version: SecretVersion, hosts: &UpstreamHosts) -> Result<Credentials, String> {
    let mut fields: Map<String, Value> =
        serde_json::from_str(text).map_err(|_| "it has to be a JSON object".to_owned())?;
    let api_version = match fields.remove("dialect").as_ref().map(Value::as_str) {
        None | Some(Some("convirza-v3")) => ApiVersion::V3,
        Some(Some("convirza-v2")) => ApiVersion::V2,
        Some(_) => return Err("`dialect` has to be convirza-v3 or convirza-v2".to_owned()),
    };
    let oauth_url = fields.remove("oauth_url").map(|url| url_field(&url, "oauth_url", hosts)).transpose()?;
    let api_url = fields.remove("api_url").map(|url| url_field(&url, "api_url", hosts)).transpose()?;
    let login = match api_version {
        ApiVersion::V3 => Login::Convirza {
            email: text_field(&mut fields, "email")?,
            password: text_field(&mut fields, "password")?,
        },
        ApiVersion::V2 => Login::OAuth2 {
            client: protocol::Client {
                id: text_field(&mut fields, "client_id")?,
                secret: Some(text_field(&mut fields, "client_secret")?),
                auth: ClientAuth::Post,
                scope: None,
                parameters: Vec::new(),
                answer_fields: Vec::new(),
                refresh_ahead: None,
                resend_within: Duration::ZERO,
            },
            grant: GrantType::Password {
                username: text_field(&mut fields, "email")?,
                password: text_field(&mut fields, "password")?,
            },
        },
    };
    Ok(Credentials { version, origin: Origin::Convirza { api_version, oauth_url, api_url }, login })
}

fn text_field(fields: &mut Map<String, Value>, name: &str) -> Result<Secret, String> {
    match fields.remove(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(Secret::new(text)),
        Some(_) => Err(format!("`{name}` has to be a text that is not empty")),
        None => Err(format!("`{name}` is missing")),
    }
}

fn url_field(value: &Value, name: &str, hosts: &UpstreamHosts) -> Result<UpstreamUrl, String> {
    let text = value.as_str().ok_or_else(|| format!("`{name}` has to be a text"))?;
    let url = UpstreamUrl::parse(text).map_err(|error| format!("`{name}` {error}"))?;
    if !hosts.allow(&url) {
        return Err(format!(
            "`{name}` names a host that is neither in the settings nor in BROKER_UPSTREAM_HOSTS"
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::testing;

    fn parsed(text: &str) -> Result<Credentials, String> {
        let url = UpstreamUrl::parse("https://oauth.example").unwrap();
        parse(text, SecretVersion("v1".to_owned()), &UpstreamHosts::new(&url, &url, vec![]))
    }

    #[test]
    fn a_secret_is_parsed() {
        let credentials = parsed(
            r#"{"email":"who@example.invalid","password":"p","dialect":"convirza-v3","oauth_url":"https://oauth.example/","note":"x"}"#,
        )
        .unwrap();
        let (email, password) = (Secret::from("who@example.invalid"), Secret::from("p"));
        assert_eq!(credentials.login, Login::Convirza { email, password });
        assert_eq!(credentials.origin, testing::origin_at(UpstreamUrl::parse("https://oauth.example").ok()));
    }

    #[test]
    fn a_bad_secret_names_the_field_and_never_its_value() {
        for (text, says) in [
            ("", "it has to be a JSON object"),
            ("\"tell-tale\"", "it has to be a JSON object"),
            ("{}", "`email` is missing"),
            (r#"{"email":"tell-tale"}"#, "`password` is missing"),
            (r#"{"email":"tell-tale","password":7}"#, "`password` has to be a text that is not empty"),
            (r#"{"email":"","password":"tell-tale"}"#, "`email` has to be a text that is not empty"),
            (
                r#"{"email":"e","password":"p","dialect":"tell-tale"}"#,
                "`dialect` has to be convirza-v3 or convirza-v2",
            ),
            (r#"{"email":"e","password":"p","dialect":"convirza-v2"}"#, "`client_id` is missing"),
            (
                r#"{"email":"e","password":"p","oauth_url":"http://tell-tale.example"}"#,
                "`oauth_url` has to be an https URL (http on loopback only) without credentials, query or fragment",
            ),
            (
                r#"{"email":"e","password":"p","api_url":"https://tell-tale.example"}"#,
                "`api_url` names a host that is neither in the settings nor in BROKER_UPSTREAM_HOSTS",
            ),
        ] {
            let error = parsed(text).unwrap_err();
            assert_eq!(error, says);
            assert!(!error.contains("tell-tale"));
        }
    }
}
