//! The configuration: the environment, read and checked once. All errors are reported together.

mod json;

use crate::{
    inbound::{
        Aliases,
        authorization::{Callers, alias_name},
    },
    outbound::UpstreamHosts,
    telemetry::Audit,
};
use json::{parse_callers, parse_host, parse_login_limits};
use protocol::{AccountName, LoginLimit, LoginLimits, Policy, UpstreamUrl};
use std::{collections::BTreeMap, fmt, time::Duration};
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `BROKER_TABLE`: the DynamoDB table.
    pub table: String,
    /// `BROKER_SECRET_PREFIX`: the prefix of the secrets' names.
    pub secret_prefix: String,
    /// `BROKER_OAUTH_URL`: the upstream's OAuth host.
    pub oauth_url: UpstreamUrl,
    /// `BROKER_API_URL`: the upstream's API.
    pub api_url: UpstreamUrl,
    /// `BROKER_REVOKE_FIELD`: the field of the revoke call that carries the token.
    pub revoke_field: String,
    /// The numeric settings.
    pub policy: Policy,
    /// `BROKER_UPSTREAM_HOSTS`: the hosts to which tokens and passwords may be sent.
    pub upstream_hosts: UpstreamHosts,
    /// `BROKER_LOGIN_LIMITS`: the limits of login hosts that differ from the policy's.
    pub login_limits: LoginLimits,
    /// `BROKER_CALLERS`: who may do what.
    pub callers: Callers,
    /// `BROKER_HTTP_ALIAS` and `BROKER_SCHEDULE_ALIAS`: the alias of each way in.
    pub aliases: Aliases,
    /// `BROKER_PREFETCH`: the accounts whose records are read while the function starts.
    pub prefetch: Vec<AccountName>,
    /// `BROKER_AUDIT`: which answers get a log line.
    pub audit: Audit,
    /// `AWS_LAMBDA_FUNCTION_NAME`: the dimension of the metrics.
    pub function: String,
    /// `BROKER_LOG`: what the broker's own code logs. Dependencies never log.
    pub log: Targets,
}

/// All errors of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// An error in one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable's name.
    pub variable: &'static str,
    /// The rule that its value breaks. Never the value.
    pub rule: String,
}

impl ConfigErrors {
    /// One error for each wrong variable.
    pub fn all(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration is wrong; no invocation will be answered:")?;
        for error in &self.0 {
            write!(formatter, "\n  {} {}", error.variable, error.rule)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads and checks the configuration. `lookup` returns the value of a variable; an empty value counts as unset.
    ///
    /// # Errors
    /// Every variable that is wrong.
    pub fn from_environment(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut read = Reader { lookup, errors: Vec::new() };
        let table = read.table("BROKER_TABLE");
        let secret_prefix = read.secret_prefix("BROKER_SECRET_PREFIX", "token-broker/");
        let oauth_url = read.url("BROKER_OAUTH_URL", "https://platform-oauth.convirza.com");
        let api_url = read.url("BROKER_API_URL", "https://platform-api.convirza.com/v3");
        let revoke_field = read.field_name("BROKER_REVOKE_FIELD", "token");
        let policy = read.policy();
        let further_hosts = read.hosts("BROKER_UPSTREAM_HOSTS");
        let login_limits = read.login_limits("BROKER_LOGIN_LIMITS");
        let aliases = read.aliases();
        let callers = read.callers("BROKER_CALLERS", &aliases);
        let prefetch = read.prefetch("BROKER_PREFETCH");
        let audit = read.audit("BROKER_AUDIT");
        let function = read.get("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|| "token-broker".to_owned());
        let log = read.log("BROKER_LOG");
        match (oauth_url, api_url) {
            (Some(oauth_url), Some(api_url)) if read.errors.is_empty() => {
                let upstream_hosts = UpstreamHosts::new(&oauth_url, &api_url, further_hosts);
                Ok(Self {
                    table,
                    secret_prefix,
                    oauth_url,
                    api_url,
                    revoke_field,
                    policy,
                    login_limits: upstream_hosts.login_limits(login_limits),
                    upstream_hosts,
                    callers,
                    aliases,
                    prefetch,
                    audit,
                    function,
                    log,
                })
            }
            _ => Err(ConfigErrors(read.errors)),
        }
    }
}

/// The variables that begin with `BROKER_` but were not read: misspelt, or from another release.
pub fn unknown_variables(names: impl Iterator<Item = String>, read: &[&str]) -> Vec<String> {
    names.filter(|name| name.starts_with("BROKER_") && !read.contains(&name.as_str())).collect()
}

struct Reader<L> {
    lookup: L,
    errors: Vec<ConfigError>,
}

impl<L: Fn(&'static str) -> Option<String>> Reader<L> {
    fn policy(&mut self) -> Policy {
        const DEFAULT: Policy = Policy::DEFAULT;
        const DAY: u64 = 86_400;
        let policy = Policy {
            login_budget: self.count("BROKER_LOGIN_BUDGET", DEFAULT.login_budget, 1, 10),
            refresh_ahead: self.seconds("BROKER_REFRESH_AHEAD_SECONDS", DEFAULT.refresh_ahead, 0, 180 * DAY),
            max_ttl: self.seconds("BROKER_MAX_TTL_SECONDS", DEFAULT.max_ttl, 1, 7 * DAY),
            memory_ttl: self.seconds("BROKER_MEMORY_TTL_SECONDS", DEFAULT.memory_ttl, 0, 3600),
            upstream_timeout: self.millis(
                "BROKER_UPSTREAM_TIMEOUT_MS",
                DEFAULT.upstream_timeout,
                100,
                25_000,
            ),
            lease: self.millis("BROKER_LEASE_MS", DEFAULT.lease, 200, 600_000),
            clock_margin: self.millis("BROKER_CLOCK_MARGIN_MS", DEFAULT.clock_margin, 0, 60_000),
        };
        if !policy.has_long_enough_lease() {
            let rule = "must exceed twice BROKER_UPSTREAM_TIMEOUT_MS plus BROKER_CLOCK_MARGIN_MS";
            self.wrong("BROKER_LEASE_MS", rule);
        }
        policy
    }

    fn field_name(&mut self, variable: &'static str, default: &str) -> String {
        let name = self.get(variable).unwrap_or_else(|| default.to_owned());
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !plain || name.len() > 64 || name == "token_type" {
            self.wrong(variable, "must be a name of letters, digits and underscores, other than token_type");
        }
        name
    }

    fn get(&self, variable: &'static str) -> Option<String> {
        (self.lookup)(variable).filter(|value| !value.is_empty())
    }

    fn wrong(&mut self, variable: &'static str, rule: impl Into<String>) {
        self.errors.push(ConfigError { variable, rule: rule.into() });
    }

    fn table(&mut self, variable: &'static str) -> String {
        let Some(name) = self.get(variable) else {
            self.wrong(variable, "is required");
            return String::new();
        };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-:/".contains(&byte)) {
            self.wrong(variable, "must be the name or ARN of a table: letters, digits and _.-:/");
        }
        name
    }

    fn number(&mut self, variable: &'static str, least: u64, most: u64) -> Option<u64> {
        let text = self.get(variable)?;
        let number = text.trim().parse().ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(variable, format!("must be a whole number from {least} to {most}"));
        }
        number
    }

    fn count(&mut self, variable: &'static str, default: usize, least: u64, most: u64) -> usize {
        self.number(variable, least, most).and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    }

    fn seconds(&mut self, variable: &'static str, default: Duration, least: u64, most: u64) -> Duration {
        self.number(variable, least, most).map_or(default, Duration::from_secs)
    }

    fn millis(&mut self, variable: &'static str, default: Duration, least: u64, most: u64) -> Duration {
        self.number(variable, least, most).map_or(default, Duration::from_millis)
    }

    fn secret_prefix(&mut self, variable: &'static str, default: &str) -> String {
        let prefix = self.get(variable).unwrap_or_else(|| default.to_owned());
        if !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte)) {
            self.wrong(variable, "may contain only letters, digits and /_+=.@-, like secrets' names");
        }
        prefix
    }

    fn url(&mut self, variable: &'static str, default: &str) -> Option<UpstreamUrl> {
        let text = self.get(variable);
        UpstreamUrl::parse(text.as_deref().unwrap_or(default))
            .map_err(|error| self.wrong(variable, error.to_string()))
            .ok()
    }

    fn hosts(&mut self, variable: &'static str) -> Vec<String> {
        let text = self.get(variable).unwrap_or_default();
        let named = text.split(',').map(str::trim).filter(|host| !host.is_empty());
        named.map(parse_host).collect::<Option<_>>().unwrap_or_else(|| {
            self.wrong(
                variable,
                "must list hosts, each with its port if that is not 443, separated by commas",
            );
            Vec::new()
        })
    }

    fn login_limits(&mut self, variable: &'static str) -> BTreeMap<String, LoginLimit> {
        let Some(text) = self.get(variable) else { return BTreeMap::new() };
        parse_login_limits(&text).unwrap_or_else(|rule| {
            self.wrong(variable, rule);
            BTreeMap::new()
        })
    }

    fn aliases(&mut self) -> Aliases {
        let mut alias = |variable| {
            let name = self.get(variable)?;
            if alias_name(&name).is_none() {
                self.wrong(variable, "must be the name of an alias of the function");
            }
            Some(name)
        };
        let aliases = Aliases { http: alias("BROKER_HTTP_ALIAS"), schedule: alias("BROKER_SCHEDULE_ALIAS") };
        if aliases.http.is_some() && aliases.http == aliases.schedule {
            self.wrong("BROKER_SCHEDULE_ALIAS", "must differ from BROKER_HTTP_ALIAS");
        }
        aliases
    }

    /// Unset, it is the default account. An empty value is an empty list.
    fn prefetch(&mut self, variable: &'static str) -> Vec<AccountName> {
        let Some(text) = (self.lookup)(variable) else { return vec![AccountName::default()] };
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(AccountName::parse).collect::<Option<_>>().unwrap_or_else(|| {
            self.wrong(variable, "must list account names, separated by commas");
            Vec::new()
        })
    }

    fn audit(&mut self, variable: &'static str) -> Audit {
        match self.get(variable).as_deref() {
            None | Some("all") => Audit::All,
            Some("changes") => Audit::Changes,
            Some(_) => {
                self.wrong(variable, "must be all or changes");
                Audit::All
            }
        }
    }

    fn callers(&mut self, variable: &'static str, aliases: &Aliases) -> Callers {
        let Some(text) = self.get(variable) else { return Callers::Unset };
        parse_callers(&text, aliases).unwrap_or_else(|rule| {
            self.wrong(variable, rule);
            Callers::Unset
        })
    }

    fn log(&mut self, variable: &'static str) -> Targets {
        let text = self.get(variable).unwrap_or_else(|| "info".to_owned());
        parse_log(&text).unwrap_or_else(|| {
            self.wrong(
                variable,
                "must be off, error, warn, info, debug or trace, or a list such as info,token_broker::broker=debug",
            );
            Targets::new()
        })
    }
}

/// A filter for the broker's own code only: a dependency could log a request or response body.
fn parse_log(text: &str) -> Option<Targets> {
    const OWN: &str = env!("CARGO_CRATE_NAME");
    text.split(',').map(str::trim).try_fold(Targets::new(), |targets, part| {
        let (target, level) = part.split_once('=').unwrap_or((OWN, part));
        let level: LevelFilter = level.parse().ok().filter(|_| level.parse::<u8>().is_err())?;
        let is_own = target == OWN || target.strip_prefix(OWN).is_some_and(|rest| rest.starts_with("::"));
        is_own.then(|| targets.with_target(target, level))
    })
}

#[cfg(test)]
mod tests;
