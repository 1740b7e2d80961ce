//! Addresses to which credentials may be sent.

use std::{fmt, net::IpAddr};
use url::{Host, Url};

/// The URL of an upstream: `https`, or `http` on loopback, without credentials or fragment. A base URL has no query
/// either, nor a slash at its end.
///
/// Every URL of the configuration, of a secret and of a stored item is parsed into this type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamUrl(String);

/// The text is not a URL that an upstream may have. The error does not repeat it: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("must be an https URL (http on loopback only) without credentials, query or fragment")]
pub struct InvalidUrl;

impl UpstreamUrl {
    /// Parses and checks a base URL, to which paths are appended.
    ///
    /// # Errors
    /// The text is not an acceptable URL, or has a query.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        let Self(text) = Self::parse_endpoint(text)?;
        if text.contains('?') { Err(InvalidUrl) } else { Ok(Self(text.trim_end_matches('/').to_owned())) }
    }

    /// Parses and checks a URL that is requested as it is.
    ///
    /// # Errors
    /// The text is not an acceptable URL.
    pub fn parse_endpoint(text: &str) -> Result<Self, InvalidUrl> {
        let url = Url::parse(text).map_err(|_| InvalidUrl)?;
        let secure = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        let plain = url.username().is_empty() && url.password().is_none();
        if !secure || !plain || url.fragment().is_some() || url.host().is_none() {
            return Err(InvalidUrl);
        }
        Ok(Self(url.into()))
    }

    /// Host and port, as text.
    pub fn host(&self) -> &str {
        let after_scheme = self.0.split_once("://").map_or("", |(_, rest)| rest);
        after_scheme.split('/').next().unwrap_or_default()
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::UpstreamUrl;

    #[test]
    fn an_endpoint_keeps_its_slash_and_its_query() {
        for text in
            ["https://x.example/o/token/", "https://x.example/token?p=policy", "http://localhost:1/o/"]
        {
            let url = UpstreamUrl::parse_endpoint(text).unwrap();
            assert_eq!((url.as_str(), url.host()), (text, url.host()), "{text}");
        }
        for bad in ["http://x.example/", "https://user@x.example/", "https://x.example/#f"] {
            assert!(UpstreamUrl::parse_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_is_https_or_stays_on_the_machine() {
        for good in
            ["https://x.example/base/", "http://127.0.0.1:8080", "http://localhost:1/v3", "http://[::1]:1"]
        {
            assert!(UpstreamUrl::parse(good).is_ok(), "{good}");
        }
        let url = UpstreamUrl::parse("https://x.example:8443/base/").unwrap();
        assert_eq!((url.as_str(), url.host()), ("https://x.example:8443/base", "x.example:8443"));
        assert_eq!(url.to_string(), url.as_str());
        for bad in [
            "",
            "x.example",
            "ftp://x.example",
            "ftp://127.0.0.1",
            "http://x.example",
            "http://127.0.0.1.x.example",
            "http://10.0.0.1",
            "https://user:word@x.example",
            "https://user@x.example",
            "https://:word@x.example",
            "https://x.example/?q",
            "https://x.example/#f",
        ] {
            assert!(UpstreamUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
