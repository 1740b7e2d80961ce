//! The hosts to which tokens and passwords may be sent.

use super::upstream::V2;
use protocol::{Account, LimiterName, Origin, UpstreamUrl};

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
        pair.chain(revocations).all(|origin| self.allow_origin(origin))
    }

    /// The host whose logins a limiter counts, or `None` for the configured one. A secret may also name the configured
    /// host or V2's, and two limiters for one host would allow twice its budget.
    pub(super) fn limited_by<'a>(&'a self, name: &'a LimiterName) -> Option<&'a str> {
        let host = match name.key()? {
            LimiterName::V2 => self.v2.as_deref()?,
            host => host,
        };
        (self.hosts.first().map(String::as_str) != Some(host)).then_some(host)
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

    #[test]
    fn a_host_has_one_limiter_by_whatever_name() {
        let hosts = UpstreamHosts::new(&url("https://a.example"), &url("https://b.example"), vec![]);
        let limited_by = |api_version, oauth_url: Option<&str>| {
            let oauth_url = oauth_url.map(url);
            let origin = Origin::Convirza { api_version, oauth_url, api_url: None };
            hosts.limited_by(&LimiterName::of(&origin)).map(str::to_owned)
        };
        for version in [ApiVersion::V3, ApiVersion::V2] {
            assert_eq!(limited_by(version, Some("https://A.example:443/other")), None);
            let v2 = limited_by(version, Some("https://apicfa.convirza.com"));
            assert_eq!(v2.as_deref(), Some("apicfa.convirza.com"));
            assert_eq!(limited_by(version, Some("https://b.example")).as_deref(), Some("b.example"));
        }
        assert_eq!(limited_by(ApiVersion::V3, None), None);
        assert_eq!(limited_by(ApiVersion::V2, None).as_deref(), Some("apicfa.convirza.com"));
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
