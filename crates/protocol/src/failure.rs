//! Why a request failed.

use crate::{
    Cooldown, CooldownReason, LoginDelay, SecretVersion, ServiceRefusal, Timestamp, UpstreamFault,
    policy::SECRET_RETRY, seconds_rounded_up,
};
use contract::ErrorCode;
use std::time::Duration;

/// What went wrong, for the caller. The texts say what happened and what to do. They never contain a token, a password
/// or anything that the upstream returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// There is no secret for the account.
    #[error("there is no secret for this account; create it, or use an account that exists")]
    UnknownAccount,
    /// The secret is malformed. Says what is missing, never what is there.
    #[error("the account's secret cannot be used: {0}; store a new version of it")]
    BadSecret(String),
    /// Secrets Manager is unreachable, and a login is needed.
    #[error("a login is needed, but Secrets Manager is unreachable; try again")]
    SecretUnavailable,
    /// The upstream refused the credentials of this version of the secret.
    #[error(
        "the upstream refused the credentials of secret version {0}; they are tried again when the secret has a new version, when an operator unblocks the account, or after 6 to 24 hours"
    )]
    CredentialsRejected(SecretVersion),
    /// Only a person can renew the grant.
    #[error(
        "the refresh token of this account is used up or refused, and only a person can renew the grant; put a new `refresh_token` into its secret"
    )]
    GrantLost,
    /// Only a person can renew the grant, and its revocation is not confirmed.
    #[error(
        "after this revocation only a person can renew the grant; to revoke it anyway, repeat the request with \"confirm\": true"
    )]
    Unconfirmed,
    /// A login now would exceed the fleet's budget.
    #[error("the fleet has used up its logins for now; keep the token that you have, or try again later")]
    LoginBudgetExhausted {
        /// When a login becomes possible.
        retry_after: Duration,
    },
    /// The upstream answered 429.
    #[error("the upstream limits the rate of requests from this address; try again later")]
    UpstreamRateLimited {
        /// When the pause is over.
        retry_after: Duration,
    },
    /// The upstream did not respond, refused without saying why, or returned an unexpected response.
    #[error("{fault}; try again later")]
    UpstreamUnavailable {
        /// Which of these.
        fault: UpstreamFault,
        /// When the pause is over.
        retry_after: Duration,
    },
    /// Another instance renews the pair, and the caller's time ran out first.
    #[error("the token is being renewed, and this request ran out of time first; try again")]
    RefreshInProgress {
        /// When the lease of the other instance lapses at the latest.
        retry_after: Duration,
    },
    /// Too little of the invocation's time is left for a renewal.
    #[error(
        "the token must be renewed, and too little time is left for that; call again, and if this persists, raise the function's timeout to 30 s"
    )]
    TooLittleTime,
    /// DynamoDB is unreachable, and memory holds nothing usable.
    #[error("DynamoDB is unreachable and nothing usable is in memory; try again")]
    StoreUnavailable {
        /// How long this instance waits before it tries again.
        retry_after: Duration,
    },
    /// The instance's clocks disagree, so it may date neither lease nor permit.
    #[error(
        "the token must be renewed, and the clock of this instance cannot be trusted for that; try again"
    )]
    ClockOff,
    /// A service refuses the broker itself.
    #[error("{0}; retrying does not help: check that it exists, and that the function may use it")]
    Misconfigured(ServiceRefusal),
    /// A stored item does not have the form that the broker writes. The broker leaves it unchanged.
    #[error(
        "a stored item cannot be read and was left as it is; go back to the release that wrote it, or replace the table: {0}"
    )]
    UnreadableItem(String),
    /// A bug in the broker.
    #[error("the broker has a defect: {0}; please report it with the request id")]
    Defect(&'static str),
}

impl Failure {
    /// The contract's error code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownAccount => ErrorCode::UnknownAccount,
            Self::BadSecret(_) => ErrorCode::BadSecret,
            Self::SecretUnavailable => ErrorCode::SecretUnavailable,
            Self::CredentialsRejected(_) => ErrorCode::CredentialsRejected,
            Self::GrantLost => ErrorCode::GrantLost,
            Self::Unconfirmed => ErrorCode::InvalidRequest,
            Self::LoginBudgetExhausted { .. } => ErrorCode::LoginBudgetExhausted,
            Self::UpstreamRateLimited { .. } => ErrorCode::UpstreamRateLimited,
            Self::UpstreamUnavailable { .. } => ErrorCode::UpstreamUnavailable,
            Self::RefreshInProgress { .. } | Self::TooLittleTime | Self::ClockOff => {
                ErrorCode::RefreshInProgress
            }
            Self::StoreUnavailable { .. } => ErrorCode::StoreUnavailable,
            Self::Misconfigured(_) => ErrorCode::Misconfigured,
            Self::UnreadableItem(_) | Self::Defect(_) => ErrorCode::Internal,
        }
    }

    /// How long to wait before trying again, in whole seconds, if known. Never shorter than the time for which the
    /// instance remembers the failure.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::LoginBudgetExhausted { retry_after }
            | Self::UpstreamRateLimited { retry_after }
            | Self::UpstreamUnavailable { retry_after, .. }
            | Self::StoreUnavailable { retry_after }
            | Self::RefreshInProgress { retry_after } => Some(seconds_rounded_up(*retry_after).max(1)),
            Self::TooLittleTime | Self::ClockOff => Some(1),
            Self::SecretUnavailable => Some(SECRET_RETRY.as_secs()),
            Self::UnknownAccount
            | Self::BadSecret(_)
            | Self::CredentialsRejected(_)
            | Self::GrantLost
            | Self::Unconfirmed
            | Self::Misconfigured(_)
            | Self::UnreadableItem(_)
            | Self::Defect(_) => None,
        }
    }

    /// The failure of a request that finds its account in cooldown.
    pub fn cooling_down(cooldown: Cooldown, now: Timestamp) -> Self {
        let retry_after = cooldown.until.since(now);
        match cooldown.reason {
            CooldownReason::RateLimited => Self::UpstreamRateLimited { retry_after },
            CooldownReason::Unavailable(fault) => Self::UpstreamUnavailable { fault, retry_after },
            CooldownReason::BudgetExhausted => Self::LoginBudgetExhausted { retry_after },
        }
    }

    /// The failure of a login that the limiter delays.
    pub fn delayed(delay: LoginDelay, now: Timestamp) -> Self {
        let (until, reason) = delay.ends();
        Self::cooling_down(Cooldown { until, reason, failures: 0 }, now)
    }

    /// Another attempt holds the lease until `until`.
    pub fn in_progress(until: Timestamp, now: Timestamp) -> Self {
        Self::RefreshInProgress { retry_after: until.since(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_in_whole_seconds_rounded_up() {
        let waits = |retry_after| {
            let failures = [
                Failure::LoginBudgetExhausted { retry_after },
                Failure::UpstreamRateLimited { retry_after },
                Failure::UpstreamUnavailable { fault: UpstreamFault::NoResponse, retry_after },
                Failure::StoreUnavailable { retry_after },
                Failure::RefreshInProgress { retry_after },
            ];
            failures.map(|failure| failure.retry_after_seconds())
        };
        for (millis, seconds) in [(0, 1), (1_000, 1), (1_001, 2), (60_000, 60)] {
            assert_eq!(waits(Duration::from_millis(millis)), [Some(seconds); 5], "{millis} ms");
        }
        for soon in [Failure::TooLittleTime, Failure::ClockOff] {
            assert_eq!(soon.retry_after_seconds(), Some(1), "{soon}");
        }
        let secret = Failure::SecretUnavailable.retry_after_seconds();
        assert_eq!(secret, Some(3), "it is not read again for that long");
        let version = SecretVersion("v1".to_owned());
        for never in [Failure::UnknownAccount, Failure::CredentialsRejected(version), Failure::Defect("x")] {
            assert_eq!(never.retry_after_seconds(), None, "{never}");
        }
    }
}
