//! The adapters and the handler of a configuration. The local stack has the same, on emulated services.

use crate::{
    broker::Broker,
    config::Config,
    inbound::Handler,
    outbound::{HttpUpstream, SecretsManager, Table},
    ports::{Clock, Ports},
};
use aws_config::SdkConfig;
use rustls::ClientConfig;
use std::sync::Arc;

/// All ports, on AWS and the configured upstream. The settings for the two services differ only if they are emulated.
pub fn ports(
    config: &Config,
    [dynamodb, secrets_manager]: [&SdkConfig; 2],
    tls: ClientConfig,
    clock: Arc<dyn Clock>,
) -> Ports {
    let hosts = || config.upstream_hosts.clone();
    Ports {
        store: Arc::new(Table::new(dynamodb, config.table.clone(), hosts(), Arc::clone(&clock))),
        secrets: Arc::new(SecretsManager::new(secrets_manager, config.secret_prefix.clone(), hosts())),
        upstream: Arc::new(HttpUpstream::new(
            tls,
            config.oauth_url.clone(),
            config.api_url.clone(),
            config.revoke_field.clone(),
            config.policy.upstream_timeout,
            Arc::clone(&clock),
        )),
        clock,
    }
}

/// The handler of one instance: an empty cache, and the caller policy of this configuration.
pub fn handler(config: &Config, ports: Ports) -> Handler {
    let broker = Broker::new(config.policy, ports).limited_by(config.login_limits.clone());
    Handler::new(broker, config.callers.clone())
}
