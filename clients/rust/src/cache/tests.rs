use super::*;
use contract::{AccountName, Secret};

const START: Timestamp = Timestamp::from_millis(1_775_000_000_000);
const LATEST: Draw = Draw(0);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn token(generation: u64, lifetime: u64, at: Timestamp) -> Token {
    Token {
        access_token: Secret::from("token"),
        generation: Generation(generation),
        account: AccountName::default(),
        expires_at: at.plus(seconds(lifetime)),
        served_from: ServedFrom::Table,
        granted: seconds(lifetime),
    }
}

fn holding(generation: u64, lifetime: u64) -> Entry {
    let mut entry = Entry::default();
    entry.store(Demand::default(), token(generation, lifetime, START), START, LATEST);
    entry
}

fn for_seconds(count: u64) -> Demand {
    Demand { min_ttl: Some(seconds(count)), rejected: None }
}

fn report(generation: u64) -> Demand {
    Demand { min_ttl: None, rejected: Some(Generation(generation)) }
}

fn after(count: u64) -> Timestamp {
    START.plus(seconds(count))
}

fn answered(lookup: &Lookup) -> Option<u64> {
    match lookup {
        Lookup::Answer { token, .. } => Some(token.generation.0),
        _ => None,
    }
}

fn unavailable() -> Error {
    Error::Unreachable("refused".to_owned())
}

mod validity {
    use super::*;

    #[test]
    fn a_token_answers_while_it_lives_as_long_as_demanded() {
        let entry = holding(7, 900);
        for (demand, at, answers) in [
            (Demand::default(), 0, true),
            (Demand::default(), 840, true),
            (Demand::default(), 841, false),
            (for_seconds(900), 0, true),
            (for_seconds(900), 1, false),
            (for_seconds(1), 899, true),
            (for_seconds(0), 899, true),
            (for_seconds(0), 900, false),
        ] {
            let lookup = entry.look_up(demand, after(at));
            assert_eq!(answered(&lookup).is_some(), answers, "{demand:?} after {at} s");
        }
    }

    #[test]
    fn half_of_a_short_life_is_enough_by_default() {
        let entry = holding(7, 30);
        assert_eq!(answered(&entry.look_up(Demand::default(), after(15))), Some(7));
        assert_eq!(entry.look_up(Demand::default(), after(16)), Lookup::Miss);
    }

    #[test]
    fn a_clock_that_stepped_back_ends_the_trust() {
        let entry = holding(7, 900);
        assert_eq!(entry.look_up(Demand::default(), START.minus(seconds(3600))), Lookup::Miss);
        assert_eq!(answered(&entry.look_up(Demand::default(), START.minus(seconds(1)))), Some(7));
    }

    #[test]
    fn the_longest_lifetime_is_served_fresh() {
        let late = START.plus(Duration::from_millis(1_500));
        assert!(for_seconds(900).check(token(7, 900, START), late).is_ok());
        assert_eq!(
            for_seconds(900).check(token(7, 45, START), START),
            Err(Error::TooShort { valid_for: 45, wanted: 900 })
        );
        // The process was frozen while the answer was on its transport.
        assert!(for_seconds(60).check(token(7, 900, START), after(899)).is_err());
        assert!(Demand::default().check(token(7, 900, START), after(900)).is_err());
    }
}

mod renewal {
    use super::*;

    #[test]
    fn is_due_at_two_thirds_or_a_tenth_earlier() {
        assert_eq!(renewal_age(seconds(900), LATEST), seconds(600));
        let earliest = renewal_age(seconds(900), Draw(u64::MAX));
        assert!(earliest >= seconds(540) && earliest < seconds(541), "{earliest:?}");
        let entry = holding(7, 900);
        assert!(matches!(entry.look_up(Demand::default(), after(599)), Lookup::Answer { renew: false, .. }));
        assert!(matches!(entry.look_up(Demand::default(), after(600)), Lookup::Answer { renew: true, .. }));
    }

    #[test]
    fn a_failure_leaves_the_valid_token_and_pauses() {
        let mut entry = holding(7, 900);
        entry.fail(Demand::default(), &unavailable(), after(600), LATEST);
        assert!(matches!(entry.look_up(Demand::default(), after(600)), Lookup::Answer { renew: false, .. }));
        assert!(matches!(entry.look_up(Demand::default(), after(601)), Lookup::Answer { renew: true, .. }));
    }

    #[test]
    fn pauses_grow_to_five_minutes() {
        let mut entry = holding(7, 900);
        let mut now = after(600);
        for _ in 0..20 {
            entry.fail(Demand::default(), &unavailable(), now, LATEST);
            now = entry.next_renewal().unwrap();
        }
        entry.fail(Demand::default(), &unavailable(), now, LATEST);
        assert_eq!(entry.next_renewal().unwrap().since(now), LONGEST_RENEWAL_PAUSE);
    }

    #[test]
    fn a_late_older_token_replaces_no_newer_one() {
        let mut entry = holding(8, 900);
        entry.store(Demand::default(), token(7, 900, START), after(1), LATEST);
        assert_eq!(answered(&entry.look_up(Demand::default(), after(1))), Some(8));
        // But an expired one is replaced by anything, and so is one that is too short for the call.
        entry.store(Demand::default(), token(7, 900, after(901)), after(901), LATEST);
        assert_eq!(answered(&entry.look_up(Demand::default(), after(901))), Some(7));
        let mut entry = holding(8, 900);
        entry.store(for_seconds(600), token(7, 900, after(400)), after(400), LATEST);
        assert_eq!(answered(&entry.look_up(for_seconds(600), after(400))), Some(7));
    }

    #[test]
    fn that_brings_an_older_token_is_not_repeated_for_30_seconds() {
        let mut entry = holding(8, 900);
        entry.store(Demand::default(), token(7, 900, after(600)), after(600), LATEST);
        assert_eq!(entry.next_renewal(), Some(after(630)));
        assert_eq!(answered(&entry.look_up(Demand::default(), after(600))), Some(8));
        // A late answer of before the renewal does not bring the next one forward.
        let mut entry = holding(8, 900);
        entry.store(Demand::default(), token(7, 900, START), after(1), LATEST);
        assert_eq!(entry.next_renewal(), Some(after(600)));
    }
}

mod failures {
    use super::*;

    fn budget(retry_after: u64) -> Error {
        Error::Refused {
            code: Code::LoginBudgetExhausted,
            description: "wait".to_owned(),
            retry_after: Some(seconds(retry_after)),
            request_id: None,
        }
    }

    #[test]
    fn are_answered_without_a_call_for_a_moment() {
        let mut entry = Entry::default();
        assert_eq!(entry.look_up(Demand::default(), START), Lookup::Miss);
        entry.fail(Demand::default(), &unavailable(), START, LATEST);
        assert!(matches!(entry.look_up(Demand::default(), START), Lookup::Fail(_)));
        assert_eq!(entry.look_up(Demand::default(), after(1)), Lookup::Miss);
    }

    #[test]
    fn honour_retry_after_up_to_ten_seconds() {
        let mut entry = Entry::default();
        for failures in 0..8 {
            entry.fail(Demand::default(), &budget(1), after(failures), LATEST);
            assert_eq!(entry.look_up(Demand::default(), after(failures + 1)), Lookup::Miss);
        }
        let mut entry = Entry::default();
        entry.fail(Demand::default(), &budget(4), START, LATEST);
        let Lookup::Fail(error) = entry.look_up(Demand::default(), after(1)) else { panic!("in cooldown") };
        assert_eq!(error.retry_after(), Some(seconds(3)));
        assert_eq!(entry.look_up(Demand::default(), after(4)), Lookup::Miss);
        entry.fail(Demand::default(), &budget(3600), START, LATEST);
        assert_eq!(entry.look_up(Demand::default(), after(10)), Lookup::Miss);
        assert_eq!(entry.next_renewal(), Some(after(300)));
    }

    #[test]
    fn of_one_request_say_nothing_about_the_next() {
        let mut entry = Entry::default();
        let refused = Error::InvalidCall("no".to_owned());
        entry.fail(for_seconds(1_000_000), &refused, START, LATEST);
        assert_eq!(entry.look_up(Demand::default(), START), Lookup::Miss);
        entry.fail(Demand::default(), &refused, START, LATEST);
        assert_eq!(entry.look_up(Demand::default(), START), Lookup::Fail(refused));
    }

    #[test]
    fn end_with_a_success_and_with_a_clock_that_stepped_back() {
        let mut entry = Entry::default();
        entry.fail(Demand::default(), &budget(10), START, LATEST);
        assert_eq!(entry.look_up(Demand::default(), START.minus(seconds(3600))), Lookup::Miss);
        entry.store(Demand::default(), token(7, 900, START), START, LATEST);
        assert_eq!(answered(&entry.look_up(Demand::default(), START)), Some(7));
    }
}

mod reports {
    use super::*;

    #[test]
    fn of_an_older_generation_are_answered_at_once() {
        let entry = holding(8, 900);
        assert_eq!(answered(&entry.look_up(report(7), START)), Some(8));
        assert_eq!(entry.look_up(report(8), START), Lookup::Miss);
        assert_eq!(entry.look_up(report(9), START), Lookup::Miss);
    }

    #[test]
    fn are_not_repeated_for_five_seconds_after_a_confirmation() {
        let mut entry = holding(7, 900);
        entry.store(report(7), token(7, 900, START), START, LATEST);
        assert_eq!(answered(&entry.look_up(report(7), after(4))), Some(7));
        assert_eq!(entry.look_up(report(7), after(5)), Lookup::Miss);
    }

    #[test]
    fn bring_the_older_token_of_a_restored_table() {
        let mut entry = holding(9, 900);
        entry.store(report(9), token(8, 900, START), START, LATEST);
        assert_eq!(answered(&entry.look_up(Demand::default(), START)), Some(8));
        assert_eq!(answered(&entry.look_up(report(9), after(4))), Some(8), "reported a moment ago");
        assert_eq!(entry.look_up(report(9), after(5)), Lookup::Miss);
        assert_eq!(entry.look_up(report(8), START), Lookup::Miss, "the older one may be dead as well");
    }

    #[test]
    fn of_another_token_do_not_bring_an_older_one() {
        let mut entry = holding(9, 900);
        entry.store(report(8), token(8, 900, START), START, LATEST);
        assert_eq!(answered(&entry.look_up(Demand::default(), START)), Some(9));
    }

    #[test]
    fn are_covered_by_a_call_for_the_same_or_a_later_one() {
        assert!(Demand::default().is_covered_by(report(7)));
        assert!(report(7).is_covered_by(report(8)));
        assert!(!report(8).is_covered_by(report(7)));
        assert!(!report(7).is_covered_by(Demand::default()));
        assert!(for_seconds(5).is_covered_by(for_seconds(6)));
        assert!(!for_seconds(6).is_covered_by(for_seconds(5)));
        assert!(!for_seconds(6).is_covered_by(Demand::default()));
    }
}
