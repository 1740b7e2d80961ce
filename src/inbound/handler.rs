//! The function's four ways in: a direct invoke, a REST API, an HTTP API or Function URL, and a schedule.
//!
//! [`payload`] reads what is asked, [`http`] the HTTP requests around it, [`answer`] writes the answers and
//! errors of the contract. Here is what they have in common: who asks, may they, and who answers.

pub mod answer;
pub mod http;
pub mod payload;

use crate::{broker::Broker, inbound::authorization::Action, inbound::authorization::Caller, inbound::authorization::Callers, inbound::deadline::Entry};
use protocol::{Request, Done, Intent, ServedFrom, Target, Failure, Timestamp};
use answer::Problem;
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use payload::Command;
use serde_json::Value;
use std::sync::Arc;

/// Answers the function's invocations.
#[derive(Clone)]
pub struct Handler {
    broker: Arc<Broker>,
    callers: Arc<Callers>,
}

impl Handler {
    /// A handler in front of a broker, which lets in whom `callers` allow.
    pub fn new(broker: Broker, callers: Callers) -> Self {
        Self { broker: Arc::new(broker), callers: Arc::new(callers) }
    }

    /// Answers one invocation: a JSON answer, an HTTP response for an HTTP event, or a function error for a
    /// direct invoke that failed.
    ///
    /// # Errors
    /// A direct invoke's problem, whose `errorType` is the contract's code.
    pub async fn handle(&self, event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        match http::Request::from_event(payload) {
            Ok(request) => {
                let (caller, request_id) = (request.caller(), context.request_id.clone());
                let result = match request.command() {
                    Ok(command) => self.answer(context, Entry::Http, caller, command).await,
                    Err(problem) => Err(problem),
                };
                Ok(request.respond(result, &request_id))
            }
            Err(payload) => {
                let caller = Caller::Direct { alias: alias_of(&context.invoked_function_arn) };
                let result = match payload::from_json(payload) {
                    Ok(command) => self.answer(context, Entry::Direct, caller, command).await,
                    Err(problem) => Err(problem),
                };
                result.map_err(Diagnostic::from)
            }
        }
    }

    /// On a task of its own, so that a panic on the way to an answer is a defect like any other. The runtime would
    /// catch it as well, but show its text to callers, and give it no code of the contract.
    async fn answer(
        &self,
        context: Context,
        entry: Entry,
        caller: Caller,
        command: Command,
    ) -> Result<Value, Problem> {
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
    ) -> Result<Value, Problem> {
        let request_id = context.request_id.as_str();
        let (action, account) = (command.action(), command.account());
        if !self.callers.allow(caller, action, account) {
            let account = account.map_or("*", |name| name.as_str());
            tracing::warn!(request_id, %caller, action = action.name(), account, "access denied");
            return Err(Problem::AccessDenied);
        }
        let now = self.broker.now();
        let deadline = entry.deadline(Timestamp::from_millis(context.deadline), now);
        let (account, goal) = match command {
            Command::Token { account, min_ttl, rejected } => {
                let min_ttl = payload::checked_min_ttl(min_ttl, self.broker.policy().max_ttl)?;
                (account, Intent::Token { min_ttl, rejected })
            }
            Command::Refresh { account } => (account, Intent::Replace(Target::NotSeen)),
            Command::Revoke { account } => (account, Intent::Revoke(Target::NotSeen)),
            Command::Status { account } => {
                let (accounts, limiter) = self.broker.status(account.as_ref()).await?;
                return Ok(answer::status(&accounts, &limiter, now));
            }
            Command::Maintain => {
                let outcomes = self.broker.maintain(now, deadline).await?;
                for (account, outcome) in &outcomes {
                    log(request_id, caller, action, account.as_str(), outcome);
                }
                return Ok(answer::maintained(&outcomes));
            }
        };
        let ask = Request { account: account.clone(), goal, arrived_at: now, deadline };
        let result = self.broker.serve(ask).await;
        log(request_id, caller, action, account.as_str(), &result);
        Ok(match result? {
            // An operator who may only refresh does not get a token by it.
            Outcome::Token(token) if self.callers.allow(caller, Action::Token, Some(&account)) => {
                answer::token(&account, &token)
            }
            Outcome::Token(token) => answer::refreshed(&account, &token),
            Outcome::Report { pending, .. } => answer::revoked(&account, pending),
        })
    }
}

/// One line a request; an answer from memory is worth one only to whoever asked for details.
fn log(request_id: &str, caller: &Caller, action: Action, account: &str, result: &Result<Outcome, Failure>) {
    let action = action.name();
    match result {
        Ok(Outcome::Token(token)) => {
            let (generation, served_from) = (token.generation.0, answer::served_from(token.served_from));
            if token.served_from == ServedFrom::Memory {
                tracing::debug!(request_id, %caller, action, account, generation, served_from, "answered");
            } else {
                tracing::info!(request_id, %caller, action, account, generation, served_from, "answered");
            }
        }
        Ok(Outcome::Report { renewed, pending }) => {
            tracing::info!(request_id, %caller, action, account, renewed, pending_revocations = pending, "answered");
        }
        Err(failure) => {
            let code = answer::code_of(failure);
            tracing::warn!(request_id, %caller, action, account, code, %failure, "not answered");
        }
    }
}

/// The alias in `arn:aws:lambda:REGION:ACCOUNT:function:NAME:ALIAS`. A version number is none.
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
