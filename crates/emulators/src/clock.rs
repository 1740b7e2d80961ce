//! The clock of the emulators.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::sync::watch;

/// The machine's clock, and how far a test has set it forward. Clones share the setting. It never goes back:
/// generations follow the time, so callers would take an older token for a newer one.
#[derive(Debug, Clone)]
pub struct Clock {
    ahead: Arc<watch::Sender<Duration>>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { ahead: Arc::new(watch::Sender::new(Duration::ZERO)) }
    }
}

impl Clock {
    /// The furthest that the clock can be ahead: a thousand years, so that every year has four digits.
    pub const FURTHEST: Duration = Duration::from_hours(1000 * 365 * 24);

    /// The present.
    pub fn now(&self) -> OffsetDateTime {
        machine_now() + self.ahead()
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        millis(self.now())
    }

    /// The present in the form of the header `Date`.
    pub(crate) fn http_date(&self) -> HeaderValue {
        let date = self.now().format(&Rfc2822).unwrap_or_default().replace("+0000", "GMT");
        HeaderValue::try_from(date).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// How far this clock is ahead of the machine's.
    pub fn ahead(&self) -> Duration {
        *self.ahead.borrow()
    }

    /// Sets the clock forward, but not beyond [`Clock::FURTHEST`]. Returns whether it did.
    pub fn forward(&self, by: Duration) -> bool {
        self.ahead.send_if_modified(|ahead| {
            let next = ahead.saturating_add(by);
            let fits = next <= Self::FURTHEST;
            if fits {
                *ahead = next;
            }
            fits
        })
    }

    /// Waits until this clock has advanced by this span, even if the clock is set meanwhile.
    pub async fn sleep(&self, duration: Duration) {
        let until = self.now() + duration;
        let mut settings = self.ahead.subscribe();
        loop {
            let left = until - self.now();
            if !left.is_positive() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.unsigned_abs()) => {}
                // The sender lives in `self`.
                _ = settings.changed() => {}
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the emulators read the clock here only")]
pub(crate) fn machine_now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Milliseconds since 1970, by the machine's clock.
pub(crate) fn machine_now_ms() -> i64 {
    millis(machine_now())
}

fn millis(instant: OffsetDateTime) -> i64 {
    i64::try_from(instant.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_when_the_clock_is_set_past_it() {
        let clock = Clock::default();
        let (sleeps, other) = (clock.clone(), clock.clone());
        let sleep = tokio::spawn(async move { sleeps.sleep(Duration::from_hours(1)).await });
        tokio::task::yield_now().await;
        assert!(other.forward(Duration::from_hours(2)));
        tokio::time::timeout(Duration::from_secs(10), sleep).await.expect("in time").expect("no panic");
    }

    #[test]
    fn the_header_date_is_that_of_rfc_9110() {
        let date = Clock::default().http_date();
        let date = date.to_str().expect("text");
        assert!(date.ends_with(" GMT") && date.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len(), "{date}");
    }

    #[test]
    fn the_clock_has_a_furthest_instant() {
        let clock = Clock::default();
        assert!(clock.forward(Clock::FURTHEST) && !clock.forward(Duration::from_secs(1)));
        assert_eq!(clock.ahead(), Clock::FURTHEST);
    }
}
