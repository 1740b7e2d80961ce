//! The contract's answers and errors.

use crate::{rfc3339, broker::Unreadable};
use protocol::{Answer, Done, ServedFrom, Failure, StoreError, NextLogin, AccountName, CooldownReason, Grant, AccountStatus, LoginLimiterStatus, Timestamp};
use lambda_runtime::Diagnostic;
use serde_json::{Value, json};

/// Why a request got no answer: the request's fault, or the failure of what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The request is malformed.
    InvalidRequest(String),
    /// The form asks for another grant than client credentials.
    UnsupportedGrantType,
    /// The caller may not do this.
    AccessDenied,
    /// There is no such path.
    NoSuchPath,
    /// The path is served for another method only.
    WrongMethod {
        /// The method that it is served for.
        allow: &'static str,
    },
    /// It could not be done.
    Failed(Failure),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreError> for Problem {
    fn from(problem: StoreError) -> Self {
        Self::Failed(Failure::from(problem))
    }
}

/// A direct invoke's problem, as Step Functions' `ErrorEquals` can match it.
impl From<Problem> for Diagnostic {
    fn from(problem: Problem) -> Self {
        let retry_after = problem.retry_after_seconds();
        let suffix = retry_after.map(|seconds| format!(" (retry_after={seconds})")).unwrap_or_default();
        Self { error_type: problem.code().to_owned(), error_message: problem.description() + &suffix }
    }
}

impl Problem {
    /// A malformed request, and what is wrong with it.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::InvalidRequest(what.into())
    }

    /// The contract's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) | Self::NoSuchPath | Self::WrongMethod { .. } => "invalid_request",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::AccessDenied => "access_denied",
            Self::Failed(failure) => code_of(failure),
        }
    }

    /// What happened, and what to do.
    pub fn description(&self) -> String {
        match self {
            Self::InvalidRequest(what) => what.clone(),
            Self::UnsupportedGrantType => "`grant_type` has to be client_credentials".to_owned(),
            Self::AccessDenied => {
                "this caller may not do this; ask the broker's operator for a rule in BROKER_CALLERS"
                    .to_owned()
            }
            Self::NoSuchPath => {
                "there is no such path; there are POST /token, GET /status, POST /refresh and POST /revoke"
                    .to_owned()
            }
            Self::WrongMethod { allow } => format!("this path is served for {allow} only"),
            Self::Failed(failure) => failure.to_string(),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> i64 {
        match self {
            Self::InvalidRequest(_) | Self::UnsupportedGrantType => 400,
            Self::AccessDenied => 403,
            Self::NoSuchPath => 404,
            Self::WrongMethod { .. } => 405,
            Self::Failed(failure) => match failure {
                Failure::UnknownAccount => 404,
                Failure::CredentialsRejected(_) | Failure::BadSecret(_) => 502,
                Failure::LoginBudgetExhausted { .. }
                | Failure::UpstreamRateLimited { .. }
                | Failure::UpstreamUnavailable { .. }
                | Failure::RefreshInProgress { .. }
                | Failure::TooLittleTime
                | Failure::StoreUnavailable
                | Failure::SecretUnavailable => 503,
                Failure::UnreadableItem(_) | Failure::Defect(_) => 500,
            },
        }
    }

    /// When to try again, where that is known.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Failed(failure) => failure.retry_after_seconds(),
            _ => None,
        }
    }

    /// The body of an HTTP error.
    pub fn body(&self, request_id: &str) -> Value {
        let mut body = json!({
            "error": self.code(),
            "error_description": self.description(),
            "request_id": request_id,
        });
        if let (Some(seconds), Value::Object(fields)) = (self.retry_after_seconds(), &mut body) {
            fields.insert("retry_after".to_owned(), seconds.into());
        }
        body
    }
}

/// The contract's code of a failure.
pub fn code_of(failure: &Failure) -> &'static str {
    match failure {
        Failure::UnknownAccount => "unknown_account",
        Failure::BadSecret(_) => "bad_secret",
        Failure::SecretUnavailable => "secret_unavailable",
        Failure::CredentialsRejected(_) => "credentials_rejected",
        Failure::LoginBudgetExhausted { .. } => "login_budget_exhausted",
        Failure::UpstreamRateLimited { .. } => "upstream_rate_limited",
        Failure::UpstreamUnavailable { .. } => "upstream_unavailable",
        Failure::RefreshInProgress { .. } | Failure::TooLittleTime => "refresh_in_progress",
        Failure::StoreUnavailable => "store_unavailable",
        Failure::UnreadableItem(_) | Failure::Defect(_) => "internal",
    }
}

/// A token answer. Also what RFC 6749 §5.1 asks of a token endpoint.
pub fn token(account: &AccountName, answer: &Answer) -> Value {
    json!({
        "access_token": answer.access_token.expose(),
        "token_type": "Bearer",
        "expires_in": answer.expires_in_seconds,
        "expires_at": rfc3339::format(answer.expires_at),
        "account": account.as_str(),
        "generation": answer.generation.0,
        "served_from": served_from(answer.served_from),
    })
}

/// What an operator's revocation came to.
pub fn revoked(account: &AccountName, pending: usize) -> Value {
    json!({"account": account.as_str(), "revoked": pending == 0, "pending_revocations": pending})
}

/// What a round of maintenance came to.
pub fn maintained(outcomes: &[(AccountName, Result<Outcome, Failure>)]) -> Value {
    let accounts = outcomes.iter().map(|(account, outcome)| match outcome {
        Ok(Outcome::Report { renewed, pending }) => {
            json!({"account": account.as_str(), "renewed": renewed, "pending_revocations": pending})
        }
        Ok(Outcome::Token(_)) => json!({"account": account.as_str(), "renewed": false}),
        Err(failure) => json!({
            "account": account.as_str(),
            "renewed": false,
            "error": code_of(failure),
            "error_description": failure.to_string(),
        }),
    });
    let renewed =
        outcomes.iter().filter(|(_, outcome)| matches!(outcome, Ok(Outcome::Report { renewed: true, .. })));
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_err());
    json!({"renewed": renewed.count(), "failed": failed.count(), "accounts": accounts.collect::<Vec<_>>()})
}

/// What a refresh came to, for an operator who may not have tokens.
pub fn refreshed(account: &AccountName, answer: &Answer) -> Value {
    let mut fields = token(account, answer);
    if let Value::Object(fields) = &mut fields {
        fields.remove("access_token");
    }
    fields
}

/// Where an answer came from, as the contract names it.
pub fn served_from(source: ServedFrom) -> &'static str {
    match source {
        ServedFrom::Memory => "memory",
        ServedFrom::Table => "table",
        ServedFrom::Upstream => "upstream",
    }
}

/// A status answer.
pub fn status(
    accounts: &[Result<AccountStatus, Unreadable>],
    limiter: &LoginLimiterStatus,
    now: Timestamp,
) -> Value {
    let accounts = accounts.iter().map(|account| match account {
        Ok(status) => account_status(status),
        Err((account, what)) => json!({"account": account.as_str(), "unreadable": what}),
    });
    json!({
        "now": rfc3339::format(now),
        "accounts": accounts.collect::<Vec<_>>(),
        "ledger": login_limiter_status(limiter),
    })
}

fn account_status(status: &AccountStatus) -> Value {
    let pair = status.pair.as_ref();
    json!({
        "account": status.account.as_str(),
        "generation": pair.map(|pair| pair.generation.0),
        "obtained_by": pair.map(|pair| match pair.obtained_by {
            Grant::Login => "login",
            Grant::Refresh => "refresh",
        }),
        "issued_at": pair.map(|pair| rfc3339::format(pair.issued_at)),
        "due_at": pair.map(|pair| rfc3339::format(pair.due_at)),
        "expires_at": pair.map(|pair| rfc3339::format(pair.expires_at)),
        "refresh_expires_at": pair.and_then(|pair| pair.refresh_expires_at).map(rfc3339::format),
        "refresh_token_consumed": pair.map(|pair| pair.refresh_token_consumed),
        "dead": pair.map(|pair| pair.dead),
        "verified_at": status.verified_at.map(rfc3339::format),
        "pending_revocations": status.pending_revocations,
        "lease_until": status.lease.map(|lease| rfc3339::format(lease.until)),
        "cooldown": status.cooldown.map(|cooldown| json!({
            "until": rfc3339::format(cooldown.until),
            "reason": match cooldown.reason {
                CooldownReason::RateLimited => "upstream_rate_limited",
                CooldownReason::Unavailable => "upstream_unavailable",
                CooldownReason::BudgetExhausted => "login_budget_exhausted",
            },
        })),
        "failures_in_a_row": status.failures,
        "parked_secret_version": status.rejected_secret.as_ref().map(|version| version.0.as_str()),
    })
}

fn login_limiter_status(limiter: &LoginLimiterStatus) -> Value {
    let (next_login_at, held_back_by) = match limiter.next_login {
        NextLogin::Now => (None, None),
        NextLogin::WhenBudgetAllows(at) => (Some(rfc3339::format(at)), Some("login_budget_exhausted")),
        NextLogin::WhenUnblocked(at) => (Some(rfc3339::format(at)), Some("upstream_rate_limited")),
    };
    json!({
        "logins_counted": limiter.permits,
        "login_budget": limiter.budget,
        "next_login_at": next_login_at,
        "held_back_by": held_back_by,
    })
}
