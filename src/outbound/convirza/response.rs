//! Parses the upstream's responses: tokens, and expiries in every known form.

use contract::rfc3339;
use protocol::{Expiry, Granted, Secret, Timestamp};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::time::Duration;

/// A number above ten years in seconds is an instant, not a span.
const LARGEST_SPAN_SECONDS: f64 = 315_360_000.0;
/// An instant above this is in milliseconds, not in seconds.
const LARGEST_INSTANT_SECONDS: f64 = 1.0e11;

/// The documented response of login and refresh, without the fields that the broker does not need, such as the
/// frontend token and the user.
#[derive(Deserialize)]
struct GrantResponse {
    #[serde(deserialize_with = "token")]
    access_token: Option<Secret>,
    #[serde(default, deserialize_with = "text")]
    refresh_token: Option<Secret>,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    refresh_expires_in: Value,
}

/// Parses the response of login and refresh. Only the access token is required.
pub fn parse_grant(body: &[u8]) -> Option<Granted> {
    let response: GrantResponse = serde_json::from_slice(body).ok()?;
    Some(Granted {
        access_token: response.access_token?,
        refresh_token: response.refresh_token,
        access_expiry: parse_expiry(&response.expires_in),
        refresh_expiry: parse_expiry(&response.refresh_expires_in),
    })
}

/// Whether a body is V2's refusal, `{"result":"error","err":…}`, which may come with the status of a success.
pub fn is_v2_error(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Error {
        result: String,
    }
    serde_json::from_slice(body).is_ok_and(|error: Error| error.result == "error")
}

/// A token, if it can be sent in a header.
fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()))
        .map(Secret::new))
}

/// A text, if it is not empty.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(Secret::new))
}

/// Parses `expires_in` in every known form: an ISO 8601 instant, as V3 documents it; a number of seconds, also as
/// text; an instant in seconds or milliseconds, which is larger than any span.
pub fn parse_expiry(value: &Value) -> Expiry {
    let number = match value {
        Value::String(text) => match rfc3339::parse(text) {
            Some(at) => return Expiry::At(at),
            None => text.trim().parse().ok(),
        },
        value => value.as_f64(),
    };
    match number {
        Some(number) if !(0.0..f64::MAX).contains(&number) => Expiry::Unknown,
        Some(seconds) if seconds <= LARGEST_SPAN_SECONDS => Expiry::In(Duration::from_secs_f64(seconds)),
        Some(seconds) if seconds <= LARGEST_INSTANT_SECONDS => Expiry::At(instant(seconds * 1000.0)),
        Some(millis) => Expiry::At(instant(millis)),
        None => Expiry::Unknown,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
fn instant(millis: f64) -> Timestamp {
    Timestamp::from_millis(millis as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(json: &str) -> Expiry {
        parse_expiry(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn f17_an_expiry_of_any_form_is_parsed_or_unknown() {
        let at = Timestamp::from_millis(1_775_478_896_000);
        let hour = Expiry::In(Duration::from_secs(3600));
        assert_eq!(expiry(r#""2026-04-06T12:34:56Z""#), Expiry::At(at));
        assert_eq!(expiry(r#""2026-04-06T12:34:56.000+00:00""#), Expiry::At(at));
        assert_eq!(expiry("3600"), hour);
        assert_eq!(expiry("3600.0"), hour);
        assert_eq!(expiry(r#"" 3600 ""#), hour);
        assert_eq!(expiry("1775478896"), Expiry::At(at), "an instant in seconds");
        assert_eq!(expiry("1775478896000"), Expiry::At(at), "an instant in milliseconds");
        for garbage in [
            "null",
            "true",
            "{}",
            "[]",
            "-1",
            "1e999",
            r#""""#,
            r#""soon""#,
            r#""NaN""#,
            r#""-5""#,
            r#""inf""#,
        ] {
            let parsed = serde_json::from_str(garbage).map_or(Expiry::Unknown, |value| parse_expiry(&value));
            assert_eq!(parsed, Expiry::Unknown, "{garbage}");
        }
    }

    #[test]
    fn only_the_access_token_is_required() {
        let granted =
            parse_grant(br#"{"access_token":"a","frontend_token":"f","user":{"user_id":1}}"#).unwrap();
        assert_eq!(granted.access_token, Secret::from("a"));
        assert_eq!(granted.refresh_token, None);
        assert_eq!((granted.access_expiry, granted.refresh_expiry), (Expiry::Unknown, Expiry::Unknown));
        for unreadable in [
            &b""[..],
            b"{",
            b"[]",
            b"null",
            b"<html>",
            b"{}",
            br#"{"access_token":null}"#,
            br#"{"access_token":""}"#,
            br#"{"access_token":7}"#,
            br#"{"access_token":"with a blank"}"#,
            br#"{"access_token":"with\nnewline"}"#,
            b"\xff\xfe",
        ] {
            assert!(parse_grant(unreadable).is_none(), "{}", String::from_utf8_lossy(unreadable));
        }
    }

    #[test]
    fn a_v2_refusal_is_recognized() {
        assert!(is_v2_error(br#"{"result":"error","err":"no such user"}"#));
        for other in [&br#"{"result":"success"}"#[..], b"no such user", b"{}", br#"{"access_token":"a"}"#] {
            assert!(!is_v2_error(other), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn an_empty_refresh_token_counts_as_none() {
        for none in ["null", r#""""#] {
            let body = format!(r#"{{"access_token":"a","refresh_token":{none}}}"#);
            assert_eq!(parse_grant(body.as_bytes()).unwrap().refresh_token, None);
        }
    }
}
