//! The text of an event.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use std::fmt;

/// The text of an event. The handler parses it, so that it can answer malformed ones as the contract says.
#[derive(Debug)]
pub struct Payload(Option<Box<RawValue>>);

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An error would make the runtime answer with an error of its own.
        Ok(Self(Box::<RawValue>::deserialize(deserializer).ok()))
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self(serde_json::value::to_raw_value(&value).ok())
    }
}

impl Payload {
    /// The text; empty if it is not JSON.
    pub(super) fn text(&self) -> &str {
        self.0.as_deref().map_or("", RawValue::get)
    }

    /// Whether this is the event of an HTTP request: an object with the key `requestContext`, whatever its value.
    pub(super) fn has_request_context(&self) -> bool {
        serde_json::from_str(self.text()).is_ok_and(|HasRequestContext(has)| has)
    }
}

struct HasRequestContext(bool);

impl<'de> Deserialize<'de> for HasRequestContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = HasRequestContext;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut has = false;
                while let Some(key) = map.next_key::<Key>()? {
                    has |= matches!(key, Key::RequestContext);
                    map.next_value::<IgnoredAny>()?;
                }
                Ok(HasRequestContext(has))
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum Key {
    #[serde(rename = "requestContext")]
    RequestContext,
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(text: &str) -> Payload {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        Payload::deserialize(&mut deserializer).unwrap()
    }

    #[test]
    fn an_event_with_a_request_context_is_http_whatever_it_holds() {
        for http in [
            r#"{"requestContext":{}}"#,
            r#"{"requestContext":null}"#,
            r#"{"action":"token","requestContext":7}"#,
            r#"{"request\u0043ontext":{}}"#,
            r#"{"requestContext":1,"requestContext":2}"#,
        ] {
            assert!(payload(http).has_request_context(), "{http}");
        }
        for direct in ["", "{", "{}", "[]", "null", r#""requestContext""#, r#"{"a":{"requestContext":{}}}"#] {
            assert!(!payload(direct).has_request_context(), "{direct}");
        }
        let deep = format!(r#"{{"a":{}{},"requestContext":{{}}}}"#, "[".repeat(9999), "]".repeat(9999));
        assert!(payload(&deep).has_request_context());
    }

    #[test]
    fn a_text_that_is_not_json_reaches_the_handler() {
        for text in ["", "{", "nonsense", "{\"a\":\u{1}}"] {
            assert_eq!(payload(text).text(), "", "{text}");
        }
        assert_eq!(payload(r#" {"a":1} "#).text(), r#"{"a":1}"#);
    }
}
