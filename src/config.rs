//! The environment, read once and checked as a whole: all that is wrong is reported together.

use crate::{inbound::authorization::Action, inbound::authorization::Callers, inbound::authorization::Rule, inbound::authorization::Scope, inbound::authorization::Who};
use protocol::{Policy, AccountName};
use reqwest::Url;
use serde::Deserialize;
use std::{fmt, net::IpAddr, time::Duration};
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The checked configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `BROKER_TABLE`: the DynamoDB table.
    pub table: String,
    /// `BROKER_SECRET_PREFIX`: what the secrets' names begin with.
    pub secret_prefix: String,
    /// `BROKER_OAUTH_URL`: the upstream's OAuth host, without a slash at its end.
    pub oauth_url: String,
    /// `BROKER_API_URL`: the upstream's API, without a slash at its end.
    pub api_url: String,
    /// The numbers.
    pub policy: Policy,
    /// `BROKER_CALLERS`: who may do what.
    pub callers: Callers,
    /// `BROKER_LOG`: what the broker's own code logs. Dependencies log nothing.
    pub log: Targets,
}

/// Everything that is wrong with the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One variable that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable's name.
    pub variable: &'static str,
    /// What it has to be.
    pub rule: String,
}

impl ConfigErrors {
    /// What is wrong, a variable each.
    pub fn all(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration is wrong, no invocation will be answered:")?;
        for error in &self.0 {
            write!(formatter, "\n  {} {}", error.variable, error.rule)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads and checks the configuration. `lookup` gives the value of a variable; an empty one counts as
    /// unset.
    ///
    /// # Errors
    /// Everything that is wrong, by the variables' names.
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut read = Reader { lookup, errors: Vec::new() };
        let day = 86_400;
        let policy = Policy {
            login_budget: usize::try_from(read.number("BROKER_LOGIN_BUDGET", 5, 1, 10)).unwrap_or(1),
            refresh_ahead: Duration::from_secs(read.number(
                "BROKER_REFRESH_AHEAD_SECONDS",
                day,
                0,
                180 * day,
            )),
            max_ttl: Duration::from_secs(read.number("BROKER_MAX_TTL_SECONDS", 900, 1, 7 * day)),
            memory_ttl: Duration::from_secs(read.number("BROKER_MEMORY_TTL_SECONDS", 30, 0, 3600)),
            upstream_timeout: Duration::from_millis(read.number(
                "BROKER_UPSTREAM_TIMEOUT_MS",
                5000,
                100,
                25_000,
            )),
            lease: Duration::from_millis(read.number("BROKER_LEASE_MS", 15_000, 200, 600_000)),
            clock_margin: Duration::from_millis(read.number("BROKER_CLOCK_MARGIN_MS", 2000, 0, 60_000)),
        };
        if policy.lease <= policy.upstream_timeout * 2 {
            read.wrong("BROKER_LEASE_MS", "has to exceed twice BROKER_UPSTREAM_TIMEOUT_MS");
        }
        let config = Self {
            table: read.required("BROKER_TABLE"),
            secret_prefix: read.secret_prefix("BROKER_SECRET_PREFIX", "token-broker/"),
            oauth_url: read.url("BROKER_OAUTH_URL", "https://platform-oauth.convirza.com"),
            api_url: read.url("BROKER_API_URL", "https://platform-api.convirza.com/v3"),
            policy,
            callers: read.callers("BROKER_CALLERS"),
            log: read.log("BROKER_LOG"),
        };
        if read.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(read.errors)) }
    }
}

struct Reader<L> {
    lookup: L,
    errors: Vec<ConfigError>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn get(&self, variable: &str) -> Option<String> {
        (self.lookup)(variable).filter(|value| !value.is_empty())
    }

    fn wrong(&mut self, variable: &'static str, rule: impl Into<String>) {
        self.errors.push(ConfigError { variable, rule: rule.into() });
    }

    fn required(&mut self, variable: &'static str) -> String {
        self.get(variable).unwrap_or_else(|| {
            self.wrong(variable, "is required");
            String::new()
        })
    }

    fn number(&mut self, variable: &'static str, default: u64, least: u64, most: u64) -> u64 {
        let Some(text) = self.get(variable) else { return default };
        match text.trim().parse() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => {
                self.wrong(variable, format!("has to be a whole number from {least} to {most}"));
                default
            }
        }
    }

    fn secret_prefix(&mut self, variable: &'static str, default: &str) -> String {
        let prefix = self.get(variable).unwrap_or_else(|| default.to_owned());
        if !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@-".contains(&byte)) {
            self.wrong(variable, "may have messages, digits and /_+=.@- only, as secrets' names do");
        }
        prefix
    }

    fn url(&mut self, variable: &'static str, default: &str) -> String {
        checked_url(&self.get(variable).unwrap_or_else(|| default.to_owned())).unwrap_or_else(|rule| {
            self.wrong(variable, rule);
            String::new()
        })
    }

    fn callers(&mut self, variable: &'static str) -> Callers {
        let Some(text) = self.get(variable) else { return Callers::Unset };
        parse_callers(&text).unwrap_or_else(|rule| {
            self.wrong(variable, rule);
            Callers::Unset
        })
    }

    fn log(&mut self, variable: &'static str) -> Targets {
        let text = self.get(variable).unwrap_or_else(|| "info".to_owned());
        parse_log(&text).unwrap_or_else(|| {
            self.wrong(
                variable,
                "has to be off, error, warn, info, debug or trace, or a list such as info,token_broker::broker=debug",
            );
            Targets::new()
        })
    }
}

/// A URL that requests may be sent to: https, or http where it cannot leave the machine. Without a slash at
/// its end.
///
/// # Errors
/// What it has to be.
pub fn checked_url(text: &str) -> Result<String, &'static str> {
    const RULE: &str = "has to be an https URL (http on loopback only) without user, query or fragment";
    let url = Url::parse(text).map_err(|_| RULE)?;
    let on_loopback = url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    let safe = url.scheme() == "https" || (url.scheme() == "http" && on_loopback);
    if plain && safe { Ok(url.as_str().trim_end_matches('/').to_owned()) } else { Err(RULE) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    caller: String,
    accounts: Vec<String>,
    actions: Vec<String>,
}

fn parse_callers(text: &str) -> Result<Callers, String> {
    let rules: Vec<RuleText> = serde_json::from_str(text).map_err(|error| {
        format!(
            "has to be a JSON list of {{\"caller\":\"...\",\"accounts\":[...],\"actions\":[...]}} (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    let rules = rules.into_iter().enumerate().map(|(index, rule)| {
        let number = index + 1;
        let who = Who::parse(&rule.caller).map_err(|why| format!("rule {number}: `caller` {why}"))?;
        let accounts = scope(&rule.accounts, AccountName::parse)
            .ok_or_else(|| format!("rule {number}: `accounts` has to list account names, or be [\"*\"]"))?;
        let actions = scope(&rule.actions, Action::parse).ok_or_else(|| {
            format!("rule {number}: `actions` has to list token, status, refresh, revoke or maintain, or be [\"*\"]")
        })?;
        Ok(Rule { who, accounts, actions })
    });
    Ok(Callers::Rules(rules.collect::<Result<_, String>>()?))
}

fn scope<T>(names: &[String], parse: impl Fn(&str) -> Option<T>) -> Option<Scope<T>> {
    if names.iter().any(|name| name == "*") {
        return Some(Scope::All);
    }
    names.iter().map(|name| parse(name)).collect::<Option<_>>().map(Scope::These)
}

/// A filter for the broker's own code alone: whatever is asked for, no dependency gets to log a body.
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
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        Config::from_environment(|name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn wrong(variables: &[(&str, &str)]) -> Vec<&'static str> {
        let variables: Vec<_> = variables.iter().copied().chain([("BROKER_TABLE", "t")]).collect();
        config(&variables)
            .map_or_else(|errors| errors.all().iter().map(|error| error.variable).collect(), |_| vec![])
    }

    #[test]
    fn only_the_table_is_required() {
        let config = config(&[("BROKER_TABLE", "t")]).unwrap();
        assert_eq!(config.policy, Policy::DEFAULT);
        assert_eq!(config.oauth_url, "https://platform-oauth.convirza.com");
        assert_eq!(config.api_url, "https://platform-api.convirza.com/v3");
        assert_eq!(config.secret_prefix, "token-broker/");
        assert_eq!(config.callers, Callers::Unset);
    }

    #[test]
    fn everything_that_is_wrong_is_reported_together() {
        let errors = config(&[
            ("BROKER_LOGIN_BUDGET", "11"),
            ("BROKER_MAX_TTL_SECONDS", "soon"),
            ("BROKER_LEASE_MS", "10000"),
            ("BROKER_OAUTH_URL", "http://platform-oauth.convirza.com"),
            ("BROKER_API_URL", "tell-tale"),
            ("BROKER_CALLERS", "{}"),
            ("BROKER_LOG", "hyper=trace"),
        ])
        .unwrap_err();
        let text = errors.to_string();
        for variable in [
            "BROKER_LOGIN_BUDGET",
            "BROKER_MAX_TTL_SECONDS",
            "BROKER_LEASE_MS",
            "BROKER_OAUTH_URL",
            "BROKER_API_URL",
            "BROKER_CALLERS",
            "BROKER_LOG",
            "BROKER_TABLE",
        ] {
            assert!(text.contains(variable), "{variable} is missing in {text}");
        }
        assert_eq!(errors.all().len(), 8, "{text}");
        assert!(!text.contains("tell-tale"), "{text}");
    }

    #[test]
    fn a_url_is_https_or_stays_on_the_machine() {
        for good in
            ["https://x.example/base/", "http://127.0.0.1:8080", "http://localhost:1/v3", "http://[::1]:1"]
        {
            assert!(checked_url(good).is_ok(), "{good}");
        }
        assert_eq!(checked_url("https://x.example/base/").unwrap(), "https://x.example/base");
        for bad in [
            "",
            "x.example",
            "ftp://x.example",
            "http://x.example",
            "http://127.0.0.1.x.example",
            "http://10.0.0.1",
            "https://user:word@x.example",
            "https://x.example/?q",
            "https://x.example/#f",
        ] {
            assert!(checked_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_are_read_and_refused_by_number() {
        let read =
            parse_callers(r#"[{"caller":"direct","accounts":["*"],"actions":["token","status"]}]"#).unwrap();
        assert!(matches!(read, Callers::Rules(rules) if rules.len() == 1));
        assert_eq!(
            wrong(&[("BROKER_CALLERS", r#"[{"caller":"direct","accounts":["*"]}]"#)]),
            ["BROKER_CALLERS"]
        );
        let second = r#"[{"caller":"direct","accounts":["*"],"actions":["*"]},{"caller":"direct","accounts":["A"],"actions":["*"]}]"#;
        assert!(parse_callers(second).unwrap_err().starts_with("rule 2: `accounts`"));
        assert_eq!(parse_callers("[]").unwrap(), Callers::Rules(vec![]), "nobody may do anything");
    }

    #[test]
    fn the_log_filter_reaches_the_brokers_own_code_only() {
        for good in ["off", "debug", "info,token_broker::broker=trace"] {
            assert!(parse_log(good).is_some(), "{good}");
        }
        for bad in ["loud", "hyper=trace", "aws_smithy_runtime=debug,info", "token_brokers=info", "3"] {
            assert!(parse_log(bad).is_none(), "{bad}");
        }
        let targets = parse_log("trace").unwrap();
        assert!(!targets.would_enable("hyper", &tracing::Level::ERROR));
        assert!(targets.would_enable("token_broker::broker", &tracing::Level::TRACE));
    }
}
