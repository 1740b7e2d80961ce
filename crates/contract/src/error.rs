//! Error codes.

use crate::named;
use std::fmt;

named! {
    /// A code of the contract: `error` in an HTTP body, `errorType` of a direct invocation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum ErrorCode, as_str {
        /// The request is malformed, has an unknown field or a value out of range.
        InvalidRequest = "invalid_request",
        /// The form asks for a grant other than client credentials.
        UnsupportedGrantType = "unsupported_grant_type",
        /// The caller may not use this account or action.
        AccessDenied = "access_denied",
        /// There is no secret for the account.
        UnknownAccount = "unknown_account",
        /// The upstream refused the stored credentials.
        CredentialsRejected = "credentials_rejected",
        /// The secret is malformed, or has no value yet.
        BadSecret = "bad_secret",
        /// The refresh token is used up or refused, and only a person can renew the grant.
        GrantLost = "grant_lost",
        /// AWS refuses the broker itself: no such table, no permission, a disabled key.
        Misconfigured = "misconfigured",
        /// A login now would exceed the fleet's budget.
        LoginBudgetExhausted = "login_budget_exhausted",
        /// The upstream limits the rate of requests.
        UpstreamRateLimited = "upstream_rate_limited",
        /// The upstream did not answer, refused without a verdict, or returned an unexpected response.
        UpstreamUnavailable = "upstream_unavailable",
        /// Another instance renews the pair, and the caller's time ran out first.
        RefreshInProgress = "refresh_in_progress",
        /// DynamoDB is unreachable, and nothing usable is in memory.
        StoreUnavailable = "store_unavailable",
        /// Secrets Manager is unreachable, and a login is needed.
        SecretUnavailable = "secret_unavailable",
        /// A defect of the broker.
        Internal = "internal",
    }
}

impl ErrorCode {
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

    /// Whether a retry can help: the same call may succeed later without anyone's intervention.
    pub const fn retry_can_help(self) -> bool {
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
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

named! {
    /// A code that only the clients use.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum ClientErrorCode, as_str {
        /// Broker or agent is unreachable, too slow, failed, or answered unexpectedly.
        BrokerUnavailable = "broker_unavailable",
        /// The broker's token is valid for less time than the caller asked for.
        TokenExpiresTooSoon = "token_expires_too_soon",
        /// A setting, a credential or a Region is missing.
        NotConfigured = "not_configured",
    }
}
