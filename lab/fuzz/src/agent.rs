//! Requests to the agent: the head and the body of an HTTP/1.1 request, as a client sends them.

use crate::MARK;
use base64::{Engine, prelude::BASE64_STANDARD};
use contract::{AccountName, Action, Call, CallError, Unknown, agent::GUARD_HEADERS};
use http::{HeaderName, HeaderValue, Method, Request, Uri, header, request::Parts};
use protocol::Secret;
use token_broker_agent::{
    gate::{check_origin, is_client, is_guarded},
    proxy,
    route::{Route, route},
};
use url::Url;

const GUARD: &str = "guard";

/// Checks one request.
pub(crate) fn check(bytes: &[u8]) {
    let Some((head, body)) = parse(bytes) else { return };
    let is_loopback_host = |host: &[u8]| {
        let name = host.split(|byte| *byte == b':').next().unwrap_or_default();
        name == b"127.0.0.1" || name.eq_ignore_ascii_case(b"localhost")
    };
    if check_origin(&head, false).is_ok() {
        let hosts: Vec<_> = head.headers.get_all(header::HOST).iter().collect();
        assert!(hosts.len() == 1 && is_loopback_host(hosts[0].as_bytes()), "{hosts:?}");
        assert!(!head.headers.contains_key("x-forwarded-for"));
        assert!(head.uri.authority().is_none() && head.uri.path().starts_with('/'));
        // Only then does the agent look at the path.
        for base in ["", "/v3"] {
            check_proxied(base, &head);
        }
    }
    check_guard(&head, body);
    check_headers(&head);
    for (text, is_form) in [(head.uri.query().unwrap_or_default().as_bytes(), false), (body, true)] {
        check_parameters(text, is_form);
    }
}

/// Splits a request. A head that no HTTP library accepts does not count.
fn parse(bytes: &[u8]) -> Option<(Parts, &[u8])> {
    let (head, body) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (bytes.get(..end)?, bytes.get(end + 2..)?),
        None => (bytes, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut line = lines.next()?.splitn(2, |byte| *byte == b' ');
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(line.next()?).ok()?;
    *request.uri_mut() = Uri::try_from(line.next()?).ok()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
        let value = HeaderValue::from_bytes(line.get(colon + 1..)?.trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some((request.into_parts().0, body))
}

/// The request goes to the configured server, and stays below its path.
fn check_proxied(base: &str, head: &Parts) {
    let Route::Proxy { account, rest } = route(&head.method, head.uri.path()) else { return };
    let Ok(target) = proxy::target(base, rest, &head.method, &head.uri) else { return };
    assert_ne!(head.method, Method::CONNECT);
    assert!(head.uri.path().starts_with(&format!("/proxy/{account}")));
    assert!(target.authority().is_none() && target.scheme().is_none(), "{target}");
    let target = target.to_string();
    assert!(target.starts_with('/') && target.starts_with(base), "{target}");
    // As resolved by servers and proxies that are more lenient than this agent.
    let api = Url::parse("https://api.example").expect("a URL");
    for resolved in [Url::parse(&format!("https://api.example{target}")), api.join(&target)] {
        let resolved = resolved.expect("a target is a path");
        assert_eq!(resolved.origin(), api.origin(), "{target}");
        let path = resolved.path();
        let is_below = path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        assert!(is_below, "{target} leads to {path}");
    }
}

/// Only the guard token opens the gate.
fn check_guard(head: &Parts, body: &[u8]) {
    let guard = Secret::from(GUARD);
    let has_header =
        GUARD_HEADERS.iter().any(|name| head.headers.get_all(*name).iter().any(|value| value == GUARD));
    assert_eq!(is_guarded(&head.headers, &guard), has_header);
    let in_form = form_urlencoded::parse(body).find(|(name, _)| name == "client_secret");
    let in_form = in_form.map(|(_, value)| value.into_owned());
    if is_client(&head.headers, in_form.as_deref(), &guard) {
        let authorization = head.headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let encoded = authorization.and_then(|value| value.splitn(2, |byte| *byte == b' ').nth(1));
        let pair =
            encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded.trim_ascii()).ok()).unwrap_or_default();
        let secret = pair.splitn(2, |byte| *byte == b':').nth(1).unwrap_or_default();
        let decoded = form_urlencoded::parse(secret).next().map(|(name, _)| name.into_owned());
        let is_basic = secret == GUARD.as_bytes() || decoded.as_deref() == Some(GUARD);
        assert!(in_form.as_deref() == Some(GUARD) || is_basic, "{secret:?}");
    }
}

/// The API gets neither the caller's credentials nor the guard token, and no header of this connection.
fn check_headers(head: &Parts) {
    let sent = proxy::headers::for_api(head.headers.clone());
    let dropped = [
        "authorization",
        "host",
        "connection",
        "proxy-authorization",
        "transfer-encoding",
        "upgrade",
        "expect",
    ];
    for name in dropped.into_iter().chain(GUARD_HEADERS) {
        assert!(!sent.contains_key(name), "{name}");
    }
    let is_chunked = head.headers.contains_key(header::TRANSFER_ENCODING);
    assert!(!(is_chunked && sent.contains_key(header::CONTENT_LENGTH)), "two lengths");
}

/// The parameters of a query, which is strict, or of an OAuth 2.0 form.
fn token_call(text: &[u8], is_form: bool) -> Result<Call, CallError> {
    let unknown = if is_form { Unknown::Ignore } else { Unknown::Refuse };
    Call::from_parameters(&contract::parameters(text), Action::Token, unknown)
}

fn check_parameters(text: &[u8], is_form: bool) {
    let parameters: Vec<_> = form_urlencoded::parse(text).collect();
    let count = |name: &str| parameters.iter().filter(|(parameter, _)| parameter == name).count();
    let known = ["account", "min_ttl_seconds", "rejected_generation", "client"];
    if let Ok(call) = token_call(text, is_form) {
        assert!(known.iter().all(|name| count(name) <= 1));
        assert!(is_form || parameters.iter().all(|(name, _)| known.contains(&name.as_ref())));
        let named = parameters.iter().find(|(name, value)| name == "account" && !value.is_empty());
        assert_eq!(call.account.as_ref().map(AccountName::as_str), named.map(|(_, value)| value.as_ref()));
    }
    let mut marked = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &parameters {
        marked.append_pair(name, &format!("{value}{MARK}"));
    }
    if let Err(error) = token_call(marked.finish().as_bytes(), is_form) {
        assert!(!error.to_string().contains(MARK), "{error}");
    }
}
