//! Details. `behaviour.json` in the contract has the rules that all clients share.

use super::*;
use contract::{AccountName, Secret};

const START: Timestamp = Timestamp::from_millis(1_775_000_000_000);
const LATEST: Draw = Draw(0);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn after(count: u64) -> Timestamp {
    START.plus(seconds(count))
}

fn token(generation: u64, lifetime: u64, at: Timestamp) -> Token {
    Token {
        access_token: Secret::from("token"),
        generation: Generation(generation),
        account: AccountName::default(),
        expires_at: at.plus(seconds(lifetime)),
        served_from: ServedFrom::Table,
        extra: None,
        granted: seconds(lifetime),
    }
}

fn holding(generation: u64, lifetime: u64) -> CachedAccount {
    let mut entry = CachedAccount::default();
    entry.store(Demand::default(), token(generation, lifetime, START), START, LATEST);
    entry
}

fn for_seconds(count: u64) -> Demand {
    Demand { min_ttl: Some(seconds(count)), rejected: None }
}

fn report(generation: u64) -> Demand {
    Demand { min_ttl: None, rejected: Some(Generation(generation)) }
}

fn unavailable() -> Error {
    Error::Unreachable("refused".to_owned())
}

#[test]
fn a_token_is_renewed_a_tenth_earlier_at_most() {
    assert_eq!(renewal_age(seconds(900), LATEST), seconds(600));
    let earliest = renewal_age(seconds(900), Draw(u64::MAX));
    assert!(earliest >= seconds(540) && earliest < seconds(541), "{earliest:?}");
}

#[test]
fn pauses_between_renewals_grow_to_five_minutes() {
    let mut entry = holding(7, 900);
    let mut now = after(600);
    for _ in 0..20 {
        entry.fail(Demand::default(), &unavailable(), now, LATEST);
        now = entry.next_renewal(now).unwrap();
    }
    entry.fail(Demand::default(), &unavailable(), now, LATEST);
    assert_eq!(entry.next_renewal(now).unwrap().since(now), LONGEST_RENEWAL_PAUSE);
}

#[test]
fn a_late_older_token_does_not_bring_the_renewal_forward() {
    let mut entry = holding(8, 900);
    entry.store(Demand::default(), token(7, 900, START), after(1), LATEST);
    assert_eq!(entry.next_renewal(after(1)), Some(after(600)));
}

#[test]
fn a_clock_that_stepped_back_makes_the_renewal_due() {
    let mut entry = holding(7, 900);
    assert_eq!(entry.next_renewal(START.minus(CLOCK_STEP)), Some(after(600)));
    assert_eq!(entry.next_renewal(START.minus(seconds(3600))), None);
    entry.fail(Demand::default(), &unavailable(), START, LATEST);
    assert_eq!(entry.next_renewal(START.minus(seconds(3600))), None);
}

#[test]
fn a_report_of_another_token_brings_no_older_one() {
    let mut entry = holding(9, 900);
    entry.store(report(8), token(8, 900, START), START, LATEST);
    assert!(
        matches!(entry.look_up(Demand::default(), START), Lookup::Answer { token, .. } if token.generation.0 == 9)
    );
}

#[test]
fn an_answer_that_is_too_short_says_so_in_seconds() {
    let short = for_seconds(900).check(token(7, 45, START), START);
    assert_eq!(short, Err(Error::TooShort { valid_for: 45, wanted: 900 }));
}

#[test]
fn a_demand_is_covered_by_a_call_for_as_much() {
    for (demand, call, is_covered) in [
        (Demand::default(), report(7), true),
        (report(7), report(8), true),
        (report(8), report(7), false),
        (report(7), Demand::default(), false),
        (for_seconds(5), for_seconds(6), true),
        (for_seconds(6), for_seconds(5), false),
        (for_seconds(6), Demand::default(), false),
    ] {
        assert_eq!(demand.is_covered_by(call), is_covered, "{demand:?} by {call:?}");
    }
}
