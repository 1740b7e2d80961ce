//! The text of an event, classified by its shape.

use super::http::{HttpEvent, HttpRequest};
use contract::{Call, CallError};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};
use std::{borrow::Cow, fmt};

/// The text of an event. The handler parses it, so that a malformed event gets the contract's answer.
#[derive(Debug)]
pub struct Payload(Option<Box<RawValue>>);

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // On an error, the runtime would answer with its own error.
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
}

/// An event by its shape. One with the key `requestContext` is an HTTP request, whatever the key's value.
#[derive(Debug)]
pub(super) enum Event {
    /// An HTTP request, or `None` if its form is unknown.
    Http(Option<HttpRequest>),
    /// A direct payload.
    Direct(Result<Call, CallError>),
}

impl Event {
    pub(super) fn parse(text: &str) -> Self {
        match serde_json::from_str::<Keys>(text) {
            Ok(Keys { http, .. }) if http.has_context() => Self::Http(HttpRequest::of(http)),
            Ok(Keys { http, others }) if http.is_empty() => Self::Direct(Call::from_object(others, None)),
            _ => Self::parse_odd(text),
        }
    }

    /// Parses an event that is not an object, or has an HTTP key with a value of another type.
    fn parse_odd(text: &str) -> Self {
        match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(object) if object.contains_key(HttpEvent::CONTEXT) => Self::Http(None),
            Ok(object) => Self::Direct(Call::from_object(object, None)),
            Err(_) => Self::Direct(Call::from_json(text.as_bytes(), None)),
        }
    }
}

/// A key, borrowed from the text unless it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The keys of an event. Each value is read once; those of HTTP events by type, so that long headers are skipped.
#[derive(Default)]
struct Keys {
    http: HttpEvent,
    others: Map<String, Value>,
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Keys;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut keys = Keys::default();
                while let Some(Key(key)) = map.next_key()? {
                    if keys.http.read(&key, &mut map)? {
                        continue;
                    }
                    if keys.http.is_empty() {
                        keys.others.insert(key.into_owned(), map.next_value()?);
                    } else {
                        // Only a direct payload needs this value. This event is not one, or is an odd one that is
                        // parsed again.
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_map(Object)
    }
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
            r#"{"requestContext":{"http":{"method":"POST"}},"requestContext":{"http":{"method":"POST"}}}"#,
            r#"{"requestContext":{"http":{"method":"POST"}},"body":1}"#,
            r#"{"requestContext":{"http":{}}}"#,
        ] {
            assert!(matches!(Event::parse(http), Event::Http(None)), "{http}");
        }
        let request = r#"{"requestContext":{"http":{"method":"POST"}},"a":[7]}"#;
        assert!(matches!(Event::parse(request), Event::Http(Some(_))));
    }

    #[test]
    fn every_other_event_is_a_direct_payload() {
        // The last one is an HTTP event's fields in their order.
        for text in [
            "",
            "{",
            "[]",
            "null",
            r#""requestContext""#,
            r#"{"a":{"requestContext":{}}}"#,
            r#"[{"http":{"method":"POST"}},null,null,null,null,null,null,null,null,"/token",null]"#,
        ] {
            assert!(matches!(Event::parse(text), Event::Direct(Err(_))), "{text}");
        }
        assert!(matches!(Event::parse(r#"{"account":"emea"}"#), Event::Direct(Ok(_))));
    }

    #[test]
    fn a_key_of_http_events_is_unknown_in_a_direct_payload() {
        for text in [r#"{"body":"x"}"#, r#"{"body":7}"#, r#"{"account":"emea","path":null}"#] {
            let Event::Direct(Err(error)) = Event::parse(text) else { panic!("{text}") };
            assert!(error.to_string().starts_with("unknown field"), "{error}");
        }
    }

    #[test]
    fn a_text_that_is_not_json_reaches_the_handler() {
        for text in ["", "{", "nonsense", "{\"a\":\u{1}}"] {
            assert_eq!(payload(text).text(), "", "{text}");
        }
        assert_eq!(payload(r#" {"a":1} "#).text(), r#"{"a":1}"#);
    }
}
