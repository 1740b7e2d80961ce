//! An invocation, classified once from its event, alias and deadline.

use super::{
    aliases::{Aliases, Denial},
    authorization::{Caller, alias_name},
    event::Event,
    http::{self, HttpForm, HttpRequest, HttpResponse},
    response::{Reply, RequestError},
    way_in::WayIn,
};
use contract::{Call, Timestamp};
use lambda_runtime::{Context, Diagnostic};
use protocol::Moment;
use serde::Serialize;
use serde_json::Value;
use std::fmt;

pub(super) struct Invocation {
    pub(super) arrived: Moment,
    /// When its caller needs the answer.
    pub(super) deadline: Timestamp,
    pub(super) way_in: WayIn,
    /// The alias that was invoked.
    pub(super) alias: Option<String>,
    /// `None` if the form of an HTTP event is unknown.
    pub(super) caller: Option<Caller>,
    /// The call, or why it cannot be answered.
    pub(super) call: Result<Call, RequestError>,
    /// The form of the HTTP response, or `None` for a direct invocation.
    form: Option<HttpForm>,
}

impl Invocation {
    /// `lambda_deadline` is the context's deadline, in the store's time like `arrived`.
    pub(super) fn classify(
        text: &str,
        context: &Context,
        aliases: &Aliases,
        arrived: Moment,
        lambda_deadline: Timestamp,
    ) -> Self {
        let alias = alias_of(&context.invoked_function_arn);
        let direct = || Some(Caller::Direct { alias: alias.map(str::to_owned) });
        let event = Event::parse(text);
        let denial = aliases.check(alias, matches!(event, Event::Http(_)));
        let (way_in, caller, call, form) = match (denial, event) {
            // Through the wrong alias, an event counts as a direct invocation, whatever its shape.
            (Err(denial), _) => (WayIn::Direct, direct(), Err(denial.into()), None),
            (Ok(()), Event::Http(request)) => {
                let call = request.as_ref().map_or_else(|| Err(no_http_form()), HttpRequest::call);
                let form = request.as_ref().map(HttpRequest::form).unwrap_or_default();
                (WayIn::Http, request.as_ref().map(HttpRequest::caller), call, Some(form))
            }
            (Ok(()), Event::Direct(call)) => {
                let action = call.as_ref().ok().map(|call| call.action);
                let way_in = if aliases.is_schedule(alias, action) { WayIn::Schedule } else { WayIn::Direct };
                (way_in, direct(), call.map_err(RequestError::from), None)
            }
        };
        let deadline = way_in.deadline(lambda_deadline, arrived.wall);
        Self { arrived, deadline, way_in, alias: alias.map(str::to_owned), caller, call, form }
    }

    /// The response. An HTTP event gets an HTTP response, even for an error; a direct invocation gets the JSON answer
    /// or a function error.
    pub(super) fn respond(
        &self,
        result: Result<Reply, RequestError>,
        request_id: &str,
    ) -> Result<Response, Diagnostic> {
        Ok(Response(match self.form {
            Some(form) => Body::Http(http::respond(result, form, request_id)),
            None => Body::Direct(result?),
        }))
    }
}

fn no_http_form() -> RequestError {
    RequestError::invalid("the event is neither payload version 1 nor 2 of an HTTP request")
}

/// The alias in `arn:aws:lambda:REGION:ACCOUNT:function:NAME:ALIAS`. A version is not an alias.
fn alias_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(7).and_then(alias_name)
}

impl From<Denial> for RequestError {
    fn from(denial: Denial) -> Self {
        Self::AccessDenied(denial)
    }
}

/// The response to an invocation.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Response(Body);

#[derive(Serialize)]
#[serde(untagged)]
enum Body {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_shows_no_token() {
        let response = Response(Body::Direct(Reply::Other(Value::from("tell-tale"))));
        assert_eq!(format!("{response:?}"), "Response");
        assert_eq!(Value::from(response), "tell-tale");
    }

    #[test]
    fn a_version_is_not_an_alias() {
        let arn = "arn:aws:lambda:eu-central-1:123456789012:function:token-broker";
        assert_eq!(alias_of(&format!("{arn}:live")), Some("live"));
        for none in
            [String::new(), arn.to_owned(), format!("{arn}:$LATEST"), format!("{arn}:12"), format!("{arn}:")]
        {
            assert_eq!(alias_of(&none), None, "{none}");
        }
    }
}
