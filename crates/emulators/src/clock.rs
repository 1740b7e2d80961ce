//! The clock of the emulators.

use time::OffsetDateTime;

#[expect(clippy::disallowed_methods, reason = "the emulators read the clock here only")]
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(now().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
