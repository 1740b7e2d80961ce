//! Answers the function's invocations.

use super::{
    audit::{self, Details, Received},
    authorization::{Action, Caller, Callers, Permission, alias_name},
    deadline::Entry,
    event::{Aliases, Payload, WrongAlias},
    http::{self, HttpRequest},
    payload::{self, Command},
    response::{self, RequestError},
    status,
};
use crate::{broker::Broker, telemetry::InvocationLog};
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use protocol::{AccountName, Failure, Intent, Outcome, Request, Timestamp};
use serde_json::Value;
use std::sync::Arc;

/// Answers the function's invocations.
#[derive(Clone)]
pub struct Handler {
    broker: Arc<Broker>,
    callers: Arc<Callers>,
    aliases: Arc<Aliases>,
    log: Option<Arc<InvocationLog>>,
}

impl Handler {
    /// A handler for the callers that the policy allows. The shape of an event decides its way in, and nothing is logged.
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

    /// Answers one invocation. An HTTP event gets an HTTP response, also for an error; a direct invoke gets the JSON
    /// answer.
    ///
    /// # Errors
    /// The error of a direct invoke. Its `errorType` is the contract's code.
    pub async fn handle(&self, event: LambdaEvent<impl Into<Payload>>) -> Result<Value, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let (payload, arrived_at) = (payload.into(), self.broker.now());
        let alias = alias_of(&context.invoked_function_arn).map(str::to_owned);
        let is_http = payload.has_request_context();
        let mut received = Received {
            arrived_at,
            entry: if is_http { Entry::Http } else { Entry::Direct },
            alias,
            caller: None,
            action: None,
            account: None,
        };
        if let Err(wrong) = self.aliases.check(received.alias.as_deref(), is_http) {
            received.entry = Entry::Direct;
            received.caller = Some(Caller::Direct { alias: received.alias.clone() });
            let (result, details) = denied(wrong);
            self.record(&context, &received, &result, &details);
            return result.map_err(Diagnostic::from);
        }
        if is_http {
            let request = HttpRequest::parse(payload.text());
            received.caller = request.as_ref().ok().map(HttpRequest::caller);
            let command = request.as_ref().map_err(Clone::clone).and_then(HttpRequest::command);
            let (result, details) = self.answer(&context, &mut received, command).await;
            self.record(&context, &received, &result, &details);
            let request_id = &context.request_id;
            Ok(match &request {
                Ok(request) => request.respond(result, request_id),
                Err(_) => http::respond(result, request_id),
            })
        } else {
            received.caller = Some(Caller::Direct { alias: received.alias.clone() });
            let command = payload::from_text(payload.text());
            let action = command.as_ref().ok().map(Command::action);
            if self.aliases.is_schedule(received.alias.as_deref(), action) {
                received.entry = Entry::Schedule;
            }
            let (result, details) = self.answer(&context, &mut received, command).await;
            self.record(&context, &received, &result, &details);
            result.map_err(Diagnostic::from)
        }
    }

    fn record(
        &self,
        context: &Context,
        received: &Received,
        result: &Result<Value, RequestError>,
        details: &Details,
    ) {
        if let Some(log) = &self.log {
            audit::record(log, self.broker.now(), context, received, result.as_ref().err(), details);
        }
    }

    /// Runs on its own task, so that a panic becomes a defect with a code of the contract. The runtime would catch it
    /// too, but show its text to the caller.
    async fn answer(
        &self,
        context: &Context,
        received: &mut Received,
        command: Result<Command, RequestError>,
    ) -> (Result<Value, RequestError>, Details) {
        let (command, caller) = match (command, &received.caller) {
            (Ok(command), Some(caller)) => (command, caller.clone()),
            (Err(error), _) => return (Err(error), Details::default()),
            (Ok(_), None) => return (Err(RequestError::AccessDenied), Details::default()),
        };
        received.action = Some(command.action());
        received.account = command.account().cloned();
        if let Err(wrong) = self.aliases.check_action(received.alias.as_deref(), command.action()) {
            return denied(wrong);
        }
        let audit_rule = match self.callers.permission(&caller, command.action(), command.account()) {
            Permission::Denied => {
                let message = Some("access denied");
                return (Err(RequestError::AccessDenied), Details { message, ..Details::default() });
            }
            Permission::Allowed => None,
            Permission::Audited(rule) => Some(rule),
        };
        let deadline = received.entry.deadline(Timestamp::from_millis(context.deadline), received.arrived_at);
        let (handler, arrived_at) = (self.clone(), received.arrived_at);
        let task = tokio::spawn(async move {
            let mut details = Details { audit_rule, ..Details::default() };
            let result = handler.carry_out(arrived_at, deadline, &caller, command, &mut details).await;
            (result, details)
        });
        task.await.unwrap_or_else(|_panicked| {
            (Err(Failure::Defect("the broker panicked").into()), Details::default())
        })
    }

    async fn carry_out(
        &self,
        arrived_at: Timestamp,
        deadline: Timestamp,
        caller: &Caller,
        command: Command,
        details: &mut Details,
    ) -> Result<Value, RequestError> {
        let action = command.action();
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
                let maintenance = self.broker.maintain(arrived_at, deadline).await?;
                let may_know =
                    |account: &AccountName| self.callers.allow(caller, Action::Status, Some(account));
                let answer = response::maintained(&maintenance, may_know);
                details.maintenance = Some(maintenance);
                return Ok(answer);
            }
        };
        let request = Request { account: account.clone(), intent, arrived_at, deadline };
        Ok(match self.broker.serve_and_report(request, &mut details.work).await? {
            Outcome::Token(answer) => {
                // An operator who may refresh, but not get tokens, gets the answer without the token.
                let may_have_it = self.callers.allow(caller, Action::Token, Some(&account));
                let (answer, _) = details.answer.insert((answer, may_have_it));
                if may_have_it {
                    response::token(&account, answer)
                } else {
                    response::refreshed(&account, answer)
                }
            }
            Outcome::Report { .. } if action == Action::Unblock => response::unblocked(&account),
            Outcome::Report { pending_revocations, .. } => response::revoked(&account, pending_revocations),
        })
    }
}

/// The refusal of an event that came by a way that is not its own.
fn denied(wrong: WrongAlias) -> (Result<Value, RequestError>, Details) {
    let details = Details { message: Some(wrong.message()), ..Details::default() };
    (Err(RequestError::AccessDenied), details)
}

/// The alias in `arn:aws:lambda:REGION:ACCOUNT:function:NAME:ALIAS`. A version is no alias.
fn alias_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(7).and_then(alias_name)
}

#[cfg(test)]
mod tests {
    use super::alias_of;

    #[test]
    fn an_alias_is_told_from_a_version() {
        let arn = "arn:aws:lambda:eu-central-1:123456789012:function:token-broker";
        assert_eq!(alias_of(&format!("{arn}:live")), Some("live"));
        for none in
            [String::new(), arn.to_owned(), format!("{arn}:$LATEST"), format!("{arn}:12"), format!("{arn}:")]
        {
            assert_eq!(alias_of(&none), None, "{none}");
        }
    }
}
