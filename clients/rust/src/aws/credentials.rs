//! Gets the keys, and gets them again before they expire.

use super::{
    Environment, Keys, metadata,
    plan::{self, Source},
    profile::Profiles,
    web_identity,
};
use crate::http::HttpClient;
use contract::Timestamp;
use std::time::Duration;
use tokio::sync::Mutex;

/// Keys are replaced this long before they expire.
const AHEAD: Duration = Duration::from_secs(300);

/// The credentials of this process.
pub(crate) struct Credentials {
    source: Source,
    http: HttpClient,
    cached: Mutex<Option<Keys>>,
}

impl Credentials {
    /// Decides where the keys come from.
    pub(crate) fn new(environment: &Environment, http: HttpClient) -> Self {
        let source = plan::source(environment, || Profiles::read(environment));
        Self { source, http, cached: Mutex::new(None) }
    }

    /// The current keys. Only one task at a time asks for new ones.
    pub(crate) async fn keys(&self, region: &str, now: Timestamp) -> Result<Keys, String> {
        if let Source::Keys(keys) = &self.source {
            return Ok(keys.clone());
        }
        let mut cached = self.cached.lock().await;
        if let Some(keys) = cached.as_ref().filter(|keys| is_good(keys, now.plus(AHEAD))) {
            return Ok(keys.clone());
        }
        match self.load(region).await {
            Ok(keys) => {
                *cached = Some(keys.clone());
                Ok(keys)
            }
            // Old keys are good until they expire.
            Err(error) => cached.clone().filter(|keys| is_good(keys, now)).ok_or(error),
        }
    }

    async fn load(&self, region: &str) -> Result<Keys, String> {
        match &self.source {
            Source::Keys(keys) => Ok(keys.clone()),
            Source::Container { server, path, authorization } => {
                metadata::container(&self.http, server, path, authorization.as_ref()).await
            }
            Source::Instance { endpoint } => metadata::instance(&self.http, endpoint).await,
            Source::WebIdentity { token_file, role_arn, session, endpoint } => {
                let regional = || format!("https://sts.{region}.amazonaws.com");
                let endpoint = endpoint.clone().unwrap_or_else(regional);
                web_identity::assume(&self.http, &endpoint, token_file, role_arn, session).await
            }
            Source::Unusable(why) => Err(why.clone()),
        }
    }
}

fn is_good(keys: &Keys, at: Timestamp) -> bool {
    keys.expires_at.is_none_or(|expires_at| at < expires_at)
}
