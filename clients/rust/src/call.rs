//! Calls to the broker.

use contract::{AccountName, Generation};
use serde_json::{Map, Value};
use std::time::Duration;

/// An action of the contract that a client may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "docs/API.md explains each action")]
pub enum Action {
    Token,
    Status,
    Refresh,
    Revoke,
    Unblock,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Token, Self::Status, Self::Refresh, Self::Revoke, Self::Unblock];

    /// The contract's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Status => "status",
            Self::Refresh => "refresh",
            Self::Revoke => "revoke",
            Self::Unblock => "unblock",
        }
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The action.
    pub action: Action,
    /// The account. Without one, `status` is about all accounts and the other actions about `default`.
    pub account: Option<AccountName>,
    /// The token must be valid for this long.
    pub min_ttl: Option<Duration>,
    /// The API refused the token of this generation.
    pub rejected: Option<Generation>,
}

impl Call {
    /// A call without options.
    pub fn new(action: Action, account: Option<AccountName>) -> Self {
        Self { action, account, min_ttl: None, rejected: None }
    }

    /// The JSON body of the call. A direct invoke names the action, an HTTP route has it in its path.
    pub(crate) fn json(&self, with_action: bool) -> Vec<u8> {
        let mut fields = Map::new();
        if with_action {
            fields.insert("action".to_owned(), self.action.name().into());
        }
        for (name, value) in self.options() {
            fields.insert(name.to_owned(), value);
        }
        Value::Object(fields).to_string().into_bytes()
    }

    /// The options as a query string. No value needs escaping: names have letters, digits and hyphens only.
    pub(crate) fn query(&self) -> String {
        let pairs: Vec<String> = self
            .options()
            .map(|(name, value)| match value.as_str() {
                Some(text) => format!("{name}={text}"),
                None => format!("{name}={value}"),
            })
            .collect();
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }

    fn options(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let account = self.account.as_ref().map(|account| ("account", Value::from(account.as_str())));
        let min_ttl = self.min_ttl.map(|span| ("min_ttl_seconds", Value::from(span.as_secs())));
        let rejected = self.rejected.map(|generation| ("rejected_generation", Value::from(generation.0)));
        [account, min_ttl, rejected].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_json_or_a_query() {
        let bare = Call::new(Action::Token, None);
        assert_eq!(bare.json(true), br#"{"action":"token"}"#);
        assert_eq!((bare.json(false).as_slice(), bare.query().as_str()), (b"{}".as_slice(), ""));
        let full = Call {
            action: Action::Token,
            account: AccountName::parse("emea"),
            min_ttl: Some(Duration::from_secs(90)),
            rejected: Some(Generation(7)),
        };
        assert_eq!(full.query(), "?account=emea&min_ttl_seconds=90&rejected_generation=7");
        let json: Value = serde_json::from_slice(&full.json(true)).unwrap();
        let expected = serde_json::json!(
            {"action": "token", "account": "emea", "min_ttl_seconds": 90, "rejected_generation": 7}
        );
        assert_eq!(json, expected);
    }
}
