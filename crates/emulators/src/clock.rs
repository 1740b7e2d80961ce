//! The emulators' only clock: the real one.

use time::OffsetDateTime;

#[expect(clippy::disallowed_methods, reason = "the emulated world has a clock of its own")]
pub(super) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    i64::try_from(now().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
