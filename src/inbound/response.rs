//! The contract's answers and errors.

use super::aliases::Denial;
use crate::broker::{Maintenance, MaintenanceOutcome};
use contract::{AccountName, Action, CallError, ErrorAnswer, ErrorCode, TokenAnswer};
use lambda_runtime::Diagnostic;
use protocol::{Failure, StoreError};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestError {
    /// The request is malformed, or its form asks for another grant.
    Malformed(CallError),
    /// The caller may not do this, or not through this way in.
    AccessDenied(Denial),
    /// No route has this path.
    NoSuchPath,
    /// The route needs another method.
    WrongMethod {
        /// The method of the route.
        allow: &'static str,
    },
    /// The request was valid but failed, for this account if it concerns one.
    Failed(Failure, Option<AccountName>),
}

impl From<CallError> for RequestError {
    fn from(error: CallError) -> Self {
        Self::Malformed(error)
    }
}

impl From<Failure> for RequestError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure, None)
    }
}

impl From<StoreError> for RequestError {
    fn from(error: StoreError) -> Self {
        Failure::from(error).into()
    }
}

/// The error of a direct invocation, in a form that Step Functions can match in `ErrorEquals`.
impl From<RequestError> for Diagnostic {
    fn from(error: RequestError) -> Self {
        let answer = error.answer(None);
        Self { error_message: answer.to_message(), error_type: answer.code }
    }
}

impl RequestError {
    pub(super) fn invalid(what: impl Into<String>) -> Self {
        Self::Malformed(CallError::Invalid(what.into()))
    }

    /// The same error, attributed to this account.
    pub(super) fn about(self, account: Option<AccountName>) -> Self {
        match self {
            Self::Failed(failure, None) => Self::Failed(failure, account),
            other => other,
        }
    }

    pub(super) fn code(&self) -> ErrorCode {
        match self {
            Self::Malformed(error) => error.code(),
            Self::NoSuchPath | Self::WrongMethod { .. } => ErrorCode::InvalidRequest,
            Self::AccessDenied(_) => ErrorCode::AccessDenied,
            Self::Failed(failure, _) => failure.code(),
        }
    }

    /// What happened, and what to do.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Malformed(error) => error.to_string(),
            Self::AccessDenied(_) => {
                "this caller may not do this; ask the broker's operator for a rule in BROKER_CALLERS"
                    .to_owned()
            }
            Self::NoSuchPath => {
                let route = |action: Action| Some(format!("{} /{}", action.method()?, action.name()));
                let routes: Vec<_> = Action::ALL.into_iter().filter_map(route).collect();
                format!("no route has this path; the routes are {}", routes.join(", "))
            }
            Self::WrongMethod { allow } => format!("this path accepts {allow} only"),
            Self::Failed(failure, Some(account)) => format!("account {account}: {failure}"),
            Self::Failed(failure, None) => failure.to_string(),
        }
    }

    /// The log's text. It says more than a refused caller may learn. The account has its own field.
    pub(super) fn log_text(&self) -> String {
        match self {
            Self::AccessDenied(denial) => denial.message().to_owned(),
            Self::Failed(failure, _) => failure.to_string(),
            _ => self.description(),
        }
    }

    pub(super) fn status(&self) -> i64 {
        match self {
            Self::NoSuchPath => 404,
            Self::WrongMethod { .. } => 405,
            _ => self.code().http_status().into(),
        }
    }

    /// When to try again, if known.
    pub(super) fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Failed(failure, _) => failure.retry_after_seconds(),
            _ => None,
        }
    }

    /// The error as the caller reads it. A direct caller has the request's id already.
    pub(super) fn answer(&self, request_id: Option<&str>) -> ErrorAnswer {
        ErrorAnswer {
            code: self.code().as_str().to_owned(),
            description: self.description(),
            retry_after_seconds: self.retry_after_seconds(),
            request_id: request_id.map(str::to_owned),
        }
    }
}

/// The answer to a request, serialised once.
pub(super) enum Reply {
    Token(TokenAnswer),
    Other(Value),
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Token(token) => token.serialize(serializer),
            Self::Other(value) => value.serialize(serializer),
        }
    }
}

/// The reply as JSON.
pub(super) fn text(reply: &Reply) -> String {
    // Neither strings nor numbers nor maps with text keys can fail.
    serde_json::to_string(reply).unwrap_or_default()
}

/// The answer to a revocation.
pub(super) fn revoked(account: &AccountName, pending_revocations: usize) -> Value {
    json!({
        "account": account.as_str(),
        "revoked": pending_revocations == 0,
        "pending_revocations": pending_revocations,
    })
}

/// The answer to an unblock: what still prevents a renewal, if anything.
pub(super) fn unblocked(account: &AccountName, held_by: Option<&Failure>) -> Value {
    let mut answer = json!({"account": account.as_str(), "unblocked": true});
    if let (Some(failure), Value::Object(fields)) = (held_by, &mut answer) {
        fields.insert("held_by".to_owned(), failure.code().as_str().into());
        fields.insert("retry_after".to_owned(), failure.retry_after_seconds().into());
    }
    answer
}

/// The answer to a maintenance run. It names only accounts whose status the caller may see.
pub(super) fn maintained(maintenance: &Maintenance, may_know: impl Fn(&AccountName) -> bool) -> Value {
    let known = maintenance.accounts.iter().filter(|maintained| may_know(&maintained.account));
    let accounts = known.filter_map(|maintained| {
        let account = maintained.account.as_str();
        let pending_revocations = maintained.record.as_ref().map(|record| record.pending_revocations.len());
        Some(match &maintained.outcome {
            MaintenanceOutcome::Postponed => return None,
            MaintenanceOutcome::Idle(_) => {
                json!({"account": account, "renewed": false, "pending_revocations": pending_revocations})
            }
            MaintenanceOutcome::Done { renewed } => {
                json!({"account": account, "renewed": renewed, "pending_revocations": pending_revocations})
            }
            MaintenanceOutcome::Failed(failure) => json!({
                "account": account,
                "renewed": false,
                "error": failure.code().as_str(),
                "error_description": failure.to_string(),
            }),
        })
    });
    json!({
        "renewed": maintenance.renewed(),
        "failed": maintenance.failed(),
        "postponed": maintenance.postponed(),
        "accounts": accounts.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{broker::Maintained, work::Work};
    use protocol::{Account, IdleReason, Origin, Revocation, Secret, SecretVersion, Timestamp, TokenKind};
    use std::time::Duration;

    #[test]
    fn an_operator_reads_what_was_done() {
        let account = AccountName::default();
        assert_eq!(unblocked(&account, None), json!({"account": "default", "unblocked": true}));
        let held_by = Failure::LoginBudgetExhausted { retry_after: Duration::from_secs(12) };
        assert_eq!(
            unblocked(&account, Some(&held_by)),
            json!({"account": "default", "unblocked": true, "held_by": "login_budget_exhausted", "retry_after": 12})
        );
        for (pending, is_done) in [(0, true), (2, false)] {
            let answer = json!({"account": "default", "revoked": is_done, "pending_revocations": pending});
            assert_eq!(revoked(&account, pending), answer);
        }
    }

    #[test]
    fn the_log_text_of_a_failure_leaves_its_account_out() {
        let error = RequestError::Failed(Failure::GrantLost, Some(AccountName::default()));
        assert_eq!(error.description(), format!("account default: {}", error.log_text()));
    }

    #[test]
    fn each_failure_has_the_contracts_code_and_status() {
        let retry_after = Duration::from_millis(11_001);
        let failed = RequestError::from;
        for (error, status, code, retry) in [
            (RequestError::invalid("what"), 400, "invalid_request", None),
            (RequestError::from(CallError::UnsupportedGrantType), 400, "unsupported_grant_type", None),
            (Denial::NoRule.into(), 403, "access_denied", None),
            (RequestError::NoSuchPath, 404, "invalid_request", None),
            (RequestError::WrongMethod { allow: "POST" }, 405, "invalid_request", None),
            (failed(Failure::GrantLost), 502, "grant_lost", None),
            (failed(Failure::UnknownAccount), 404, "unknown_account", None),
            (failed(Failure::BadSecret(String::new())), 502, "bad_secret", None),
            (
                failed(Failure::CredentialsRejected(SecretVersion("v".to_owned()))),
                502,
                "credentials_rejected",
                None,
            ),
            (failed(Failure::LoginBudgetExhausted { retry_after }), 503, "login_budget_exhausted", Some(12)),
            (failed(Failure::UpstreamRateLimited { retry_after }), 503, "upstream_rate_limited", Some(12)),
            (
                failed(Failure::UpstreamUnavailable {
                    fault: protocol::UpstreamFault::Unexpected,
                    retry_after,
                }),
                503,
                "upstream_unavailable",
                Some(12),
            ),
            (failed(Failure::RefreshInProgress { retry_after }), 503, "refresh_in_progress", Some(12)),
            (failed(Failure::ClockOff), 503, "refresh_in_progress", Some(1)),
            (failed(Failure::TooLittleTime), 503, "refresh_in_progress", Some(1)),
            (
                failed(Failure::StoreUnavailable { retry_after: Duration::from_secs(1) }),
                503,
                "store_unavailable",
                Some(1),
            ),
            (failed(Failure::SecretUnavailable), 503, "secret_unavailable", Some(3)),
            (failed(Failure::UnreadableItem(String::new())), 500, "internal", None),
            (failed(Failure::Defect("what")), 500, "internal", None),
        ] {
            assert_eq!(
                (error.status(), error.code().as_str(), error.retry_after_seconds()),
                (status, code, retry),
                "{error:?}"
            );
            assert_eq!(error.code().retry_can_help(), retry.is_some(), "{error:?}");
            let answer = error.answer(Some("id"));
            assert_eq!((answer.code.as_str(), answer.retry_after_seconds), (code, retry));
            let expected = (code.to_owned(), answer.to_message());
            let direct = Diagnostic::from(error);
            assert_eq!((direct.error_type, direct.error_message), expected);
        }
    }

    #[test]
    fn maintenance_names_accounts_to_those_who_may_know() {
        let account = |name| AccountName::parse(name).unwrap();
        let revocation = |number: usize| Revocation {
            token: Secret::from(number.to_string().as_str()),
            kind: TokenKind::Access,
            origin: Origin::default(),
            expires_at: Timestamp::default(),
            retry: None,
        };
        let record = Account { pending_revocations: (0..3).map(revocation).collect(), ..Account::default() };
        let one = |name, outcome| Maintained {
            account: account(name),
            record: Some(record.clone()),
            outcome,
            work: Work::default(),
        };
        let accounts = vec![
            one("a", MaintenanceOutcome::Done { renewed: true }),
            one("b", MaintenanceOutcome::Idle(IdleReason::NotDue)),
            one(
                "c",
                MaintenanceOutcome::Failed(Failure::StoreUnavailable { retry_after: Duration::from_secs(1) }),
            ),
            one("d", MaintenanceOutcome::Postponed),
        ];
        let maintenance = Maintenance { accounts, login_permits_left: None };
        let all = maintained(&maintenance, |_| true);
        assert_eq!((&all["renewed"], &all["failed"], &all["postponed"]), (&json!(1), &json!(1), &json!(1)));
        assert_eq!(
            all["accounts"],
            json!([
                {"account": "a", "renewed": true, "pending_revocations": 3},
                {"account": "b", "renewed": false, "pending_revocations": 3},
                {
                    "account": "c",
                    "renewed": false,
                    "error": "store_unavailable",
                    "error_description": Failure::StoreUnavailable { retry_after: Duration::from_secs(1) }.to_string(),
                },
            ])
        );
        assert_eq!(maintained(&maintenance, |name| *name == account("b"))["accounts"][0]["account"], "b");
    }
}
