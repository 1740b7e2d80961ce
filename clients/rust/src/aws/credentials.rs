//! Where credentials come from: the sources of the AWS SDK, in its order.
//!
//! If a named profile is missing or incomplete, the SDK tries the next source, and so signs with an unexpected
//! identity, such as the machine's role. Here that is an error that names the profile.

use super::connector::{LastRefusal, noting_client};
use crate::{
    Clock, Environment, Error, SystemClock,
    http::{HttpClient, chain},
};
use aws_config::{
    ecs::EcsCredentialsProvider,
    environment::EnvironmentVariableCredentialsProvider,
    imds::{self, credentials::ImdsCredentialsProvider},
    profile::ProfileFileCredentialsProvider,
    provider_config::ProviderConfig,
    web_identity_token::WebIdentityTokenCredentialsProvider,
};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future},
};
use contract::Timestamp;
use std::{
    error::Error as _,
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::sync::Mutex;

/// Credentials are replaced this long before they expire.
const AHEAD: Duration = Duration::from_secs(300);
/// The prefixes of profile settings that say where credentials come from.
const CREDENTIAL_SETTINGS: [&str; 6] = ["aws_", "role_", "source_profile", "credential_", "sso_", "login_"];

/// Credentials and their source. Expiry is by the wall clock.
#[derive(Clone, Debug)]
pub(crate) struct CachedCredentials(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    provider: SharedCredentialsProvider,
    cached: Mutex<Option<Credentials>>,
}

impl CachedCredentials {
    pub(super) fn new(provider: impl ProvideCredentials + 'static) -> Self {
        let provider = SharedCredentialsProvider::new(provider);
        Self(Arc::new(Inner { provider, cached: Mutex::new(None) }))
    }

    /// The current credentials. Only one task at a time asks for new ones.
    pub(crate) async fn get(&self) -> Result<Credentials, Error> {
        self.current().await.map_err(|error| Error::Unsigned(chain(&error)))
    }

    async fn current(&self) -> Result<Credentials, CredentialsError> {
        let mut cached = self.0.cached.lock().await;
        let now = SystemClock.now();
        if let Some(credentials) = cached.as_ref().filter(|known| is_good(known, now.plus(AHEAD))) {
            return Ok(credentials.clone());
        }
        match self.0.provider.provide_credentials().await {
            Ok(credentials) => {
                *cached = Some(credentials.clone());
                Ok(credentials)
            }
            // Old credentials are good until they expire.
            Err(error) => cached.clone().filter(|known| is_good(known, now)).ok_or(error),
        }
    }
}

impl ProvideCredentials for CachedCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.current())
    }
}

fn is_good(credentials: &Credentials, at: Timestamp) -> bool {
    let at = UNIX_EPOCH + Duration::from_millis(at.as_millis());
    credentials.expiry().is_none_or(|expires_at| at < expires_at)
}

/// The sources, in the SDK's order.
#[derive(Debug)]
pub(super) struct Sources {
    in_order: Vec<Source>,
    /// Why this source must not be used.
    fault: Option<String>,
    refusal: LastRefusal,
}

#[derive(Debug)]
struct Source {
    name: String,
    provider: SharedCredentialsProvider,
    /// Another source must not take its place.
    is_named: bool,
}

impl Sources {
    pub(super) fn of(
        environment: &Environment,
        profile: Option<&str>,
        settings: &ProviderConfig,
        metadata: imds::Client,
        http: &HttpClient,
    ) -> Self {
        let (id, secret) = (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY"));
        let refusal = LastRefusal::default();
        let mut sources = Vec::new();
        let mut fault = None;
        let mut add = |name: &str, is_named, provider| {
            sources.push(Source { name: name.to_owned(), provider, is_named });
        };
        let half = |is: &str, lacks: &str| Some(format!("{is} is set without {lacks}"));
        match (id, secret) {
            (Some(_), Some(_)) => {
                let provider = EnvironmentVariableCredentialsProvider::new();
                add("environment", true, SharedCredentialsProvider::new(provider));
            }
            (Some(_), None) => fault = half("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            (None, Some(_)) => fault = half("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
            (None, None) => {}
        }
        let mut in_files = ProfileFileCredentialsProvider::builder().configure(settings);
        if let Some(name) = profile {
            in_files = in_files.profile_name(name);
        } else {
            fault = fault.or_else(|| indented_setting(environment));
        }
        let name = format!("profile {}", profile.unwrap_or("default"));
        add(&name, profile.is_some(), SharedCredentialsProvider::new(in_files.build()));
        let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(settings).build();
        let is_named = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
        add("web identity", is_named, SharedCredentialsProvider::new(web_identity));
        let noting = settings.clone().with_http_client(noting_client(http.clone(), refusal.clone()));
        let container = EcsCredentialsProvider::builder().configure(&noting).build();
        add("container", false, SharedCredentialsProvider::new(container));
        let instance = ImdsCredentialsProvider::builder().configure(settings).imds_client(metadata).build();
        add("instance metadata service", false, SharedCredentialsProvider::new(instance));
        Self { in_order: sources, fault, refusal }
    }

    async fn load(&self) -> Result<Credentials, CredentialsError> {
        if let Some(fault) = &self.fault {
            return Err(CredentialsError::invalid_configuration(fault.clone()));
        }
        let mut absent = String::new();
        for Source { name, provider, is_named } in &self.in_order {
            let error = match provider.provide_credentials().await {
                Ok(credentials) => return Ok(credentials),
                Err(error) => error,
            };
            // If the default profile says nothing about credentials, there is no cause.
            let has_cause = error.source().is_some();
            let is_absent = matches!(error, CredentialsError::CredentialsNotLoaded(_))
                && !(has_cause && name.starts_with("profile"));
            let why = if has_cause { chain(&error) } else { "it has no credentials".to_owned() };
            if is_absent && !is_named {
                absent = format!("{name}: {why}");
                continue;
            }
            let refusal = self.refusal.take().map(|text| format!(": {text}")).unwrap_or_default();
            return Err(CredentialsError::provider_error(format!("{name}: {why}{refusal}")));
        }
        let sought = "there are none in environment, profile, web identity and container";
        Err(CredentialsError::not_loaded(format!("{sought}; {absent}")))
    }
}

impl ProvideCredentials for Sources {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.load())
    }
}

/// Where the default profile has indented credentials, which the SDK reads as part of the setting above.
fn indented_setting(environment: &Environment) -> Option<String> {
    let in_home = |name| environment.get("HOME").map(|home| Path::new(home).join(".aws").join(name));
    let file = |variable, name| environment.get(variable).map(PathBuf::from).or_else(|| in_home(name));
    let files = [file("AWS_CONFIG_FILE", "config"), file("AWS_SHARED_CREDENTIALS_FILE", "credentials")];
    files.into_iter().flatten().find_map(|file| {
        let number = indented_line(&std::fs::read_to_string(&file).ok()?)?;
        let file = file.display();
        Some(format!(
            "profile default: line {number} of {file} is indented, so it is not a setting of the profile"
        ))
    })
}

fn indented_line(text: &str) -> Option<usize> {
    let mut is_default = false;
    text.lines().zip(1..).find_map(|(line, number)| {
        if let Some(header) = line.trim_start().strip_prefix('[') {
            let name = header.split(']').next().unwrap_or_default();
            is_default = name.split_whitespace().next_back() == Some("default");
        }
        let is_indented = is_default && line.starts_with([' ', '\t']);
        let name = line.trim_start();
        (is_indented && CREDENTIAL_SETTINGS.iter().any(|start| name.starts_with(start))).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indented_credentials_of_the_default_profile_are_found() {
        let keys = "  aws_access_key_id = id\n  aws_secret_access_key = s\n";
        assert_eq!(indented_line(&format!("[default]\nregion = eu-west-1\n{keys}")), Some(3));
        assert_eq!(indented_line(&format!("[profile default]\n{keys}")), Some(2));
        assert_eq!(indented_line("[default]\nservices = x\n\trole_arn = x\n"), Some(3));
        assert_eq!(indented_line(&format!("[default]\naws_access_key_id = id\n[dev]\n{keys}")), None);
        assert_eq!(indented_line("[default]\ns3 =\n  max_concurrent_requests = 9\n"), None);
    }

    #[test]
    fn credentials_are_good_until_they_expire() {
        let until = |expiry| Credentials::new("id", "secret", None, expiry, "test");
        let expiring = until(Some(UNIX_EPOCH + Duration::from_secs(100)));
        let at = |millis| Timestamp::from_millis(millis);
        let good = [0, 99_999, 100_000, 100_001].map(|millis| is_good(&expiring, at(millis)));
        assert_eq!(good, [true, true, false, false]);
        assert!(is_good(&until(None), at(u64::from(u32::MAX))));
    }
}
