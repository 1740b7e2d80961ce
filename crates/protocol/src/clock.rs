//! Time as one instance knows it. The fleet uses the store's time, so that a wrong clock harms no other instance.

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
    /// By the clock that may step, but runs while the machine is suspended.
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

/// The present, as a process knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Present {
    /// The store's time: the latest possible one, so that no token is used for too long.
    pub now: Timestamp,
    /// The store's time by the uptime since the store last confirmed it. It dates what must not begin in the future, such
    /// as a pause: a step of the wall clock does not move it.
    pub steady: Timestamp,
    /// By the clock that never steps.
    pub uptime: Uptime,
    /// Whether a lease or a permit may be dated `now`.
    pub is_trusted: bool,
}

impl Present {
    /// The present of a process whose clocks agree, as in tests.
    pub fn of_agreeing_clocks(now: Timestamp) -> Self {
        Self { now, steady: now, uptime: Moment::of_agreeing_clocks(now).uptime, is_trusted: true }
    }

    /// The present by both clocks.
    pub fn moment(&self) -> Moment {
        Moment { wall: self.now, uptime: self.uptime }
    }
}

/// Turns readings of a process's own clocks into the store's time, which each of the store's responses states.
///
/// A date and its call leave a range of possible corrections, and the smallest is applied. So after each response the
/// clock is off by at most the second that a date leaves open plus the duration of the call, and two clocks differ by
/// at most 2 s. A date may be wrong itself: beyond `tolerance`, a second one has to agree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreClock {
    /// Half of the margin, because two clocks share it. Less than a second says nothing: readings are rounded, and a
    /// process can be paused between two readings.
    tolerance: Duration,
    /// The correction of the process's wall clock, in milliseconds. Zero while it is right.
    offset_ms: i64,
    /// The correction that the last date implies, if it contradicted the clock.
    contradiction: Option<Possible>,
    /// The last measurement, in the store's time; before the first, the start of the process.
    anchor: Moment,
    measured: bool,
}

/// The range of corrections that agree with a date, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Possible {
    least_ms: i64,
    most_ms: i64,
}

impl Possible {
    fn with(self, other: Self) -> Option<Self> {
        let least_ms = self.least_ms.max(other.least_ms);
        let most_ms = self.most_ms.min(other.most_ms);
        (least_ms <= most_ms).then_some(Self { least_ms, most_ms })
    }

    fn nearest_to(self, offset_ms: i64) -> i64 {
        offset_ms.clamp(self.least_ms, self.most_ms)
    }
}

impl StoreClock {
    /// The clock of a process that starts now. It trusts its wall clock until the store says otherwise.
    pub fn new(margin: Duration, started: Moment) -> Self {
        let tolerance = SECOND.max(margin / 2);
        Self { tolerance, offset_ms: 0, contradiction: None, anchor: started, measured: false }
    }

    /// The store's time at a reading. Each of the two clocks may have missed time while the process was frozen, and a
    /// date that contradicts them may be right, so the latest counts.
    pub fn present(&self, reading: Moment) -> Present {
        let steady = self.anchor.wall.plus(reading.uptime.since(self.anchor.uptime));
        let own = by_wall(reading.wall, self.offset_ms);
        let stated = self.contradiction.map_or(own, |stated| by_wall(reading.wall, stated.nearest_to(0)));
        let agree = !self.measured || apart(own, steady) <= self.tolerance;
        Present {
            now: own.max(steady).max(stated),
            steady,
            uptime: reading.uptime,
            is_trusted: agree && self.contradiction.is_none(),
        }
    }

    /// Takes the `date` of one of the store's responses. Its request left at `sent` and ended at `received`, both by
    /// the process's own clocks.
    pub fn measured(&mut self, sent: Moment, received: Moment, date: Timestamp) {
        let span = received.uptime.since(sent.uptime);
        let stepped = apart(sent.wall.plus(span), received.wall) > SECOND;
        if span > LONGEST_CALL || stepped {
            return;
        }
        let stated = Possible {
            least_ms: signed(date).saturating_sub(signed(received.wall)),
            most_ms: signed(date.plus(SECOND)).saturating_sub(signed(received.wall.minus(span))),
        };
        let wrong_by = Duration::from_millis(self.offset_ms.abs_diff(stated.nearest_to(self.offset_ms)));
        let confirmed = self.contradiction.take().and_then(|earlier| earlier.with(stated));
        if wrong_by > self.tolerance && confirmed.is_none() {
            self.contradiction = Some(stated);
            return;
        }
        if !wrong_by.is_zero() {
            self.offset_ms = confirmed.unwrap_or(stated).nearest_to(0);
        }
        self.anchor = Moment { wall: by_wall(received.wall, self.offset_ms), uptime: received.uptime };
        self.measured = true;
    }
}

fn by_wall(wall: Timestamp, offset_ms: i64) -> Timestamp {
    Timestamp::from_millis(wall.as_millis().saturating_add_signed(offset_ms))
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

    fn now(clock: &StoreClock, reading: Moment) -> Timestamp {
        clock.present(reading).now
    }

    fn is_trusted(clock: &StoreClock, reading: Moment) -> bool {
        clock.present(reading).is_trusted
    }

    fn started(ahead_ms: i64) -> StoreClock {
        StoreClock::new(MARGIN, reading(0, ahead_ms))
    }

    /// A response at this instant, to a request that left a few milliseconds earlier.
    fn measure(clock: &mut StoreClock, at_ms: u64, ahead_ms: i64) {
        clock.measured(reading(at_ms - 10, ahead_ms), reading(at_ms, ahead_ms), date(at_ms));
    }

    fn measured(ahead_ms: i64) -> StoreClock {
        let mut clock = started(ahead_ms);
        measure(&mut clock, 5_310, ahead_ms);
        measure(&mut clock, 5_330, ahead_ms);
        clock
    }

    #[test]
    fn a_clock_that_is_far_off_is_set_right() {
        for ahead in [HOURS, -HOURS, 5_000, -5_000] {
            let clock = measured(ahead);
            let now = now(&clock, reading(60_000, ahead));
            assert!(apart(now, store(60_000)) <= SECOND, "{ahead}: {now:?}");
            assert!(is_trusted(&clock, reading(60_000, ahead)));
        }
    }

    #[test]
    fn a_clock_is_corrected_as_little_as_dates_allow() {
        let offset_after = |ahead_ms| measured(ahead_ms).offset_ms;
        assert_eq!([0, 300, -300, 900, -900].map(offset_after), [0, 0, 0, -220, 590]);
        // Up to half of the margin, one date is enough.
        let offset_after_one = |ahead_ms| {
            let mut clock = started(ahead_ms);
            measure(&mut clock, 5_310, ahead_ms);
            clock.offset_ms
        };
        assert_eq!([-1_310, -1_311].map(offset_after_one), [1_000, 0]);
    }

    /// Whatever the fractions of a second, and whether or not the clock is corrected.
    #[test]
    fn two_clocks_differ_by_at_most_two_seconds() {
        for margin in [0, 2_000, 10_000] {
            let margin = Duration::from_millis(margin);
            let after = |ahead_ms, at_ms| {
                let mut clock = StoreClock::new(margin, reading(0, ahead_ms));
                let dated = |clock: &mut StoreClock, at_ms| {
                    let read = reading(at_ms, ahead_ms);
                    clock.measured(read, read, date(at_ms));
                };
                dated(&mut clock, at_ms);
                dated(&mut clock, at_ms);
                signed(now(&clock, reading(at_ms, ahead_ms))) - signed(store(at_ms))
            };
            let errors =
                (-70..70).flat_map(|tenths| (0..10).map(move |part| (tenths * 100, 5_000 + part * 111)));
            let errors: Vec<i64> = errors.map(|(ahead_ms, at_ms)| after(ahead_ms, at_ms)).collect();
            let widest = errors.iter().max().unwrap().abs_diff(*errors.iter().min().unwrap());
            assert!(Duration::from_millis(widest) <= 2 * SECOND, "{margin:?}: {widest}");
        }
    }

    #[test]
    fn one_wrong_date_does_not_move_a_right_clock() {
        for wrong in [HOURS, -HOURS] {
            let right = measured(0);
            let mut clock = right.clone();
            let dated = |clock: &mut StoreClock, at_ms, wrong| {
                let date = date(at_ms).as_millis().saturating_add_signed(wrong);
                clock.measured(reading(at_ms, 0), reading(at_ms, 0), Timestamp::from_millis(date));
            };
            dated(&mut clock, 60_000, wrong);
            assert!(!is_trusted(&clock, reading(60_000, 0)), "until the next date");
            assert_eq!(clock.present(reading(60_000, 0)).steady, store(60_000));
            dated(&mut clock, 60_500, 0);
            assert!(is_trusted(&clock, reading(60_500, 0)));
            assert_eq!(now(&clock, reading(70_000, 0)), store(70_000));
            // The same for two dates that contradict the clock and each other.
            dated(&mut clock, 71_000, wrong);
            dated(&mut clock, 71_500, wrong / 2);
            assert_eq!(clock.offset_ms, 0);
        }
    }

    #[test]
    fn until_a_second_date_decides_the_later_time_counts() {
        for ahead in [HOURS, -HOURS] {
            let mut clock = started(ahead);
            measure(&mut clock, 5_310, ahead);
            let read = reading(5_320, ahead);
            assert!(now(&clock, read) >= store(5_320).max(read.wall).minus(SECOND), "{ahead}");
            assert!(!is_trusted(&clock, read));
        }
    }

    #[test]
    fn a_step_is_seen_before_the_next_measurement_corrects_it() {
        for ahead in [HOURS, -HOURS] {
            let mut clock = measured(0);
            let stepped = |at_ms| reading(at_ms, ahead);
            assert!(!is_trusted(&clock, stepped(60_000)), "{ahead}");
            measure(&mut clock, 60_010, ahead);
            assert!(!is_trusted(&clock, stepped(60_020)), "{ahead}");
            measure(&mut clock, 60_030, ahead);
            assert!(is_trusted(&clock, stepped(70_000)), "{ahead}");
            assert!(apart(now(&clock, stepped(70_000)), store(70_000)) <= SECOND, "{ahead}");
        }
    }

    #[test]
    fn a_step_does_not_move_the_steady_time() {
        for step in [3_000_000, HOURS, -HOURS] {
            let clock = measured(0);
            assert_eq!(clock.present(reading(60_000, step)).steady, store(60_000), "{step}");
        }
    }

    #[test]
    fn readings_that_are_rounded_apart_are_trusted_without_a_margin() {
        let mut clock = StoreClock::new(Duration::ZERO, reading(0, 0));
        clock.measured(reading(0, 0), reading(10, 0), date(5));
        let rounded = Moment { wall: store(60_001), uptime: reading(60_000, 0).uptime };
        assert!(is_trusted(&clock, rounded));
    }

    #[test]
    fn no_token_lives_longer_because_a_clock_stepped_back() {
        let clock = measured(0);
        assert_eq!(now(&clock, reading(60_000, -HOURS)), store(60_000));
    }

    /// A suspended machine: the uptime stops, the wall clock runs on.
    #[test]
    fn time_that_one_clock_missed_counts() {
        let clock = measured(0);
        let thawed = Moment { wall: store(600_000), uptime: Uptime(Duration::from_secs(6)) };
        assert_eq!(now(&clock, thawed), store(600_000));
        assert!(!is_trusted(&clock, thawed));
    }

    #[test]
    fn a_step_or_freeze_during_a_call_discards_its_date() {
        let before = measured(0);
        let mut clock = before.clone();
        clock.measured(reading(60_000, 0), reading(60_010, HOURS), date(60_005));
        clock.measured(reading(60_000, 0), reading(60_010, -HOURS), date(60_005));
        clock.measured(reading(60_000, 0), reading(600_000, 0), date(60_005));
        assert_eq!(clock, before);
        clock.measured(reading(60_000, 0), reading(65_000, 1_000), date(62_500));
        assert_ne!(clock, before, "the longest call and the largest step that count");
    }

    #[test]
    fn a_moment_is_too_long_ago_when_either_clock_says_so() {
        let policy = crate::Policy::DEFAULT;
        let at = |wall, uptime| {
            let cx = Context::new(&policy, store(wall), crate::Draw(0));
            reading(0, 0).is_within(SECOND, Context { uptime: reading(uptime, 0).uptime, ..cx })
        };
        assert_eq!([at(999, 999), at(1_000, 999), at(999, 1_000)], [true, false, false]);
    }

    #[test]
    fn a_corrected_clock_is_believed_again() {
        let mut clock = measured(HOURS);
        measure(&mut clock, 90_010, 0);
        measure(&mut clock, 90_030, 0);
        assert_eq!((clock.offset_ms, now(&clock, reading(95_000, 0))), (0, store(95_000)));
        assert_eq!(clock.present(reading(95_000, 0)).moment(), reading(95_000, 0));
    }

    #[test]
    fn without_a_measurement_the_wall_clock_is_right() {
        let clock = started(0);
        assert!(is_trusted(&clock, reading(1_000, HOURS)));
        assert_eq!(now(&clock, reading(1_000, HOURS)), reading(1_000, HOURS).wall);
    }
}
