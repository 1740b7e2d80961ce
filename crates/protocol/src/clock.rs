//! Time as one instance knows it. The fleet reckons in the store's time, so that a wrong clock harms nobody else.

use crate::{Context, Timestamp};
use std::time::Duration;

/// The resolution of a `Date` header.
const SECOND: Duration = Duration::from_secs(1);
/// A call that took longer says too little about the clock.
const LONGEST_CALL: Duration = Duration::from_secs(5);

/// How long a process has existed, by a clock that never steps. It grows with each reading, so it orders what happens
/// in the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(pub Duration);

impl Uptime {
    /// The uptime after a span.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// The span since an earlier reading; zero if that was not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// One moment by both clocks of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Moment {
    /// By the clock that may step, and that goes on while the machine is suspended.
    pub wall: Timestamp,
    /// By the clock that never steps.
    pub uptime: Uptime,
}

impl Moment {
    /// A moment of a process whose clocks agree, as in tests.
    pub fn of_agreeing_clocks(now: Timestamp) -> Self {
        Self { wall: now, uptime: Uptime(Duration::from_millis(now.as_millis())) }
    }

    /// Whether it was less than `span` ago. The clocks may disagree: the earlier end counts.
    pub(crate) fn is_within(self, span: Duration, cx: Context<'_>) -> bool {
        cx.uptime.since(self.uptime) < span && cx.now.since(self.wall) < span
    }
}

/// Turns readings of a process's own clocks into the store's time, which each of the store's responses states.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreClock {
    margin: Duration,
    /// What the own wall clock lacks, in milliseconds. Zero while it is right.
    offset_ms: i64,
    /// The last measurement, in the store's time; before the first, the start of the process.
    anchor: Moment,
    measured: bool,
}

impl StoreClock {
    /// The clock of a process that starts now. It takes its wall clock for right until the store says otherwise.
    pub fn new(margin: Duration, started: Moment) -> Self {
        Self { margin, offset_ms: 0, anchor: started, measured: false }
    }

    /// The store's time at a reading. Each of the two clocks may have missed time while the process was frozen, so the
    /// later one counts.
    pub fn now(&self, reading: Moment) -> Timestamp {
        self.by_wall(reading.wall).max(self.by_uptime(reading.uptime))
    }

    /// Whether the two clocks agree about the time since the last measurement. While they do not, one of them has
    /// stepped or stood still, and no lease or permit may be dated by either. Less than a second says nothing: readings
    /// are rounded, and a process can be paused between the two.
    pub fn is_trusted(&self, reading: Moment) -> bool {
        !self.measured
            || apart(self.by_wall(reading.wall), self.by_uptime(reading.uptime)) <= self.margin.max(SECOND)
    }

    /// The store dated a response `date`, to a request that left at `sent` and ended at `received`, both as read from
    /// the own clocks. Sets the clock right if it is outside that span by more than the margin and the second that a
    /// date leaves open.
    pub fn measured(&mut self, sent: Moment, received: Moment, date: Timestamp) {
        let span = received.uptime.since(sent.uptime);
        let stepped = apart(sent.wall.plus(span), received.wall) > SECOND;
        if span > LONGEST_CALL || stepped {
            return;
        }
        let tolerance = self.margin + SECOND;
        let is_right = |received: Timestamp| {
            let (first, last) = (received.minus(span).minus(tolerance), received.plus(tolerance));
            (first..=last).contains(&date)
        };
        if !is_right(self.by_wall(received.wall)) {
            let middle = received.wall.minus(span / 2);
            let right = date.plus(SECOND / 2);
            let offset = signed(right).saturating_sub(signed(middle));
            self.offset_ms = if is_right(received.wall) { 0 } else { offset };
        }
        self.anchor = Moment { wall: self.by_wall(received.wall), uptime: received.uptime };
        self.measured = true;
    }

    fn by_wall(&self, wall: Timestamp) -> Timestamp {
        Timestamp::from_millis(wall.as_millis().saturating_add_signed(self.offset_ms))
    }

    fn by_uptime(&self, uptime: Uptime) -> Timestamp {
        self.anchor.wall.plus(uptime.since(self.anchor.uptime))
    }
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

fn signed(at: Timestamp) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARGIN: Duration = Duration::from_secs(2);
    const NOON: u64 = 1_000_000_000;
    const HOURS: i64 = 110 * 60_000;

    /// A process whose wall clock is ahead of the store's by some milliseconds.
    fn reading(at_ms: u64, ahead_ms: i64) -> Moment {
        let wall = Timestamp::from_millis((NOON + at_ms).saturating_add_signed(ahead_ms));
        Moment { wall, uptime: Uptime(Duration::from_millis(at_ms)) }
    }

    fn store(at_ms: u64) -> Timestamp {
        Timestamp::from_millis(NOON + at_ms)
    }

    /// The date of a response at this instant: its fraction of a second is cut off.
    fn date(at_ms: u64) -> Timestamp {
        Timestamp::from_millis((NOON + at_ms) / 1000 * 1000)
    }

    fn measured(ahead_ms: i64) -> StoreClock {
        let mut clock = StoreClock::new(MARGIN, reading(0, ahead_ms));
        clock.measured(reading(5_300, ahead_ms), reading(5_320, ahead_ms), date(5_310));
        clock
    }

    #[test]
    fn a_clock_that_is_far_off_is_set_right() {
        for ahead in [HOURS, -HOURS, 5_000, -5_000] {
            let clock = measured(ahead);
            let now = clock.now(reading(60_000, ahead));
            assert!(apart(now, store(60_000)) <= SECOND, "{ahead}: {now:?}");
            assert!(clock.is_trusted(reading(60_000, ahead)));
        }
    }

    #[test]
    fn a_clock_within_the_margin_is_left_alone() {
        for ahead in [0, 1_900, -1_900] {
            let clock = measured(ahead);
            assert_eq!(clock.now(reading(60_000, ahead)), reading(60_000, ahead).wall, "{ahead}");
        }
    }

    #[test]
    fn the_margin_and_a_second_are_tolerated_and_no_more() {
        let after = |ahead_ms| {
            let mut clock = StoreClock::new(MARGIN, reading(0, 0));
            clock.measured(
                reading(5_000, 0),
                reading(5_000, 0),
                store(5_000).plus(Duration::from_millis(ahead_ms)),
            );
            clock.offset_ms
        };
        assert_eq!((after(3_000), after(3_001)), (0, 3_501));
    }

    #[test]
    fn a_step_is_seen_before_the_next_measurement_corrects_it() {
        for ahead in [HOURS, -HOURS] {
            let mut clock = measured(0);
            let stepped = |at_ms| reading(at_ms, ahead);
            assert!(!clock.is_trusted(stepped(60_000)), "{ahead}");
            clock.measured(stepped(60_000), stepped(60_010), date(60_005));
            assert!(clock.is_trusted(stepped(70_000)), "{ahead}");
            assert!(apart(clock.now(stepped(70_000)), store(70_000)) <= SECOND, "{ahead}");
        }
    }

    #[test]
    fn readings_that_are_rounded_apart_are_trusted_without_a_margin() {
        let mut clock = StoreClock::new(Duration::ZERO, reading(0, 0));
        clock.measured(reading(0, 0), reading(10, 0), date(5));
        let rounded = Moment { wall: store(60_001), uptime: reading(60_000, 0).uptime };
        assert!(clock.is_trusted(rounded));
    }

    #[test]
    fn no_token_lives_longer_because_a_clock_stepped_back() {
        let clock = measured(0);
        assert_eq!(clock.now(reading(60_000, -HOURS)), store(60_000));
    }

    /// A suspended machine: the uptime stands still, the wall clock goes on.
    #[test]
    fn time_that_one_clock_missed_counts() {
        let clock = measured(0);
        let thawed = Moment { wall: store(600_000), uptime: Uptime(Duration::from_secs(6)) };
        assert_eq!(clock.now(thawed), store(600_000));
        assert!(!clock.is_trusted(thawed));
    }

    #[test]
    fn a_step_or_a_freeze_during_a_call_makes_it_say_nothing() {
        let before = measured(0);
        let mut clock = before.clone();
        clock.measured(reading(60_000, 0), reading(60_010, HOURS), date(60_005));
        clock.measured(reading(60_000, 0), reading(60_010, -HOURS), date(60_005));
        clock.measured(reading(60_000, 0), reading(600_000, 0), date(60_005));
        assert_eq!(clock, before);
    }

    #[test]
    fn a_clock_that_was_mended_is_believed_again() {
        let mut clock = measured(HOURS);
        clock.measured(reading(90_000, 0), reading(90_010, 0), date(90_005));
        assert_eq!((clock.offset_ms, clock.now(reading(95_000, 0))), (0, store(95_000)));
    }

    #[test]
    fn without_a_measurement_the_wall_clock_is_right() {
        let clock = StoreClock::new(MARGIN, reading(0, 0));
        assert!(clock.is_trusted(reading(1_000, HOURS)));
        assert_eq!(clock.now(reading(1_000, HOURS)), reading(1_000, HOURS).wall);
    }
}
