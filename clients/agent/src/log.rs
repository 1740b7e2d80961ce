//! Log lines: one JSON object each, on standard error, which Lambda and containers collect.

use contract::Timestamp;
use serde_json::{Map, Value};
use std::io::Write;
use token_broker_client::{Clock, SystemClock};

/// The severity of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

/// Writes a line. No field may hold a token.
pub(crate) fn log(level: Level, message: &str, fields: &[(&str, Value)]) {
    let mut line = Map::new();
    let level = match level {
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    };
    line.insert("timestamp".to_owned(), contract::rfc3339::format(now()).into());
    line.insert("level".to_owned(), level.into());
    line.insert("message".to_owned(), message.into());
    line.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let text = format!("{}\n", Value::Object(line));
    // A failure cannot be reported, because reports go to standard error.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn now() -> Timestamp {
    SystemClock.now()
}
