//! The pause that a response requests.

use contract::rfc3339;
use protocol::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::Duration;

/// The longest pause of all `Retry-After` headers that can be read.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    headers.get_all(RETRY_AFTER).iter().filter_map(|value| parse(value.to_str().ok()?, now)).max()
}

/// Seconds, perhaps with a fraction, or a date. A past or negative pause counts as none. A proxy may have joined several
/// headers of seconds to a list.
fn parse(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Some(rfc3339::parse_http_date(text)?.since(now));
    }
    let seconds = text.split(',').filter_map(|part| part.trim().parse().ok()).reduce(f64::max)?;
    Some(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 29 Nov 2026 15:00:00 GMT
    const NOW: Timestamp = Timestamp::from_millis(1_795_964_400_000);

    #[test]
    fn every_form_of_a_pause_is_read() {
        for (text, pause) in [
            ("0", Some(Duration::ZERO)),
            (" 7 ", Some(Duration::from_secs(7))),
            ("1799.997", Some(Duration::from_millis(1_799_997))),
            ("-5", Some(Duration::ZERO)),
            ("-1e400", Some(Duration::ZERO)),
            ("99999999999999999999999999", Some(Duration::MAX)),
            ("1e400", Some(Duration::MAX)),
            ("60, 600,7", Some(Duration::from_secs(600))),
            ("Sun, 29 Nov 2026 15:12:04 GMT", Some(Duration::from_secs(724))),
            ("Sunday, 29-Nov-26 15:12:04 GMT", Some(Duration::from_secs(724))),
            ("Sun Nov 29 15:12:04 2026", Some(Duration::from_secs(724))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(Duration::ZERO)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(Duration::ZERO)),
            ("Sun Nov  6 08:49:37 1994", Some(Duration::ZERO)),
            ("soon", None),
            ("nan", None),
            ("inf", None),
            ("", None),
            ("7 s", None),
        ] {
            assert_eq!(parse(text, NOW), pause, "{text}");
        }
    }

    #[test]
    fn the_longest_of_several_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers, NOW), None);
        for text in ["60", "soon", "600", "7"] {
            headers.append(RETRY_AFTER, text.parse().unwrap());
        }
        assert_eq!(retry_after(&headers, NOW), Some(Duration::from_secs(600)));
    }
}
