//! Answers the function's invocations.

use super::{
    aliases::{Aliases, Denial},
    audit::{self, Answered},
    authorization::{Caller, Callers, Permission},
    event::Payload,
    invocation::{Invocation, Response},
    response::{self, Reply, RequestError},
    status,
};
use crate::{broker::Broker, telemetry::InvocationLog};
use contract::{AccountName, Action, Call, CallError, DEFAULT_MIN_TTL, Timestamp, TokenAnswer};
use futures_util::FutureExt;
use lambda_runtime::{Diagnostic, LambdaEvent};
use protocol::{Failure, Intent, Outcome, Request};
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

/// Answers the function's invocations.
#[derive(Clone)]
pub struct Handler {
    broker: Arc<Broker>,
    callers: Arc<Callers>,
    aliases: Arc<Aliases>,
    log: Option<Arc<InvocationLog>>,
}

impl Handler {
    /// A handler for this policy. Until other methods say otherwise, the shape of an event decides its way in, and
    /// nothing is logged.
    pub fn new(broker: Broker, callers: Callers) -> Self {
        Self { broker: Arc::new(broker), callers: Arc::new(callers), aliases: Arc::default(), log: None }
    }

    /// Lets the aliases decide the way in.
    #[must_use]
    pub fn behind(self, aliases: Aliases) -> Self {
        Self { aliases: Arc::new(aliases), ..self }
    }

    /// Records every invocation.
    #[must_use]
    pub fn logging_to(self, log: InvocationLog) -> Self {
        Self { log: Some(Arc::new(log)), ..self }
    }

    /// Reads the records of these accounts before the first event.
    pub async fn prefetch(&self, accounts: &[AccountName]) {
        self.broker.prefetch(accounts).await;
    }

    /// Answers one invocation. An HTTP event gets an HTTP response, even for an error; a direct invocation gets the
    /// JSON answer.
    ///
    /// # Errors
    /// The error of a direct invocation. Its `errorType` is the contract's code.
    pub async fn handle(&self, event: LambdaEvent<impl Into<Payload>>) -> Result<Response, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let payload: Payload = payload.into();
        let arrived = self.broker.moment();
        let deadline = self.broker.store_time_of(Timestamp::from_millis(context.deadline));
        let invocation = Invocation::classify(payload.text(), &context, &self.aliases, arrived, deadline);
        let answered = self.answer(&invocation).await;
        if let Some(log) = &self.log {
            audit::record(log, self.broker.moment(), &context, &invocation, &answered);
        }
        invocation.respond(answered.result, &context.request_id)
    }

    /// Answers a call. A panic becomes an error with the contract's code. The runtime would catch it too, but show its
    /// text to the caller.
    async fn answer(&self, invocation: &Invocation) -> Answered {
        let (call, caller, audit_rule) = match self.authorize(invocation) {
            Ok(authorized) => authorized,
            Err(error) => return Answered::failed(error),
        };
        let mut answered =
            Answered { audit_rule, ..Answered::failed(Failure::Defect("the broker panicked").into()) };
        let carried_out = self.carry_out(invocation, caller, call, &mut answered);
        if let Ok(result) = AssertUnwindSafe(carried_out).catch_unwind().await {
            answered.result = result;
        }
        if let Err(error) = answered.result {
            answered.result = Err(error.about(call.subject()));
        }
        answered
    }

    /// The call and its caller, if the aliases and the policy allow it, and the `audit` rule that alone did.
    fn authorize<'a>(
        &self,
        invocation: &'a Invocation,
    ) -> Result<(&'a Call, &'a Caller, Option<usize>), RequestError> {
        let call = invocation.call.as_ref().map_err(Clone::clone)?;
        let caller = invocation.caller.as_ref().ok_or(Denial::NoRule)?;
        self.aliases.check_action(invocation.alias.as_deref(), call.action)?;
        match self.callers.permission(caller, call.action, call.subject().as_ref()) {
            Permission::Denied => Err(Denial::NoRule.into()),
            Permission::Allowed => Ok((call, caller, None)),
            Permission::Audited(rule) => Ok((call, caller, Some(rule))),
        }
    }

    async fn carry_out(
        &self,
        invocation: &Invocation,
        caller: &Caller,
        call: &Call,
        answered: &mut Answered,
    ) -> Result<Reply, RequestError> {
        let Invocation { arrived, deadline, .. } = *invocation;
        let intent = match call.action {
            Action::Token => {
                let min_ttl = checked_min_ttl(call.min_ttl, self.broker.policy().max_ttl)?;
                Intent::Token { min_ttl, rejected: call.rejected }
            }
            Action::Refresh => Intent::Replace,
            Action::Revoke if call.confirm => Intent::RevokeConfirmed,
            Action::Revoke => Intent::Revoke,
            Action::Unblock => Intent::Unblock,
            Action::Status => {
                let (records, limiter) = self.broker.status(call.account.as_ref()).await?;
                let (policy, budget) = (self.broker.policy(), self.broker.login_budget());
                let answer = status::answer(&records, &limiter, policy, budget, self.broker.now());
                return Ok(Reply::Other(answer));
            }
            Action::Maintain => {
                let maintenance = self.broker.maintain(arrived, deadline).await?;
                let may_know =
                    |account: &AccountName| self.callers.allow(caller, Action::Status, Some(account));
                let answer = response::maintained(&maintenance, may_know);
                answered.maintenance = Some(maintenance);
                return Ok(Reply::Other(answer));
            }
        };
        let account = call.account.clone().unwrap_or_default();
        if matches!(call.action, Action::Revoke | Action::Unblock) {
            self.broker.ensure_known(&account).await?;
        }
        let request = Request { account: account.clone(), intent, arrived, deadline };
        Ok(match self.broker.serve(request, &mut answered.work).await? {
            Outcome::Token(answer) => {
                // An operator who may refresh but not get tokens receives the answer without the token.
                let may_have_it = self.callers.allow(caller, Action::Token, Some(&account));
                Reply::Token(TokenAnswer {
                    access_token: may_have_it.then_some(answer.access_token),
                    expires_in: answer.expires_in_seconds,
                    expires_at: Some(answer.expires_at),
                    account,
                    generation: answer.generation,
                    served_from: answer.served_from,
                    extra: answer.extra,
                })
            }
            Outcome::Unblocked { held_by } => Reply::Other(response::unblocked(&account, held_by.as_ref())),
            Outcome::Report { pending_revocations, .. } => {
                Reply::Other(response::revoked(&account, pending_revocations))
            }
        })
    }
}

/// How long the token must be valid. Rejects more than the operator allows.
fn checked_min_ttl(requested: Option<Duration>, max_ttl: Duration) -> Result<Duration, CallError> {
    match requested {
        None => Ok(DEFAULT_MIN_TTL.min(max_ttl)),
        Some(min_ttl) if min_ttl <= max_ttl => Ok(min_ttl),
        Some(_) => Err(CallError::Invalid(format!("`min_ttl_seconds` may be at most {}", max_ttl.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_ttl_is_bounded_by_the_operator() {
        let max = Duration::from_secs(900);
        assert_eq!(checked_min_ttl(None, max).unwrap(), DEFAULT_MIN_TTL);
        assert_eq!(checked_min_ttl(None, Duration::from_secs(30)).unwrap(), Duration::from_secs(30));
        assert_eq!(checked_min_ttl(Some(max), max).unwrap(), max);
        assert!(checked_min_ttl(Some(Duration::from_secs(901)), max).is_err());
    }
}
