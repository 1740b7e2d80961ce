//! Parses the upstream's responses: tokens, and expiries in every known form.

use super::body::{Body, Fields};
use crate::outbound::secret::NOT_FOR_CALLERS;
use contract::rfc3339;
use protocol::{Expiry, Extra, NewRefreshToken, Secret, Timestamp, TokenResponse, UpstreamReply};
use serde_json::{Value, value::RawValue};
use std::{collections::BTreeMap, time::Duration};
use zeroize::Zeroizing;

/// A number above ten years in seconds is an instant, not a span.
const LARGEST_SPAN_SECONDS: f64 = 315_360_000.0;
/// An instant above this is in milliseconds, not in seconds.
const LARGEST_INSTANT_SECONDS: f64 = 1.0e11;
/// A longer field is not passed to callers, because it would be stored with the pair.
const LONGEST_EXTRA_BYTES: usize = 4096;

/// The contents of a successful response's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenBody {
    /// A usable access token, and all other usable fields.
    Tokens(TokenResponse),
    /// Valid JSON without an access token.
    NoToken,
    /// Anything else. It may have held a token.
    Unreadable,
}

/// Parses the response of login and refresh: the documented fields, without those that the broker does not need, such
/// as the frontend token and the user. Only the access token is required, in any object that the body holds.
/// Unusable fields are logged and dropped; if a field is given twice, the last one counts. `answer_fields` names the
/// fields that callers get.
pub fn parse_tokens(body: &Body, answer_fields: &[String]) -> TokenBody {
    let found = body.objects().find_map(|fields| Some((access_token(&fields)?, fields)));
    let Some((access_token, fields)) = found else {
        let holds_none = |fields: Fields<'_>| fields.named("access_token").all(is_empty);
        let certainly = body.is_whole && body.objects().all(holds_none);
        return if certainly { TokenBody::NoToken } else { TokenBody::Unreadable };
    };
    if !body.is_whole {
        tracing::warn!("the upstream's response is not valid JSON; the tokens in it are kept");
    }
    TokenBody::Tokens(TokenResponse {
        access_token,
        refresh_token: refresh_token(&fields),
        access_expiry: expiry(&fields, "expires_in"),
        refresh_expiry: match expiry(&fields, "refresh_expires_in") {
            Expiry::Unknown => expiry(&fields, "refresh_token_expires_in"),
            known => known,
        },
        extra: extra(&fields, answer_fields),
    })
}

/// The reply to a token request that succeeded with this body.
pub(super) fn token_reply(body: TokenBody) -> Result<UpstreamReply, UpstreamReply> {
    match body {
        TokenBody::Tokens(granted) => Ok(UpstreamReply::Granted(granted)),
        TokenBody::NoToken => {
            tracing::info!("the upstream reported success without a token");
            Err(UpstreamReply::Refused)
        }
        TokenBody::Unreadable => {
            tracing::info!(what = "no access token", "unreadable response from the upstream");
            Err(UpstreamReply::UNEXPECTED)
        }
    }
}

/// Whether a body is an object in which a field has this text.
pub fn has_field(body: &Body, (name, value): (&str, &str)) -> bool {
    let found = body.objects().next().and_then(|fields| text(fields.named(name).next_back()?));
    found.is_some_and(|found| found.expose() == value)
}

fn extra(fields: &Fields<'_>, answer_fields: &[String]) -> Option<Extra> {
    let named = answer_fields.iter().filter_map(|name| Some((name.clone(), fields.named(name).next_back()?)));
    let (passed_on, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
        named.partition(|(_, value)| value.get().len() <= LONGEST_EXTRA_BYTES && is_for_callers(value));
    for name in kept.keys() {
        tracing::warn!(name, "a field of the upstream's response is too long to pass on, or holds a secret");
    }
    Extra::new(&passed_on)
}

/// Whether no object in a value has a field that never leaves the broker. Searches the text, since parsing it would
/// leave copies of a token in freed memory.
fn is_for_callers(value: &RawValue) -> bool {
    // The second form is in an object that was encoded twice.
    let forms = |name| [format!("\"{name}\""), format!("\"{name}\\\"")];
    !NOT_FOR_CALLERS.iter().flat_map(forms).any(|name| value.get().contains(&name))
}

/// Whether a value certainly is not a token.
fn is_empty(value: &RawValue) -> bool {
    matches!(value.get(), "null" | "false" | "\"\"")
}

/// The last access token that can be sent in a header.
fn access_token(fields: &Fields<'_>) -> Option<Secret> {
    let can_be_sent = |token: &Secret| token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    fields.named("access_token").rev().filter_map(text).find(can_be_sent)
}

fn refresh_token(fields: &Fields<'_>) -> NewRefreshToken {
    let value = fields.named("refresh_token").next_back();
    match value.map(|value| (value.get(), text(value))) {
        None if fields.complete => NewRefreshToken::Absent,
        Some(("null", _)) => NewRefreshToken::Absent,
        Some((_, Some(token))) => NewRefreshToken::Token(token),
        _ => {
            tracing::warn!("the upstream's response holds no usable refresh token");
            NewRefreshToken::Unusable
        }
    }
}

fn expiry(fields: &Fields<'_>, name: &str) -> Expiry {
    let value = fields.named(name).next_back().and_then(|value| serde_json::from_str(value.get()).ok());
    value.map_or(Expiry::Unknown, |value| parse_expiry(&value))
}

/// A text without surrounding white space and control characters, unless it is empty.
pub(super) fn text(value: &RawValue) -> Option<Secret> {
    let text = Zeroizing::new(serde_json::from_str::<String>(value.get()).ok()?);
    let text = text.trim_matches(|char: char| char.is_whitespace() || char.is_control());
    Some(text).filter(|text| !text.is_empty()).map(Secret::from)
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

    fn parse(body: impl AsRef<[u8]>) -> TokenBody {
        parse_tokens(&Body::new(body.as_ref(), true), &[])
    }

    fn granted(body: impl AsRef<[u8]>) -> TokenResponse {
        match parse(body.as_ref()) {
            TokenBody::Tokens(granted) => granted,
            other => panic!("{other:?}: {}", String::from_utf8_lossy(body.as_ref())),
        }
    }

    fn token(text: &str) -> NewRefreshToken {
        NewRefreshToken::Token(Secret::from(text))
    }

    #[test]
    fn only_the_access_token_is_required() {
        let granted = granted(r#"{"access_token":"a","frontend_token":"f","user":{"user_id":1}}"#);
        assert_eq!(granted.access_token, Secret::from("a"));
        assert_eq!(granted.refresh_token, NewRefreshToken::Absent);
        assert_eq!((granted.access_expiry, granted.refresh_expiry), (Expiry::Unknown, Expiry::Unknown));
    }

    #[test]
    fn valid_json_without_an_access_token_holds_none() {
        for body in [
            "{}",
            "[]",
            "null",
            "\u{feff}{}\n",
            r#"{"access_token":null}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":false}"#,
            r#"{"error":"invalid_grant","error_description":"…"}"#,
        ] {
            assert_eq!(parse(body), TokenBody::NoToken, "{body}");
        }
    }

    #[test]
    fn a_body_that_may_have_held_a_token_is_unreadable() {
        for body in [
            &b""[..],
            b"{",
            b"<html>",
            br#"{"access_token":7}"#,
            br#"{"data":{"access_token":7}}"#,
            br#"{"access_token":"with a blank"}"#,
            br#"{"access_token":"with\nnewline"}"#,
            br#"{"access_token":"cut of"#,
            br#"{"error":"invalid_grant""#,
            b"\xff\xfe",
        ] {
            assert_eq!(parse(body), TokenBody::Unreadable, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn tokens_are_kept_whatever_surrounds_them() {
        let rest = r#""access_token":"a","refresh_token":"r","expires_in":60"#;
        for body in [
            format!("\u{feff}{{{rest}}}"),
            format!(")]}}',\n{{{rest}}}"),
            format!("{{{rest}}}\n<!-- served by -->"),
            format!("{{{rest}}}{{}}"),
            format!("Notice: {{undefined}} in <b>{{}}</b>{{{rest}}}"),
            format!("{{\"result\":\"success\",\"data\":{{{rest}}}}}"),
            format!("{{{rest},}}"),
            format!("{{{rest},\"user\":{{\"na"),
            format!("{{{rest},\"user\":{{\"name\":\"line\nend\"}}}}"),
            format!("{{\"expires_in\":1e999,\"refresh_token\":false,{rest}}}"),
            format!("{{{rest},\"expires_in\":60,\"access_token\":\"a\"}}"),
            format!("{{\"user\":\"{}\",{rest}}}", "x".repeat(300_000)),
            format!("{{{}", rest.replace("\"a\"", "\" a\\r\\n\"").replace("\"r\"", "\"r\n\"}")),
            format!("{{{}}}", rest.replace("\"a\"", "\"a\0\"").replace("\"r\"", "\"r\\u0000\"")),
        ] {
            let granted = granted(&body);
            assert_eq!(
                (granted.access_token, granted.refresh_token),
                (Secret::from("a"), token("r")),
                "{body}"
            );
        }
        let latin_1 = [br#"{"user":"Jos"#, &b"\xe9"[..], br#"","access_token":"a"}"#].concat();
        assert_eq!(granted(latin_1).access_token, Secret::from("a"));
        for of_unit in [u16::to_le_bytes, u16::to_be_bytes] {
            let body = format!("\u{feff}{{{rest},\"user\":\"José\"}}");
            let utf_16: Vec<_> = body.encode_utf16().flat_map(of_unit).collect();
            assert_eq!(granted(utf_16).refresh_token, token("r"));
        }
    }

    #[test]
    fn the_last_of_duplicate_fields_counts() {
        let granted = granted(
            r#"{"access_token":"a","refresh_token":"r","expires_in":1,"access_token":"b","refresh_token":"s","expires_in":2}"#,
        );
        assert_eq!((granted.access_token, granted.refresh_token), (Secret::from("b"), token("s")));
        assert_eq!(granted.access_expiry, Expiry::In(Duration::from_secs(2)));
    }

    #[test]
    fn an_unusable_refresh_token_differs_from_none() {
        for (value, expected) in [
            ("null", NewRefreshToken::Absent),
            ("false", NewRefreshToken::Unusable),
            ("7", NewRefreshToken::Unusable),
            ("{}", NewRefreshToken::Unusable),
            (r#""""#, NewRefreshToken::Unusable),
            (r#"" ""#, NewRefreshToken::Unusable),
            (r#"" r\n""#, token("r")),
        ] {
            let body = format!(r#"{{"access_token":"a","refresh_token":{value}}}"#);
            assert_eq!(granted(&body).refresh_token, expected, "{value}");
        }
        assert_eq!(
            granted(r#"{"access_token":"a","user""#).refresh_token,
            NewRefreshToken::Unusable,
            "cut off"
        );
    }

    #[test]
    fn a_v2_refusal_is_recognized() {
        let is_refusal = |body: &str| has_field(&Body::new(body.as_bytes(), true), ("result", "error"));
        for refusal in [r#"{"result":"error","err":"no such user"}"#, "\u{feff}{\"result\":\"error\"}"] {
            assert!(is_refusal(refusal), "{refusal}");
        }
        for other in [r#"{"result":"success"}"#, "no such user", "{}", r#"{"access_token":"a"}"#] {
            assert!(!is_refusal(other), "{other}");
        }
    }

    #[test]
    fn only_listed_fields_without_secrets_are_passed_on() {
        let long = "x".repeat(LONGEST_EXTRA_BYTES);
        let body = format!(
            r#"{{"access_token":"a","instance_url":"https://x.example","n":1.50,"long":"{long}","other":1,"session":[{{"refresh_token":"r"}}],"body":"{{\"refresh_token\":\"r\"}}"}}"#
        );
        let listed = ["instance_url", "n", "long", "absent", "session", "body"].map(str::to_owned);
        let body = Body::new(body.as_bytes(), true);
        let TokenBody::Tokens(granted) = parse_tokens(&body, &listed) else { panic!("no tokens") };
        assert_eq!(granted.extra, Extra::parse(r#"{"instance_url":"https://x.example","n":1.50}"#));
    }

    #[test]
    fn the_life_of_a_refresh_token_has_two_names() {
        for name in ["refresh_expires_in", "refresh_token_expires_in"] {
            let granted = granted(format!(r#"{{"access_token":"a","{name}":"7200"}}"#));
            assert_eq!(granted.refresh_expiry, Expiry::In(Duration::from_secs(7200)), "{name}");
        }
    }
}
