//! Access rules. Pure.
//!
//! Any process on the machine, and any web page in a browser on it, can reach a port on localhost. The guard token
//! stops other processes, and requests that another server was tricked into sending. The `Host` rule stops pages whose
//! host name resolves to 127.0.0.1.

use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{Secret, agent::GUARD_HEADERS};
use http::{HeaderMap, header, request::Parts};
use subtle::ConstantTimeEq;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request line names a host, as requests to a forward proxy do.
    NotOriginForm,
    /// A proxy passed the request on.
    Forwarded,
    /// The request is for another host.
    ForeignHost,
}

/// Whether a request comes directly from a process on this machine, or any host is allowed.
///
/// # Errors
/// The rule that it breaks.
pub fn check_origin(head: &Parts, any_host: bool) -> Result<(), Refusal> {
    let uri = &head.uri;
    if uri.authority().is_some() || uri.scheme().is_some() || !uri.path().starts_with('/') {
        return Err(Refusal::NotOriginForm);
    }
    if head.headers.contains_key("x-forwarded-for") {
        return Err(Refusal::Forwarded);
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next().map(|host| host.to_str().unwrap_or_default()), hosts.next()) {
        (Some(host), None) if any_host || is_local(host) => Ok(()),
        _ => Err(Refusal::ForeignHost),
    }
}

fn is_local(host: &str) -> bool {
    let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    let port_is_fine = port.is_none_or(|port| port.parse::<u16>().is_ok());
    port_is_fine && (name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost"))
}

/// Whether a header carries the guard token.
pub fn is_guarded(headers: &HeaderMap, guard: &Secret) -> bool {
    let values = GUARD_HEADERS.iter().flat_map(|name| headers.get_all(*name));
    values.fold(false, |found, value| found | is_same(value.as_bytes(), guard))
}

/// Whether the client of an OAuth 2.0 request presents the guard token as its secret, by HTTP Basic or in the form.
pub fn is_client(headers: &HeaderMap, secret_in_form: Option<&str>, guard: &Secret) -> bool {
    let in_form = secret_in_form.is_some_and(|secret| is_same(secret.as_bytes(), guard));
    let basic =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(basic_secret);
    in_form | basic.is_some_and(|secret| is_basic(&secret, guard))
}

/// RFC 6749 §2.3.1 requires the secret to be form-encoded in HTTP Basic. Many clients do not encode it, so both are
/// accepted.
fn is_basic(secret: &str, guard: &Secret) -> bool {
    let decoded = form_urlencoded::parse(format!("s={}", secret.replace('&', "%26")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    is_same(secret.as_bytes(), guard) | is_same(decoded.as_bytes(), guard)
}

fn basic_secret(value: &str) -> Option<String> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    Some(pair.split_once(':')?.1.to_owned())
}

/// Compares in constant time.
fn is_same(presented: &[u8], guard: &Secret) -> bool {
    presented.ct_eq(guard.expose().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_local_hosts_are_let_in() {
        for (host, verdict) in [
            ("localhost", Ok(())),
            ("LOCALHOST:2774", Ok(())),
            ("127.0.0.1:2774", Ok(())),
            ("127.0.0.1", Ok(())),
            ("127.0.0.1.example.com", Err(Refusal::ForeignHost)),
            ("localhost.example.com:2774", Err(Refusal::ForeignHost)),
            ("example.com", Err(Refusal::ForeignHost)),
            ("localhost:x", Err(Refusal::ForeignHost)),
            ("user@localhost", Err(Refusal::ForeignHost)),
            ("[::1]:2774", Err(Refusal::ForeignHost)),
            ("", Err(Refusal::ForeignHost)),
        ] {
            assert_eq!(check_origin(&head("/v1/token", &[("host", host)]), false), verdict, "{host}");
        }
        assert_eq!(check_origin(&head("/", &[]), true), Err(Refusal::ForeignHost));
        let other = head("/", &[("host", "token-broker:2774")]);
        assert_eq!(
            (check_origin(&other, true), check_origin(&other, false)),
            (Ok(()), Err(Refusal::ForeignHost))
        );
        let two = head("/", &[("host", "localhost"), ("host", "example.com")]);
        assert_eq!(check_origin(&two, false), Err(Refusal::ForeignHost));
    }

    #[test]
    fn forwarded_and_absolute_requests_are_refused() {
        let local = ("host", "localhost");
        let forwarded = head("/v1/token", &[local, ("x-forwarded-for", "10.0.0.1")]);
        assert_eq!(check_origin(&forwarded, true), Err(Refusal::Forwarded));
        for target in ["http://localhost/v1/token", "http://example.com/", "example.com:443", "*"] {
            assert_eq!(check_origin(&head(target, &[local]), true), Err(Refusal::NotOriginForm), "{target}");
        }
    }

    #[test]
    fn either_header_carries_the_guard_token() {
        let guard = Secret::from("guard");
        for (name, value, is_let_in) in [
            ("x-token-broker-token", "guard", true),
            ("x-aws-parameters-secrets-token", "guard", true),
            ("x-token-broker-token", "guard ", false),
            ("x-token-broker-token", "guar", false),
            ("x-token-broker-token", "", false),
            ("authorization", "guard", false),
        ] {
            let headers = head("/", &[(name, value)]).headers;
            assert_eq!(is_guarded(&headers, &guard), is_let_in, "{name}: {value}");
        }
    }

    #[test]
    fn oauth_clients_present_it_as_their_secret() {
        let guard = Secret::from("g/+=&u");
        let basic = |secret: &str| {
            let value = format!("Basic {}", BASE64_STANDARD.encode(format!("client:{secret}")));
            head("/", &[("authorization", &value)]).headers
        };
        assert!(is_client(&basic("g/+=&u"), None, &guard), "as it is");
        assert!(is_client(&basic("g%2F%2B%3D%26u"), None, &guard), "form-encoded");
        assert!(is_client(&HeaderMap::new(), Some("g/+=&u"), &guard));
        assert!(!is_client(&basic("other"), Some("other"), &guard));
        assert!(!is_client(&HeaderMap::new(), None, &guard));
        for malformed in ["Basic", "Basic !", "Basic Y2xpZW50", "Bearer g/+=&u"] {
            assert!(!is_client(&head("/", &[("authorization", malformed)]).headers, None, &guard));
        }
    }
}
