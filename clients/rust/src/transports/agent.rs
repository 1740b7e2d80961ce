//! The agent on localhost.

use super::Outgoing;
use crate::{Action, Call, Environment, Error, http::Target};
use contract::agent::{GUARD_HEADERS, TOKEN_PATH};
use http::{HeaderName, HeaderValue, Method};

/// An agent, and the environment that names its guard token.
pub(crate) struct Agent {
    pub(crate) target: Target,
    pub(crate) environment: Environment,
}

impl Agent {
    /// The guard token, read from its file if it has one.
    pub(crate) fn guard(environment: &Environment) -> Result<HeaderValue, Error> {
        let guard = environment.guard_token().map_err(|error| Error::NotConfigured(error.to_string()))?;
        let mut guard = HeaderValue::from_str(guard.expose())
            .map_err(|_| Error::NotConfigured("the guard token cannot be sent in a header".to_owned()))?;
        guard.set_sensitive(true);
        Ok(guard)
    }

    pub(crate) fn request(&self, call: &Call) -> Result<Outgoing, Error> {
        if call.action != Action::Token {
            let action = call.action.name();
            return Err(Error::InvalidCall(format!("the agent does not carry the action {action}")));
        }
        Ok(Outgoing {
            method: Method::GET,
            path_and_query: format!("{TOKEN_PATH}{}", call.to_query()),
            headers: vec![(HeaderName::from_static(GUARD_HEADERS[0]), Self::guard(&self.environment)?)],
            body: Vec::new(),
        })
    }
}
