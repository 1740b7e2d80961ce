//! The settings in JSON: limits of login hosts, and the caller policy.

use crate::inbound::{
    Aliases,
    authorization::{Callers, Rule, Scope, Who},
};
use contract::Action;
use protocol::{AccountName, Counts, LoginLimit, Per, UpstreamUrl};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// A host, normalised as in a URL.
pub(super) fn parse_host(host: &str) -> Option<String> {
    let is_plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte));
    let url = UpstreamUrl::parse(&format!("https://{host}")).ok().filter(|_| is_plain)?;
    url.host().eq_ignore_ascii_case(host).then(|| url.host().to_owned())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitText {
    requests: usize,
    seconds: u64,
    #[serde(default = "logins")]
    counts: String,
    #[serde(default = "host")]
    per: String,
}

fn logins() -> String {
    "logins".to_owned()
}

fn host() -> String {
    "host".to_owned()
}

pub(super) fn parse_login_limits(text: &str) -> Result<BTreeMap<String, LoginLimit>, String> {
    let limits: BTreeMap<String, LimitText> = serde_json::from_str(text).map_err(|error| {
        format!(
            "must be a JSON object of hosts, each with {{\"requests\":...,\"seconds\":...,\"counts\":...,\"per\":...}} (line {}, column {})",
            error.line(),
            error.column()
        )
    })?;
    let named = limits.len();
    let limits = limits.into_iter().enumerate().map(|(index, (name, limit))| {
        let wrong = |rule: &str| format!("host {}: {rule}", index + 1);
        let name =
            parse_host(&name).ok_or_else(|| wrong("must be a host, with its port if that is not 443"))?;
        if !(1..=100).contains(&limit.requests) {
            return Err(wrong("`requests` must be a whole number from 1 to 100"));
        }
        if !(1..=3_600).contains(&limit.seconds) {
            return Err(wrong("`seconds` must be a whole number from 1 to 3600"));
        }
        let counts = match limit.counts.as_str() {
            "logins" => Counts::Logins,
            "all" => Counts::All,
            _ => return Err(wrong("`counts` must be logins or all")),
        };
        let per = match limit.per.as_str() {
            "host" => Per::Host,
            "account" => Per::Account,
            _ => return Err(wrong("`per` must be host or account")),
        };
        let window = Duration::from_secs(limit.seconds);
        Ok((name, LoginLimit { requests: limit.requests, window, counts, per }))
    });
    let limits: BTreeMap<_, _> = limits.collect::<Result<_, String>>()?;
    // Capital letters do not distinguish hosts.
    if limits.len() == named { Ok(limits) } else { Err("names a host twice".to_owned()) }
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

pub(super) fn parse_callers(text: &str, aliases: &Aliases) -> Result<Callers, String> {
    let rules: Vec<RuleText> = serde_json::from_str(text).map_err(|error| {
        format!(
            "must be a JSON list of {{\"caller\":\"...\",\"accounts\":[...],\"actions\":[...]}} (line {}, column {})",
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
            .ok_or_else(|| format!("rule {number}: `accounts` must list account names, or be [\"*\"]"))?;
        let actions = scope(&rule.actions, Action::parse).ok_or_else(|| {
            let names = Action::ALL.map(Action::name).join(", ");
            format!("rule {number}: `actions` must list some of {names}, or be [\"*\"]")
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
