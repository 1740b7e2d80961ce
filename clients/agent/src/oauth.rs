//! An OAuth 2.0 token endpoint (RFC 6749 §4.4) whose client secret is the guard token, for stock OAuth clients.

use crate::{Agent, connections::Connection, gate, query, reply};
use contract::{Call, CallError, parameters};
use http::{Request, Response, header};
use hyper::body::Incoming;
use std::time::Duration;
use token_broker_client::http::{Body, collect};

const LONGEST_FORM: usize = 16 * 1024;
/// The form comes from a caller that has not presented the guard token yet.
const FORM_TIME: Duration = Duration::from_secs(10);
const FORM: &str = "application/x-www-form-urlencoded";

/// Answers `POST /oauth/token`.
pub(crate) async fn token(
    agent: &Agent,
    request: Request<Incoming>,
    connection: &Connection,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let content =
        head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content.to_ascii_lowercase().starts_with(FORM) {
        return reply::malformed(&CallError::Invalid(format!("the Content-Type must be {FORM}")));
    }
    let Ok(Ok(form)) = tokio::time::timeout(FORM_TIME, collect(body, LONGEST_FORM)).await else {
        return reply::malformed(&CallError::Invalid(format!(
            "the form must be complete, and at most {LONGEST_FORM} bytes long"
        )));
    };
    let _busy = connection.busy();
    let form = parameters(&form);
    let field = |name: &str| form.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let (headers, secret) = (&head.headers, field("client_secret"));
    if !agent.guard.admits(|token| gate::is_guarded(headers, token) | gate::is_client(headers, secret, token))
    {
        return reply::unknown_client();
    }
    connection.authenticated();
    let call = match Call::from_form(&form) {
        Ok(call) => call,
        Err(error) => return reply::malformed(&error),
    };
    match query::answer(&agent.source, &call).await {
        Ok(token) => reply::oauth_token(&token, agent.source.now()),
        Err(error) => reply::no_token(&error),
    }
}
