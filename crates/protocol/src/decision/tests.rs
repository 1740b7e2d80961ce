//! The decision table, and the arithmetic of times at its boundaries.

use super::*;
use crate::{
    record::Holder, record::Lease, record::Origin, record::Revocation, record::SecretVersion,
    record::TokenKind, record::Version, test_pair, test_policy,
};
use std::fmt::Write;

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const EAGER: Draw = Draw(0);
const SHY: Draw = Draw(u64::MAX);

fn ask(goal: Intent) -> Request {
    let deadline = NOW.plus(Duration::from_secs(28));
    Request { account: AccountName::default(), goal, arrived_at: NOW, deadline }
}

fn token(rejected: Option<Generation>) -> Intent {
    Intent::Token { min_ttl: Duration::from_secs(60), rejected }
}

/// A pair of generation 7 that lived for a week and expires that long from now.
fn pair(left: Duration, refresh_token_consumed: bool) -> Pair {
    Pair { refresh_token_consumed, ..test_pair(NOW.plus(left)) }
}

fn account(pair: Option<Pair>, leased: bool, cooling: bool) -> Account {
    let until = NOW.plus(Duration::from_secs(10));
    Account {
        version: Version(9),
        pair,
        lease: leased.then_some(Lease { holder: Holder(1), until }),
        cooldown: cooling.then_some(Cooldown { until, reason: CooldownReason::Unavailable, failures: 1 }),
        ..Account::default()
    }
}

fn named(decision: &Decision) -> &'static str {
    match decision {
        Decision::Answer => "answer",
        Decision::Nothing => "nothing",
        Decision::Verify => "verify",
        Decision::Revoke { withdraw: true } => "withdraw",
        Decision::Revoke { withdraw: false } => "revoke",
        Decision::Renew(Grant::Login) => "login",
        Decision::Renew(Grant::Refresh) => "refresh",
        Decision::Wait(_) => "wait",
        Decision::Fail(_) => "fail",
    }
}

#[test]
fn the_whole_decision_table() {
    let goals = [
        ("a token", token(None)),
        ("a token; generation 6 was rejected", token(Some(Generation(6)))),
        ("a token; generation 7 was rejected", token(Some(Generation(7)))),
        ("another pair, not looked yet", Intent::Replace(Target::NotSeen)),
        ("another pair than 7", Intent::Replace(Target::Pair(Some(Generation(7))))),
        ("another pair than none", Intent::Replace(Target::Pair(None))),
        ("to revoke 7", Intent::Revoke(Target::Pair(Some(Generation(7))))),
        ("to revoke what is gone", Intent::Revoke(Target::Pair(Some(Generation(6))))),
        ("to maintain", Intent::Maintain { revoked: false }),
    ];
    let seconds = Duration::from_secs;
    let pairs = [
        ("none", None, SHY),
        ("fresh", Some(6 * DAY), EAGER),
        ("due, not drawn", Some(DAY / 2), SHY),
        ("due, drawn", Some(DAY / 2), EAGER),
        ("too short for this caller", Some(seconds(30)), SHY),
        ("within the clock margin", Some(seconds(2)), SHY),
        ("expired", Some(Duration::ZERO), SHY),
    ];
    let mut table = format!(
        "{:<36}{:<27}{:<9}{:<9}{:<9}{:<9}{}\n",
        "goal", "pair", "refresh", "free", "leased", "cooling", "leased and cooling"
    );
    for (goal_name, goal) in goals {
        for (pair_name, left, draw) in pairs {
            for spent in [false, true] {
                let decided = |leased, cooling| {
                    let account = account(left.map(|left| pair(left, spent)), leased, cooling);
                    named(&decide(&ask(goal), &account, &test_policy(), NOW, draw))
                };
                let refresh = match (left, spent) {
                    (None, _) => "none",
                    (Some(_), false) => "unspent",
                    (Some(_), true) => "spent",
                };
                let (free, leased) = (decided(false, false), decided(true, false));
                let (cooling, both) = (decided(false, true), decided(true, true));
                writeln!(
                    table,
                    "{goal_name:<36}{pair_name:<27}{refresh:<9}{free:<9}{leased:<9}{cooling:<9}{both}"
                )
                .unwrap();
                if left.is_none() {
                    break;
                }
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn f08_a_lapsed_lease_or_cooldown_blocks_nobody() {
    for mut account in [account(None, true, false), account(None, false, true)] {
        let lapsed = NOW.plus(Duration::from_secs(10));
        let decision = decide(&ask(token(None)), &account, &test_policy(), lapsed, SHY);
        assert_eq!(decision, Decision::Renew(Grant::Login));
        // Nor is one that only a wrong clock can have written.
        let in_a_year = NOW.plus(365 * DAY);
        account.lease = account.lease.map(|lease| Lease { until: in_a_year, ..lease });
        account.cooldown = account.cooldown.map(|cooldown| Cooldown { until: in_a_year, ..cooldown });
        assert_eq!(
            decide(&ask(token(None)), &account, &test_policy(), NOW, SHY),
            Decision::Renew(Grant::Login)
        );
    }
}

#[test]
fn f15_the_clock_margin_makes_a_token_die_earlier_never_later() {
    let policy = test_policy();
    let margin_and_wish = policy.clock_margin + Duration::from_secs(60);
    let enough = pair(margin_and_wish, false);
    assert!(policy.usable(&enough, Duration::from_secs(60), NOW));
    assert_eq!(policy.expires_in_seconds(&enough, NOW), 60);
    let short = pair(Duration::from_millis(61_999), false);
    assert!(!policy.usable(&short, Duration::from_secs(60), NOW));
}

#[test]
fn f11_what_cannot_be_kept_for_a_second_is_not_handed_out() {
    let policy = test_policy();
    for (left_ms, served) in [(2_999, false), (3_000, true), (0, false)] {
        let pair = pair(Duration::from_millis(left_ms), false);
        let answer = ask(token(None)).answer(&pair, &policy, NOW, ServedFrom::Table);
        assert_eq!(answer.is_some(), served, "{left_ms} ms");
        assert!(answer.is_none_or(|answer| answer.expires_in_seconds == 1));
    }
}

#[test]
fn expires_in_is_what_the_operator_allows_at_most() {
    let answer = ask(token(None)).answer(&pair(DAY, false), &test_policy(), NOW, ServedFrom::Table).unwrap();
    assert_eq!(answer.expires_in_seconds, 900);
    assert_eq!(answer.expires_at, NOW.plus(Duration::from_secs(900)));
}

#[test]
fn a_pair_that_lives_too_short_serves_for_half_of_its_life() {
    let policy = test_policy();
    let brief = Pair { issued_at: NOW, expires_at: NOW.plus(Duration::from_secs(20)), ..pair(DAY, false) };
    let wish = Duration::from_secs(60);
    assert!(policy.usable(&brief, wish, NOW.plus(Duration::from_secs(8))));
    assert!(!policy.usable(&brief, wish, NOW.plus(Duration::from_millis(8_001))));
    let due = policy.due_at(&AccountName::default(), &brief);
    assert!(due >= NOW.plus(Duration::from_secs(10)) && due <= NOW.plus(Duration::from_secs(11)), "{due:?}");
}

#[test]
fn f02_a_pair_that_is_due_draws_no_herd_the_odds_rise_from_hardly_ever_to_surely() {
    let policy = test_policy();
    let account = AccountName::default();
    let wish = Duration::from_secs(60);
    let drawn =
        |left: Duration, draw| policy.early_refresh_selects(&account, &pair(left, false), wish, NOW, draw);
    assert!(!drawn(DAY * 2, EAGER), "not due");
    let one_in_a_thousand = Draw(u64::MAX / 1000);
    assert!(!drawn(DAY * 8 / 10, one_in_a_thousand));
    assert!(drawn(DAY / 4, one_in_a_thousand));
    assert!(drawn(policy.clock_margin + wish, SHY), "the last moment before somebody would have to wait");
}

#[test]
fn accounts_that_logged_in_together_are_not_due_together() {
    let policy = test_policy();
    let due = |name| policy.due_at(&AccountName::parse(name).unwrap(), &pair(7 * DAY, false));
    let (one, other) = (due("emea"), due("apac"));
    assert_ne!(one, other);
    for due in [one, other] {
        let ahead = NOW.plus(7 * DAY).since(due);
        assert!(ahead <= DAY && ahead > DAY * 9 / 10, "{ahead:?}");
    }
}

#[test]
fn f12_f13_a_report_is_neither_ignored_nor_believed_and_one_verdict_answers_the_rest_for_a_while() {
    let policy = test_policy();
    let decided = |rejected, verified_at| {
        let account = Account { verified_at, ..account(Some(pair(6 * DAY, false)), false, false) };
        decide(&ask(token(Some(Generation(rejected)))), &account, &policy, NOW, SHY)
    };
    let ago = |seconds| Some(NOW.minus(Duration::from_secs(seconds)));
    assert_eq!(decided(7, None), Decision::Verify);
    assert_eq!(decided(7, ago(14)), Decision::Answer, "found alive lately");
    assert_eq!(decided(7, ago(15)), Decision::Verify, "found alive a while ago");
    assert_eq!(decided(7, Some(NOW.plus(DAY))), Decision::Verify, "found alive by a wrong clock");
    assert_eq!(decided(6, None), Decision::Answer, "an older one");
    assert_eq!(decided(8, None), Decision::Answer, "newer than any issued");
}

#[test]
fn a_dead_pair_serves_nobody_whatever_its_expiry() {
    let dead = Pair { dead: true, ..pair(6 * DAY, false) };
    for goal in [token(None), token(Some(Generation(7)))] {
        let account = account(Some(dead.clone()), false, false);
        assert_eq!(decide(&ask(goal), &account, &test_policy(), NOW, SHY), Decision::Renew(Grant::Refresh));
    }
    let account = account(Some(dead), false, false);
    let maintained = decide(&ask(Intent::Maintain { revoked: false }), &account, &test_policy(), NOW, SHY);
    assert_eq!(maintained, Decision::Renew(Grant::Refresh));
}

#[test]
fn what_is_pending_is_gone_on_with() {
    let revocation =
        Revocation { token: Secret::from("t"), kind: TokenKind::Access, origin: Origin::default() };
    let decided = |goal, leased, pair| {
        let account = Account { pending: vec![revocation.clone()], ..account(pair, leased, false) };
        decide(&ask(goal), &account, &test_policy(), NOW, SHY)
    };
    assert_eq!(
        decided(Intent::Revoke(Target::Pair(Some(Generation(7)))), false, None),
        Decision::Revoke { withdraw: false }
    );
    assert!(matches!(
        decided(Intent::Revoke(Target::Pair(Some(Generation(7)))), true, None),
        Decision::Wait(_)
    ));
    let fresh = Some(pair(6 * DAY, false));
    assert_eq!(
        decided(Intent::Maintain { revoked: false }, false, fresh.clone()),
        Decision::Revoke { withdraw: false }
    );
    assert_eq!(
        decided(Intent::Maintain { revoked: false }, true, fresh.clone()),
        Decision::Nothing,
        "somebody is on it"
    );
    assert_eq!(decided(token(None), false, fresh), Decision::Answer, "it disturbs nobody");
}

#[test]
fn whoever_asks_for_a_longer_life_renews_earlier() {
    let last_moment = test_policy().clock_margin + Duration::from_secs(60);
    let account = account(Some(pair(last_moment, false)), false, false);
    let decided =
        |min_ttl| decide(&ask(Intent::Token { min_ttl, rejected: None }), &account, &test_policy(), NOW, SHY);
    assert_eq!(decided(Duration::from_secs(60)), Decision::Renew(Grant::Refresh));
    assert_eq!(decided(Duration::ZERO), Decision::Answer);
}

#[test]
fn a_parked_version_does_not_keep_a_usable_pair_from_being_served() {
    let rejected_secret = Some(SecretVersion("v1".to_owned()));
    let account = Account { rejected_secret, ..account(Some(pair(6 * DAY, true)), false, false) };
    assert_eq!(decide(&ask(token(None)), &account, &test_policy(), NOW, EAGER), Decision::Answer);
}
