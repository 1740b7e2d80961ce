//! Convirza's responses, and the faults that alter them.

use std::time::Duration;

use axum::http::header::{CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::control::ELSEWHERE;
use super::faults::Fault;
use super::sessions::Pair;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const HTML: HeaderValue = HeaderValue::from_static("text/html");
const HUGE_BYTES: usize = 10 * 1024 * 1024;
const HOUR: Duration = Duration::from_hours(1);

/// A response that is not sent yet.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
}

impl Reply {
    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self::new(status, JSON, body.to_string())
    }

    pub(super) fn text(status: StatusCode, body: &str) -> Self {
        Self::new(status, TEXT, body.to_owned())
    }

    /// An error. Its body is not documented, so no client should rely on it.
    pub(super) fn error(status: StatusCode, message: &str) -> Self {
        Self::json(status, &json!({ "statusCode": status.as_u16(), "message": message }))
    }

    pub(super) fn rate_limited(retry_after: Option<&str>) -> Self {
        Self::try_later(StatusCode::TOO_MANY_REQUESTS, "Too many requests", retry_after)
    }

    fn try_later(status: StatusCode, message: &str, retry_after: Option<&str>) -> Self {
        let mut reply = Self::error(status, message);
        // A text that is not a valid header value means no header.
        if let Some(value) = retry_after.and_then(|text| HeaderValue::from_str(text).ok()) {
            reply.headers.push((RETRY_AFTER, value));
        }
        reply
    }

    /// The response of a fault that prevents the work.
    pub(super) fn instead_of_work(fault: &Fault) -> Option<Self> {
        Some(match fault {
            Fault::WrongPassword => Self::error(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Fault::BadRequest => Self::error(StatusCode::BAD_REQUEST, "Bad Request"),
            Fault::Forbidden => Self::new(
                StatusCode::FORBIDDEN,
                HTML,
                "<html><head><title>403 Forbidden</title></head></html>".to_owned(),
            ),
            Fault::RateLimited { retry_after } => Self::rate_limited(retry_after.as_deref()),
            Fault::Unprocessable => Self::error(StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable Entity"),
            Fault::ErrorInSuccess => Self::json(StatusCode::OK, &json!({ "error": "invalid_grant" })),
            Fault::HtmlSuccess => Self::new(
                StatusCode::OK,
                HTML,
                "<html><head><title>Maintenance</title></head></html>".to_owned(),
            ),
            Fault::Unavailable { retry_after } => Self::try_later(
                StatusCode::SERVICE_UNAVAILABLE,
                "Service Unavailable",
                retry_after.as_deref(),
            ),
            Fault::ServerError => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "Internal Server Error".to_owned())
            }
            Fault::BadGatewayHtml => Self::new(
                StatusCode::BAD_GATEWAY,
                HTML,
                "<html><head><title>502 Bad Gateway</title></head></html>".to_owned(),
            ),
            Fault::Redirect => {
                let mut reply = Self::new(StatusCode::TEMPORARY_REDIRECT, TEXT, String::new());
                let elsewhere = HeaderValue::from_static(ELSEWHERE);
                reply.headers.push((LOCATION, elsewhere));
                reply
            }
            _ => return None,
        })
    }

    /// The response after the work, altered by the fault.
    pub(super) fn altered_by(mut self, fault: &Fault) -> Self {
        match fault {
            Fault::Untidy => {
                let text = String::from_utf8_lossy(&self.body);
                let twice = text.replacen('{', r#"{"expires_in":1,"#, 1);
                self.body = format!("\u{feff}{twice}\n<!-- end -->").into_bytes();
            }
            Fault::Truncated => self.body.truncate(self.body.len() / 2),
            Fault::Huge => {
                // Still valid JSON, so that only a size limit protects a client.
                self.body.pop();
                self.body.extend_from_slice(br#","padding":""#);
                self.body.resize(HUGE_BYTES - 2, b'x');
                self.body.extend_from_slice(br#""}"#);
            }
            _ => {}
        }
        self
    }

    /// A response that a test has set. If a header is given twice, the last one counts.
    pub(super) fn of(status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: Vec<u8>) -> Self {
        Self { status, headers, body }
    }

    fn new(status: StatusCode, content_type: HeaderValue, body: String) -> Self {
        Self { status, headers: vec![(CONTENT_TYPE, content_type)], body: body.into_bytes() }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The response with a pair.
pub(super) fn pair_reply(pair: &Pair, fault: Option<&Fault>, now: OffsetDateTime) -> Reply {
    let body = json!({
        "access_token": pair.access_token,
        "frontend_token": pair.frontend_token,
        "refresh_token": pair.refresh_token,
        "token_type": "Bearer",
        "expires_in": timestamp(pair.access_expires_at),
        "refresh_expires_in": timestamp(pair.refresh_expires_at),
        "user": { "user_id": 1001, "email": pair.email, "role_id": 3, "org_unit_id": 42 },
    });
    pair_altered_by(fault, body, now)
}

/// V2's response with a pair. Its expiry is a number of seconds.
pub(super) fn pair_reply_v2(pair: &Pair, fault: Option<&Fault>, now: OffsetDateTime) -> Reply {
    let body = json!({
        "access_token": pair.access_token,
        "refresh_token": pair.refresh_token,
        "token_type": "bearer",
        "expires_in": (pair.access_expires_at - now).whole_seconds(),
    });
    pair_altered_by(fault, body, now)
}

fn pair_altered_by(fault: Option<&Fault>, mut body: Value, now: OffsetDateTime) -> Reply {
    if let Some(members) = body.as_object_mut() {
        let mut set = |name: &str, value: Value| members.insert(name.to_owned(), value);
        match fault {
            Some(Fault::ExpirySeconds) => set("expires_in", json!(3600)),
            Some(Fault::ExpirySecondsText) => set("expires_in", json!("3600")),
            Some(Fault::ExpiryPast) => set("expires_in", json!(timestamp(now - HOUR))),
            Some(Fault::ExpiryGarbage) => set("expires_in", json!("the day after tomorrow")),
            Some(Fault::ExpiryMicroseconds) => set("expires_in", json!(now.unix_timestamp() * 1_000_000)),
            Some(Fault::BadRefreshToken) => set("refresh_token", json!(false)),
            Some(Fault::Untidy) => {
                for name in ["access_token", "refresh_token"] {
                    let token = members.get(name).and_then(Value::as_str).unwrap_or_default();
                    let token = json!(format!(" {token}\r\n"));
                    members.insert(name.to_owned(), token);
                }
                None
            }
            Some(Fault::ExpiryMissing) => members.remove("expires_in"),
            Some(Fault::NoRefreshToken) => {
                members.remove("refresh_expires_in");
                members.remove("refresh_token")
            }
            _ => None,
        };
    }
    Reply::json(StatusCode::OK, &body)
}

/// ISO 8601 in UTC, with milliseconds.
fn timestamp(at: OffsetDateTime) -> String {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second, ms) = at.to_hms_milli();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}
