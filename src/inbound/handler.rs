//! Answers the function's invocations.

use super::{
    aliases::{Aliases, WrongAlias},
    audit::{self, Details, Received},
    authorization::{Caller, Callers, Permission, alias_name},
    command::{self, Command},
    deadline::Entry,
    event::Payload,
    http::{self, HttpRequest, HttpResponse},
    response::{self, Reply, RequestError, TokenReply},
    status,
};
use crate::{broker::Broker, telemetry::InvocationLog};
use contract::Action;
use futures_util::FutureExt;
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use protocol::{AccountName, Failure, Intent, Outcome, Request, Timestamp};
use serde::Serialize;
use serde_json::Value;
use std::{fmt, panic::AssertUnwindSafe, sync::Arc};

/// The response to an invocation.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Response(Form);

#[derive(Serialize)]
#[serde(untagged)]
enum Form {
    Direct(Reply),
    Http(HttpResponse),
}

/// Shows nothing: it may hold a token.
impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Response")
    }
}

impl From<Response> for Value {
    fn from(response: Response) -> Self {
        serde_json::to_value(response).unwrap_or_default()
    }
}

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

    /// Reads the records of these accounts ahead of the first event.
    pub async fn prefetch(&self, accounts: &[AccountName]) {
        self.broker.prefetch(accounts).await;
    }

    /// Answers one invocation. An HTTP event gets an HTTP response, also for an error; a direct invoke gets the JSON
    /// answer.
    ///
    /// # Errors
    /// The error of a direct invoke. Its `errorType` is the contract's code.
    pub async fn handle(&self, event: LambdaEvent<impl Into<Payload>>) -> Result<Response, Diagnostic> {
        let LambdaEvent { payload, context } = event;
        let (payload, arrived_at) = (payload.into(), self.broker.now());
        let alias = alias_of(&context.invoked_function_arn).map(str::to_owned);
        let request = HttpRequest::parse(payload.text());
        let is_http = request.is_some() || payload.has_request_context();
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
            return direct(result);
        }
        if is_http {
            received.caller = request.as_ref().map(HttpRequest::caller);
            let malformed =
                || RequestError::invalid("the event is neither payload version 1 nor 2 of an HTTP request");
            let command = request.as_ref().ok_or_else(malformed).and_then(HttpRequest::command);
            let (result, details) = self.answer(&context, &mut received, command).await;
            self.record(&context, &received, &result, &details);
            let request_id = &context.request_id;
            Ok(Response(Form::Http(match &request {
                Some(request) => request.respond(result, request_id),
                None => http::respond(result, request_id),
            })))
        } else {
            received.caller = Some(Caller::Direct { alias: received.alias.clone() });
            let command = command::from_text(payload.text());
            let action = command.as_ref().ok().map(Command::action);
            if self.aliases.is_schedule(received.alias.as_deref(), action) {
                received.entry = Entry::Schedule;
            }
            let (result, details) = self.answer(&context, &mut received, command).await;
            self.record(&context, &received, &result, &details);
            direct(result)
        }
    }

    fn record(
        &self,
        context: &Context,
        received: &Received,
        result: &Result<Reply, RequestError>,
        details: &Details,
    ) {
        if let Some(log) = &self.log {
            audit::record(log, self.broker.now(), context, received, result.as_ref().err(), details);
        }
    }

    /// A panic becomes a defect with a code of the contract. The runtime would catch it too, but show its text to the
    /// caller.
    async fn answer(
        &self,
        context: &Context,
        received: &mut Received,
        command: Result<Command, RequestError>,
    ) -> (Result<Reply, RequestError>, Details) {
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
        let mut details = Details { audit_rule, ..Details::default() };
        let result = self.carry_out(received.arrived_at, deadline, &caller, command, &mut details);
        let result = AssertUnwindSafe(result).catch_unwind().await;
        let panicked = |_| Err(Failure::Defect("the broker panicked").into());
        (result.unwrap_or_else(panicked), details)
    }

    async fn carry_out(
        &self,
        arrived_at: Timestamp,
        deadline: Timestamp,
        caller: &Caller,
        command: Command,
        details: &mut Details,
    ) -> Result<Reply, RequestError> {
        let action = command.action();
        let (account, intent) = match command {
            Command::Token { account, min_ttl, rejected } => {
                let min_ttl = command::checked_min_ttl(min_ttl, self.broker.policy().max_ttl)?;
                (account, Intent::Token { min_ttl, rejected })
            }
            Command::Refresh { account } => (account, Intent::Replace),
            Command::Revoke { account } => (account, Intent::Revoke),
            Command::Unblock { account } => (account, Intent::Unblock),
            Command::Status { account } => {
                let (records, limiter) = self.broker.status(account.as_ref()).await?;
                let (policy, now) = (self.broker.policy(), self.broker.now());
                return Ok(Reply::Other(status::answer(&records, &limiter, policy, now)));
            }
            Command::Maintain => {
                let maintenance = self.broker.maintain(arrived_at, deadline).await?;
                let may_know =
                    |account: &AccountName| self.callers.allow(caller, Action::Status, Some(account));
                let answer = response::maintained(&maintenance, may_know);
                details.maintenance = Some(maintenance);
                return Ok(Reply::Other(answer));
            }
        };
        let request = Request { account: account.clone(), intent, arrived_at, deadline };
        Ok(match self.broker.serve(request, &mut details.work).await? {
            Outcome::Token(answer) => {
                // An operator who may refresh, but not get tokens, gets the answer without the token.
                let may_have_it = self.callers.allow(caller, Action::Token, Some(&account));
                details.answer = Some((answer.clone(), may_have_it));
                Reply::Token(TokenReply { account, answer, has_token: may_have_it, has_expires_at: true })
            }
            Outcome::Report { .. } if action == Action::Unblock => {
                Reply::Other(response::unblocked(&account))
            }
            Outcome::Report { pending_revocations, .. } => {
                Reply::Other(response::revoked(&account, pending_revocations))
            }
        })
    }
}

/// The refusal of an event that came by a way that is not its own.
fn denied(wrong: WrongAlias) -> (Result<Reply, RequestError>, Details) {
    let details = Details { message: Some(wrong.message()), ..Details::default() };
    (Err(RequestError::AccessDenied), details)
}

fn direct(result: Result<Reply, RequestError>) -> Result<Response, Diagnostic> {
    result.map(|reply| Response(Form::Direct(reply))).map_err(Diagnostic::from)
}

/// The alias in `arn:aws:lambda:REGION:ACCOUNT:function:NAME:ALIAS`. A version is no alias.
fn alias_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(7).and_then(alias_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_shows_no_token() {
        let response = Response(Form::Direct(Reply::Other(Value::from("tell-tale"))));
        assert_eq!(format!("{response:?}"), "Response");
        assert_eq!(Value::from(response), "tell-tale");
    }

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
