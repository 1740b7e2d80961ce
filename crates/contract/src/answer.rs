//! The token answer.

use crate::{AccountName, Extra, Generation, Secret, Timestamp, named, rfc3339, whole_number};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error, ser::SerializeMap};
use serde_json::{Value, value::RawValue};

/// The longest validity of an answer, in seconds. A longer one is a defect, and could overflow.
pub const LONGEST_LIFETIME_SECONDS: u64 = 7 * 86_400;

named! {
    /// Where an answer came from.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum ServedFrom, name {
        /// The instance's cache, without I/O.
        Memory = "memory",
        /// The shared record.
        Table = "table",
        /// A renewal by this request.
        Upstream = "upstream",
    }
}

/// A token answer. It is also a valid response of a token endpoint by RFC 6749 §5.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAnswer {
    /// `None` for an operator who may refresh but not get tokens.
    pub access_token: Option<Secret>,
    /// The token may be used for this many seconds.
    pub expires_in: u64,
    /// When that time ends. RFC 6749 §5.1 has no such field, so an answer to a form omits it: some OAuth 2.0 clients
    /// expect a number under that name, and Authlib up to 1.6.4 rejects a date.
    pub expires_at: Option<Timestamp>,
    /// The account.
    pub account: AccountName,
    /// Names the pair.
    pub generation: Generation,
    /// Where the broker got it.
    pub served_from: ServedFrom,
    /// Fields of the upstream's answer, as the secret lists them.
    pub extra: Option<Extra>,
}

impl Serialize for TokenAnswer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        if let Some(access_token) = &self.access_token {
            fields.serialize_entry("access_token", access_token.expose())?;
        }
        fields.serialize_entry("token_type", "Bearer")?;
        fields.serialize_entry("expires_in", &self.expires_in)?;
        if let Some(expires_at) = self.expires_at {
            fields.serialize_entry("expires_at", &rfc3339::format(expires_at))?;
        }
        fields.serialize_entry("account", self.account.as_str())?;
        fields.serialize_entry("generation", &self.generation.0)?;
        fields.serialize_entry("served_from", self.served_from.name())?;
        if let Some(extra) = &self.extra {
            fields.serialize_entry("extra", extra)?;
        }
        fields.end()
    }
}

/// The fields that a client needs. Later brokers may add others.
#[derive(Deserialize)]
struct Fields {
    access_token: Option<String>,
    #[serde(deserialize_with = "whole")]
    expires_in: u64,
    account: Option<String>,
    #[serde(deserialize_with = "whole")]
    generation: u64,
    served_from: Option<String>,
    extra: Option<Box<RawValue>>,
}

fn whole<'de, D: Deserializer<'de>>(number: D) -> Result<u64, D::Error> {
    whole_number(&Value::deserialize(number)?).ok_or_else(|| D::Error::custom("not a whole number"))
}

impl TokenAnswer {
    /// Reads the answer to a call about an account. It ignores `expires_at`, which is by the broker's clock.
    ///
    /// # Errors
    /// Why the answer cannot be used. The text does not quote the answer.
    pub fn read(json: &[u8], account: &AccountName) -> Result<Self, &'static str> {
        let fields: Fields =
            serde_json::from_slice(json).map_err(|_quotes_the_text| "it is not a token answer")?;
        let access_token = fields.access_token.map(Secret::new);
        if fields.expires_in == 0 {
            return Err("its token has expired");
        }
        if fields.expires_in > LONGEST_LIFETIME_SECONDS {
            return Err("its token claims to be valid for more than 7 days");
        }
        if fields.account.is_some_and(|named| named != account.as_str()) {
            return Err("it is about another account");
        }
        Ok(Self {
            access_token: access_token.filter(|token| !token.expose().is_empty()),
            expires_in: fields.expires_in,
            expires_at: None,
            account: account.clone(),
            generation: Generation(fields.generation),
            served_from: fields
                .served_from
                .and_then(|name| ServedFrom::parse(&name))
                .unwrap_or(ServedFrom::Memory),
            extra: fields.extra.and_then(|extra| Extra::parse(extra.get())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> TokenAnswer {
        TokenAnswer {
            access_token: Some(Secret::from("tell-tale")),
            expires_in: 900,
            expires_at: Some(Timestamp::from_millis(1_775_478_896_000)),
            account: AccountName::default(),
            generation: Generation(7),
            served_from: ServedFrom::Table,
            extra: None,
        }
    }

    #[test]
    fn the_broker_writes_what_a_client_reads() {
        let json = serde_json::to_string(&answer()).unwrap();
        let expected = concat!(
            r#"{"access_token":"tell-tale","token_type":"Bearer","expires_in":900,"#,
            r#""expires_at":"2026-04-06T12:34:56Z","account":"default","generation":7,"served_from":"table"}"#
        );
        assert_eq!(json, expected);
        let read = TokenAnswer::read(json.as_bytes(), &AccountName::default());
        assert_eq!(read, Ok(TokenAnswer { expires_at: None, ..answer() }));
    }

    #[test]
    fn extra_fields_of_the_upstream_are_passed_on() {
        let extra = Extra::parse(r#"{"instance_url":"https://x.example"}"#);
        let answer = TokenAnswer { extra, expires_at: None, ..answer() };
        let json = serde_json::to_string(&answer).unwrap();
        assert!(
            json.ends_with(r#","served_from":"table","extra":{"instance_url":"https://x.example"}}"#),
            "{json}"
        );
        assert_eq!(TokenAnswer::read(json.as_bytes(), &AccountName::default()), Ok(answer));
    }

    #[test]
    fn an_answer_may_omit_token_and_instant() {
        let answer = TokenAnswer { access_token: None, expires_at: None, ..answer() };
        let json = serde_json::to_string(&answer).unwrap();
        assert!(!json.contains("access_token") && !json.contains("expires_at"), "{json}");
        assert_eq!(TokenAnswer::read(json.as_bytes(), &AccountName::default()), Ok(answer));
    }

    #[test]
    fn fields_of_a_later_broker_are_skipped() {
        let json =
            br#"{"access_token":"t","expires_in":604800,"generation":7,"served_from":"moon","extra":{}}"#;
        let read = TokenAnswer::read(json, &AccountName::default()).unwrap();
        assert_eq!((read.served_from, read.expires_in), (ServedFrom::Memory, LONGEST_LIFETIME_SECONDS));
    }

    #[test]
    fn numbers_and_nulls_are_taken_as_libraries_write_them() {
        for (expires_in, generation) in [("900.0", "7.0"), ("9E2", "7e0"), ("900", "7")] {
            let json = format!(
                r#"{{"access_token":"tell-tale","expires_in":{expires_in},"account":null,"generation":{generation},"served_from":null,"extra":null}}"#
            );
            let read = TokenAnswer::read(json.as_bytes(), &AccountName::default());
            let expected = TokenAnswer { expires_at: None, served_from: ServedFrom::Memory, ..answer() };
            assert_eq!(read, Ok(expected), "{json}");
        }
    }

    #[test]
    fn an_empty_token_is_none() {
        let json = br#"{"access_token":"","expires_in":900,"generation":7}"#;
        assert_eq!(TokenAnswer::read(json, &AccountName::default()).unwrap().access_token, None);
    }

    #[test]
    fn an_answer_that_cannot_be_used_is_not_repeated() {
        for json in [
            "",
            "null",
            r#"{"access_token":"tell-tale","expires_in":"tell-tale","generation":7}"#,
            r#"{"access_token":"tell-tale","expires_in":0,"generation":7}"#,
            r#"{"access_token":"tell-tale","expires_in":-5,"generation":7}"#,
            r#"{"access_token":"tell-tale","expires_in":900.5,"generation":7}"#,
            r#"{"access_token":"tell-tale","expires_in":604801,"generation":7}"#,
            r#"{"access_token":"tell-tale","expires_in":18446744073709551615,"generation":7}"#,
            r#"{"access_token":"tell-tale","expires_in":900}"#,
            r#"{"access_token":"tell-tale","expires_in":900,"generation":7,"account":"other"}"#,
        ] {
            let error = TokenAnswer::read(json.as_bytes(), &AccountName::default()).unwrap_err();
            assert!(!error.contains("tell-tale"), "{json}: {error}");
        }
    }

    #[test]
    fn a_printed_answer_shows_no_token() {
        assert!(!format!("{:?}", answer()).contains("tell-tale"));
    }
}
