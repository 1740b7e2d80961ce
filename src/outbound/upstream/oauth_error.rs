//! Parses the errors of OAuth 2.0 servers.

use super::{body::Body, response::text};

/// The meaning of a refusal's `error` (RFC 6749, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OAuthError {
    /// `invalid_grant`: the token or the password is not accepted.
    InvalidGrant,
    /// The client or its request is refused, whatever the grant.
    Client,
    /// Too many requests.
    Limited,
    /// The server is failing.
    Unavailable,
}

impl OAuthError {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::InvalidGrant => "invalid_grant",
            Self::Client => "client refused",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Parses a refusal. `None` if it has no known code.
pub fn parse_error(body: &Body) -> Option<OAuthError> {
    let fields = body.objects().next()?;
    let field = |name| {
        let text = fields.named(name).next_back().and_then(text);
        text.map(|text| text.expose().to_ascii_lowercase()).unwrap_or_default()
    };
    let (error, description) = (field("error"), field("error_description"));
    // "Too many" alone does not say of what: a request may name too many scopes.
    let says_limited = |text: &str| {
        text.contains("rate limit")
            || ["requests", "attempts", "logins", "login attempts", "tokens", "calls", "refreshes"]
                .iter()
                .any(|what| text.contains(&format!("too many {what}")))
    };
    match error.as_str() {
        "invalid_grant" => Some(OAuthError::InvalidGrant),
        "slow_down" => Some(OAuthError::Limited),
        _ if says_limited(&error.replace('_', " ")) || says_limited(&description) => {
            Some(OAuthError::Limited)
        }
        "invalid_client"
        | "invalid_scope"
        | "unauthorized_client"
        | "invalid_request"
        | "unsupported_grant_type" => Some(OAuthError::Client),
        "temporarily_unavailable" | "server_error" => Some(OAuthError::Unavailable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_by_its_code() {
        for (body, code) in [
            (
                r#"{"error":"invalid_grant","error_description":"used too many times"}"#,
                Some(OAuthError::InvalidGrant),
            ),
            (
                r#"{"error":"invalid_request","error_description":"too many scopes"}"#,
                Some(OAuthError::Client),
            ),
            ("\u{feff}{\"error\":\"invalid_client\"}", Some(OAuthError::Client)),
            (r#"{"error":"invalid_scope"}"#, Some(OAuthError::Client)),
            (r#"{"error":"unauthorized_client"}"#, Some(OAuthError::Client)),
            (r#"{"error":"invalid_request"}"#, Some(OAuthError::Client)),
            (r#"{"error":"unsupported_grant_type"}"#, Some(OAuthError::Client)),
            (r#"{"error":"slow_down"}"#, Some(OAuthError::Limited)),
            (
                r#"{"error":"Access Denied","error_description":"You have made too many requests continuously."}"#,
                Some(OAuthError::Limited),
            ),
            (
                r#"{"error":"invalid_request","error_description":"Too many requests"}"#,
                Some(OAuthError::Limited),
            ),
            (r#"{"error":"rate_limit_exceeded"}"#, Some(OAuthError::Limited)),
            (r#"{"error":"temporarily_unavailable"}"#, Some(OAuthError::Unavailable)),
            (r#"{"error":"server_error"}"#, Some(OAuthError::Unavailable)),
            (r#"{"error":"invalid_code"}"#, None),
            (r#"{"error":{"code":"invalid_grant"}}"#, None),
            ("", None),
            ("invalid_grant", None),
        ] {
            assert_eq!(parse_error(&Body::new(body.as_bytes(), true)), code, "{body}");
        }
    }
}
