//! The arithmetic of times, at its boundaries.

use super::*;
use crate::{record::CooldownReason, record::Generation, record::Holder, test_pair, test_policy};

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const LOWEST: Draw = Draw(0);
const MIDDLE: Draw = Draw(1 << 63);
const HIGHEST: Draw = Draw(u64::MAX);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn pair(generation: u64, left: Duration) -> Pair {
    Pair { generation: Generation(generation), issued_at: NOW, ..test_pair(NOW.plus(left)) }
}

#[test]
fn a_caller_is_gone_when_the_invocation_ends_or_the_gateway_gives_up() {
    let within = |entry: Entry, lambda| entry.deadline(NOW.plus(ms(lambda)), NOW).since(NOW);
    assert_eq!(within(Entry::Direct, 60_000), ms(59_700));
    assert_eq!(within(Entry::Http, 60_000), ms(27_700));
    assert_eq!(within(Entry::Http, 10_000), ms(9_700));
    assert_eq!(within(Entry::Direct, 1), ms(0), "less than the reserve");
    for none in [Timestamp::default(), NOW] {
        assert_eq!(Entry::Direct.deadline(none, NOW), NOW.plus(ms(29_700)), "some local runtimes send zero");
    }
}

#[test]
fn what_somebody_wrote_lies_ahead_for_two_hours_at_most() {
    let ahead = |span| lies_ahead(NOW.plus(span), NOW);
    assert!(ahead(ms(1)) && ahead(2 * HOUR));
    assert!(!ahead(ms(0)) && !ahead(2 * HOUR + ms(1)));
    assert!(!lies_ahead(NOW.minus(ms(1)), NOW));

    let lease = Lease { holder: Holder(1), until: NOW.plus(ms(1)) };
    assert_eq!(held(Some(&lease), NOW), Some(lease));
    assert_eq!((held(Some(&lease), lease.until), held(None, NOW)), (None, None));
    let cooldown = Cooldown { until: NOW.plus(ms(1)), reason: CooldownReason::Unavailable, failures: 1 };
    assert_eq!(cooling(Some(&cooldown), NOW), Some(cooldown));
    assert_eq!((cooling(Some(&cooldown), cooldown.until), cooling(None, NOW)), (None, None));
}

/// Instances of two releases that run side by side have to agree on it, so it is part of the protocol.
#[test]
fn every_release_spreads_renewals_alike() {
    let spread = |name: &str, generation| {
        let name = AccountName::parse(name).unwrap();
        test_policy().due_at(&name, &pair(generation, 168 * HOUR)).since(NOW.plus(144 * HOUR))
    };
    assert_eq!(
        [spread("default", 7), spread("default", 8), spread("emea", 7)],
        [ms(6_176_102), ms(7_531_873), ms(3_072_698)]
    );
}

#[test]
fn a_short_life_is_renewed_after_its_half() {
    let brief = pair(7, ms(20_000));
    let due = test_policy().due_at(&AccountName::default(), &brief).since(NOW);
    assert!((ms(10_000)..=ms(11_000)).contains(&due), "{due:?}");
}

#[test]
fn the_odds_of_volunteering_double_every_twentieth_of_the_way() {
    let policy = test_policy();
    let name = AccountName::default();
    let pair = pair(7, 168 * HOUR);
    let due = policy.due_at(&name, &pair);
    let wish = ms(60_000);
    let last = pair.expires_at.minus(policy.clock_margin).minus(wish);
    let drawn = |wish, at, draw| policy.early_refresh_selects(&name, &pair, wish, at, draw);
    // So many hundredths of the odds 1 in 2 to this power.
    let odds = |hundredths: u64, power: u32| Draw((1 << (64 - power)) / 100 * hundredths);

    assert!(!drawn(wish, due.minus(ms(1)), LOWEST), "not due");
    assert!(drawn(wish, due, LOWEST), "due");
    let window = last.since(due);
    for (at, power) in [(due, 20), (due.plus(window / 4), 15), (due.plus(window / 2), 10)] {
        assert!(drawn(wish, at, odds(99, power)), "1 in 2 to the {power}");
        assert!(!drawn(wish, at, odds(101, power)), "1 in 2 to the {power}");
    }
    assert!(!drawn(wish, due, Draw(1 << 44)), "1 in 2 to the 20 do, and not one more");
    assert!(!drawn(wish, last.minus(HOUR), HIGHEST));
    assert!(drawn(wish, last, HIGHEST) && drawn(wish, pair.expires_at, HIGHEST), "nobody has to wait");
    assert!(!drawn(ms(0), last, HIGHEST), "whoever asks for less has more time");
}

#[test]
fn a_pair_that_is_due_when_it_is_used_up_is_renewed_by_whoever_comes() {
    let policy = Policy { clock_margin: HOUR, ..test_policy() };
    let brief = pair(7, HOUR);
    let due = policy.due_at(&AccountName::default(), &brief);
    assert!(policy.early_refresh_selects(&AccountName::default(), &brief, ms(0), due, HIGHEST));
}

#[test]
fn a_call_leaves_while_the_lease_outlasts_it_and_the_caller_can_see_it_saved() {
    let policy = test_policy();
    let lease = Lease { holder: Holder(1), until: NOW.plus(policy.lease) };
    let latest = |left| policy.latest_send(&lease, NOW.plus(ms(left))).since(NOW);
    assert_eq!(latest(28_000), ms(10_000), "the lease's 15 s, less the call's 5 s");
    assert_eq!(latest(12_000), ms(6_000), "the caller's 12 s, less the call and a second for the write");
}

#[test]
fn a_debit_counts_for_a_minute_and_all_that_can_delay_a_login() {
    let policy = test_policy();
    assert_eq!(policy.permit_freshness(), ms(2_000), "the margin");
    assert_eq!(policy.permit_window(), ms(60_000 + 2_000 + 2_000 + 5_000 + 5_000));
    let exact = Policy { clock_margin: ms(0), ..policy };
    assert_eq!(exact.permit_freshness(), ms(1_000), "at least a second");
}

#[test]
fn pauses_double_up_to_a_most_and_are_jittered() {
    let policy = test_policy();
    let seconds: Vec<u64> = (1..=8).map(|failures| policy.backoff(failures, LOWEST).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(policy.backoff(1, MIDDLE), ms(1_500));
    assert_eq!(policy.backoff(u32::MAX, LOWEST), ms(30_000));
    let millis: Vec<u128> = (0..=6).map(|looks| policy.poll_pause(looks, LOWEST).as_millis()).collect();
    assert_eq!(millis, [25, 50, 100, 200, 400, 500, 500]);
    assert_eq!(policy.poll_pause(0, MIDDLE), ms(37) + Duration::from_micros(500));
    let pauses = [None, Some(ms(5_000)), Some(2 * HOUR)].map(|asked| policy.rate_limit_pause(asked, MIDDLE));
    assert_eq!(pauses, [ms(63_000), ms(63_000), ms(3_780_000)]);
}

#[test]
fn those_who_go_ahead_double_every_so_often() {
    let stood = |draw| test_policy().contention_jitter(draw).as_micros();
    assert_eq!(stood(LOWEST), 0);
    // One in 2^12 goes at once, one in 2^6 by the middle, every other one a twelfth before the end.
    assert_eq!([stood(Draw(1 << 52)), stood(Draw(1 << 58)), stood(MIDDLE)], [0, 125_000, 229_166]);
    assert!(stood(HIGHEST) > 249_000 && stood(HIGHEST) <= 250_000);
}
