//! Why there is no token.

use std::{fmt, time::Duration};

/// Longer texts of others are cut, so that an error fits into a log line.
const LONGEST_TEXT: usize = 500;

/// The broker's error codes, and three of the client itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "docs/API.md explains each code")]
pub enum Code {
    InvalidRequest,
    UnsupportedGrantType,
    AccessDenied,
    UnknownAccount,
    CredentialsRejected,
    BadSecret,
    LoginBudgetExhausted,
    UpstreamRateLimited,
    UpstreamUnavailable,
    RefreshInProgress,
    StoreUnavailable,
    SecretUnavailable,
    Internal,
    /// The client's: broker or agent is out of reach, too slow, failed, or answered unexpectedly.
    BrokerUnavailable,
    /// The client's: the broker's token is valid for less time than the caller asked for.
    TokenExpiresTooSoon,
    /// The client's: a setting, a credential or a Region is missing.
    NotConfigured,
    /// A code of the broker that this version of the client does not know.
    Other(String),
}

impl Code {
    const NAMES: [(Self, &'static str, u16); 16] = [
        (Self::InvalidRequest, "invalid_request", 400),
        (Self::UnsupportedGrantType, "unsupported_grant_type", 400),
        (Self::AccessDenied, "access_denied", 403),
        (Self::UnknownAccount, "unknown_account", 404),
        (Self::CredentialsRejected, "credentials_rejected", 502),
        (Self::BadSecret, "bad_secret", 502),
        (Self::LoginBudgetExhausted, "login_budget_exhausted", 503),
        (Self::UpstreamRateLimited, "upstream_rate_limited", 503),
        (Self::UpstreamUnavailable, "upstream_unavailable", 503),
        (Self::RefreshInProgress, "refresh_in_progress", 503),
        (Self::StoreUnavailable, "store_unavailable", 503),
        (Self::SecretUnavailable, "secret_unavailable", 503),
        (Self::Internal, "internal", 500),
        (Self::BrokerUnavailable, "broker_unavailable", 503),
        (Self::TokenExpiresTooSoon, "token_expires_too_soon", 503),
        (Self::NotConfigured, "not_configured", 500),
    ];

    /// Parses the text of a code: lower-case words with underscores between them. `None` for other texts, such as the
    /// name of a fault of the Lambda runtime.
    pub fn parse(text: &str) -> Option<Self> {
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
        if !text.split('_').all(is_word) {
            return None;
        }
        let known = Self::NAMES.into_iter().find(|(_, name, _)| *name == text);
        Some(known.map_or_else(|| Self::Other(cut(text)), |(code, ..)| code))
    }

    /// The text of the code.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(text) => text,
            known => {
                Self::NAMES.iter().find(|(code, ..)| code == known).map_or("internal", |(_, name, _)| name)
            }
        }
    }

    /// The HTTP status of the code; 502 for an unknown one.
    pub fn http_status(&self) -> u16 {
        Self::NAMES.iter().find(|(code, ..)| code == self).map_or(502, |(.., status)| *status)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a call returned no token. No text holds a token or a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The broker answered with an error.
    #[error("{code}: {description}")]
    Refused {
        /// The contract's code.
        code: Code,
        /// What happened, and what to do.
        description: String,
        /// When another try makes sense, where the broker knows.
        retry_after: Option<Duration>,
        /// Finds the broker's log line.
        request_id: Option<String>,
    },
    /// AWS, or another server in front of the broker, answered the call itself.
    #[error("the call did not reach the broker: HTTP {status} {reason}")]
    Intercepted {
        /// The HTTP status.
        status: u16,
        /// The error's type or text, as that server gave it.
        reason: String,
        /// From the header `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The function failed without an answer of the broker, for example because it ran out of time.
    #[error("the function failed: {0}")]
    Crashed(String),
    /// No connection, a broken connection, or no answer in time.
    #[error("the broker is out of reach: {0}")]
    Unreachable(String),
    /// The answer is not in the contract's form.
    #[error("the broker's answer cannot be read: {0}")]
    Unreadable(&'static str),
    /// The call goes on in the background, so a later request may find its result.
    #[error("the broker has not answered within {} s; try again", .0.as_secs())]
    StillWaiting(Duration),
    /// The broker's token does not live as long as the caller demands.
    #[error("the account's token may be kept for {valid_for} s only, and {wanted} s were requested for")]
    TooShort {
        /// The token's lifetime, in seconds.
        valid_for: u64,
        /// The lifetime that the caller asked for, in seconds.
        wanted: u64,
    },
    /// The call needs AWS credentials or a Region, and none was found.
    #[error("cannot sign the call to the broker: {0}")]
    Unsigned(String),
    /// A setting is missing or wrong.
    #[error("{0}")]
    NotConfigured(String),
    /// The chosen transport cannot carry this call.
    #[error("{0}")]
    InvalidCall(String),
}

impl Error {
    /// The broker's code, or the client's own.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => code.clone(),
            Self::Intercepted { status: 401 | 403, .. } => Code::AccessDenied,
            Self::Intercepted { .. }
            | Self::Crashed(_)
            | Self::Unreachable(_)
            | Self::Unreadable(_)
            | Self::StillWaiting(_) => Code::BrokerUnavailable,
            Self::TooShort { .. } => Code::TokenExpiresTooSoon,
            Self::Unsigned(_) | Self::NotConfigured(_) => Code::NotConfigured,
            Self::InvalidCall(_) => Code::InvalidRequest,
        }
    }

    /// How long to wait before another try, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::Intercepted { retry_after, .. } => *retry_after,
            Self::StillWaiting(_) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// What happened, without the code.
    pub fn description(&self) -> String {
        match self {
            Self::Refused { description, .. } => description.clone(),
            other => other.to_string(),
        }
    }

    /// The broker's request id, where the broker answered.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    /// The same error, seen later: what is left of `retry_after`.
    #[must_use]
    pub(crate) fn with_retry_after(mut self, left: Duration) -> Self {
        if let Self::Refused { retry_after, .. } | Self::Intercepted { retry_after, .. } = &mut self {
            *retry_after = Some(left);
        }
        self
    }
}

/// Cuts a text of another program to a length that fits into a log line.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_parses_back_and_has_its_status() {
        for (code, name, status) in Code::NAMES {
            assert_eq!((code.as_str(), code.http_status()), (name, status));
            assert_eq!(Code::parse(name), Some(code));
        }
        let later = Code::parse("a_later_code").unwrap();
        assert_eq!((later.as_str(), later.http_status()), ("a_later_code", 502));
        for text in ["Runtime.ExitError", "", "_", "a__code", "a_code_", "a code"] {
            assert_eq!(Code::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_error_has_its_code() {
        let intercepted =
            |status| Error::Intercepted { status, reason: "AccessDeniedException".into(), retry_after: None };
        for (error, code) in [
            (intercepted(403), "access_denied"),
            (intercepted(429), "broker_unavailable"),
            (Error::Crashed("Runtime.ExitError".into()), "broker_unavailable"),
            (Error::Unreachable("refused".into()), "broker_unavailable"),
            (Error::Unreadable("no token"), "broker_unavailable"),
            (Error::StillWaiting(Duration::from_secs(5)), "broker_unavailable"),
            (Error::TooShort { valid_for: 45, wanted: 60 }, "token_expires_too_soon"),
            (Error::Unsigned("no Region".into()), "not_configured"),
            (Error::NotConfigured("no guard token".into()), "not_configured"),
            (Error::InvalidCall("no".into()), "invalid_request"),
        ] {
            assert_eq!(error.code().as_str(), code, "{error}");
        }
    }

    #[test]
    fn long_texts_of_others_are_cut() {
        assert_eq!(cut(&"x".repeat(10_000)).len(), LONGEST_TEXT);
    }
}
