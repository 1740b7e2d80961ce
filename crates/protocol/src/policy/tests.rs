//! The arithmetic of times, at its boundaries.

use super::*;
use crate::{Account, Cooldown, CooldownReason, Generation, Holder, testing};

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const POLICY: Policy = Policy::DEFAULT;
const HOUR: Duration = Duration::from_secs(3600);
const LOWEST: Draw = Draw(0);
const MIDDLE: Draw = Draw(1 << 63);
const HIGHEST: Draw = Draw(u64::MAX);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn pair(generation: u64, left: Duration) -> Pair {
    Pair { generation: Generation(generation), issued_at: NOW, ..testing::pair(NOW.plus(left)) }
}

#[test]
fn a_stored_instant_lies_no_further_ahead_than_its_kind_can() {
    let margin = Duration::from_secs(60);
    for (kind, longest) in [
        (InstantKind::Lease, HOUR / 6),
        (InstantKind::Permit, Duration::from_secs(3_770)),
        (InstantKind::Pause, HOUR + HOUR / 10),
        (InstantKind::RevocationRetry, 6 * HOUR),
        (InstantKind::SecretRetry, 24 * HOUR + 24 * HOUR / 10),
    ] {
        let ahead = |span| lies_ahead(kind, NOW.plus(span), NOW);
        assert!(ahead(ms(1)) && ahead(longest + margin), "{kind:?}");
        assert!(!ahead(ms(0)) && !ahead(longest + margin + ms(1)), "{kind:?}");
        assert!(!lies_ahead(kind, NOW.minus(ms(1)), NOW));
    }

    let lease = Lease { holder: Holder(1), until: NOW.plus(ms(1)) };
    let cooldown = Cooldown {
        until: NOW.plus(ms(1)),
        reason: CooldownReason::Unavailable(crate::UpstreamFault::Unexpected),
        failures: 1,
    };
    let account = Account { lease: Some(lease), cooldown: Some(cooldown), ..Account::default() };
    assert_eq!((account.active_lease(NOW), account.active_cooldown(NOW)), (Some(lease), Some(cooldown)));
    let lapsed = lease.until;
    assert_eq!((account.active_lease(lapsed), account.active_cooldown(lapsed)), (None, None));
    let empty = Account::default();
    assert_eq!((empty.active_lease(NOW), empty.active_cooldown(NOW)), (None, None));
}

/// Instances of two releases run side by side and have to agree, so the spread is part of the protocol.
#[test]
fn every_release_spreads_renewals_alike() {
    let spread = |name: &str, generation| {
        let name = AccountName::parse(name).unwrap();
        POLICY.due_at(&name, &pair(generation, 168 * HOUR)).since(NOW.plus(144 * HOUR))
    };
    assert_eq!(
        [spread("default", 7), spread("default", 8), spread("emea", 7)],
        [ms(6_176_102), ms(7_531_873), ms(3_072_698)]
    );
}

#[test]
fn a_short_lived_pair_is_renewed_after_half_its_life() {
    let brief = pair(7, ms(20_000));
    let due = POLICY.due_at(&AccountName::default(), &brief).since(NOW);
    assert!((ms(10_000)..=ms(11_000)).contains(&due), "{due:?}");
}

#[test]
fn a_pair_with_its_own_renewal_time_is_usable_until_it_is_due() {
    let own = Pair { refresh_ahead: Some(ms(100_000)), ..pair(7, HOUR) };
    let is_usable = |left: u64| POLICY.usable(&own, HOUR, own.expires_at.minus(ms(left)));
    // The spread is below a tenth, so every instance finds it due at 90 s.
    assert!(is_usable(90_000) && !is_usable(89_999));
}

#[test]
fn early_refresh_probability_doubles_every_twentieth_of_the_way() {
    let name = AccountName::default();
    let pair = pair(7, 168 * HOUR);
    let due = POLICY.due_at(&name, &pair);
    let wish = ms(60_000);
    let last = pair.expires_at.minus(POLICY.clock_margin).minus(wish);
    let selects = |wish, at, draw| POLICY.selects_early_refresh(&name, &pair, wish, at, draw);
    // A draw at this many hundredths of the probability 2^-power.
    let draw = |hundredths: u64, power: u32| Draw((1 << (64 - power)) / 100 * hundredths);

    assert!(!selects(wish, due.minus(ms(1)), LOWEST), "not due");
    assert!(selects(wish, due, LOWEST), "due");
    let window = last.since(due);
    for (at, power) in [(due, 20), (due.plus(window / 4), 15), (due.plus(window / 2), 10)] {
        assert!(selects(wish, at, draw(99, power)), "2^-{power}");
        assert!(!selects(wish, at, draw(101, power)), "2^-{power}");
    }
    assert!(!selects(wish, due, Draw(1 << 44)), "2^-20 are selected, and not one more");
    assert!(!selects(wish, last.minus(HOUR), HIGHEST));
    assert!(
        selects(wish, last, HIGHEST) && selects(wish, pair.expires_at, HIGHEST),
        "no request has to wait"
    );
    assert!(!selects(ms(0), last, HIGHEST), "a shorter requested life leaves more time");
}

#[test]
fn a_pair_that_is_due_and_used_up_selects_every_request() {
    let policy = Policy { clock_margin: HOUR, ..POLICY };
    let brief = pair(7, HOUR);
    let due = policy.due_at(&AccountName::default(), &brief);
    assert!(policy.selects_early_refresh(&AccountName::default(), &brief, ms(0), due, HIGHEST));
}

#[test]
fn a_lease_outlasts_two_calls_and_the_margin() {
    let with = |lease| Policy { lease, ..POLICY };
    assert!(!with(ms(12_000)).has_long_enough_lease() && with(ms(12_001)).has_long_enough_lease());
}

#[test]
fn a_call_leaves_while_lease_and_caller_outlast_it() {
    let lease = Lease { holder: Holder(1), until: NOW.plus(POLICY.lease) };
    let latest = |left| POLICY.latest_send(&lease, NOW.plus(ms(left))).since(NOW);
    assert_eq!(latest(28_000), ms(8_000), "the lease of 15 s less the call of 5 s and the margin of 2 s");
    assert_eq!(latest(12_000), ms(6_000), "the caller's 12 s less the call and the commit reserve");
}

#[test]
fn a_permit_counts_for_a_minute_and_every_delay_of_a_login() {
    assert_eq!(POLICY.permit_freshness(), ms(2_000), "the margin");
    assert_eq!(POLICY.permit_window(LOGIN_WINDOW), ms(60_000 + 2_000 + 2_000 + 5_000 + 5_000));
    let exact = Policy { clock_margin: ms(0), ..POLICY };
    assert_eq!(exact.permit_freshness(), ms(1_000), "at least a second");
}

#[test]
fn pauses_double_up_to_a_limit_and_are_jittered() {
    let backoff = |failures, draw| POLICY.cooldown(UpstreamFault::NoResponse, failures, None, draw);
    let seconds: Vec<u64> = (1..=8).map(|failures| backoff(failures, LOWEST).as_secs()).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(backoff(1, MIDDLE), ms(1_500));
    assert_eq!(backoff(u32::MAX, LOWEST), ms(30_000));
    let millis: Vec<u128> = (0..=6).map(|looks| POLICY.poll_pause(looks, LOWEST).as_millis()).collect();
    assert_eq!(millis, [25, 50, 100, 200, 400, 500, 500]);
    assert_eq!(POLICY.poll_pause(0, MIDDLE), ms(37) + Duration::from_micros(500));
    let pauses =
        [None, Some(ms(5_000)), Some(2 * HOUR)].map(|requested| POLICY.rate_limit_pause(requested, MIDDLE));
    assert_eq!(pauses, [ms(63_000), ms(63_000), ms(3_780_000)]);
}

#[test]
fn refusals_pause_for_a_minute_to_an_hour() {
    let pause = |failures| POLICY.cooldown(UpstreamFault::Refused, failures, None, LOWEST).as_secs();
    assert_eq!([1, 2, 3, 6, 7, 8, 99].map(pause), [60, 120, 240, 1_920, 3_600, 3_600, 3_600]);
}

#[test]
fn a_requested_pause_counts_if_it_is_the_longer_one() {
    for fault in [UpstreamFault::NoResponse, UpstreamFault::Unexpected] {
        let pause = |requested, draw| POLICY.cooldown(fault, 1, Some(requested), draw);
        assert_eq!(pause(ms(500), MIDDLE), ms(1_500), "the broker's own pause is longer");
        assert_eq!(pause(ms(600_000), LOWEST), ms(600_000));
        assert_eq!(pause(ms(600_000), MIDDLE), ms(630_000), "and up to a tenth more");
        assert_eq!(pause(100 * HOUR, LOWEST), HOUR, "at most an hour");
    }
}

#[test]
fn a_rejected_secret_is_tried_again_after_six_hours_to_a_day() {
    let hours = |refusals| POLICY.secret_retry(refusals, LOWEST).as_secs() / 3600;
    assert_eq!([0, 1, 2, 3, 4, 99].map(hours), [6, 6, 12, 24, 24, 24]);
    assert!(POLICY.secret_retry(1, HIGHEST) > 6 * HOUR, "and up to a tenth more");
}

#[test]
fn a_failed_early_refresh_pauses_for_a_part_of_what_is_left() {
    let pause = |left| POLICY.early_refresh_pause(&pair(7, left + POLICY.clock_margin), NOW);
    assert_eq!([pause(12 * HOUR), pause(24 * HOUR), pause(100 * HOUR)], [HOUR / 2, HOUR, HOUR]);
}

#[test]
fn contention_jitter_lets_a_doubling_number_go_ahead() {
    let jitter = |draw| POLICY.contention_jitter(draw).as_micros();
    assert_eq!(jitter(LOWEST), 0);
    // One in 2^12 goes at once, one in 2^6 by the middle, one in two a twelfth before the end.
    assert_eq!([jitter(Draw(1 << 52)), jitter(Draw(1 << 58)), jitter(MIDDLE)], [0, 125_000, 229_166]);
    assert!(jitter(HIGHEST) > 249_000 && jitter(HIGHEST) <= 250_000);
}
