//! Why there is no token.

use contract::{ClientErrorCode, ErrorCode};
use std::{fmt, time::Duration};

/// Longer texts from other programs are cut, so that an error fits into a log line.
const LONGEST_TEXT: usize = 500;

/// The code of an error.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// A code of the broker.
    Broker(ErrorCode),
    /// A code of the client.
    Client(ClientErrorCode),
    /// A code of the broker that this version of the client does not know.
    Other(String),
}

impl Code {
    /// Parses the text of a code: lower-case words with underscores between them. `None` for other texts, such as the
    /// name of a fault of the Lambda runtime.
    pub fn parse(text: &str) -> Option<Self> {
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
        if !text.split('_').all(is_word) {
            return None;
        }
        let of_broker = ErrorCode::parse(text).map(Self::Broker);
        let known = of_broker.or_else(|| ClientErrorCode::parse(text).map(Self::Client));
        Some(known.unwrap_or_else(|| Self::Other(cut(text))))
    }

    /// The text of the code.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Broker(code) => code.as_str(),
            Self::Client(code) => code.as_str(),
            Self::Other(text) => text,
        }
    }
}

impl From<ErrorCode> for Code {
    fn from(code: ErrorCode) -> Self {
        Self::Broker(code)
    }
}

impl From<ClientErrorCode> for Code {
    fn from(code: ClientErrorCode) -> Self {
        Self::Client(code)
    }
}

impl PartialEq<ErrorCode> for Code {
    fn eq(&self, code: &ErrorCode) -> bool {
        *self == Self::Broker(*code)
    }
}

impl PartialEq<ClientErrorCode> for Code {
    fn eq(&self, code: &ClientErrorCode) -> bool {
        *self == Self::Client(*code)
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
        /// When to try again, if the broker knows.
        retry_after: Option<Duration>,
        /// Finds the broker's log line.
        request_id: Option<String>,
    },
    /// AWS or another server in front of the broker answered the call.
    #[error("the call did not reach the broker: HTTP {status} {reason}")]
    Intercepted {
        /// The HTTP status.
        status: u16,
        /// The error's type or text from that server.
        reason: String,
        /// From the header `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The function failed without an answer from the broker, for example because it ran out of time.
    #[error("the function failed: {0}")]
    Crashed(String),
    /// No connection, a broken connection, or no answer in time.
    #[error("the broker is unreachable: {0}")]
    Unreachable(String),
    /// The answer is not in the contract's form.
    #[error("the broker's answer cannot be read: {0}")]
    Unreadable(&'static str),
    /// The call continues in the background, so a later request may find its result.
    #[error("the broker has not answered within {} s; try again", .0.as_secs())]
    StillWaiting(Duration),
    /// The broker's token does not last as long as the caller asked for.
    #[error("the token lasts only {valid_for} s; {wanted} s were requested")]
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
            Self::Intercepted { status: 401 | 403, .. } => ErrorCode::AccessDenied.into(),
            Self::Intercepted { .. }
            | Self::Crashed(_)
            | Self::Unreachable(_)
            | Self::Unreadable(_)
            | Self::StillWaiting(_) => ClientErrorCode::BrokerUnavailable.into(),
            Self::TooShort { .. } => ClientErrorCode::TokenExpiresTooSoon.into(),
            Self::Unsigned(_) | Self::NotConfigured(_) => ClientErrorCode::NotConfigured.into(),
            Self::InvalidCall(_) => ErrorCode::InvalidRequest.into(),
        }
    }

    /// How long to wait before trying again, if known.
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

    /// The broker's request id, if the broker answered.
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused { request_id, .. } => request_id.as_deref(),
            _ => None,
        }
    }

    /// The same error, seen later, with the remaining `retry_after`.
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
    fn every_code_parses_back() {
        let of_broker = ErrorCode::ALL.map(Code::from);
        for code in of_broker.into_iter().chain(ClientErrorCode::ALL.map(Code::from)) {
            assert_eq!(Code::parse(code.as_str()), Some(code));
        }
        assert_ne!(Code::from(ErrorCode::BadSecret), ClientErrorCode::NotConfigured);
        assert_eq!(Code::parse("a_later_code").unwrap().as_str(), "a_later_code");
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
    fn long_third_party_texts_are_truncated() {
        assert_eq!(cut(&"x".repeat(10_000)).len(), LONGEST_TEXT);
    }
}
