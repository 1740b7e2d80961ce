//! Where requests go.

use http::{HeaderValue, Uri};
use std::{fmt, net::IpAddr};

/// One server: how to open connections to it, and its header `Host`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authority: HeaderValue,
}

impl Target {
    /// The host, without brackets or port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether connections are encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Whether connections do not leave this machine.
    pub fn is_loopback(&self) -> bool {
        let address = self.host.parse::<IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority.to_str().unwrap_or_default())
    }
}

/// A server, and the prefix of the path of all requests to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    /// The server.
    pub target: Target,
    /// Empty, or a path that begins with a slash and does not end in one.
    pub path: String,
}

/// Why a text is not a base URL. The text itself is not quoted, because it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBaseUrl {
    /// Not a URL of the form `https://HOST[:PORT][/PATH]`.
    #[error("not a URL of the form https://HOST[:PORT][/PATH]")]
    Malformed,
    /// It has a user name, a query or a fragment.
    #[error("a URL without user name, query and fragment is needed")]
    Superfluous,
    /// It is neither https nor http to this machine.
    #[error("https is needed, or http to localhost")]
    Insecure,
}

impl BaseUrl {
    /// Parses an https URL, or an http URL of this machine.
    ///
    /// # Errors
    /// The text is something else.
    pub fn parse(text: &str) -> Result<Self, InvalidBaseUrl> {
        let base = Self::parse_any(text)?;
        if base.target.tls || base.target.is_loopback() { Ok(base) } else { Err(InvalidBaseUrl::Insecure) }
    }

    /// Parses an https or http URL. For services on link-local addresses, which are not encrypted.
    ///
    /// # Errors
    /// The text is something else.
    pub fn parse_any(text: &str) -> Result<Self, InvalidBaseUrl> {
        if text.contains(['?', '#', '@']) {
            return Err(InvalidBaseUrl::Superfluous);
        }
        let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| InvalidBaseUrl::Malformed)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(InvalidBaseUrl::Malformed),
        };
        let authority = uri.authority().ok_or(InvalidBaseUrl::Malformed)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(InvalidBaseUrl::Malformed);
        }
        let port = match authority.port() {
            // A number that is no port must not become the default port.
            None if authority.as_str().len() > authority.host().len() => {
                return Err(InvalidBaseUrl::Malformed);
            }
            port => port.map_or(if tls { 443 } else { 80 }, |port| port.as_u16()),
        };
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| InvalidBaseUrl::Malformed)?;
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { target: Target { tls, host, port, authority }, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_https_or_local() {
        for (text, host, port, path) in [
            ("https://platform-api.convirza.com", "platform-api.convirza.com", 443, ""),
            ("https://Example.com:8443/v3/", "example.com", 8443, "/v3"),
            ("http://127.0.0.1:2774", "127.0.0.1", 2774, ""),
            ("http://localhost/x/y", "localhost", 80, "/x/y"),
            ("http://[::1]:8080", "::1", 8080, ""),
            ("https://[2001:db8::1]", "2001:db8::1", 443, ""),
        ] {
            let base = BaseUrl::parse(text).unwrap();
            assert_eq!((base.target.host(), base.target.port, base.path.as_str()), (host, port, path));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (text, error) in [
            ("", InvalidBaseUrl::Malformed),
            ("example.com", InvalidBaseUrl::Malformed),
            ("ftp://example.com", InvalidBaseUrl::Malformed),
            ("https://", InvalidBaseUrl::Malformed),
            ("http://example.com", InvalidBaseUrl::Insecure),
            ("http://127.0.0.1.example.com", InvalidBaseUrl::Insecure),
            ("https://user:password@example.com", InvalidBaseUrl::Superfluous),
            ("https://example.com?x", InvalidBaseUrl::Superfluous),
            ("https://example.com:70000", InvalidBaseUrl::Malformed),
            ("https://[2001:db8::1]:70000", InvalidBaseUrl::Malformed),
        ] {
            assert_eq!(BaseUrl::parse(text), Err(error), "{text}");
        }
    }
}
