//! What a caller asks for. One parser and one writer, for JSON, queries and forms.

use crate::{AccountName, Action, ClientName, ErrorCode, Generation, named};
use serde_json::{Map, Value};
use std::time::Duration;

/// How long a token must be valid if the caller does not say.
pub const DEFAULT_MIN_TTL: Duration = Duration::from_secs(60);

named! {
    /// A field of a call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[allow(missing_docs, reason = "docs/API.md explains each field")]
    pub enum Field, name {
        Action = "action",
        Account = "account",
        MinTtl = "min_ttl_seconds",
        RejectedGeneration = "rejected_generation",
        Client = "client",
        Confirm = "confirm",
    }
}

impl Field {
    /// Whether a call of this action may have the field.
    pub fn belongs_to(self, action: Action) -> bool {
        match self {
            Self::Action | Self::Client => true,
            Self::Account => action != Action::Maintain,
            Self::MinTtl | Self::RejectedGeneration => action == Action::Token,
            Self::Confirm => action == Action::Revoke,
        }
    }

    /// Whether a query or a form may have the field. A route names the action, and JSON confirms it.
    pub const fn is_parameter(self) -> bool {
        !matches!(self, Self::Action | Self::Confirm)
    }
}

/// How to treat parameters with other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// A misspelt `account` must not lead to another account's token.
    Refuse,
    /// RFC 6749 §3.2 requires this of a token endpoint. It also requires that parameters without a value count as
    /// absent.
    Ignore,
}

/// Why a text is not a valid call. The error names the field, and never quotes a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It is malformed. Says how.
    #[error("{0}")]
    Invalid(String),
    /// The form asks for a grant other than client credentials.
    #[error("`grant_type` must be client_credentials")]
    UnsupportedGrantType,
}

impl CallError {
    /// The error's code.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::UnsupportedGrantType => ErrorCode::UnsupportedGrantType,
        }
    }
}

/// A call of the broker. Every field belongs to the action if the call was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What to do.
    pub action: Action,
    /// The account. Without one, `status` is about all accounts and the other actions about `default`.
    pub account: Option<AccountName>,
    /// The token must be valid for at least this long.
    pub min_ttl: Option<Duration>,
    /// The API refused the token of this generation.
    pub rejected: Option<Generation>,
    /// The name that the caller gives itself.
    pub client: Option<ClientName>,
    /// Revoke even a pair that only a person can replace.
    pub confirm: bool,
}

impl Call {
    /// A call without options.
    pub const fn new(action: Action, account: Option<AccountName>) -> Self {
        Self { action, account, min_ttl: None, rejected: None, client: None, confirm: false }
    }

    /// The account that the call concerns, or `None` for all.
    pub fn subject(&self) -> Option<AccountName> {
        match self.action {
            Action::Maintain => None,
            Action::Status => self.account.clone(),
            Action::Token | Action::Refresh | Action::Revoke | Action::Unblock => {
                Some(self.account.clone().unwrap_or_default())
            }
        }
    }

    /// Parses a JSON object. `route` is the action of the HTTP route, if there is one.
    ///
    /// # Errors
    /// The form of the text, or the first field that is unknown, malformed, or does not belong to the action.
    pub fn from_json(text: &[u8], route: Option<Action>) -> Result<Self, CallError> {
        // As a `Value`, an object with the single key `$serde_json::private::RawValue` would be replaced by what its
        // text holds.
        Self::from_object(serde_json::from_slice(text).map_err(|error| not_an_object(&error))?, route)
    }

    /// Parses the fields of a JSON object, as [`Call::from_json`] does.
    ///
    /// # Errors
    /// The first field that is unknown, malformed, or does not belong to the action.
    pub fn from_object(mut object: Map<String, Value>, route: Option<Action>) -> Result<Self, CallError> {
        let named = match object.remove(Field::Action.name()) {
            None | Some(Value::Null) => None,
            Some(name) => Some(name.as_str().and_then(Action::parse).ok_or_else(no_action)?),
        };
        let action = route.or(named).unwrap_or(Action::Token);
        if named.is_some_and(|named| named != action) {
            return Err(invalid(format!("`action` must be {} here", action.name())));
        }
        let mut call = Self::new(action, None);
        for (name, value) in object {
            let field = Field::parse(&name).ok_or_else(|| unknown("field", &name, |_| true))?;
            if value.is_null() {
                continue;
            }
            call.check(field)?;
            match field {
                Field::Confirm => {
                    call.confirm =
                        value.as_bool().ok_or_else(|| invalid("`confirm` must be true or false"))?;
                }
                field => call.set(field, value.as_str(), whole_number(&value))?,
            }
        }
        Ok(call)
    }

    /// Parses the parameters of a query or a form, for the action of its route.
    ///
    /// # Errors
    /// The first parameter that is unknown, malformed, given twice, or does not belong to the action.
    pub fn from_parameters(
        parameters: &[(String, String)],
        action: Action,
        unknown_ones: Unknown,
    ) -> Result<Self, CallError> {
        let mut call = Self::new(action, None);
        for (index, (name, text)) in parameters.iter().enumerate() {
            let Some(field) = Field::parse(name).filter(|field| field.is_parameter()) else {
                if unknown_ones == Unknown::Ignore {
                    continue;
                }
                let of_action = |field: Field| field.is_parameter() && field.belongs_to(action);
                return Err(unknown("parameter", name, of_action));
            };
            if text.is_empty() && unknown_ones == Unknown::Ignore {
                continue;
            }
            if parameters.iter().skip(index + 1).any(|(other, _)| other == name) {
                return Err(invalid(format!("`{name}` is given twice")));
            }
            call.check(field)?;
            call.set(field, Some(text), text.parse().ok())?;
        }
        Ok(call)
    }

    /// Parses an OAuth 2.0 token request (RFC 6749 §4.4). A client's id and secret are ignored: the caller is
    /// authenticated by other means.
    ///
    /// # Errors
    /// The grant, or the first parameter that is malformed or given twice.
    pub fn from_form(parameters: &[(String, String)]) -> Result<Self, CallError> {
        let mut grants = parameters.iter().filter(|(name, _)| name == "grant_type");
        match (grants.next().map(|(_, grant)| grant.as_str()), grants.next()) {
            (None | Some(""), _) => Err(invalid("`grant_type` is missing; it must be client_credentials")),
            (Some(_), Some(_)) => Err(invalid("`grant_type` is given twice")),
            (Some("client_credentials"), None) => {
                Self::from_parameters(parameters, Action::Token, Unknown::Ignore)
            }
            (Some(_), None) => Err(CallError::UnsupportedGrantType),
        }
    }

    fn check(&self, field: Field) -> Result<(), CallError> {
        if field.belongs_to(self.action) {
            return Ok(());
        }
        Err(invalid(format!("`{}` does not belong to the action {}", field.name(), self.action.name())))
    }

    /// Sets a field to its value as a text or as a whole number.
    fn set(&mut self, field: Field, text: Option<&str>, number: Option<u64>) -> Result<(), CallError> {
        let must_be = |rule: &str| invalid(format!("`{}` must be {rule}", field.name()));
        let number = || number.ok_or_else(|| must_be("a whole number"));
        match field {
            Field::Account => {
                let name = text.and_then(AccountName::parse);
                self.account = Some(name.ok_or_else(|| must_be(AccountName::RULE))?);
            }
            Field::Client => {
                let name = text.and_then(ClientName::parse);
                self.client = Some(name.ok_or_else(|| must_be(ClientName::RULE))?);
            }
            Field::MinTtl => self.min_ttl = Some(Duration::from_secs(number()?)),
            Field::RejectedGeneration => self.rejected = Some(Generation(number()?)),
            Field::Action | Field::Confirm => {}
        }
        Ok(())
    }

    /// The call as JSON. A direct invocation names the action; an HTTP route has it in its path.
    pub fn to_json(&self, with_action: bool) -> Vec<u8> {
        let action = with_action.then(|| (Field::Action, Value::from(self.action.name())));
        let confirm = self.confirm.then_some((Field::Confirm, Value::from(true)));
        let fields = action.into_iter().chain(self.parameters()).chain(confirm);
        let object: Map<_, _> = fields.map(|(field, value)| (field.name().to_owned(), value)).collect();
        Value::Object(object).to_string().into_bytes()
    }

    /// The parameters as a query string, after a question mark; empty if there are none.
    pub fn to_query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (field, value) in self.parameters() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            query.append_pair(field.name(), &text);
        }
        let query = query.finish();
        if query.is_empty() { query } else { format!("?{query}") }
    }

    fn parameters(&self) -> impl Iterator<Item = (Field, Value)> {
        let account = self.account.as_ref().map(|account| (Field::Account, account.as_str().into()));
        let min_ttl = self.min_ttl.map(|span| (Field::MinTtl, span.as_secs().into()));
        let rejected = self.rejected.map(|generation| (Field::RejectedGeneration, generation.0.into()));
        let client = self.client.as_ref().map(|client| (Field::Client, client.as_str().into()));
        [account, min_ttl, rejected, client].into_iter().flatten()
    }
}

/// Splits form-encoded parameters.
pub fn parameters(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

/// A whole number as JSON libraries write it: `60`, `60.0`, `1.795961711152E12`.
pub fn whole_number(value: &Value) -> Option<u64> {
    // Above this, a double cannot distinguish neighbouring whole numbers.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = |number: &f64| number.fract() == 0.0 && (0.0..EXACT).contains(number);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked by `is_whole`")]
    value.as_u64().or_else(|| value.as_f64().filter(is_whole).map(|number| number as u64))
}

fn invalid(what: impl Into<String>) -> CallError {
    CallError::Invalid(what.into())
}

fn no_action() -> CallError {
    invalid(format!("`action` must be {}", listed(&Action::ALL.map(Action::name), "or")))
}

/// Why a text is not a JSON object. `serde_json` distinguishes these errors only by their texts, which never quote the
/// input.
fn not_an_object(error: &serde_json::Error) -> CallError {
    let text = error.to_string();
    invalid(if text.starts_with("recursion limit") {
        "the request is nested too deeply"
    } else if text.starts_with("number out of range") {
        "the request has a number that is out of range"
    } else {
        "the request must be a JSON object"
    })
}

fn unknown(kind: &str, name: &str, is_known: impl Fn(Field) -> bool) -> CallError {
    let is_printable =
        name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let what = if is_printable {
        unknown_name(kind, name)
    } else {
        format!("unknown {kind} with an unprintable name")
    };
    let known = Field::ALL.into_iter().filter(|field| is_known(*field));
    let known: Vec<_> = known.map(|field| format!("`{}`", field.name())).collect();
    invalid(format!("{what}; the {kind}s are {}", listed(&known, "and")))
}

fn unknown_name(kind: &str, name: &str) -> String {
    format!("unknown {kind} `{name}`")
}

/// How the description of an `invalid_request` begins if the broker is older than a field of the call.
pub fn unknown_field(field: Field) -> String {
    unknown_name("field", field.name())
}

/// `a, b or c`.
fn listed<T: AsRef<str>>(names: &[T], conjunction: &str) -> String {
    let names: Vec<_> = names.iter().map(AsRef::as_ref).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} {conjunction} {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
