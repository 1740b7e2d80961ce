//! Error codes.

use std::fmt;

/// A code of the contract. It is `error` in an HTTP body and `errorType` of a direct invoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorCode {
    /// The request is malformed, has an unknown field or a value out of range.
    InvalidRequest,
    /// The form asks for another grant than client credentials.
    UnsupportedGrantType,
    /// The caller may not use this account or action.
    AccessDenied,
    /// There is no secret for the account.
    UnknownAccount,
    /// The upstream refused the stored credentials.
    CredentialsRejected,
    /// The secret is not the JSON that it should be, or has no value yet.
    BadSecret,
    /// AWS refuses the broker itself: no such table, no permission, a disabled key.
    Misconfigured,
    /// A login now would exceed the fleet's budget.
    LoginBudgetExhausted,
    /// The upstream limits the rate of requests.
    UpstreamRateLimited,
    /// The upstream did not answer, refused without a verdict, or returned an unexpected response.
    UpstreamUnavailable,
    /// Another instance renews the pair, and the caller's time ran out first.
    RefreshInProgress,
    /// DynamoDB is out of reach, and nothing usable is in memory.
    StoreUnavailable,
    /// Secrets Manager is out of reach, and a login is needed.
    SecretUnavailable,
    /// A defect of the broker.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 14] = [
        Self::InvalidRequest,
        Self::UnsupportedGrantType,
        Self::AccessDenied,
        Self::UnknownAccount,
        Self::CredentialsRejected,
        Self::BadSecret,
        Self::Misconfigured,
        Self::LoginBudgetExhausted,
        Self::UpstreamRateLimited,
        Self::UpstreamUnavailable,
        Self::RefreshInProgress,
        Self::StoreUnavailable,
        Self::SecretUnavailable,
        Self::Internal,
    ];

    /// The code as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::AccessDenied => "access_denied",
            Self::UnknownAccount => "unknown_account",
            Self::CredentialsRejected => "credentials_rejected",
            Self::BadSecret => "bad_secret",
            Self::Misconfigured => "misconfigured",
            Self::LoginBudgetExhausted => "login_budget_exhausted",
            Self::UpstreamRateLimited => "upstream_rate_limited",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::RefreshInProgress => "refresh_in_progress",
            Self::StoreUnavailable => "store_unavailable",
            Self::SecretUnavailable => "secret_unavailable",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that goes with the code.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::UnsupportedGrantType => 400,
            Self::AccessDenied => 403,
            Self::UnknownAccount => 404,
            Self::Misconfigured | Self::Internal => 500,
            Self::CredentialsRejected | Self::BadSecret => 502,
            Self::LoginBudgetExhausted
            | Self::UpstreamRateLimited
            | Self::UpstreamUnavailable
            | Self::RefreshInProgress
            | Self::StoreUnavailable
            | Self::SecretUnavailable => 503,
        }
    }

    /// The code with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
