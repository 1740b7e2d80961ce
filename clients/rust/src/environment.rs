//! Environment variables.

use crate::http::Roots;
#[cfg(feature = "aws")]
use contract::ClientName;
use contract::{Secret, agent};
use std::{collections::HashMap, fmt};

/// Why there is no guard token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardTokenError {
    /// No variable holds one.
    #[error("there is no guard token; set TOKEN_BROKER_TOKEN to a random text or to file://PATH")]
    Missing,
    /// `TOKEN_BROKER_TOKEN` is only white space.
    #[error("TOKEN_BROKER_TOKEN is blank; set it to a random text or to file://PATH")]
    Blank,
    /// The file that `TOKEN_BROKER_TOKEN` names cannot be read, or is empty.
    #[error("the file that TOKEN_BROKER_TOKEN names has no guard token: {0}")]
    Unreadable(String),
}

/// A copy of environment variables. It is never printed, because some are secrets.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Environment")
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(variables: T) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Environment {
    /// The variables of this process, except those that are not Unicode.
    #[allow(clippy::disallowed_methods, reason = "the client's only look at the environment")]
    pub fn of_process() -> Self {
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(unicode).collect())
    }

    /// The value of a variable. An empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The value of the first of these variables that is set.
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    /// The name that calls send as `client`: `TOKEN_BROKER_CLIENT`, or the Lambda function's name. `None` if the broker
    /// would refuse it.
    #[cfg(feature = "aws")]
    pub(crate) fn client_name(&self) -> Option<ClientName> {
        ClientName::parse(self.first(&["TOKEN_BROKER_CLIENT", "AWS_LAMBDA_FUNCTION_NAME"])?)
    }

    /// The token that the agent and its callers share: `TOKEN_BROKER_TOKEN`, which may name a file as `file://PATH`, or
    /// the token that Lambda or ECS gives only to the processes of one environment. White space, which secret stores
    /// tend to add, is trimmed.
    ///
    /// # Errors
    /// There is no guard token.
    pub fn guard_token(&self) -> Result<Secret, GuardTokenError> {
        let given = ["AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"];
        let Some(own) = self.get("TOKEN_BROKER_TOKEN").map(str::trim) else {
            let given = self.first(&given).map(str::trim).filter(|token| !token.is_empty());
            return given.map(Secret::from).ok_or(GuardTokenError::Missing);
        };
        let Some(file) = own.strip_prefix("file://") else {
            return if own.is_empty() { Err(GuardTokenError::Blank) } else { Ok(Secret::from(own)) };
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| GuardTokenError::Unreadable(format!("{file}: {error}")))?;
        match text.trim() {
            "" => Err(GuardTokenError::Unreadable(format!("{file} is empty"))),
            token => Ok(Secret::from(token)),
        }
    }

    /// The agent's port: `TOKEN_BROKER_PORT`, or the usual one. A URL, which Kubernetes injects for a Service named
    /// token-broker, is ignored. `None` if it is not a port.
    pub fn agent_port(&self) -> Option<u16> {
        match self.get("TOKEN_BROKER_PORT").map(str::trim) {
            Some(text) if !text.contains("://") => text.parse().ok(),
            _ => Some(agent::PORT),
        }
    }

    /// The certificate authorities that `AWS_CA_BUNDLE`, `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    pub fn roots(&self) -> Roots {
        Roots::from_environment(|name| self.get(name).map(str::to_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(variables: &[(&str, &str)]) -> Result<Secret, GuardTokenError> {
        variables.iter().copied().collect::<Environment>().guard_token()
    }

    #[test]
    fn the_guard_token_is_found_in_order() {
        let (session, container) = (("AWS_SESSION_TOKEN", "s"), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "c"));
        assert_eq!(guard(&[("TOKEN_BROKER_TOKEN", "own"), session, container]), Ok(Secret::from("own")));
        assert_eq!(guard(&[session, container]), Ok(Secret::from("s")));
        assert_eq!(guard(&[("AWS_SESSION_TOKEN", ""), container]), Ok(Secret::from("c")));
        assert_eq!(guard(&[("TOKEN_BROKER_TOKEN", "")]), Err(GuardTokenError::Missing));
        assert_eq!(guard(&[("TOKEN_BROKER_TOKEN", " own\r\n")]), Ok(Secret::from("own")));
        assert_eq!(guard(&[("TOKEN_BROKER_TOKEN", " \n"), session]), Err(GuardTokenError::Blank));
        assert_eq!(guard(&[("AWS_SESSION_TOKEN", "\n")]), Err(GuardTokenError::Missing));
        let unreadable = guard(&[("TOKEN_BROKER_TOKEN", "file:///does/not/exist"), session]);
        assert!(matches!(unreadable, Err(GuardTokenError::Unreadable(_))));
    }

    #[test]
    fn the_variables_name_the_authorities() {
        let file = "/does/not/exist.pem";
        let environment: Environment = [("SSL_CERT_FILE", file)].into_iter().collect();
        let error = environment.roots().tls_config().err();
        assert_eq!(error, Some(crate::http::TlsError::UnusableFile(file.into())));
    }

    #[test]
    fn nothing_prints_a_variable() {
        let environment: Environment = [("AWS_SECRET_ACCESS_KEY", "tell-tale")].into_iter().collect();
        assert_eq!(format!("{environment:?}"), "Environment");
    }
}
