//! Responses of the upstream.

use contract::rfc3339;
use flate2::{Compression, bufread::GzEncoder};
use protocol::{Expiry, NewRefreshToken, Timestamp};
use serde_json::Value;
use std::{io::Read, time::Duration};
use token_broker::outbound::upstream::{
    body::Body,
    oauth_error::parse_error,
    response::{TokenBody, has_field, parse_expiry, parse_tokens},
};

/// The last instant of the year 9999.
const LAST: Timestamp = Timestamp::from_millis(253_402_300_799_000);
const SENT_AT: Timestamp = Timestamp::from_millis(1_775_478_896_000);

/// Checks one body.
pub(crate) fn check(body: &[u8]) {
    let value = serde_json::from_slice::<Value>(body).ok();
    let field = |name: &str| value.as_ref().and_then(|value| value.get(name)).and_then(Value::as_str);
    // Of several objects, the first with a usable token counts, also in a text.
    let single = body.split(|byte| *byte == b'{').count() == 2 && !body.contains(&b'\\');
    let sent = |name: &str| field(name).map(str::trim).filter(|_| single);
    let is_sendable = |token: &str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let read = Body::new(body, true);
    let _ = parse_error(&read);
    if has_field(&read, ("result", "error")) {
        assert!(field("result").is_none_or(|result| result == "error"));
    }
    let found = parse_tokens(&read, &[]);
    if !body.starts_with(b"\x1f\x8b") && !body.starts_with(b"x") {
        assert_eq!(parse_tokens(&Body::new(&gzip(body), true), &[]), found, "compressed");
    }
    if single && value.as_ref().is_some_and(Value::is_object) && body.starts_with(b"{\"") {
        let encoded_twice = Value::from(String::from_utf8_lossy(body)).to_string();
        assert_eq!(parse_tokens(&Body::new(encoded_twice.as_bytes(), true), &[]), found, "encoded twice");
    }
    if let TokenBody::Tokens(granted) = found {
        let token = granted.access_token.expose();
        assert!(is_sendable(token));
        assert!(sent("access_token").is_none_or(|sent| sent == token || !is_sendable(sent)));
        let refresh = match &granted.refresh_token {
            NewRefreshToken::Token(token) => token.expose(),
            _ => "",
        };
        assert!(sent("refresh_token").is_none_or(|sent| sent == refresh));
        granted_in_future(granted.access_expiry);
        granted_in_future(granted.refresh_expiry);
        let shown = format!("{granted:?}");
        for secret in [token, refresh] {
            // A shorter one may be a part of the rest.
            assert!(secret.len() < 24 || !shown.contains(secret), "{shown}");
        }
    }
    if let Ok(text) = std::str::from_utf8(body) {
        granted_in_future(parse_expiry(&Value::from(text)));
        for at in [rfc3339::parse(text), rfc3339::parse_http_date(text)].into_iter().flatten() {
            let whole_seconds = Timestamp::from_millis(at.as_millis() / 1000 * 1000);
            let again = rfc3339::parse(&rfc3339::format(at));
            assert_eq!(again, Some(whole_seconds.min(LAST)), "{text}");
        }
    }
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzEncoder::new(body, Compression::fast()).read_to_end(&mut packed).expect("a buffer");
    packed
}

fn granted_in_future(expiry: Expiry) {
    assert!(expiry.resolve(SENT_AT, Duration::MAX).is_none_or(|at| at > SENT_AT));
}
