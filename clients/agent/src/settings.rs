//! The environment, parsed once, so that all errors are reported together.

use crate::Guard;
use contract::{AccountName, agent::PORT};
use std::{collections::HashMap, fmt, sync::Arc};
use token_broker_client::{BrokerClient, Environment, Error, http::BaseUrl};

const DEFAULT_API: &str = "https://platform-api.convirza.com";

/// The settings of a serving agent.
#[derive(Debug)]
pub struct Settings {
    /// The port on 127.0.0.1; 0 means any free port.
    pub port: u16,
    /// The token that callers have to present.
    pub guard: Arc<Guard>,
    /// The accounts whose tokens are kept fresh.
    pub accounts: Vec<AccountName>,
    /// The server that the proxy calls for accounts without their own.
    pub api: BaseUrl,
    /// Other servers, by account.
    pub apis: HashMap<AccountName, BaseUrl>,
    /// What was ignored, and why.
    pub warnings: Vec<String>,
    /// Whether requests for hosts other than localhost are accepted: only on the local stack, for containers.
    pub any_host: bool,
    /// Whether tokens are fetched before the first request. A snapshot would keep them for days.
    pub prefetch: bool,
}

/// All errors of the environment.
#[derive(Debug, PartialEq, Eq)]
pub struct SettingsError(pub Vec<String>);

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Parses the environment.
    ///
    /// # Errors
    /// All errors.
    pub fn parse(environment: &Environment) -> Result<Self, SettingsError> {
        let mut faults = Vec::new();
        let mut noted = |fault: String| faults.push(fault);
        let mut warnings = Vec::new();
        let port = port(environment, &mut warnings).map_err(&mut noted).ok();
        let guard = Guard::of(environment).map(Arc::new).map_err(|error| noted(error.to_string())).ok();
        let accounts = accounts(environment).map_err(&mut noted).ok();
        let api = environment.get("CONVIRZA_API_URL").unwrap_or(DEFAULT_API);
        let api =
            BaseUrl::parse(api).map_err(|error| noted(format!("CONVIRZA_API_URL is wrong: {error}"))).ok();
        let apis = apis(environment).map_err(&mut noted).ok();
        let prefetch = environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") != Some("snap-start");
        match (port, guard, accounts, api, apis) {
            (Some(port), Some(guard), Some(accounts), Some(api), Some(apis)) => {
                Ok(Self { port, guard, accounts, api, apis, warnings, any_host: false, prefetch })
            }
            _ => Err(SettingsError(faults)),
        }
    }
}

/// How the environment says to reach the broker.
///
/// # Errors
/// It names no way, or two, or a malformed URL.
pub(crate) fn broker(environment: &Environment) -> Result<BrokerClient, SettingsError> {
    let fault = |text: &str| Err(SettingsError(vec![text.to_owned()]));
    match (environment.get("TOKEN_BROKER_FUNCTION"), environment.get("TOKEN_BROKER_URL")) {
        (Some(function), None) => Ok(BrokerClient::invoke(environment, function)),
        (None, Some(url)) => BrokerClient::http_api(environment, url)
            .map_err(|error: Error| SettingsError(vec![format!("TOKEN_BROKER_URL: {error}")])),
        (Some(_), Some(_)) => fault("set TOKEN_BROKER_FUNCTION or TOKEN_BROKER_URL, not both"),
        (None, None) => fault("set TOKEN_BROKER_FUNCTION (direct invoke) or TOKEN_BROKER_URL (HTTP API)"),
    }
}

/// The port that the environment names.
///
/// # Errors
/// It is not a port.
pub(crate) fn port(environment: &Environment, warnings: &mut Vec<String>) -> Result<u16, String> {
    if environment.get("TOKEN_BROKER_PORT").is_some_and(|port| port.contains("://")) {
        warnings.push(format!(
            "TOKEN_BROKER_PORT is a URL, as Kubernetes injects it for a Service named token-broker; it is ignored, and \
             the port is {PORT}"
        ));
    }
    environment.agent_port().ok_or_else(|| "TOKEN_BROKER_PORT must be a number up to 65535".to_owned())
}

fn apis(environment: &Environment) -> Result<HashMap<AccountName, BaseUrl>, String> {
    let list = environment.get("TOKEN_BROKER_API_URLS").unwrap_or_default();
    let mut apis = HashMap::new();
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let form = "TOKEN_BROKER_API_URLS must be a comma-separated list of ACCOUNT=URL";
        let (name, url) = entry.split_once('=').ok_or(form)?;
        let account = AccountName::parse(name.trim()).ok_or(form)?;
        let url = BaseUrl::parse(url.trim())
            .map_err(|error| format!("TOKEN_BROKER_API_URLS has a wrong URL for {account}: {error}"))?;
        if apis.insert(account.clone(), url).is_some() {
            return Err(format!("TOKEN_BROKER_API_URLS names {account} twice"));
        }
    }
    Ok(apis)
}

fn accounts(environment: &Environment) -> Result<Vec<AccountName>, String> {
    let Some(list) = environment.get("TOKEN_BROKER_ACCOUNTS") else {
        return Ok(vec![AccountName::default()]);
    };
    let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let accounts: Option<Vec<_>> = names.map(AccountName::parse).collect();
    let rule = AccountName::RULE;
    accounts.ok_or_else(|| format!("each entry of TOKEN_BROKER_ACCOUNTS, comma-separated, must be {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::parse(&variables.iter().copied().collect())
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = parse(&[("AWS_SESSION_TOKEN", "guard")]).unwrap();
        assert_eq!((settings.port, settings.prefetch), (2774, true));
        assert_eq!(settings.accounts, [AccountName::default()]);
        assert_eq!(settings.api.target.to_string(), "https://platform-api.convirza.com");
    }

    #[test]
    fn all_faults_are_reported_together() {
        let error = parse(&[
            ("TOKEN_BROKER_PORT", "70000"),
            ("TOKEN_BROKER_ACCOUNTS", "default,EMEA"),
            ("CONVIRZA_API_URL", "http://example.com"),
        ])
        .unwrap_err();
        for name in ["TOKEN_BROKER_PORT", "TOKEN_BROKER_TOKEN", "TOKEN_BROKER_ACCOUNTS", "CONVIRZA_API_URL"] {
            assert_eq!(error.0.iter().filter(|fault| fault.contains(name)).count(), 1, "{name}: {error}");
        }
    }

    #[test]
    fn a_port_that_kubernetes_injects_is_ignored_with_a_warning() {
        let guard = ("TOKEN_BROKER_TOKEN", "guard");
        let settings = parse(&[guard, ("TOKEN_BROKER_PORT", "tcp://10.0.0.1:443")]).unwrap();
        assert_eq!((settings.port, settings.warnings.len()), (2774, 1));
        let settings = parse(&[guard, ("TOKEN_BROKER_PORT", "3000\n")]).unwrap();
        assert_eq!((settings.port, settings.warnings.len()), (3000, 0));
    }

    #[test]
    fn accounts_may_have_their_own_apis() {
        let list = |text| parse(&[("TOKEN_BROKER_TOKEN", "guard"), ("TOKEN_BROKER_API_URLS", text)]);
        let settings = list("crm=https://www.zohoapis.eu, erp=https://erp.example/v2,").unwrap();
        let url = |name| settings.apis[&AccountName::parse(name).unwrap()].clone();
        assert_eq!(url("crm").target.host(), "www.zohoapis.eu");
        assert_eq!(url("erp").path, "/v2");
        for wrong in [
            "crm",
            "CRM=https://x.example",
            "crm=http://x.example",
            "a=https://x.example,a=https://y.example",
        ] {
            assert!(list(wrong).unwrap_err().to_string().contains("TOKEN_BROKER_API_URLS"), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_prefetched_into_a_snapshot() {
        let snapshot = ("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start");
        assert!(!parse(&[("TOKEN_BROKER_TOKEN", "guard"), snapshot]).unwrap().prefetch);
    }

    #[test]
    fn exactly_one_transport_must_be_configured() {
        let (function, url) =
            (("TOKEN_BROKER_FUNCTION", "broker:live"), ("TOKEN_BROKER_URL", "https://x.example"));
        let ways = |variables: &[(&str, &str)]| broker(&variables.iter().copied().collect()).is_ok();
        assert!(ways(&[function]) && ways(&[url]));
        assert!(!ways(&[]) && !ways(&[function, url]) && !ways(&[("TOKEN_BROKER_URL", "http://x.example")]));
    }
}
