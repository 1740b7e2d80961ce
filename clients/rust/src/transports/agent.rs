//! The agent on localhost.

use super::Outgoing;
use crate::{Action, Call, Error, http::Target};
use http::{HeaderName, HeaderValue, Method};

/// An agent, and the token that it guards itself with.
pub(crate) struct Agent {
    pub(crate) target: Target,
    pub(crate) guard: HeaderValue,
}

impl Agent {
    pub(super) fn request(&self, call: &Call) -> Result<Outgoing, Error> {
        if call.action != Action::Token {
            let action = call.action.name();
            return Err(Error::InvalidCall(format!("the agent does not carry the action {action}")));
        }
        Ok(Outgoing {
            method: Method::GET,
            path_and_query: format!("/v1/token{}", call.query()),
            headers: vec![(HeaderName::from_static("x-token-broker-token"), self.guard.clone())],
            body: Vec::new(),
        })
    }
}
