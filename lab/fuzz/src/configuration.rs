//! The environment of the function: lines `NAME=value`.

use crate::{MARK, has_mark};
use contract::Action;
use protocol::AccountName;
use serde_json::Value;
use std::time::Duration;
use token_broker::{
    config::{Config, ConfigErrors},
    inbound::authorization::{Caller, Callers},
};

/// Checks one environment.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let variables: Vec<_> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let value_of =
        |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| *value);
    match parse(&|name| value_of(name).map(str::to_owned)) {
        Ok(config) => check_accepted(&config, value_of("BROKER_CALLERS").unwrap_or_default()),
        Err(errors) => assert!(!errors.all().is_empty()),
    }
    if variables.is_empty() || has_mark(bytes) {
        return;
    }
    let marked = variables[bytes.len() % variables.len()].0;
    for all in [true, false] {
        let with_mark = |name: &str| {
            let value = value_of(name)?.to_owned();
            Some(if all || name == marked { value + MARK } else { value })
        };
        if let Err(errors) = parse(&with_mark) {
            assert!(!errors.to_string().contains(MARK), "{errors}");
        }
    }
}

fn parse(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Config, ConfigErrors> {
    Config::from_environment(lookup)
}

fn check_accepted(config: &Config, callers: &str) {
    let policy = &config.policy;
    assert!(!config.table.is_empty());
    assert!(policy.lease > policy.upstream_timeout * 2 + policy.clock_margin);
    assert!((1..=10).contains(&policy.login_budget));
    assert!(policy.max_ttl >= Duration::from_secs(1));
    for url in [&config.oauth_url, &config.api_url] {
        assert!(config.upstream_hosts.allow(url), "{url}");
        let url = url::Url::parse(url.as_str()).expect("a URL");
        let is_loopback = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        assert!(url.scheme() == "https" || (url.scheme() == "http" && is_loopback), "{url}");
    }
    let (http, schedule) = (&config.aliases.http, &config.aliases.schedule);
    assert!(http.is_none() || http != schedule);
    let names = [http, schedule].into_iter().flatten();
    assert!(names.clone().all(|name| !name.is_empty() && name.len() <= 128));
    for name in names {
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{name}");
    }
    assert!(!config.log.would_enable("hyper", &tracing::Level::ERROR), "dependencies never log");
    check_callers(config, callers);
}

/// A caller that no rule names may do nothing.
fn check_callers(config: &Config, text: &str) {
    let account = AccountName::default();
    let rules: Value = serde_json::from_str(text).unwrap_or_default();
    let named: Vec<_> = rules
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["caller"].as_str().or_else(|| rule[0].as_str()))
        .collect();
    let may = |caller: &Caller, action| config.callers.allow(caller, action, Some(&account));
    if config.callers == Callers::Unset {
        assert!(text.is_empty());
        assert!(!may(&Caller::Anonymous, Action::Token));
        return;
    }
    let stranger = Caller::from_arn("arn:aws:sts::999999999999:assumed-role/stranger/session");
    let direct = Caller::Direct { alias: None };
    let other = Caller::Direct { alias: Some("other".to_owned()) };
    for action in [Action::Token, Action::Status, Action::Refresh, Action::Revoke, Action::Unblock] {
        assert!(!may(&Caller::Anonymous, action) || named.contains(&"anonymous"));
        assert!(
            !may(&stranger, action) || named.iter().any(|name| name.contains("999999999999")),
            "{named:?}"
        );
        assert!(!may(&direct, action) || named.contains(&"direct"));
        assert!(!may(&other, action) || named.contains(&"direct") || named.contains(&"direct:other"));
    }
}
