//! The text of a line: JSON for CloudWatch, or readable for a terminal. No input makes it longer than [`LONGEST_LINE`].

use super::{metrics::Metrics, record::Record};
use contract::rfc3339;
use protocol::{Secret, ServedFrom, Timestamp};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// No line is longer than this, in bytes.
pub const LONGEST_LINE: usize = 2048;
/// The length up to which an answer from memory keeps every field.
const MEMORY_FITS_IN: usize = 512;
/// The same for other lines.
const FITS_IN: usize = 1024;
/// The length up to which a message is shown, if the rest of the line leaves room.
const MESSAGE_FITS_IN: usize = 700;
/// The length up to which a message is shown in any case.
const SHORTEST_MESSAGE: usize = 120;
/// Longer than any ARN of a role or user, unless its path is long.
const LONGEST_CALLER: usize = 256;
/// Longer than the ARN of any role without a path, for lines that do not fit.
const SHORT_CALLER: usize = 104;
/// The longest name of an alias.
const LONGEST_NAME: usize = 128;
/// Longer than any request id or trace id of Lambda, and as long as a client's name.
const LONGEST_ID: usize = 64;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One JSON object per line, with its metrics.
    Json,
    /// For a terminal, without metrics.
    Readable,
}

/// The line of an invocation, with a line feed.
pub(super) fn of_invocation(
    record: &Record<'_>,
    style: Style,
    function: &str,
    metrics: &Metrics,
    metrics_account: Option<&str>,
) -> String {
    match style {
        Style::Json => {
            let is_from_memory = record.served_from == Some(ServedFrom::Memory) && metrics.is_empty();
            let fits_in = if is_from_memory { MEMORY_FITS_IN } else { FITS_IN };
            let line = |detail| json(record, function, metrics, metrics_account, detail);
            let mut best = line(Detail::All);
            // An auditor needs the other fields.
            for less in [Detail::NoTrace, Detail::NoClient] {
                if best.len() > fits_in {
                    best = line(less);
                }
            }
            best
        }
        Style::Readable => readable(record),
    }
}

/// The line for a process that the Lambda runtime ends.
pub(super) fn of_failed_runtime(at: Timestamp) -> String {
    let at = rfc3339::format_millis(at);
    format!(
        "{{\"timestamp\":\"{at}\",\"level\":\"ERROR\",\"message\":\"the Lambda runtime failed, and the instance ends\"}}\n"
    )
}

/// The line for a panic, with the header that the Lambda runtime's library missed, if any.
pub(super) fn of_panic(at: Timestamp, place: &str, header: Option<&str>) -> String {
    let mut line = format!(
        r#"{{"timestamp":"{}","level":"ERROR","message":"the broker panicked","place":""#,
        rfc3339::format_millis(at)
    );
    push_text(&mut line, place, LONGEST_NAME);
    line.push('"');
    if let Some(header) = header {
        push_field(&mut line, "missing_header", header, LONGEST_NAME);
    }
    line.push_str("}\n");
    line
}

/// What a line contains, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    All,
    /// All but the trace.
    NoTrace,
    /// And not the name that the client gives itself, and the caller cut short.
    NoClient,
}

fn json(
    record: &Record<'_>,
    function: &str,
    metrics: &Metrics,
    metrics_account: Option<&str>,
    detail: Detail,
) -> String {
    let longest_caller = if detail < Detail::NoClient { LONGEST_CALLER } else { SHORT_CALLER };
    let mut tail = String::with_capacity(MESSAGE_FITS_IN);
    push_field(&mut tail, "request_id", record.request_id, LONGEST_ID);
    let trace_id = record.trace_id.filter(|_| detail < Detail::NoTrace).map(root_of);
    if let Some(trace_id) = trace_id.filter(|root| !root.is_empty()) {
        push_field(&mut tail, "trace_id", trace_id, LONGEST_ID);
    }
    push_field(&mut tail, "entry", record.entry, LONGEST_NAME);
    if let Some(alias) = record.alias {
        push_field(&mut tail, "alias", alias, LONGEST_NAME);
    }
    if let Some(caller) = record.caller {
        push_field(&mut tail, "caller", caller, longest_caller);
    }
    if let Some(client) = record.client.filter(|_| detail < Detail::NoClient) {
        push_field(&mut tail, "client", client, LONGEST_ID);
    }
    if let Some(action) = record.action {
        push_field(&mut tail, "action", action, LONGEST_NAME);
    }
    if let Some(account) = record.account {
        push_field(&mut tail, "account", account, LONGEST_NAME);
    }
    if let Some(generation) = record.generation {
        let _ = write!(tail, r#","generation":{generation}"#);
    }
    if let Some(served_from) = record.served_from {
        push_field(&mut tail, "served_from", served_from.name(), LONGEST_NAME);
    }
    let _ = write!(tail, r#","outcome":"{}","duration_ms":{}"#, record.outcome, record.duration_ms);
    if let Some(token) = record.token {
        tail.push_str(r#","token_sha256":""#);
        push_fingerprint(&mut tail, token);
        tail.push('"');
    }
    if let Some(rule) = record.audit_rule {
        let _ = write!(tail, r#","audit_rule":{rule}"#);
    }
    for (name, count) in record.counts {
        let _ = write!(tail, r#","{name}":{count}"#);
    }
    metrics.push(&mut tail, record.at.as_millis(), function, metrics_account);
    tail.push_str("}\n");

    let mut line = String::with_capacity(MESSAGE_FITS_IN);
    let at = rfc3339::format_millis(record.at);
    let _ = write!(line, r#"{{"timestamp":"{at}","level":"{}","message":""#, record.severity.name());
    let others = line.len() + "…\"".len() + tail.len();
    let longest = MESSAGE_FITS_IN.saturating_sub(others).max(SHORTEST_MESSAGE);
    push_text(&mut line, record.message, longest.min(LONGEST_LINE.saturating_sub(others)));
    line.push('"');
    line + &tail
}

fn readable(record: &Record<'_>) -> String {
    let at = rfc3339::format_millis(record.at);
    let time = at.split(['T', '.']).nth(1).unwrap_or_default();
    let mut line = format!("{time} {:5} ", record.severity.name());
    let subject = [record.action, record.account].into_iter().flatten();
    for part in subject.chain([record.outcome]) {
        push_text(&mut line, part, LONGEST_NAME);
        line.push(' ');
    }
    if let Some(served_from) = record.served_from {
        let _ = write!(line, "from {} ", served_from.name());
    }
    if let Some(generation) = record.generation {
        let _ = write!(line, "generation {generation} ");
    }
    for (name, count) in record.counts {
        let _ = write!(line, "{name} {count} ");
    }
    let _ = write!(line, "in {} ms", record.duration_ms);
    if let Some(caller) = record.caller {
        line.push_str(" for ");
        push_text(&mut line, caller, LONGEST_CALLER);
    }
    if record.outcome != "ok" {
        line.push_str(": ");
        push_text(&mut line, record.message, MESSAGE_FITS_IN);
    }
    line.push('\n');
    line
}

/// The root of `Root=1-…;Parent=…;Sampled=0`.
fn root_of(trace_header: &str) -> &str {
    let root = trace_header.split(';').find_map(|part| part.trim().strip_prefix("Root="));
    root.unwrap_or_default()
}

/// The first 16 hex digits of the token's SHA-256, by which an auditor recognizes a token.
fn push_fingerprint(out: &mut String, token: &Secret) {
    let digest = Sha256::digest(token.expose());
    if let Some(start) = digest.first_chunk() {
        let _ = write!(out, "{:016x}", u64::from_be_bytes(*start));
    }
}

fn push_field(out: &mut String, name: &str, text: &str, longest: usize) {
    // Without `write!`, which takes a measurable part of an answer's time.
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":\"");
    push_text(out, text, longest);
    out.push('"');
}

/// Appends a text with JSON escapes. Writes at most `longest` bytes, and an ellipsis if the text is longer.
fn push_text(out: &mut String, text: &str, longest: usize) {
    let is_plain = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    if text.len() <= longest && text.bytes().all(is_plain) {
        out.push_str(text);
        return;
    }
    let mut left = longest;
    for character in text.chars() {
        let length = match character {
            '"' | '\\' => 2,
            control if control.is_control() => 6,
            other => other.len_utf8(),
        };
        let Some(rest) = left.checked_sub(length) else {
            out.push('…');
            return;
        };
        left = rest;
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            // Control characters are below U+00A0.
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(text: &str, longest: usize) -> String {
        let mut out = String::new();
        push_text(&mut out, text, longest);
        out
    }

    #[test]
    fn a_text_is_escaped_as_json() {
        for text in
            ["", "plain", "\"", "\\", "a \"quoted\" \\ text", "\u{0}\n\t\u{7f}\u{85}", "Füße 🦀 \u{2028}"]
        {
            let json = format!("\"{}\"", pushed(text, 1000));
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text, "{json}");
            assert!(!json.contains(char::is_control), "{json}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(pushed("12345", 5), "12345");
        assert_eq!(pushed("123456", 5), "12345…");
        assert_eq!(pushed("1234ü", 5), "1234…");
        assert_eq!(pushed("123\"5", 4), "123…");
        assert_eq!(pushed("\n\n", 11), "\\u000a…");
    }

    #[test]
    fn the_line_that_ends_an_instance_is_json() {
        let at = Timestamp::from_millis(1_775_478_896_000);
        for (line, message, place) in [
            (of_panic(at, "src/a \"b\".rs:7", None), "the broker panicked", Some("src/a \"b\".rs:7")),
            (of_failed_runtime(at), "the Lambda runtime failed, and the instance ends", None),
        ] {
            assert!(line.ends_with("}\n"), "{line}");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &message.into()));
            assert_eq!(
                (&line["timestamp"], line["place"].as_str()),
                (&"2026-04-06T12:34:56.000Z".into(), place)
            );
        }
    }

    #[test]
    fn only_the_root_of_a_trace_is_logged() {
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        assert_eq!(root_of(header), "1-5759e988-bd862e3fe1be46a994272793");
        assert_eq!(root_of("Sampled=0"), "");
    }

    #[test]
    fn a_fingerprint_is_the_start_of_a_sha_256() {
        let mut out = String::new();
        push_fingerprint(&mut out, &Secret::from("abc"));
        assert_eq!(out, "ba7816bf8f01cfea");
    }
}
