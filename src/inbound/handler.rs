//! Answers the function's invocations.

use super::{
    aliases::{Aliases, WrongAlias},
    audit::{self, Details, Received},
    authorization::{Caller, Callers, Permission, alias_name},
    deadline::Entry,
    event::Payload,
    http::{self, HttpRequest, HttpResponse},
    response::{self, Reply, RequestError},
    status,
};
use crate::{broker::Broker, telemetry::InvocationLog};
use contract::{Action, Call, CallError, DEFAULT_MIN_TTL, TokenAnswer};
use futures_util::FutureExt;
use lambda_runtime::{Context, Diagnostic, LambdaEvent};
use protocol::{AccountName, Failure, Intent, Outcome, Request, Timestamp};
use serde::Serialize;
use serde_json::Value;
use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

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
            let call = request.as_ref().ok_or_else(malformed).and_then(HttpRequest::call);
            let (result, details) = self.answer(&context, &mut received, call).await;
            self.record(&context, &received, &result, &details);
            let request_id = &context.request_id;
            Ok(Response(Form::Http(match &request {
                Some(request) => request.respond(result, request_id),
                None => http::respond(result, request_id),
            })))
        } else {
            received.caller = Some(Caller::Direct { alias: received.alias.clone() });
            let call = Call::from_json(payload.text().as_bytes(), None).map_err(RequestError::from);
            let action = call.as_ref().ok().map(|call| call.action);
            if self.aliases.is_schedule(received.alias.as_deref(), action) {
                received.entry = Entry::Schedule;
            }
            let (result, details) = self.answer(&context, &mut received, call).await;
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
        call: Result<Call, RequestError>,
    ) -> (Result<Reply, RequestError>, Details) {
        let (call, caller) = match (call, &received.caller) {
            (Ok(call), Some(caller)) => (call, caller.clone()),
            (Err(error), _) => return (Err(error), Details::default()),
            (Ok(_), None) => return (Err(RequestError::AccessDenied), Details::default()),
        };
        received.action = Some(call.action);
        received.account = call.subject();
        if let Err(wrong) = self.aliases.check_action(received.alias.as_deref(), call.action) {
            return denied(wrong);
        }
        let audit_rule = match self.callers.permission(&caller, call.action, received.account.as_ref()) {
            Permission::Denied => {
                let message = Some("access denied");
                return (Err(RequestError::AccessDenied), Details { message, ..Details::default() });
            }
            Permission::Allowed => None,
            Permission::Audited(rule) => Some(rule),
        };
        let deadline = received.entry.deadline(Timestamp::from_millis(context.deadline), received.arrived_at);
        let mut details = Details { audit_rule, ..Details::default() };
        let result = self.carry_out(received.arrived_at, deadline, &caller, &call, &mut details);
        let result = AssertUnwindSafe(result).catch_unwind().await;
        let panicked = |_| Err(Failure::Defect("the broker panicked").into());
        (result.unwrap_or_else(panicked), details)
    }

    async fn carry_out(
        &self,
        arrived_at: Timestamp,
        deadline: Timestamp,
        caller: &Caller,
        call: &Call,
        details: &mut Details,
    ) -> Result<Reply, RequestError> {
        let intent = match call.action {
            Action::Token => {
                let min_ttl = checked_min_ttl(call.min_ttl, self.broker.policy().max_ttl)?;
                Intent::Token { min_ttl, rejected: call.rejected }
            }
            Action::Refresh => Intent::Replace,
            Action::Revoke => Intent::Revoke,
            Action::Unblock => Intent::Unblock,
            Action::Status => {
                let (records, limiter) = self.broker.status(call.account.as_ref()).await?;
                let (policy, now) = (self.broker.policy(), self.broker.now());
                return Ok(Reply::Other(status::answer(&records, &limiter, policy, now)));
            }
            Action::Maintain => {
                let maintenance = self.broker.maintain(arrived_at, deadline).await?;
                let may_know =
                    |account: &AccountName| self.callers.allow(caller, Action::Status, Some(account));
                let answer = response::maintained(&maintenance, may_know);
                details.maintenance = Some(maintenance);
                return Ok(Reply::Other(answer));
            }
        };
        let account = call.account.clone().unwrap_or_default();
        let request = Request { account: account.clone(), intent, arrived_at, deadline };
        Ok(match self.broker.serve(request, &mut details.work).await? {
            Outcome::Token(answer) => {
                // An operator who may refresh, but not get tokens, gets the answer without the token.
                let may_have_it = self.callers.allow(caller, Action::Token, Some(&account));
                details.answer = Some((answer.clone(), may_have_it));
                Reply::Token(TokenAnswer {
                    access_token: may_have_it.then_some(answer.access_token),
                    expires_in: answer.expires_in_seconds,
                    expires_at: Some(answer.expires_at),
                    account,
                    generation: answer.generation,
                    served_from: answer.served_from,
                })
            }
            Outcome::Report { .. } if call.action == Action::Unblock => {
                Reply::Other(response::unblocked(&account))
            }
            Outcome::Report { pending_revocations, .. } => {
                Reply::Other(response::revoked(&account, pending_revocations))
            }
        })
    }
}

/// How long the token must be valid. Refuses more than the operator allows.
fn checked_min_ttl(requested: Option<Duration>, max_ttl: Duration) -> Result<Duration, CallError> {
    match requested {
        None => Ok(DEFAULT_MIN_TTL.min(max_ttl)),
        Some(min_ttl) if min_ttl <= max_ttl => Ok(min_ttl),
        Some(_) => Err(CallError::Invalid(format!("`min_ttl_seconds` may be {} at most", max_ttl.as_secs()))),
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
    fn min_ttl_is_bounded_by_the_operator() {
        let max = Duration::from_secs(900);
        assert_eq!(checked_min_ttl(None, max).unwrap(), DEFAULT_MIN_TTL);
        assert_eq!(checked_min_ttl(None, Duration::from_secs(30)).unwrap(), Duration::from_secs(30));
        assert_eq!(checked_min_ttl(Some(max), max).unwrap(), max);
        assert!(checked_min_ttl(Some(Duration::from_secs(901)), max).is_err());
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
