//! The options of a token request, from a query or a form. Pure.

use contract::{AccountName, Generation};
use std::time::Duration;
use token_broker_client::{Error, Token, TokenSource};

/// The options of a token request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenQuery {
    pub(crate) account: AccountName,
    pub(crate) min_ttl: Option<Duration>,
    pub(crate) rejected: Option<Generation>,
}

/// How to treat parameters with other names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// A misspelt `account` must not lead to another account's token.
    Refuse,
    /// RFC 6749 §3.2 demands it of a token endpoint.
    Ignore,
}

impl TokenQuery {
    /// Parses form-encoded parameters. An error names the parameter, and never repeats a value.
    pub(crate) fn parse(parameters: &[(String, String)], unknown: Unknown) -> Result<Self, Error> {
        let mut query = Self::default();
        for (index, (name, value)) in parameters.iter().enumerate() {
            match name.as_str() {
                "account" => query.account = account(value)?,
                "min_ttl_seconds" => query.min_ttl = Some(Duration::from_secs(number(name, value)?)),
                "rejected_generation" => query.rejected = Some(Generation(number(name, value)?)),
                _ if unknown == Unknown::Ignore => continue,
                _ => {
                    let names = "`account`, `min_ttl_seconds` and `rejected_generation`";
                    return Err(invalid(format!("unknown parameter; the parameters are {names}")));
                }
            }
            if parameters.iter().skip(index + 1).any(|(other, _)| other == name) {
                return Err(invalid(format!("`{name}` is given twice")));
            }
        }
        Ok(query)
    }

    /// The token that the query asks for.
    pub(crate) async fn answer(&self, source: &TokenSource) -> Result<Token, Error> {
        match (self.min_ttl, self.rejected) {
            (None, None) => source.get(&self.account).await,
            (Some(min_ttl), None) => source.get_for(&self.account, min_ttl).await,
            (None, Some(rejected)) => source.report(&self.account, rejected).await,
            (Some(min_ttl), Some(rejected)) => source.report_for(&self.account, rejected, min_ttl).await,
        }
    }
}

/// Splits form-encoded parameters.
pub(crate) fn parameters(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

fn account(value: &str) -> Result<AccountName, Error> {
    AccountName::parse(value).ok_or_else(|| {
        invalid("`account` has to be a name of 1 to 63 lower-case letters, digits and hyphens".to_owned())
    })
}

fn number(name: &str, value: &str) -> Result<u64, Error> {
    value.parse().map_err(|_| invalid(format!("`{name}` has to be a whole number")))
}

pub(crate) fn invalid(what: String) -> Error {
    Error::InvalidCall(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, unknown: Unknown) -> Result<TokenQuery, String> {
        TokenQuery::parse(&parameters(text.as_bytes()), unknown).map_err(|error| error.to_string())
    }

    #[test]
    fn every_parameter_is_optional() {
        assert_eq!(parse("", Unknown::Refuse), Ok(TokenQuery::default()));
        let full = parse("account=emea&min_ttl_seconds=90&rejected_generation=7", Unknown::Refuse).unwrap();
        assert_eq!(full.account.as_str(), "emea");
        assert_eq!((full.min_ttl, full.rejected), (Some(Duration::from_secs(90)), Some(Generation(7))));
    }

    #[test]
    fn an_error_names_the_parameter_and_never_its_value() {
        for (text, name) in [
            ("account=Tell-Tale", "`account`"),
            ("account=", "`account`"),
            ("account=a&account=b", "`account` is given twice"),
            ("min_ttl_seconds=tell-tale", "`min_ttl_seconds`"),
            ("min_ttl_seconds=-1", "`min_ttl_seconds`"),
            ("rejected_generation=1.5", "`rejected_generation`"),
            ("acount=tell-tale", "unknown parameter"),
        ] {
            let error = parse(text, Unknown::Refuse).unwrap_err();
            assert!(error.contains(name) && !error.to_lowercase().contains("tell-tale"), "{error}");
        }
        assert!(parse("scope=a&scope=b&acount=c", Unknown::Ignore).is_ok());
    }
}
