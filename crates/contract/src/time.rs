//! Instants and random numbers as values. Callers pass them in, so that decisions stay pure.

use std::time::Duration;

/// An instant in milliseconds since the Unix epoch, by the clock that produced it.
///
/// All arithmetic saturates, so that no instant from outside can cause a panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The instant `span` later.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// The instant `span` earlier.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// How much later this is than `earlier`; zero if it is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Whole milliseconds of a span, saturating.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A span in whole seconds, rounded up, for "wait at least this long".
pub const fn seconds_rounded_up(span: Duration) -> u64 {
    span.as_secs() + if span.subsec_nanos() > 0 { 1 } else { 0 }
}

/// One uniformly random number, drawn by the caller of code that needs randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Draw(pub u64);

impl Draw {
    /// The draw as a fraction in `[0, 1)`.
    #[allow(clippy::cast_precision_loss)] // 53 bits fit a double exactly
    pub fn fraction(self) -> f64 {
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A span between half of `span` and all of it: jitter that never shortens a pause to nothing.
    pub fn jittered(self, span: Duration) -> Duration {
        span.mul_f64(0.5 + self.fraction() / 2.0)
    }

    /// A span between `span` and a tenth more: jitter for events that must not come early.
    pub fn stretched(self, span: Duration) -> Duration {
        span.mul_f64(1.0 + self.fraction() / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let end = Timestamp::from_millis(u64::MAX);
        assert_eq!(end.plus(Duration::MAX), end);
        assert_eq!(Timestamp::from_millis(5).minus(Duration::MAX), Timestamp::from_millis(0));
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(9)), Duration::ZERO);
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!(seconds_rounded_up(Duration::from_millis(1)), 1);
        assert_eq!(seconds_rounded_up(Duration::from_secs(2)), 2);
    }
    #[test]
    fn a_draw_covers_the_unit_interval_and_stays_below_one() {
        assert!(Draw(0).fraction().abs() < f64::EPSILON);
        assert!(Draw(u64::MAX).fraction() < 1.0);
        assert_eq!(Draw(0).jittered(Duration::from_secs(2)), Duration::from_secs(1));
        assert_eq!(Draw(0).stretched(Duration::from_secs(2)), Duration::from_secs(2));
        let middle = Draw(1 << 63);
        assert!((middle.fraction() - 0.5).abs() < f64::EPSILON);
        assert_eq!(middle.jittered(Duration::from_secs(2)), Duration::from_millis(1_500));
        assert_eq!(middle.stretched(Duration::from_secs(2)), Duration::from_millis(2_100));
    }
}
