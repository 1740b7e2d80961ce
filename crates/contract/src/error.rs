//! Error codes.

use std::fmt;

/// A code of the contract: `error` in an HTTP body, `errorType` of a direct invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorCode {
    /// The request is malformed, has an unknown field or a value out of range.
    InvalidRequest,
    /// The form asks for a grant other than client credentials.
    UnsupportedGrantType,
    /// The caller may not use this account or action.
    AccessDenied,
    /// There is no secret for the account.
    UnknownAccount,
    /// The upstream refused the stored credentials.
    CredentialsRejected,
    /// The secret is malformed, or has no value yet.
    BadSecret,
    /// The refresh token is used up or refused, and only a person can renew the grant.
    GrantLost,
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
    /// DynamoDB is unreachable, and nothing usable is in memory.
    StoreUnavailable,
    /// Secrets Manager is unreachable, and a login is needed.
    SecretUnavailable,
    /// A defect of the broker.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 15] = [
        Self::InvalidRequest,
        Self::UnsupportedGrantType,
        Self::AccessDenied,
        Self::UnknownAccount,
        Self::CredentialsRejected,
        Self::BadSecret,
        Self::GrantLost,
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
            Self::GrantLost => "grant_lost",
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
            Self::CredentialsRejected | Self::BadSecret | Self::GrantLost => 502,
            Self::LoginBudgetExhausted
            | Self::UpstreamRateLimited
            | Self::UpstreamUnavailable
            | Self::RefreshInProgress
            | Self::StoreUnavailable
            | Self::SecretUnavailable => 503,
        }
    }

    /// Whether the same call may succeed later without anyone's intervention.
    pub const fn may_pass(self) -> bool {
        self.http_status() == 503
    }

    /// What happened, for the documentation.
    pub const fn summary(self) -> &'static str {
        match self {
            Self::InvalidRequest => "malformed body; unknown or out-of-range field",
            Self::UnsupportedGrantType => "a form asks for another grant",
            Self::AccessDenied => "no rule allows this",
            Self::UnknownAccount => "the account has no secret",
            Self::CredentialsRejected => "the upstream refused the credentials of this secret version",
            Self::BadSecret => "the secret is malformed, or has no value yet",
            Self::GrantLost => {
                "the refresh token is used up or refused, and only a person can renew the grant"
            }
            Self::Misconfigured => {
                "AWS refuses the broker itself: no such table, no permission, a disabled key"
            }
            Self::LoginBudgetExhausted => "a login would exceed the fleet's budget",
            Self::UpstreamRateLimited => "the upstream answered 429",
            Self::UpstreamUnavailable => {
                "the upstream gave no answer or an unexpected one, or refused a login for a reason other than the credentials"
            }
            Self::RefreshInProgress => {
                "another instance is renewing the pair, or too little time is left to begin"
            }
            Self::StoreUnavailable => "DynamoDB is unreachable, and memory holds nothing usable",
            Self::SecretUnavailable => "Secrets Manager is unreachable, and a login is needed",
            Self::Internal => "a defect, or an unreadable stored item, which the description names",
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

/// A code that only the clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientErrorCode {
    /// Broker or agent is unreachable, too slow, failed, or answered unexpectedly.
    BrokerUnavailable,
    /// The broker's token is valid for less time than the caller asked for.
    TokenExpiresTooSoon,
    /// A setting, a credential or a Region is missing.
    NotConfigured,
}

impl ClientErrorCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::BrokerUnavailable, Self::TokenExpiresTooSoon, Self::NotConfigured];

    /// The code as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrokerUnavailable => "broker_unavailable",
            Self::TokenExpiresTooSoon => "token_expires_too_soon",
            Self::NotConfigured => "not_configured",
        }
    }

    /// The code with this text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}
