//! Where a redirect leads the caller. Pure.
//!
//! HTTP libraries follow a redirect to any host, and send the header with the guard token there. So a caller only gets
//! a `Location` on the agent: `/proxy/ACCOUNT` and the path on the API.

use super::path;
use contract::AccountName;
use token_broker_client::http::BaseUrl;
use url::{Position, Url};

/// The header `Location` for the caller, or `None` if the API names another server, or a path that the proxy refuses.
///
/// `current` is the path on the API that the redirect answers, which a relative reference starts from.
pub(crate) fn on_agent(
    api: &BaseUrl,
    account: &AccountName,
    current: &str,
    location: &str,
) -> Option<String> {
    let (url, _) = resolved(api, current, location).filter(|(_, is_api)| *is_api)?;
    let path = url.path().strip_prefix(&api.path)?;
    let is_below_base = path.is_empty() || path.starts_with('/');
    let rest = &url[Position::AfterPath..];
    (is_below_base && path::check(path).is_ok()).then(|| format!("/proxy/{account}{path}{rest}"))
}

/// The host of a URL of another server.
pub(crate) fn elsewhere(api: &BaseUrl, url: &str) -> Option<String> {
    let (url, _) = resolved(api, "/", url).filter(|(_, is_api)| !is_api)?;
    Some(url[Position::BeforeHost..Position::AfterPort].to_owned()).filter(|host| !host.is_empty())
}

/// The whole URL of a reference, and whether it is the API's.
fn resolved(api: &BaseUrl, current: &str, reference: &str) -> Option<(Url, bool)> {
    let base = Url::parse(&format!("{}{current}", api.target)).ok()?;
    let url = base.join(reference).ok()?;
    let is_api = url.origin() == base.origin() && url.username().is_empty() && url.password().is_none();
    Some((url, is_api))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_agent(api: &str, current: &str, location: &str) -> Option<String> {
        super::on_agent(&BaseUrl::parse(api).unwrap(), &AccountName::default(), current, location)
    }

    #[test]
    fn a_redirect_on_the_api_stays_on_the_agent() {
        for (location, expected) in [
            ("/v3/items?page=2#top", "/proxy/default/v3/items?page=2#top"),
            ("/", "/proxy/default/"),
            ("https://api.example.com/v3/x", "/proxy/default/v3/x"),
            ("HTTPS://API.example.com:443/v3/x", "/proxy/default/v3/x"),
            ("https://api.example.com", "/proxy/default/"),
            ("https://api.example.com?a=b", "/proxy/default/?a=b"),
            ("//api.example.com/x", "/proxy/default/x"),
            ("7", "/proxy/default/v3/7"),
            ("../x/./y/..", "/proxy/default/x/"),
            ("../../../../v1/token", "/proxy/default/v1/token"),
            ("?next=https://example.com/", "/proxy/default/v3/items?next=https://example.com/"),
            ("/login?next=//example.com", "/proxy/default/login?next=//example.com"),
            ("/at/10:30", "/proxy/default/at/10:30"),
            ("/%2e%2e/%2e%2e/v1/token", "/proxy/default/v1/token"),
            ("https:/example.com", "/proxy/default/example.com"),
        ] {
            let found = on_agent("https://api.example.com", "/v3/items", location);
            assert_eq!(found.as_deref(), Some(expected), "{location}");
        }
    }

    #[test]
    fn the_base_path_is_removed() {
        for (location, expected) in [
            ("/v3/x", Some("/proxy/default/x")),
            ("/v3?a", Some("/proxy/default?a")),
            ("x", Some("/proxy/default/x")),
            ("/v4/x", None),
            ("/v33", None),
            ("../v4/x", None),
        ] {
            assert_eq!(on_agent("https://api.example.com/v3", "/v3/calls", location).as_deref(), expected);
        }
    }

    #[test]
    fn no_redirect_leads_to_another_server() {
        for location in [
            "https://example.com/x",
            "https://api.example.com.example.com/x",
            "https://api.example.com:8443/x",
            "http://api.example.com/x",
            "https://api.example.com@example.com/x",
            "https://user@api.example.com/x",
            "//example.com/x",
            "https:\\\\example.com",
            "https://:secret@api.example.com/x",
            "/\\example.com",
            "\\\\example.com",
            "/%2f/example.com",
            "javascript:alert(1)",
            "mailto:a@example.com",
        ] {
            assert_eq!(on_agent("https://api.example.com", "/v3/items", location), None, "{location}");
        }
    }
}
