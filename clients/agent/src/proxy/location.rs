//! Where a redirect leads the caller. Pure.
//!
//! HTTP libraries follow a redirect to any host, and send the header with the guard token there. So a caller only gets
//! a `Location` on the agent: `/proxy/ACCOUNT` and the path on the API.

use super::path;
use contract::AccountName;
use token_broker_client::http::BaseUrl;

/// The header `Location` for the caller, or `None` if the API names another server, or a path that the proxy refuses.
///
/// `current` is the path on the API that the redirect answers, which a relative reference starts from.
pub(crate) fn on_agent(
    api: &BaseUrl,
    account: &AccountName,
    current: &str,
    location: &str,
) -> Option<String> {
    let (reference, rest) = location.split_at(location.find(['?', '#']).unwrap_or(location.len()));
    let path = path_on_api(api, current, reference)?;
    let path = path.strip_prefix(&api.path)?;
    let is_below_base = path.is_empty() || path.starts_with('/');
    (is_below_base && path::check(path).is_ok()).then(|| format!("/proxy/{account}{path}{rest}"))
}

/// The host of a URL of another server.
pub(crate) fn elsewhere(api: &BaseUrl, url: &str) -> Option<String> {
    let rest = match url.split_once("//") {
        Some(("", rest)) => rest,
        Some((scheme, rest)) if ["http:", "https:"].contains(&scheme.to_ascii_lowercase().as_str()) => rest,
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let is_api = on_agent(api, &AccountName::default(), "/", url).is_some()
        || path_on_api(api, "/", url.split(['?', '#']).next().unwrap_or_default()).is_some();
    (!is_api && !host.is_empty()).then(|| host.to_owned())
}

/// RFC 3986 §5.2, for a reference without query and fragment.
fn path_on_api(api: &BaseUrl, current: &str, reference: &str) -> Option<String> {
    let scheme = if api.target.is_tls() { "https" } else { "http" };
    let after_scheme = match reference.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => Some((scheme, rest)),
        _ if reference.starts_with("//") => Some((scheme, reference)),
        _ => None,
    };
    if let Some((scheme, rest)) = after_scheme {
        let rest = rest.strip_prefix("//")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let server = BaseUrl::parse_any(&format!("{scheme}://{authority}")).ok()?.target;
        return server.is_same_origin(&api.target).then(|| without_dots(path));
    }
    Some(match reference {
        "" => current.to_owned(),
        _ if reference.starts_with('/') => without_dots(reference),
        _ => {
            let folder = current.rfind('/').and_then(|end| current.get(..=end)).unwrap_or("/");
            without_dots(&format!("{folder}{reference}"))
        }
    })
}

fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Resolves the segments `.` and `..` of an absolute or empty path.
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => {
                kept.push(segment);
                continue;
            }
        }
        // A path that ends in dots names a folder.
        if segments.peek().is_none() {
            kept.push("");
        }
    }
    kept.iter().flat_map(|segment| ["/", segment]).collect()
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
            ("https://api.example.com", "/proxy/default"),
            ("https://api.example.com?a=b", "/proxy/default?a=b"),
            ("//api.example.com/x", "/proxy/default/x"),
            ("7", "/proxy/default/v3/7"),
            ("../x/./y/..", "/proxy/default/x/"),
            ("../../../../v1/token", "/proxy/default/v1/token"),
            ("?next=https://example.com/", "/proxy/default/v3/items?next=https://example.com/"),
            ("/login?next=//example.com", "/proxy/default/login?next=//example.com"),
            ("/at/10:30", "/proxy/default/at/10:30"),
        ] {
            let found = on_agent("https://api.example.com", "/v3/items", location);
            assert_eq!(found.as_deref(), Some(expected), "{location}");
        }
    }

    #[test]
    fn the_base_path_is_taken_off_again() {
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
            "https:/example.com",
            "https:\\\\example.com",
            "/\\example.com",
            "\\\\example.com",
            "/%2e%2e/%2e%2e/v1/token",
            "javascript:alert(1)",
            "mailto:a@example.com",
        ] {
            assert_eq!(on_agent("https://api.example.com", "/v3/items", location), None, "{location}");
        }
    }
}
