//! Responses of the agent itself.

use crate::gate::Refusal;
use bytes::Bytes;
use contract::{AccountName, CallError, ErrorAnswer, ErrorCode, Timestamp, TokenAnswer};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use std::time::Duration;
use token_broker_client::{
    Code, Error, Token,
    http::{Body, full},
};
use zeroize::Zeroizing;

/// A response with a JSON body that must not be stored.
pub(crate) fn json(status: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().extend([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::PRAGMA, HeaderValue::from_static("no-cache")),
    ]);
    response
}

/// An error in the contract's form.
pub(crate) fn error(
    status: u16,
    code: impl Into<Code>,
    description: &str,
    retry_after: Option<Duration>,
) -> Response<Body> {
    with_request_id(status, code, description, retry_after, request_id())
}

fn with_request_id(
    status: u16,
    code: impl Into<Code>,
    description: &str,
    retry_after: Option<Duration>,
    request_id: String,
) -> Response<Body> {
    let seconds = retry_after.map(|span| contract::seconds_rounded_up(span).max(1));
    let mut response = json(status, full(error_body(&code.into(), description, seconds, request_id)));
    if let Some(seconds) = seconds {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn error_body(code: &Code, description: &str, seconds: Option<u64>, request_id: String) -> String {
    let (code, description, request_id) =
        (code.as_str().to_owned(), description.to_owned(), Some(request_id));
    ErrorAnswer { code, description, retry_after_seconds: seconds, request_id }.to_json()
}

/// The body of the answer to bytes that are not a request.
pub(crate) fn not_http() -> String {
    let description = "the request is not HTTP/1.1, or its head is too long";
    error_body(&ErrorCode::InvalidRequest.into(), description, None, request_id())
}

/// The broker's code for a failed call. The client's own codes are never answers of a broker.
pub(crate) fn code(error: &Error) -> Code {
    match error.code() {
        Code::Client(_) if matches!(error, Error::StillWaiting(_)) => ErrorCode::RefreshInProgress.into(),
        // Missing credentials may appear later; a missing function will not.
        Code::Client(_) if matches!(error, Error::NotConfigured(_)) => ErrorCode::Misconfigured.into(),
        Code::Client(_) => ErrorCode::UpstreamUnavailable.into(),
        code => code,
    }
}

/// Why there is no token.
pub(crate) fn no_token(error: &Error) -> Response<Body> {
    let code = code(error);
    let status = if let Code::Broker(code) = code { code.http_status() } else { 502 };
    let request_id = error.request_id().map_or_else(request_id, str::to_owned);
    with_request_id(status, code, &error.description(), error.retry_after(), request_id)
}

/// Why there is no token for a proxied request. It names the account, which the path may have named by mistake.
pub(crate) fn no_proxied_token(error: &Error, account: &AccountName) -> Response<Body> {
    if error.code() != ErrorCode::UnknownAccount {
        return no_token(error);
    }
    let description = format!(
        "{}; the path named the account {account}, as its form is /proxy/ACCOUNT/PATH",
        error.description()
    );
    let request_id = error.request_id().map_or_else(request_id, str::to_owned);
    with_request_id(404, ErrorCode::UnknownAccount, &description, None, request_id)
}

/// Why a query or a form is not a valid call.
pub(crate) fn malformed(call: &CallError) -> Response<Body> {
    error(call.code().http_status(), call.code(), &call.to_string(), None)
}

/// Why a request is refused.
pub(crate) fn refused(refusal: Refusal) -> Response<Body> {
    match refusal {
        Refusal::NotOriginForm => error(
            400,
            ErrorCode::InvalidRequest,
            "the agent is not a forward proxy; the request line must be a path",
            None,
        ),
        Refusal::Forwarded => {
            error(403, ErrorCode::AccessDenied, "the agent does not answer forwarded requests", None)
        }
        Refusal::ForeignHost => {
            error(403, ErrorCode::AccessDenied, "the header Host must be localhost or 127.0.0.1", None)
        }
    }
}

/// The guard token is missing or wrong.
pub(crate) fn unguarded() -> Response<Body> {
    let description = "the guard token is missing or wrong; send it in the header X-Token-Broker-Token";
    error(401, ErrorCode::AccessDenied, description, None)
}

/// Required by RFC 6749 §5.2 for a client with a wrong secret.
pub(crate) fn unknown_client() -> Response<Body> {
    let invalid_client = Code::Other("invalid_client".to_owned());
    let mut response = error(401, invalid_client, "the client secret must be the agent's guard token", None);
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"agent\""));
    response
}

/// The path needs another method.
pub(crate) fn wrong_method(allow: &'static str) -> Response<Body> {
    let mut response =
        error(405, ErrorCode::InvalidRequest, &format!("this path accepts {allow} only"), None);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// The broker's token answer, rebuilt from the cache.
pub(crate) fn token(token: &Token, now: Timestamp) -> Response<Body> {
    token_response(token, now, Some(token.expires_at))
}

/// An OAuth 2.0 token response. It has no `expires_at`, which some clients expect to be a number.
pub(crate) fn oauth_token(token: &Token, now: Timestamp) -> Response<Body> {
    token_response(token, now, None)
}

fn token_response(token: &Token, now: Timestamp, expires_at: Option<Timestamp>) -> Response<Body> {
    let expires_in = token.expires_in(now);
    if expires_in == 0 {
        // The process was paused after the token was checked.
        return no_token(&Error::TooShort { valid_for: 0, wanted: 1 });
    }
    let answer = TokenAnswer {
        access_token: Some(token.access_token.clone()),
        expires_in,
        expires_at,
        account: token.account.clone(),
        generation: token.generation,
        served_from: token.served_from,
        extra: token.extra.clone(),
    };
    // Large enough never to be moved, and wiped after sending.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * token.access_token.expose().len() + 512));
    match serde_json::to_writer(&mut *text, &answer) {
        Ok(()) => json(200, full(Bytes::from_owner(text))),
        Err(_) => error(500, ErrorCode::Internal, "the token cannot be written as JSON", None),
    }
}

/// Identifies a response of the agent in the callers' logs.
fn request_id() -> String {
    format!("agent-{:016x}", getrandom::u64().unwrap_or_default())
}

/// The header that names the pair of a proxied request.
pub(crate) const GENERATION: HeaderName = HeaderName::from_static("x-token-broker-generation");

#[cfg(test)]
mod tests {
    use super::*;
    use contract::AccountName;
    use token_broker_client::{BoxFuture, Broker, Call, Reply, TokenSource};

    struct Granting;

    impl Broker for Granting {
        fn call<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Reply, Error>> {
            let answer = br#"{"access_token":"t","expires_in":900,"generation":7}"#;
            Box::pin(async { Ok(Reply::new(answer.to_vec())) })
        }
    }

    #[tokio::test]
    async fn a_token_that_has_expired_meanwhile_is_an_error() {
        let granted = TokenSource::new(Granting).get(&AccountName::default()).await.unwrap();
        let last = granted.expires_at.minus(Duration::from_millis(1));
        for (at, status) in [(last, 200), (granted.expires_at, 503)] {
            assert_eq!(token(&granted, at).status(), status);
            assert_eq!(oauth_token(&granted, at).status(), status);
        }
    }
}
