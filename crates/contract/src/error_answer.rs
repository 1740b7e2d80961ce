//! How an error reaches a caller: as the body of an HTTP response, or as the message of a function error.

use crate::whole_number;
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;

/// An error as a caller reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorAnswer {
    /// The text of the code, which a later version may have added.
    pub code: String,
    /// What happened, and what to do.
    pub description: String,
    /// When another try makes sense, if that is known.
    pub retry_after_seconds: Option<u64>,
    /// Finds the log line.
    pub request_id: Option<String>,
}

impl ErrorAnswer {
    /// The body of an HTTP response.
    pub fn to_json(&self) -> String {
        let text = |name: &str, text: &str| Some((name.to_owned(), Value::from(text)));
        let fields = [
            text("error", &self.code),
            text("error_description", &self.description),
            self.retry_after_seconds.map(|seconds| ("retry_after".to_owned(), seconds.into())),
            self.request_id.as_deref().and_then(|id| text("request_id", id)),
        ];
        Value::Object(fields.into_iter().flatten().collect()).to_string()
    }

    /// Reads such a body; `None` if it has no code. A malformed field does not hide the code.
    pub fn read(json: &[u8]) -> Option<Self> {
        let body: BTreeMap<String, &RawValue> = serde_json::from_slice(json).ok()?;
        let text = |name: &str| serde_json::from_str::<String>(body.get(name)?.get()).ok();
        Some(Self {
            code: text("error")?,
            description: text("error_description").unwrap_or_default(),
            retry_after_seconds: body
                .get("retry_after")
                .and_then(|value| whole_number(&serde_json::from_str(value.get()).ok()?)),
            request_id: text("request_id"),
        })
    }

    /// The `errorMessage` of a function error, whose `errorType` is the code.
    pub fn to_message(&self) -> String {
        match self.retry_after_seconds {
            Some(seconds) => format!("{} (retry_after={seconds})", self.description),
            None => self.description.clone(),
        }
    }

    /// Reads such a message.
    pub fn read_message(code: String, message: &str, request_id: Option<String>) -> Self {
        let split = message.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (retry_after="));
        let split = split.and_then(|(rest, seconds)| Some((rest, Some(seconds.parse().ok()?))));
        let (description, retry_after_seconds) = split.unwrap_or((message, None));
        Self { code, description: description.to_owned(), retry_after_seconds, request_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(retry_after_seconds: Option<u64>) -> ErrorAnswer {
        let (code, description) = ("store_unavailable".to_owned(), "wait (a little)".to_owned());
        ErrorAnswer { code, description, retry_after_seconds, request_id: Some("r".to_owned()) }
    }

    #[test]
    fn an_error_survives_a_body_and_a_message() {
        for answer in [answer(Some(12)), answer(None)] {
            assert_eq!(ErrorAnswer::read(answer.to_json().as_bytes()), Some(answer.clone()));
            let ErrorAnswer { code, request_id, .. } = answer.clone();
            assert_eq!(ErrorAnswer::read_message(code, &answer.to_message(), request_id), answer);
        }
        let body: Value = serde_json::from_str(&answer(Some(12)).to_json()).unwrap();
        let (error, error_description) = ("store_unavailable", "wait (a little)");
        let expected = json!({"error": error, "error_description": error_description, "retry_after": 12, "request_id": "r"});
        assert_eq!(body, expected);
        assert_eq!(answer(Some(12)).to_message(), "wait (a little) (retry_after=12)");
    }

    #[test]
    fn a_malformed_field_does_not_hide_the_code() {
        let read = ErrorAnswer::read(br#"{"error":"internal","retry_after":-1,"request_id":7}"#).unwrap();
        assert_eq!((read.code.as_str(), read.retry_after_seconds, read.request_id), ("internal", None, None));
        for (retry_after, expected) in
            [("12", Some(12)), ("12.0", Some(12)), ("1.2E1", Some(12)), ("null", None)]
        {
            let json =
                format!(r#"{{"error":"internal","error_description":null,"retry_after":{retry_after}}}"#);
            let read = ErrorAnswer::read(json.as_bytes()).unwrap();
            assert_eq!((read.code.as_str(), read.retry_after_seconds), ("internal", expected), "{json}");
        }
        for none in ["", "[]", "{}", r#"{"error":7}"#] {
            assert_eq!(ErrorAnswer::read(none.as_bytes()), None, "{none}");
        }
        for odd in ["", ")", "(retry_after=3)", "x (retry_after=)", "x (retry_after=-1)", "x (retry_after=3"]
        {
            let read = ErrorAnswer::read_message("internal".to_owned(), odd, None);
            assert_eq!((read.description.as_str(), read.retry_after_seconds), (odd, None));
        }
    }
}
