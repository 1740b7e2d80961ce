//! The configuration: the environment, read and checked once. All errors are reported together.

use crate::{
    inbound::{
        Aliases,
        authorization::{Action, Callers, Rule, Scope, Who, alias_name},
    },
    outbound::UpstreamHosts,
    telemetry::Audit,
};
use protocol::{AccountName, Policy, UpstreamUrl};
use serde::Deserialize;
use std::{fmt, time::Duration};
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
    /// The numbers.
    pub policy: Policy,
    /// `BROKER_UPSTREAM_HOSTS`: the hosts to which tokens and passwords may be sent.
    pub upstream_hosts: UpstreamHosts,
    /// `BROKER_CALLERS`: who may do what.
    pub callers: Callers,
    /// `BROKER_HTTP_ALIAS` and `BROKER_SCHEDULE_ALIAS`: the ways in.
    pub aliases: Aliases,
    /// `BROKER_PREFETCH`: the accounts whose records are read while the function starts.
    pub prefetch: Vec<AccountName>,
    /// `BROKER_AUDIT`: which answers have a line.
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
    /// The errors, one for each wrong variable.
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
    /// Reads and checks the configuration. `lookup` returns the value of a variable; an empty value counts as unset.
    ///
    /// # Errors
    /// Every variable that is wrong.
    pub fn from_environment(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut read = Reader { lookup, errors: Vec::new() };
        let table = read.required("BROKER_TABLE");
        let secret_prefix = read.secret_prefix("BROKER_SECRET_PREFIX", "token-broker/");
        let oauth_url = read.url("BROKER_OAUTH_URL", "https://platform-oauth.convirza.com");
        let api_url = read.url("BROKER_API_URL", "https://platform-api.convirza.com/v3");
        let revoke_field = read.field_name("BROKER_REVOKE_FIELD", "token");
        let policy = read.policy();
        let further_hosts = read.hosts("BROKER_UPSTREAM_HOSTS");
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

struct Reader<L> {
    lookup: L,
    errors: Vec<ConfigError>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
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
            let rule = "has to exceed twice BROKER_UPSTREAM_TIMEOUT_MS plus BROKER_CLOCK_MARGIN_MS";
            self.wrong("BROKER_LEASE_MS", rule);
        }
        policy
    }

    fn field_name(&mut self, variable: &'static str, default: &str) -> String {
        let name = self.get(variable).unwrap_or_else(|| default.to_owned());
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !plain || name.len() > 64 || name == "token_type" {
            self.wrong(
                variable,
                "has to be a name of letters, digits and underscores, other than token_type",
            );
        }
        name
    }

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

    fn number(&mut self, variable: &'static str, least: u64, most: u64) -> Option<u64> {
        let text = self.get(variable)?;
        let number = text.trim().parse().ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(variable, format!("has to be a whole number from {least} to {most}"));
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
            self.wrong(variable, "may have letters, digits and /_+=.@- only, as secrets' names do");
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
        let hosts = named.map(|host| {
            let is_plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte));
            // The form that a URL with this host has.
            let url = UpstreamUrl::parse(&format!("https://{host}")).ok().filter(|_| is_plain)?;
            url.host().eq_ignore_ascii_case(host).then(|| url.host().to_owned())
        });
        hosts.collect::<Option<_>>().unwrap_or_else(|| {
            self.wrong(
                variable,
                "has to list hosts, each with its port if that is not 443, separated by commas",
            );
            Vec::new()
        })
    }

    fn aliases(&mut self) -> Aliases {
        let mut alias = |variable| {
            let name = self.get(variable)?;
            if alias_name(&name).is_none() {
                self.wrong(variable, "has to be the name of an alias of the function");
            }
            Some(name)
        };
        let aliases = Aliases { http: alias("BROKER_HTTP_ALIAS"), schedule: alias("BROKER_SCHEDULE_ALIAS") };
        if aliases.http.is_some() && aliases.http == aliases.schedule {
            self.wrong("BROKER_SCHEDULE_ALIAS", "has to differ from BROKER_HTTP_ALIAS");
        }
        aliases
    }

    /// Unset, it is the default account. An empty value is an empty list.
    fn prefetch(&mut self, variable: &'static str) -> Vec<AccountName> {
        let Some(text) = (self.lookup)(variable) else { return vec![AccountName::default()] };
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(AccountName::parse).collect::<Option<_>>().unwrap_or_else(|| {
            self.wrong(variable, "has to list account names, separated by commas");
            Vec::new()
        })
    }

    fn audit(&mut self, variable: &'static str) -> Audit {
        match self.get(variable).as_deref() {
            None | Some("all") => Audit::All,
            Some("changes") => Audit::Changes,
            Some(_) => {
                self.wrong(variable, "has to be all or changes");
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
                "has to be off, error, warn, info, debug or trace, or a list such as info,token_broker::broker=debug",
            );
            Targets::new()
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    caller: String,
    accounts: Vec<String>,
    actions: Vec<String>,
    #[serde(default)]
    audit: bool,
}

fn parse_callers(text: &str, aliases: &Aliases) -> Result<Callers, String> {
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
        if matches!(&who, Who::DirectAlias(alias) if aliases.http.as_ref() == Some(alias)) {
            return Err(format!(
                "rule {number}: `caller` can never match: direct payloads through BROKER_HTTP_ALIAS are refused"
            ));
        }
        let accounts = scope(&rule.accounts, AccountName::parse)
            .ok_or_else(|| format!("rule {number}: `accounts` has to list account names, or be [\"*\"]"))?;
        let actions = scope(&rule.actions, Action::parse).ok_or_else(|| {
            format!("rule {number}: `actions` has to list token, status, refresh, revoke, unblock or maintain, or be [\"*\"]")
        })?;
        Ok(Rule { who, accounts, actions, audit: rule.audit })
    });
    Ok(Callers::Rules(rules.collect::<Result<_, String>>()?))
}

fn scope<T>(names: &[String], parse: impl Fn(&str) -> Option<T>) -> Option<Scope<T>> {
    if names.iter().any(|name| name == "*") {
        return Some(Scope::All);
    }
    if names.is_empty() {
        return None;
    }
    names.iter().map(|name| parse(name)).collect::<Option<_>>().map(Scope::These)
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
        assert_eq!(config.oauth_url.as_str(), "https://platform-oauth.convirza.com");
        assert_eq!(config.api_url.as_str(), "https://platform-api.convirza.com/v3");
        assert_eq!(config.secret_prefix, "token-broker/");
        assert_eq!(config.callers, Callers::Unset);
    }

    #[test]
    fn a_number_has_bounds() {
        for (variable, least, most) in [
            ("BROKER_LOGIN_BUDGET", 1, 10),
            ("BROKER_REFRESH_AHEAD_SECONDS", 0, 180 * 86_400),
            ("BROKER_MAX_TTL_SECONDS", 1, 7 * 86_400),
            ("BROKER_MEMORY_TTL_SECONDS", 0, 3600),
            ("BROKER_UPSTREAM_TIMEOUT_MS", 100, 6_499),
            ("BROKER_LEASE_MS", 12_001, 600_000),
            ("BROKER_CLOCK_MARGIN_MS", 0, 4_999),
        ] {
            let is_wrong = |value: i64| !wrong(&[(variable, &value.to_string())]).is_empty();
            assert!(!is_wrong(least) && !is_wrong(most), "{variable}");
            assert!(is_wrong(least - 1) && is_wrong(most + 1), "{variable}");
        }
        let slow = |timeout: &str, lease| {
            [("BROKER_UPSTREAM_TIMEOUT_MS", timeout.to_owned()), ("BROKER_LEASE_MS", lease)]
        };
        let wrong = |[(one, timeout), (other, lease)]: [(&str, String); 2]| {
            wrong(&[(one, &timeout), (other, &lease)])
        };
        assert!(wrong(slow("25000", "52001".to_owned())).is_empty());
        assert_eq!(wrong(slow("25001", "600000".to_owned())), ["BROKER_UPSTREAM_TIMEOUT_MS"]);
    }

    #[test]
    fn the_revoke_field_is_a_plain_name() {
        let field = |name: &str| wrong(&[("BROKER_REVOKE_FIELD", name)]).is_empty();
        assert!(field("token") && field("access_token2") && field(&"x".repeat(64)));
        for bad in ["token_type", "a b", "a-b", "a\"b", "ä", &"x".repeat(65)] {
            assert!(!field(bad), "{bad}");
        }
        let config = config(&[("BROKER_TABLE", "t"), ("BROKER_REVOKE_FIELD", "access_token")]).unwrap();
        assert_eq!(config.revoke_field, "access_token");
    }

    #[test]
    fn all_errors_are_reported_together() {
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
    fn a_wrong_rule_is_reported_by_its_number() {
        let none = Aliases::default();
        let read =
            parse_callers(r#"[{"caller":"direct","accounts":["*"],"actions":["token","status"]}]"#, &none)
                .unwrap();
        assert!(matches!(read, Callers::Rules(rules) if rules.len() == 1));
        assert_eq!(
            wrong(&[("BROKER_CALLERS", r#"[{"caller":"direct","accounts":["*"]}]"#)]),
            ["BROKER_CALLERS"]
        );
        let second = r#"[{"caller":"direct","accounts":["*"],"actions":["*"]},{"caller":"direct","accounts":["A"],"actions":["*"]}]"#;
        assert!(parse_callers(second, &none).unwrap_err().starts_with("rule 2: `accounts`"));
        assert_eq!(parse_callers("[]", &none).unwrap(), Callers::Rules(vec![]), "no caller may do anything");
    }

    #[test]
    fn a_rule_that_never_allows_anything_is_refused() {
        let rule = |caller: &str, accounts: &str, actions: &str| {
            format!(r#"[{{"caller":"{caller}","accounts":{accounts},"actions":{actions}}}]"#)
        };
        for (rule, refused) in [
            (rule("direct", "[]", r#"["*"]"#), true),
            (rule("direct", r#"["*"]"#, "[]"), true),
            (rule("direct:http", r#"["*"]"#, r#"["*"]"#), true),
            (rule("direct:live", r#"["*"]"#, r#"["*"]"#), false),
        ] {
            let errors = wrong(&[("BROKER_HTTP_ALIAS", "http"), ("BROKER_CALLERS", &rule)]);
            assert_eq!(!errors.is_empty(), refused, "{rule}");
        }
    }

    #[test]
    fn the_ways_in_are_two_aliases() {
        let aliases = |http: &str, schedule: &str| {
            wrong(&[("BROKER_HTTP_ALIAS", http), ("BROKER_SCHEDULE_ALIAS", schedule)])
        };
        assert!(aliases("http", "schedule").is_empty());
        assert_eq!(aliases("same", "same"), ["BROKER_SCHEDULE_ALIAS"]);
        assert_eq!(aliases("12", "$LATEST"), ["BROKER_HTTP_ALIAS", "BROKER_SCHEDULE_ALIAS"]);
    }

    #[test]
    fn a_further_host_is_a_name_and_maybe_a_port() {
        let hosts = |text: &str| wrong(&[("BROKER_UPSTREAM_HOSTS", text)]).is_empty();
        assert!(hosts("") && hosts("x.example") && hosts("x.example, Y.example:8443 ,[::1]:1,"));
        for bad in
            ["https://x.example", "x.example/path", "user@x.example", "x example", "x.example:443", "*"]
        {
            assert!(!hosts(bad), "{bad}");
        }
    }

    #[test]
    fn the_default_account_is_prefetched_if_no_list_is_given() {
        let prefetched = |value: Option<&str>| {
            let variables = value.map(|value| ("BROKER_PREFETCH", value));
            let variables: Vec<_> = variables.into_iter().chain([("BROKER_TABLE", "t")]).collect();
            let names = config(&variables).ok()?.prefetch;
            Some(names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(prefetched(None).as_deref(), Some("default"));
        assert_eq!(prefetched(Some("")).as_deref(), Some(""));
        assert_eq!(prefetched(Some("emea, apac,")).as_deref(), Some("emea apac"));
        assert_eq!(prefetched(Some("emea,EMEA")), None);
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
