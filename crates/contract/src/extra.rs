//! Fields of the upstream's answer that callers get along with the token.

use crate::Secret;
use serde::{Serialize, Serializer, ser::Error};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A JSON object that is not empty. An upstream may put anything into it, so it is never printed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Extra(Secret);

impl Extra {
    /// Parses the text of an object; `None` if it is anything else, or empty.
    pub fn parse(json: &str) -> Option<Self> {
        Self::new(&fields(json)?)
    }

    /// An object of these fields; `None` if there are none.
    pub fn new(fields: &BTreeMap<String, &RawValue>) -> Option<Self> {
        let text = serde_json::to_string(fields).ok()?;
        (!fields.is_empty()).then(|| Self(Secret::new(text)))
    }

    /// The object as text.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// The newer fields, and the earlier ones that were not sent again.
    pub fn merged(earlier: Option<&Self>, newer: Option<Self>) -> Option<Self> {
        let (Some(earlier), Some(newer)) = (earlier, &newer) else {
            return newer.or_else(|| earlier.cloned());
        };
        let mut all = fields(earlier.expose())?;
        all.extend(fields(newer.expose())?);
        Self::new(&all)
    }
}

fn fields(json: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(json).ok()
}

impl Serialize for Extra {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object: &RawValue =
            serde_json::from_str(self.expose()).map_err(|_| S::Error::custom("not JSON"))?;
        object.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extra(json: &str) -> Option<Extra> {
        Extra::parse(json)
    }

    #[test]
    fn only_an_object_with_fields_is_extra() {
        for other in ["", "{}", "null", "7", "[1]", r#"{"a":}"#] {
            assert_eq!(extra(other), None, "{other}");
        }
        let parsed = extra(r#"{ "b": [1.50, null], "a": "x" }"#).unwrap();
        assert_eq!(parsed.expose(), r#"{"a":"x","b":[1.50, null]}"#);
        assert_eq!(serde_json::to_string(&parsed).unwrap(), parsed.expose());
    }

    #[test]
    fn a_field_that_is_not_sent_again_is_kept() {
        let (earlier, newer) = (extra(r#"{"a":1,"b":2}"#), extra(r#"{"b":3}"#));
        assert_eq!(Extra::merged(earlier.as_ref(), newer.clone()), extra(r#"{"a":1,"b":3}"#));
        assert_eq!(Extra::merged(earlier.as_ref(), None), earlier);
        assert_eq!(Extra::merged(None, newer.clone()), newer);
    }

    #[test]
    fn printing_shows_no_field() {
        assert!(!format!("{:?}", extra(r#"{"a":"tell-tale"}"#)).contains("tell-tale"));
    }
}
