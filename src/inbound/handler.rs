//! Answers the function's invocations.

use super::{
    authorization::{Action, Caller, Callers},
    deadline::Entry,
    http::HttpRequest,
    payload::{self, Command},
    response::{self, RequestError},
    status,
};
use crate::broker::Broker;
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use protocol::{AccountName, Failure, Intent, Outcome, Request, ServedFrom, Timestamp};
use serde_json::Value;
use std::sync::Arc;

/// Answers the function's invocations.
#[derive(Clone)]
pub struct Handler {
    broker: Arc<Broker>,
    callers: Arc<Callers>,
}

impl Handler {
    /// A handler for the callers that the policy allows.
    pub fn new(broker: Broker, callers: Callers) -> Self {
        Self { broker: Arc::new(broker), callers: Arc::new(callers) }
    }

    /// Answers one invocation. An HTTP event gets an HTTP response, also for an error; a direct invoke gets the JSON
    /// answer.
    ///
    /// # Errors
    /// The error of a direct invoke. Its `errorType` is the contract's code.
    pub async fn handle(&self, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        match HttpRequest::from_event(payload) {
            Ok(request) => {
                let (caller, request_id) = (request.caller(), context.request_id.clone());
                let result = match request.command() {
                    Ok(command) => self.answer(context, Entry::Http, caller, command).await,
                    Err(error) => Err(error),
                };
                Ok(request.respond(result, &request_id))
            }
            Err(payload) => {
                let caller = Caller::Direct { alias: alias_of(&context.invoked_function_arn) };
                let result = match payload::from_json(payload) {
                    Ok(command) => self.answer(context, Entry::Direct, caller, command).await,
                    Err(error) => Err(error),
                };
                result.map_err(Diagnostic::from)
            }
        }
    }

    /// Runs on its own task, so that a panic becomes a defect with a code of the contract. The runtime would catch it
    /// too, but show its text to the caller.
    async fn answer(
        &self,
        context: Context,
        entry: Entry,
        caller: Caller,
        command: Command,
    ) -> Result<Value, RequestError> {
        let (handler, request_id) = (self.clone(), context.request_id.clone());
        let task = tokio::spawn(async move { handler.carry_out(&context, entry, &caller, command).await });
        task.await.unwrap_or_else(|_panicked| {
            tracing::error!(request_id, "the broker panicked");
            Err(Failure::Defect("the broker panicked").into())
        })
    }

    async fn carry_out(
        &self,
        context: &Context,
        entry: Entry,
        caller: &Caller,
        command: Command,
    ) -> Result<Value, RequestError> {
        let request_id = context.request_id.as_str();
        let (action, account) = (command.action(), command.account());
        if !self.callers.allow(caller, action, account) {
            let account = account.map_or("*", |name| name.as_str());
            tracing::warn!(request_id, %caller, action = action.name(), account, "access denied");
            return Err(RequestError::AccessDenied);
        }
        let now = self.broker.now();
        let deadline = entry.deadline(Timestamp::from_millis(context.deadline), now);
        let (account, intent) = match command {
            Command::Token { account, min_ttl, rejected } => {
                let min_ttl = payload::checked_min_ttl(min_ttl, self.broker.policy().max_ttl)?;
                (account, Intent::Token { min_ttl, rejected })
            }
            Command::Refresh { account } => (account, Intent::Replace),
            Command::Revoke { account } => (account, Intent::Revoke),
            Command::Unblock { account } => (account, Intent::Unblock),
            Command::Status { account } => {
                let (records, limiter) = self.broker.status(account.as_ref()).await?;
                return Ok(status::answer(&records, &limiter, self.broker.policy(), self.broker.now()));
            }
            Command::Maintain => {
                let maintenance = self.broker.maintain(now, deadline).await?;
                for (account, outcome) in &maintenance.outcomes {
                    log(request_id, caller, action, account.as_str(), outcome);
                }
                let may_know =
                    |account: &AccountName| self.callers.allow(caller, Action::Status, Some(account));
                return Ok(response::maintained(&maintenance, may_know));
            }
        };
        let request = Request { account: account.clone(), intent, arrived_at: now, deadline };
        let result = self.broker.serve(request).await;
        log(request_id, caller, action, account.as_str(), &result);
        Ok(match result? {
            // An operator who may refresh, but not get tokens, gets the answer without the token.
            Outcome::Token(answer) if self.callers.allow(caller, Action::Token, Some(&account)) => {
                response::token(&account, &answer)
            }
            Outcome::Token(answer) => response::refreshed(&account, &answer),
            Outcome::Report { .. } if action == Action::Unblock => response::unblocked(&account),
            Outcome::Report { pending_revocations, .. } => response::revoked(&account, pending_revocations),
        })
    }
}

/// Logs one line per request. Answers from memory are logged at debug level only.
fn log(request_id: &str, caller: &Caller, action: Action, account: &str, result: &Result<Outcome, Failure>) {
    let action = action.name();
    match result {
        Ok(Outcome::Token(answer)) => {
            let (generation, served_from) = (answer.generation.0, response::served_from(answer.served_from));
            if answer.served_from == ServedFrom::Memory {
                tracing::debug!(request_id, %caller, action, account, generation, served_from, "answered");
            } else {
                tracing::info!(request_id, %caller, action, account, generation, served_from, "answered");
            }
        }
        Ok(Outcome::Report { renewed, pending_revocations }) => {
            tracing::info!(request_id, %caller, action, account, renewed, pending_revocations, "answered");
        }
        Err(failure) => {
            let code = failure.code();
            tracing::warn!(request_id, %caller, action, account, code, %failure, "failed");
        }
    }
}

/// The alias in `arn:aws:lambda:REGION:ACCOUNT:function:NAME:ALIAS`. A version number is no alias.
fn alias_of(arn: &str) -> Option<String> {
    let qualifier = arn.split(':').nth(7)?;
    let is_version = qualifier == "$LATEST" || qualifier.bytes().all(|byte| byte.is_ascii_digit());
    (!is_version).then(|| qualifier.to_owned())
}

#[cfg(test)]
mod tests {
    use super::alias_of;

    #[test]
    fn an_alias_is_told_from_a_version() {
        let arn = "arn:aws:lambda:eu-central-1:123456789012:function:token-broker";
        assert_eq!(alias_of(&format!("{arn}:live")).as_deref(), Some("live"));
        for none in [String::new(), arn.to_owned(), format!("{arn}:$LATEST"), format!("{arn}:12")] {
            assert_eq!(alias_of(&none), None, "{none}");
        }
    }
}
