//! Why there is no token.

use std::{fmt, time::Duration};

/// Longer texts of others are cut, so that an error fits into a log line.
const LONGEST_TEXT: usize = 500;

/// The contract's error codes.
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
    /// A code that this version of the client does not know, such as a fault of the Lambda runtime.
    Other(String),
}

impl Code {
    const NAMES: [(Self, &'static str, u16); 13] = [
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
    ];

    /// Parses the contract's text.
    pub fn parse(text: &str) -> Self {
        let known = Self::NAMES.into_iter().find(|(_, name, _)| *name == text);
        known.map_or_else(|| Self::Other(cut(text)), |(code, ..)| code)
    }

    /// The contract's text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(text) => text,
            known => {
                Self::NAMES.iter().find(|(code, ..)| code == known).map_or("internal", |(_, name, _)| name)
            }
        }
    }

    /// The HTTP status of the code. A code that is not in the contract is 502.
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
    /// The chosen transport cannot carry this call.
    #[error("{0}")]
    InvalidCall(String),
}

impl Error {
    /// The contract's code that stands for this error.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => code.clone(),
            Self::Intercepted { status: 401 | 403, .. } => Code::AccessDenied,
            Self::Intercepted { .. }
            | Self::Unreachable(_)
            | Self::Unreadable(_)
            | Self::TooShort { .. }
            | Self::Unsigned(_) => Code::UpstreamUnavailable,
            Self::StillWaiting(_) => Code::RefreshInProgress,
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
            assert_eq!(Code::parse(name), code);
            assert_eq!((code.as_str(), code.http_status()), (name, status));
        }
        let other = Code::parse("Runtime.ExitError");
        assert_eq!((other.as_str(), other.http_status()), ("Runtime.ExitError", 502));
    }

    #[test]
    fn every_error_has_a_code_of_the_contract() {
        let intercepted =
            |status| Error::Intercepted { status, reason: "AccessDeniedException".into(), retry_after: None };
        for (error, code) in [
            (intercepted(403), "access_denied"),
            (intercepted(429), "upstream_unavailable"),
            (Error::Unreachable("refused".into()), "upstream_unavailable"),
            (Error::StillWaiting(Duration::from_secs(5)), "refresh_in_progress"),
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
