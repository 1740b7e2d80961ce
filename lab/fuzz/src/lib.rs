//! Rules for all input from outside. Each target checks one parser, in the code that the function and the agent run.
//!
//! | target | bytes |
//! | --- | --- |
//! | `event` | payloads of Lambda, through every alias |
//! | `body` | bodies and queries of HTTP requests: OAuth 2.0 forms, JSON |
//! | `response` | responses of the upstream |
//! | `secret` | the accounts' secrets |
//! | `agent` | requests to the agent |
//!
//! Property tests of the function (`tests/properties`) check stored items, and its unit tests the configuration.
//!
//! `lab/fuzz/libfuzzer/run.sh` searches for a counterexample by coverage. The test `fixed_seed` runs the seeds and random changes of
//! them.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a broken rule is reported by a panic"
)]

mod agent;
mod body;
mod event;
mod invocation;
mod ports;
mod response;
mod secret;

use serde_json::Value;

/// A parser under test.
pub struct Target {
    /// Its name, which is also the name of its folder of seeds.
    pub name: &'static str,
    /// Checks one input.
    ///
    /// # Panics
    /// A rule is broken.
    pub check: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 5] = [
    Target { name: "event", check: event::check },
    Target { name: "body", check: body::check },
    Target { name: "response", check: response::check },
    Target { name: "secret", check: secret::check },
    Target { name: "agent", check: agent::check },
];

/// Marks a value that must not appear in an answer or an error. The mark makes the value invalid.
const MARK: &str = "Tell-Tale";

/// Whether an input already has the mark, perhaps in a field's name, which answers may quote.
fn has_mark(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|part| part == MARK.as_bytes())
}

/// Appends a text to every text within a value, but not to the names of fields.
fn append(value: &mut Value, mark: &str) {
    match value {
        Value::String(text) => text.push_str(mark),
        Value::Array(values) => values.iter_mut().for_each(|value| append(value, mark)),
        Value::Object(fields) => fields.values_mut().for_each(|value| append(value, mark)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
