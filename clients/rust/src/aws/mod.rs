//! Region, credentials, partition and endpoints, found as the AWS SDK for Rust finds them, except that an unusable
//! named profile is an error. See `credentials`.

mod connector;
mod credentials;
mod signature;

pub(crate) use credentials::CachedCredentials;
pub(crate) use signature::sign;

use crate::{
    Environment, Error,
    http::{BaseUrl, HttpClient},
};
use aws_config::{
    BehaviorVersion, SdkConfig,
    imds::{self, region::ImdsRegionProvider},
    meta::region::RegionProviderChain,
    profile::ProfileFileRegionProvider,
    provider_config::ProviderConfig,
};
use aws_sdk_lambda::config::{
    interceptors::InterceptorContext,
    retry::{ClassifyRetry, RetryAction},
};
use aws_types::{region::Region, service_config::ServiceConfigKey};
use std::time::Duration;

/// A working metadata service answers in milliseconds. One behind a hop limit accepts connections but sends nothing,
/// while callers wait.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
const METADATA_ATTEMPTS: u32 = 2;

/// A server in front of Lambda may throttle without Lambda's error code, and the SDK would not retry.
#[derive(Debug)]
struct Throttled;

impl ClassifyRetry for Throttled {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let is_throttled = context.response().is_some_and(|response| response.status().as_u16() == 429);
        if is_throttled { RetryAction::throttling_error() } else { RetryAction::NoActionIndicated }
    }

    fn name(&self) -> &'static str {
        "throttled"
    }
}

/// The SDK's settings, and credentials that are fetched when they are needed.
pub(crate) struct Aws {
    pub(crate) config: SdkConfig,
    pub(crate) credentials: CachedCredentials,
}

impl Aws {
    /// Settings that were loaded elsewhere.
    pub(crate) fn given(config: SdkConfig, http: &HttpClient) -> Result<Self, Error> {
        let missing = || Error::NotConfigured("the SdkConfig has no credentials".to_owned());
        let credentials = CachedCredentials::new(config.credentials_provider().ok_or_else(missing)?);
        let client = connector::sdk_client(http.clone());
        Ok(Self { config: config.into_builder().http_client(client).build(), credentials })
    }

    /// Loads the settings of this process. `region` is the one that an ARN or a URL names.
    pub(crate) async fn load(
        environment: &Environment,
        http: &HttpClient,
        region: Option<&str>,
    ) -> Result<Self, Error> {
        let client = connector::sdk_client(http.clone());
        // An empty variable counts as unset here, unlike in the SDK.
        let region = region.or_else(|| environment.first(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
        let files = ProviderConfig::without_region().with_http_client(client.clone());
        let metadata = imds::Client::builder()
            .configure(&files)
            .connect_timeout(METADATA_TIMEOUT)
            .read_timeout(METADATA_TIMEOUT)
            .max_attempts(METADATA_ATTEMPTS)
            .build();
        let profile = environment.first(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]);
        let mut in_profile = ProfileFileRegionProvider::builder().configure(&files);
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(client).no_credentials();
        if let Some(profile) = profile {
            in_profile = in_profile.profile_name(profile);
            loader = loader.profile_name(profile);
        }
        let regions = RegionProviderChain::first_try(region.map(|name| Region::new(name.to_owned())))
            .or_else(in_profile.build())
            .or_else(ImdsRegionProvider::builder().imds_client(metadata.clone()).build());
        let config = loader.region(regions).load().await;
        let settings = files
            .with_region(config.region().cloned())
            .with_use_fips(config.use_fips())
            .with_use_dual_stack(config.use_dual_stack());
        let credentials = credentials::Sources::of(environment, profile, &settings, metadata, http);
        Ok(Self { config, credentials: CachedCredentials::new(credentials) })
    }

    /// The Region to sign for.
    pub(crate) fn region(&self) -> Result<&str, Error> {
        let region = self.config.region().map(AsRef::as_ref).filter(|name| !name.is_empty());
        region.ok_or_else(|| Error::Unsigned("there is no Region; set AWS_REGION".to_owned()))
    }

    pub(crate) fn lambda(&self) -> Result<aws_sdk_lambda::Client, Error> {
        self.region()?;
        let endpoint = self.configured_endpoint();
        if let Some(url) = &endpoint {
            let wrong = |error| Error::NotConfigured(format!("Lambda's endpoint is wrong: {error}"));
            BaseUrl::parse(url).map_err(wrong)?;
        }
        let mut builder = aws_sdk_lambda::config::Builder::from(&self.config)
            .credentials_provider(self.credentials.clone())
            .identity_cache(aws_sdk_lambda::config::IdentityCache::no_cache())
            .retry_classifier(Throttled)
            // An invocation sends nothing for seconds while the broker works.
            .stalled_stream_protection(aws_sdk_lambda::config::StalledStreamProtectionConfig::disabled());
        builder.set_endpoint_url(endpoint);
        Ok(aws_sdk_lambda::Client::from_conf(builder.build()))
    }

    /// Lambda's endpoint, if environment or profile name one. The SDK would panic on an empty one.
    fn configured_endpoint(&self) -> Option<String> {
        let key = ServiceConfigKey::builder()
            .service_id("Lambda")
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .ok()?;
        let for_lambda = self.config.service_config().and_then(|settings| settings.load_config(key));
        let for_all = || self.config.endpoint_url().map(str::to_owned).filter(|url| !url.is_empty());
        for_lambda.filter(|url| !url.is_empty()).or_else(for_all)
    }
}
