//! What is asked: the direct payload, and the form of an OAuth 2.0 token request.
//!
//! Read by hand rather than derived, so that every complaint names its field and none repeats a value.

use super::answer::Problem;
use crate::{inbound::authorization::Action};
use protocol::{AccountName, Generation};
use serde_json::{Map, Value};
use std::time::Duration;

/// How long a token has to be good for where the caller does not say.
const DEFAULT_MIN_TTL: Duration = Duration::from_secs(60);

/// One request, as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A token.
    Token {
        /// Whose.
        account: AccountName,
        /// For how long at least.
        min_ttl: Option<Duration>,
        /// The generation that the API refused.
        rejected: Option<Generation>,
    },
    /// What is known, of one account or of all.
    Status {
        /// Whose.
        account: Option<AccountName>,
    },
    /// Another pair.
    Refresh {
        /// Whose.
        account: AccountName,
    },
    /// The pair revoked and forgotten.
    Revoke {
        /// Whose.
        account: AccountName,
    },
    /// What is due, renewed.
    Maintain,
}

impl Command {
    /// The action, for the caller policy.
    pub fn action(&self) -> Action {
        match self {
            Self::Token { .. } => Action::Token,
            Self::Status { .. } => Action::Status,
            Self::Refresh { .. } => Action::Refresh,
            Self::Revoke { .. } => Action::Revoke,
            Self::Maintain => Action::Maintain,
        }
    }

    /// The account that it is about; none stands for all.
    pub fn account(&self) -> Option<&AccountName> {
        match self {
            Self::Token { account, .. } | Self::Refresh { account } | Self::Revoke { account } => {
                Some(account)
            }
            Self::Status { account } => account.as_ref(),
            Self::Maintain => None,
        }
    }
}

/// The fields of a request, each in the right form.
#[derive(Debug, Default)]
pub struct Fields {
    action: Option<Action>,
    account: Option<AccountName>,
    min_ttl: Option<Duration>,
    rejected: Option<Generation>,
}

impl Fields {
    /// Takes the fields of a JSON object.
    ///
    /// # Errors
    /// The first field that is unknown or of another form.
    pub fn from_object(object: Map<String, Value>) -> Result<Self, Problem> {
        let mut fields = Self::default();
        for (name, value) in object {
            let text = value.as_str();
            match name.as_str() {
                "action" => fields.set_action(text)?,
                "account" => fields.set_account(text)?,
                "min_ttl_seconds" => fields.set_min_ttl(value.as_u64())?,
                "rejected_generation" => fields.set_rejected(value.as_u64())?,
                _ => return Err(unknown(&name)),
            }
        }
        Ok(fields)
    }

    /// Takes the parameters of a form or a query. Every value is a text there, and what is not known is
    /// ignored, as RFC 6749 §3.2 demands.
    ///
    /// # Errors
    /// The first parameter that is of another form, or given twice.
    pub fn from_parameters(parameters: &[(String, String)]) -> Result<Self, Problem> {
        let mut fields = Self::default();
        for (index, (name, text)) in parameters.iter().enumerate() {
            match name.as_str() {
                "account" => fields.set_account(Some(text))?,
                "min_ttl_seconds" => fields.set_min_ttl(text.parse().ok())?,
                "rejected_generation" => fields.set_rejected(text.parse().ok())?,
                _ => continue,
            }
            if parameters.iter().skip(index + 1).any(|(other, _)| other == name) {
                return Err(Problem::invalid(format!("`{name}` is given twice")));
            }
        }
        Ok(fields)
    }

    fn set_action(&mut self, name: Option<&str>) -> Result<(), Problem> {
        self.action = Some(name.and_then(Action::parse).ok_or_else(|| {
            Problem::invalid("`action` has to be token, status, refresh, revoke or maintain")
        })?);
        Ok(())
    }

    fn set_account(&mut self, name: Option<&str>) -> Result<(), Problem> {
        self.account = Some(name.and_then(AccountName::parse).ok_or_else(|| {
            Problem::invalid("`account` has to be a name of 1 to 63 lower-case messages, digits and hyphens")
        })?);
        Ok(())
    }

    fn set_min_ttl(&mut self, seconds: Option<u64>) -> Result<(), Problem> {
        let seconds =
            seconds.ok_or_else(|| Problem::invalid("`min_ttl_seconds` has to be a whole number"))?;
        self.min_ttl = Some(Duration::from_secs(seconds));
        Ok(())
    }

    fn set_rejected(&mut self, generation: Option<u64>) -> Result<(), Problem> {
        let generation =
            generation.ok_or_else(|| Problem::invalid("`rejected_generation` has to be a whole number"))?;
        self.rejected = Some(Generation(generation));
        Ok(())
    }

    /// The command, for an action that is given from outside, such as by an HTTP route.
    ///
    /// # Errors
    /// A field that does not belong to the action.
    pub fn command(self, action: Action) -> Result<Command, Problem> {
        if self.action.is_some_and(|named| named != action) {
            return Err(Problem::invalid(format!("`action` has to be {} here", action.name())));
        }
        if self.account.is_some() && action == Action::Maintain {
            return Err(Problem::invalid("`account` does not belong to the action maintain"));
        }
        let only_for_token =
            [("min_ttl_seconds", self.min_ttl.is_some()), ("rejected_generation", self.rejected.is_some())];
        if let Some((name, _)) = only_for_token.iter().find(|(_, given)| *given && action != Action::Token) {
            return Err(Problem::invalid(format!(
                "`{name}` does not belong to the action {}",
                action.name()
            )));
        }
        Ok(match action {
            Action::Token => Command::Token {
                account: self.account.unwrap_or_default(),
                min_ttl: self.min_ttl,
                rejected: self.rejected,
            },
            Action::Status => Command::Status { account: self.account },
            Action::Refresh => Command::Refresh { account: self.account.unwrap_or_default() },
            Action::Revoke => Command::Revoke { account: self.account.unwrap_or_default() },
            Action::Maintain => Command::Maintain,
        })
    }
}

/// Reads a direct payload.
///
/// # Errors
/// What is wrong with it.
pub fn from_json(payload: Value) -> Result<Command, Problem> {
    let Value::Object(object) = payload else {
        return Err(Problem::invalid("the payload has to be a JSON object"));
    };
    let fields = Fields::from_object(object)?;
    let action = fields.action.unwrap_or(Action::Token);
    fields.command(action)
}

/// How long the token has to be good for, within what the operator allows.
///
/// # Errors
/// Where it is more.
pub fn checked_min_ttl(asked: Option<Duration>, max_ttl: Duration) -> Result<Duration, Problem> {
    match asked {
        None => Ok(DEFAULT_MIN_TTL.min(max_ttl)),
        Some(min_ttl) if min_ttl <= max_ttl => Ok(min_ttl),
        Some(_) => Err(Problem::invalid(format!("`min_ttl_seconds` may be {} at most", max_ttl.as_secs()))),
    }
}

fn unknown(name: &str) -> Problem {
    let printable =
        name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let name = if printable { format!("`{name}`") } else { "of a name that cannot be printed".to_owned() };
    Problem::invalid(format!(
        "unknown field {name}; there are `action`, `account`, `min_ttl_seconds` and `rejected_generation`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn complaint(payload: Value) -> String {
        from_json(payload).unwrap_err().description()
    }

    #[test]
    fn every_field_is_optional() {
        let default = Command::Token { account: AccountName::default(), min_ttl: None, rejected: None };
        assert_eq!(from_json(json!({})).unwrap(), default);
        let full =
            json!({"action": "token", "account": "emea", "min_ttl_seconds": 60, "rejected_generation": 7});
        assert_eq!(
            from_json(full).unwrap(),
            Command::Token {
                account: AccountName::parse("emea").unwrap(),
                min_ttl: Some(Duration::from_secs(60)),
                rejected: Some(Generation(7)),
            }
        );
        assert_eq!(from_json(json!({"action": "status"})).unwrap(), Command::Status { account: None });
    }

    #[test]
    fn a_wrong_payload_is_told_by_its_field_and_never_by_its_value() {
        for (payload, field) in [
            (json!({"acount": "tell-tale"}), "`acount`"),
            (json!({"action": "tell-tale"}), "`action`"),
            (json!({"action": 7}), "`action`"),
            (json!({"account": "Tell-Tale"}), "`account`"),
            (json!({"account": null}), "`account`"),
            (json!({"min_ttl_seconds": "tell-tale"}), "`min_ttl_seconds`"),
            (json!({"min_ttl_seconds": -1}), "`min_ttl_seconds`"),
            (json!({"min_ttl_seconds": 1.5}), "`min_ttl_seconds`"),
            (json!({"rejected_generation": {}}), "`rejected_generation`"),
            (json!({"action": "status", "min_ttl_seconds": 1}), "`min_ttl_seconds`"),
            (json!("tell-tale"), "JSON object"),
            (json!(null), "JSON object"),
        ] {
            let text = complaint(payload);
            assert!(text.contains(field), "{text}");
            assert!(!text.to_lowercase().contains("tell-tale"), "{text}");
        }
        assert!(complaint(json!({"a \n b": 1})).contains("cannot be printed"));
    }

    #[test]
    fn a_form_ignores_what_it_does_not_know_and_refuses_what_is_given_twice() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let known =
            [pair("scope", "x"), pair("scope", "y"), pair("account", "emea"), pair("min_ttl_seconds", "5")];
        let fields = Fields::from_parameters(&known).unwrap();
        assert_eq!(
            (fields.account, fields.min_ttl),
            (AccountName::parse("emea"), Some(Duration::from_secs(5)))
        );
        let twice = Fields::from_parameters(&[pair("account", "a"), pair("account", "a")]);
        assert!(twice.unwrap_err().description().contains("`account` is given twice"));
    }

    #[test]
    fn a_token_cannot_be_asked_for_longer_than_the_operator_allows() {
        let max = Duration::from_secs(900);
        assert_eq!(checked_min_ttl(None, max).unwrap(), DEFAULT_MIN_TTL);
        assert_eq!(checked_min_ttl(None, Duration::from_secs(30)).unwrap(), Duration::from_secs(30));
        assert_eq!(checked_min_ttl(Some(max), max).unwrap(), max);
        assert!(checked_min_ttl(Some(Duration::from_secs(901)), max).is_err());
    }
}
