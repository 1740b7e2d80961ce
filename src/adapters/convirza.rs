//! The upstream: Convirza's V3 OAuth host.
//!
//! Decisions are made on the HTTP status alone, since no error body is documented. No body of a refusal is
//! even read, and nothing of an answer ever gets into a log or an error.

use super::rfc3339;
use crate::{
    core::{
        grant::{Call, Expiry, Granted, Reply, TokenKind},
        time::Timestamp,
    },
    ports::{Clock, Upstream},
    secret::Secret,
};
use async_trait::async_trait;
use reqwest::{Response, StatusCode, header::RETRY_AFTER};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// No answer of the token endpoints comes near this size.
const LONGEST_ANSWER_BYTES: usize = 64 * 1024;
const LONGEST_CONNECT: Duration = Duration::from_secs(2);
/// A number above ten years in seconds is an instant, not a span.
const LARGEST_SPAN_SECONDS: f64 = 315_360_000.0;
/// An instant above this is in milliseconds, not in seconds.
const LARGEST_INSTANT_SECONDS: f64 = 1.0e11;

/// The client of the OAuth host.
pub struct Convirza {
    http: reqwest::Client,
    oauth_url: String,
    clock: Arc<dyn Clock>,
}

impl Convirza {
    /// A client for the host at `oauth_url`, whose calls take `timeout` at most, connecting included.
    ///
    /// # Errors
    /// Where the TLS library cannot be set up.
    pub fn new(oauth_url: String, timeout: Duration, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(LONGEST_CONNECT.min(timeout / 2))
            // Nor does the kernel go on delivering for long what was given up.
            .tcp_user_timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            // A retry that the protocol does not know of could spend a refresh token twice.
            .retry(reqwest::retry::never())
            // Calls are days apart: a connection kept would be a dead one.
            .pool_max_idle_per_host(0)
            // The login limit counts by address, so requests leave from this one.
            .no_proxy()
            .user_agent(concat!("token-broker/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, oauth_url, clock })
    }

    async fn post(&self, host: Option<&String>, path: &str, body: Value) -> Result<Response, Reply> {
        let url = format!("{}{path}", host.unwrap_or(&self.oauth_url));
        let request = self.http.post(url).header("content-type", "application/json").body(body.to_string());
        let response = request.send().await.map_err(|error| {
            // Resolving the name, connecting and the TLS handshake all count as connecting.
            if error.is_connect() || error.is_builder() { Reply::NeverLeft } else { Reply::Unclear }
        })?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Reply::Refused),
            StatusCode::TOO_MANY_REQUESTS => Err(Reply::RateLimited(self.retry_after(&response))),
            _ => Err(Reply::Unclear),
        }
    }

    /// `Retry-After`, in seconds or as a date.
    fn retry_after(&self, response: &Response) -> Option<Duration> {
        let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
        match text.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => Some(rfc3339::parse_http_date(text)?.since(self.clock.now())),
        }
    }
}

#[async_trait]
impl Upstream for Convirza {
    async fn send(&self, call: &Call) -> Reply {
        let response = match call {
            Call::Login(credentials) => {
                let body =
                    json!({"email": credentials.email.expose(), "password": credentials.password.expose()});
                self.post(credentials.oauth_url.as_ref(), "/oauth/token", body).await
            }
            Call::Refresh { refresh_token, oauth_url } => {
                let body = json!({"refresh_token": refresh_token.expose()});
                self.post(oauth_url.as_ref(), "/oauth/refresh-token", body).await
            }
            Call::Revoke { token, kind, oauth_url } => {
                let kind = match kind {
                    TokenKind::Access => "access",
                    TokenKind::Refresh => "refresh",
                };
                let body = json!({"token": token.expose(), "token_type": kind});
                return match self.post(oauth_url.as_ref(), "/oauth/revoke-token", body).await {
                    Ok(_) => Reply::Revoked,
                    Err(reply) => reply,
                };
            }
        };
        match response {
            Ok(response) => {
                match read_limited(response).await.as_deref().and_then(|body| parse_grant(body)) {
                    Some(granted) => Reply::Granted(granted),
                    None => Reply::Unclear,
                }
            }
            Err(reply) => reply,
        }
    }
}

/// The body of an answer, unless it is longer than any answer of these endpoints can be.
async fn read_limited(mut response: Response) -> Option<Zeroizing<Vec<u8>>> {
    // Reserved at once, since growing would leave copies of the tokens behind.
    let mut body = Zeroizing::new(Vec::with_capacity(LONGEST_ANSWER_BYTES));
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > LONGEST_ANSWER_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// The documented answer of login and refresh. Whatever else is in it, such as the frontend token and the
/// user, is left where it is.
#[derive(Deserialize)]
struct GrantAnswer {
    #[serde(deserialize_with = "token")]
    access_token: Option<Secret>,
    #[serde(default, deserialize_with = "text")]
    refresh_token: Option<Secret>,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    refresh_expires_in: Value,
}

/// Reads the answer of login and refresh. Only the access token is indispensable.
pub fn parse_grant(body: &[u8]) -> Option<Granted> {
    let answer: GrantAnswer = serde_json::from_slice(body).ok()?;
    Some(Granted {
        access_token: answer.access_token?,
        refresh_token: answer.refresh_token,
        access_expiry: parse_expiry(&answer.expires_in),
        refresh_expiry: parse_expiry(&answer.refresh_expires_in),
    })
}

/// A token that can be sent in a header, or none.
fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()))
        .map(Secret::new))
}

/// A text that is not empty, or none.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()).map(Secret::new))
}

/// `expires_in` in every form in which it has been seen: an ISO 8601 instant as V3 documents it, a number of
/// seconds, that number as text; and an instant in seconds or milliseconds, which no span is as large as.
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

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, and is not negative
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
    fn f17_every_form_of_expiry_is_read_or_known_to_be_unreadable() {
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
    fn an_answer_needs_nothing_but_an_access_token() {
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
    fn an_empty_refresh_token_is_none() {
        for none in ["null", r#""""#] {
            let body = format!(r#"{{"access_token":"a","refresh_token":{none}}}"#);
            assert_eq!(parse_grant(body.as_bytes()).unwrap().refresh_token, None);
        }
    }
}
