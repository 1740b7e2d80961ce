//! The hosts to which tokens and passwords may be sent.

use super::upstream::V2;
use protocol::{Account, LoginLimit, LoginLimits, Origin, UpstreamUrl};
use std::collections::BTreeMap;

/// The hosts of the settings. A secret or a stored item may name only these, so that write access to either is not
/// enough to have tokens or passwords sent elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHosts {
    /// Hosts, with their ports unless these are the scheme's default. The first is the configured OAuth host.
    hosts: Vec<String>,
    v2: Option<String>,
    /// Whether the settings use http, which is allowed on loopback only.
    allows_http: bool,
}

impl UpstreamHosts {
    /// The hosts of the two configured URLs, of V2, and of `BROKER_UPSTREAM_HOSTS`.
    pub fn new(oauth_url: &UpstreamUrl, api_url: &UpstreamUrl, further: Vec<String>) -> Self {
        let v2 = UpstreamUrl::parse(V2.oauth_url).ok().map(|url| url.host().to_owned());
        let own = [oauth_url, api_url].into_iter().map(|url| url.host().to_owned());
        let hosts = own.chain(v2.clone()).chain(further).collect();
        Self { hosts, v2, allows_http: [oauth_url, api_url].into_iter().any(is_http) }
    }

    /// Whether tokens and passwords may be sent to this URL.
    pub fn allow(&self, url: &UpstreamUrl) -> bool {
        (self.allows_http || !is_http(url)) && self.hosts.iter().any(|host| host == url.host())
    }

    /// Whether all tokens of a record go to known hosts only.
    pub fn allow_all_of(&self, account: &Account) -> bool {
        let pair = account.pair.iter().map(|pair| &pair.origin);
        let revocations = account.pending_revocations.iter().map(|revocation| &revocation.origin);
        let trial = account.grant.iter().filter_map(|grant| grant.trial.as_ref()).map(|trial| &trial.origin);
        pair.chain(revocations).chain(trial).all(|origin| self.allow_origin(origin))
    }

    /// These limits by host, with the hosts that an origin leaves out.
    pub fn login_limits(&self, by_host: BTreeMap<String, LoginLimit>) -> LoginLimits {
        LoginLimits::new(self.hosts.first().cloned().unwrap_or_default(), self.v2.clone(), by_host)
    }

    fn allow_origin(&self, origin: &Origin) -> bool {
        origin.urls().all(|url| self.allow(url))
    }
}

fn is_http(url: &UpstreamUrl) -> bool {
    url.as_str().starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ApiVersion;

    fn url(text: &str) -> UpstreamUrl {
        UpstreamUrl::parse(text).unwrap()
    }

    #[test]
    fn only_known_hosts_are_allowed() {
        let further = vec!["oauth.example".to_owned(), "api.example:8443".to_owned()];
        let hosts = UpstreamHosts::new(&url("https://a.example/x"), &url("https://b.example"), further);
        for known in [
            "https://a.example",
            "https://A.example:443/other",
            "https://b.example/v3",
            "https://apicfa.convirza.com",
            "https://oauth.example/base",
            "https://api.example:8443",
        ] {
            assert!(hosts.allow(&url(known)), "{known}");
        }
        for unknown in [
            "https://c.example",
            "https://a.example.c.example",
            "https://x.a.example",
            "https://a.example:8443",
            "https://api.example",
            "http://localhost:1",
        ] {
            assert!(!hosts.allow(&url(unknown)), "{unknown}");
        }
    }

    /// The protocol's tests of `LoginLimits` cover the names.
    #[test]
    fn limits_know_the_hosts_that_origins_leave_out() {
        let hosts = UpstreamHosts::new(&url("https://a.example"), &url("https://b.example"), vec![]);
        let limits = hosts.login_limits(BTreeMap::new());
        let of = |api_version, oauth_url: Option<&str>| {
            limits
                .limiter_of_host(&Origin::Convirza {
                    api_version,
                    oauth_url: oauth_url.map(url),
                    api_url: None,
                })
                .key()
        };
        assert_eq!(of(ApiVersion::V3, Some("https://a.example")), None);
        assert_eq!(of(ApiVersion::V2, None).as_deref(), Some("apicfa.convirza.com"));
    }

    #[test]
    fn http_is_allowed_only_where_the_settings_use_it() {
        let further = || vec!["127.0.0.1:1".to_owned()];
        let deployed = UpstreamHosts::new(&url("https://a.example"), &url("https://a.example"), further());
        assert!(!deployed.allow(&url("http://127.0.0.1:1")));
        let local = UpstreamHosts::new(&url("http://127.0.0.1:2"), &url("https://a.example"), further());
        assert!(local.allow(&url("http://127.0.0.1:1")) && local.allow(&url("http://127.0.0.1:2/v2")));
        assert!(!local.allow(&url("http://127.0.0.1:3")));
    }
}
