//! What a request asks for, from its fields: of the direct payload, of a JSON body, of a query, and of an OAuth 2.0 token request.
//!
//! The parser is written by hand, so that every error names its field and none repeats a value.

use super::response::RequestError;
use contract::{AccountName, Action, Generation};
use serde_json::{Map, Value};
use std::time::Duration;

/// How long a token must be valid if the caller does not say.
const DEFAULT_MIN_TTL: Duration = Duration::from_secs(60);

/// What a request asks for. Without an account, it is about all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Command {
    /// Hand out a token.
    Token {
        account: AccountName,
        /// The token must be valid for at least this long.
        min_ttl: Option<Duration>,
        /// The API refused the token of this generation.
        rejected: Option<Generation>,
    },
    /// Report what is known.
    Status { account: Option<AccountName> },
    /// Replace the pair.
    Refresh { account: AccountName },
    /// Revoke the pair.
    Revoke { account: AccountName },
    /// Forget the rejected secret version and the cooldown.
    Unblock { account: AccountName },
    /// Renew what is due, in all accounts.
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
            Self::Unblock { .. } => Action::Unblock,
            Self::Maintain => Action::Maintain,
        }
    }

    /// The account; none stands for all accounts.
    pub fn account(&self) -> Option<&AccountName> {
        match self {
            Self::Token { account, .. }
            | Self::Refresh { account }
            | Self::Revoke { account }
            | Self::Unblock { account } => Some(account),
            Self::Status { account } => account.as_ref(),
            Self::Maintain => None,
        }
    }
}

/// The fields of a request. Each of them is well-formed.
#[derive(Debug, Default)]
pub(super) struct Fields {
    action: Option<Action>,
    account: Option<AccountName>,
    min_ttl: Option<Duration>,
    rejected: Option<Generation>,
}

impl Fields {
    /// Parses a JSON object. Refuses unknown fields.
    pub(super) fn from_object(object: Map<String, Value>) -> Result<Self, RequestError> {
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

    /// Parses the parameters of a form or a query. Ignores unknown parameters and refuses repeated ones, as RFC 6749
    /// §3.2 demands.
    pub(super) fn from_parameters(parameters: &[(String, String)]) -> Result<Self, RequestError> {
        let mut fields = Self::default();
        for (index, (name, text)) in parameters.iter().enumerate() {
            match name.as_str() {
                "account" => fields.set_account(Some(text))?,
                "min_ttl_seconds" => fields.set_min_ttl(text.parse().ok())?,
                "rejected_generation" => fields.set_rejected(text.parse().ok())?,
                _ => continue,
            }
            if parameters.iter().skip(index + 1).any(|(other, _)| other == name) {
                return Err(RequestError::invalid(format!("`{name}` is given twice")));
            }
        }
        Ok(fields)
    }

    fn set_action(&mut self, name: Option<&str>) -> Result<(), RequestError> {
        self.action = Some(name.and_then(Action::parse).ok_or_else(|| {
            RequestError::invalid("`action` has to be token, status, refresh, revoke, unblock or maintain")
        })?);
        Ok(())
    }

    fn set_account(&mut self, name: Option<&str>) -> Result<(), RequestError> {
        self.account = Some(name.and_then(AccountName::parse).ok_or_else(|| {
            RequestError::invalid(
                "`account` has to be a name of 1 to 63 lower-case letters, digits and hyphens",
            )
        })?);
        Ok(())
    }

    fn set_min_ttl(&mut self, seconds: Option<u64>) -> Result<(), RequestError> {
        let seconds =
            seconds.ok_or_else(|| RequestError::invalid("`min_ttl_seconds` has to be a whole number"))?;
        self.min_ttl = Some(Duration::from_secs(seconds));
        Ok(())
    }

    fn set_rejected(&mut self, generation: Option<u64>) -> Result<(), RequestError> {
        let generation = generation
            .ok_or_else(|| RequestError::invalid("`rejected_generation` has to be a whole number"))?;
        self.rejected = Some(Generation(generation));
        Ok(())
    }

    /// The command for an action, which an HTTP route may have set. Refuses fields that do not belong to it.
    pub(super) fn command(self, action: Action) -> Result<Command, RequestError> {
        if self.action.is_some_and(|named| named != action) {
            return Err(RequestError::invalid(format!("`action` has to be {} here", action.name())));
        }
        if self.account.is_some() && action == Action::Maintain {
            return Err(RequestError::invalid("`account` does not belong to the action maintain"));
        }
        let only_for_token =
            [("min_ttl_seconds", self.min_ttl.is_some()), ("rejected_generation", self.rejected.is_some())];
        if let Some((name, _)) = only_for_token.iter().find(|(_, given)| *given && action != Action::Token) {
            return Err(RequestError::invalid(format!(
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
            Action::Unblock => Command::Unblock { account: self.account.unwrap_or_default() },
            Action::Maintain => Command::Maintain,
        })
    }
}

/// Parses a direct payload from its text.
///
/// # Errors
/// The form of the text, or the first field that is unknown, malformed, or does not belong to the action.
pub fn from_text(text: &str) -> Result<Command, RequestError> {
    command(json(text.as_bytes(), "payload")?)
}

/// Parses the JSON object of a payload or of a body. Parsed as a `Value`, an object with the one key
/// `$serde_json::private::RawValue` would stand for what its text holds.
pub(super) fn json(text: &[u8], what: &str) -> Result<Map<String, Value>, RequestError> {
    serde_json::from_slice(text).map_err(|error| {
        // serde_json gives this error no other mark. Its texts never repeat the input.
        let is_deep = error.to_string().starts_with("recursion limit");
        RequestError::invalid(if is_deep {
            format!("the {what} is nested too deeply")
        } else {
            format!("the {what} has to be a JSON object")
        })
    })
}

fn command(object: Map<String, Value>) -> Result<Command, RequestError> {
    let fields = Fields::from_object(object)?;
    let action = fields.action.unwrap_or(Action::Token);
    fields.command(action)
}

/// How long the token must be valid. Refuses more than the operator allows.
pub(super) fn checked_min_ttl(
    requested: Option<Duration>,
    max_ttl: Duration,
) -> Result<Duration, RequestError> {
    match requested {
        None => Ok(DEFAULT_MIN_TTL.min(max_ttl)),
        Some(min_ttl) if min_ttl <= max_ttl => Ok(min_ttl),
        Some(_) => {
            Err(RequestError::invalid(format!("`min_ttl_seconds` may be {} at most", max_ttl.as_secs())))
        }
    }
}

fn unknown(name: &str) -> RequestError {
    let printable =
        name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let name = if printable { format!("`{name}`") } else { "with an unprintable name".to_owned() };
    RequestError::invalid(format!(
        "unknown field {name}; the fields are `action`, `account`, `min_ttl_seconds` and `rejected_generation`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error_of(payload: &Value) -> String {
        from_text(&payload.to_string()).unwrap_err().description()
    }

    #[test]
    fn every_field_is_optional() {
        let default = Command::Token { account: AccountName::default(), min_ttl: None, rejected: None };
        assert_eq!(from_text(&json!({}).to_string()).unwrap(), default);
        let full =
            json!({"action": "token", "account": "emea", "min_ttl_seconds": 60, "rejected_generation": 7});
        assert_eq!(
            from_text(&full.to_string()).unwrap(),
            Command::Token {
                account: AccountName::parse("emea").unwrap(),
                min_ttl: Some(Duration::from_secs(60)),
                rejected: Some(Generation(7)),
            }
        );
        assert_eq!(
            from_text(&json!({"action": "status"}).to_string()).unwrap(),
            Command::Status { account: None }
        );
    }

    #[test]
    fn a_command_names_its_account_for_the_policy() {
        let emea = AccountName::parse("emea");
        for action in ["token", "status", "refresh", "revoke", "unblock"] {
            let command = from_text(&json!({"action": action, "account": "emea"}).to_string()).unwrap();
            assert_eq!((command.action().name(), command.account()), (action, emea.as_ref()));
        }
        let all = from_text(&json!({"action": "status"}).to_string()).unwrap();
        let maintain = from_text(&json!({"action": "maintain"}).to_string()).unwrap();
        assert_eq!((all.account(), maintain.account()), (None, None));
    }

    #[test]
    fn no_text_is_taken_for_another() {
        for text in [
            r#"{"$serde_json::private::RawValue":"{\"action\":\"token\"}"}"#,
            r#"{"\u0024serde_json::private::RawValue":"{}"}"#,
        ] {
            let error = from_text(text).unwrap_err().description();
            assert!(error.contains("unprintable"), "{error}");
        }
    }

    #[test]
    fn an_error_names_the_field_and_never_its_value() {
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
            (json!({"action": "maintain", "account": "tell-tale"}), "`account`"),
            (json!("tell-tale"), "JSON object"),
            (json!(null), "JSON object"),
        ] {
            let text = error_of(&payload);
            assert!(text.contains(field), "{text}");
            assert!(!text.to_lowercase().contains("tell-tale"), "{text}");
        }
        assert!(error_of(&json!({"a \n b": 1})).contains("unprintable"));
    }

    #[test]
    fn a_form_ignores_unknown_and_refuses_repeated_parameters() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let known =
            [pair("scope", "x"), pair("scope", "y"), pair("account", "emea"), pair("min_ttl_seconds", "5")];
        let fields = Fields::from_parameters(&known).unwrap();
        assert_eq!(
            (fields.account, fields.min_ttl, fields.rejected),
            (AccountName::parse("emea"), Some(Duration::from_secs(5)), None)
        );
        let report = Fields::from_parameters(&[pair("rejected_generation", "7")]).unwrap();
        assert_eq!(report.rejected, Some(Generation(7)));
        assert!(Fields::from_parameters(&[pair("rejected_generation", "-7")]).is_err());
        let twice = Fields::from_parameters(&[pair("account", "a"), pair("account", "a")]);
        assert!(twice.unwrap_err().description().contains("`account` is given twice"));
    }

    #[test]
    fn min_ttl_is_bounded_by_the_operator() {
        let max = Duration::from_secs(900);
        assert_eq!(checked_min_ttl(None, max).unwrap(), DEFAULT_MIN_TTL);
        assert_eq!(checked_min_ttl(None, Duration::from_secs(30)).unwrap(), Duration::from_secs(30));
        assert_eq!(checked_min_ttl(Some(max), max).unwrap(), max);
        assert!(checked_min_ttl(Some(Duration::from_secs(901)), max).is_err());
    }
}
