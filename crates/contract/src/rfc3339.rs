//! Instants as text.

use crate::Timestamp;
use std::fmt::Write;
use time::{
    OffsetDateTime, PrimitiveDateTime,
    format_description::well_known::{Iso8601, Rfc2822, Rfc3339},
};

/// The last instant that RFC 3339 can express: the end of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

/// Formats an instant as `2026-04-06T12:34:56Z`, in whole seconds, rounded down.
pub fn format(at: Timestamp) -> String {
    let seconds = i64::try_from(at.as_millis() / 1000).unwrap_or(LAST_SECOND).min(LAST_SECOND);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// Formats an instant as `2026-04-06T12:34:56.789Z`.
pub fn format_millis(at: Timestamp) -> String {
    let mut text = format(at);
    if text.pop().is_some() {
        // Writing to a text cannot fail.
        let _ = write!(text, ".{:03}Z", at.as_millis() % 1000);
    }
    text
}

/// Parses ISO 8601 leniently: with or without fractions, with a space instead of the `T`, and in UTC if no offset is
/// given.
pub fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim().replacen(' ', "T", 1);
    OffsetDateTime::parse(&text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&text, &Iso8601::DEFAULT))
        .or_else(|_| PrimitiveDateTime::parse(&text, &Iso8601::DEFAULT).map(PrimitiveDateTime::assume_utc))
        .ok()
        .and_then(timestamp)
}

/// Parses the date of an HTTP header in every form of RFC 9110, such as `Sun, 06 Nov 1994 08:49:37 GMT`; the usual form
/// leniently.
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    let usual = || OffsetDateTime::parse(text.trim(), &Rfc2822).ok();
    httpdate::parse_http_date(text).map(OffsetDateTime::from).ok().or_else(usual).and_then(timestamp)
}

fn timestamp(at: OffsetDateTime) -> Option<Timestamp> {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_775_478_896_000);

    #[test]
    fn every_known_form_is_parsed() {
        for text in [
            "2026-04-06T12:34:56Z",
            "2026-04-06T12:34:56.000Z",
            "2026-04-06T14:34:56+02:00",
            "2026-04-06T12:34:56",
            "2026-04-06 12:34:56",
            "20260406T123456Z",
        ] {
            assert_eq!(parse(text), Some(AT), "{text}");
        }
        for text in ["", "soon", "2026-13-06T12:34:56Z", "1969-12-31T23:59:59Z", "2026-04-06"] {
            assert_eq!(parse(text), None, "{text}");
        }
        for text in [
            "Mon, 06 Apr 2026 12:34:56 GMT",
            "Mon, 6 Apr 2026 12:34:56 +0000",
            "Monday, 06-Apr-26 12:34:56 GMT",
            "Mon Apr  6 12:34:56 2026",
        ] {
            assert_eq!(parse_http_date(text), Some(AT), "{text}");
        }
        assert_eq!(parse_http_date("tomorrow"), None);
    }

    #[test]
    fn formatting_rounds_down_and_never_overflows() {
        assert_eq!(format(Timestamp::from_millis(AT.as_millis() + 999)), "2026-04-06T12:34:56Z");
        assert_eq!(format_millis(Timestamp::from_millis(AT.as_millis() + 9)), "2026-04-06T12:34:56.009Z");
        assert_eq!(format(Timestamp::from_millis(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}
