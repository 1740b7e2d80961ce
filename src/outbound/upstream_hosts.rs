//! The hosts to which tokens and passwords may be sent.

use super::convirza::V2_OAUTH_URL;
use protocol::{Account, Origin, UpstreamUrl};

/// The hosts of the settings. A secret or a stored item may name these and no others, so that write access to either does
/// not suffice to have tokens or passwords sent elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHosts {
    /// Hosts, with their ports where these are not the scheme's own.
    hosts: Vec<String>,
    /// Whether the settings themselves use http, which they may on loopback only.
    allows_http: bool,
}

impl UpstreamHosts {
    /// The hosts of the two configured URLs, of V2, and further ones.
    pub fn new(oauth_url: &UpstreamUrl, api_url: &UpstreamUrl, further: Vec<String>) -> Self {
        let v2 = UpstreamUrl::parse(V2_OAUTH_URL).ok();
        let own = [oauth_url, api_url].into_iter().chain(&v2).map(|url| url.host().to_owned());
        let hosts = own.chain(further).collect();
        Self { hosts, allows_http: [oauth_url, api_url].into_iter().any(is_http) }
    }

    /// Whether tokens and passwords may be sent to this URL.
    pub fn allow(&self, url: &UpstreamUrl) -> bool {
        (self.allows_http || !is_http(url)) && self.hosts.iter().any(|host| host == url.host())
    }

    /// Whether all tokens of a record stay with known hosts.
    pub fn allow_all_of(&self, account: &Account) -> bool {
        let pair = account.pair.iter().map(|pair| &pair.origin);
        let revocations = account.pending_revocations.iter().map(|revocation| &revocation.origin);
        pair.chain(revocations).all(|origin| self.allow_origin(origin))
    }

    fn allow_origin(&self, origin: &Origin) -> bool {
        origin.oauth_url.iter().chain(&origin.api_url).all(|url| self.allow(url))
    }
}

fn is_http(url: &UpstreamUrl) -> bool {
    url.as_str().starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

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
