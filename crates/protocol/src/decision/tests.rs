//! The decision table, and the arithmetic of times at its boundaries.

use super::*;
use crate::{
    AccountName, Cooldown, CooldownReason, Draw, Fingerprint, GrantState, Holder, Lease, Origin, Policy,
    Revocation, Secret, Task, TokenKind, Version, testing,
};
use std::fmt::Write;

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const POLICY: Policy = Policy::DEFAULT;
/// Selects for early refresh whenever a pair is due.
const SELECTS: Draw = Draw(0);
/// Selects at the last instant only.
const SPARES: Draw = Draw(u64::MAX);

fn cx(now: Timestamp, draw: Draw) -> Context<'static> {
    Context::new(&POLICY, now, draw)
}

fn request(intent: Intent) -> Request {
    let deadline = NOW.plus(Duration::from_secs(28));
    Request {
        account: AccountName::default(),
        intent,
        arrived: crate::Moment::of_agreeing_clocks(NOW),
        deadline,
    }
}

fn token(rejected: Option<Generation>) -> Intent {
    Intent::Token { min_ttl: Duration::from_secs(60), rejected }
}

/// A pair of generation 7 that lives for a week and expires that long from now.
fn pair(left: Duration) -> Pair {
    testing::pair(NOW.plus(left))
}

fn account(pair: Option<Pair>, leased: bool, cooling: bool) -> Account {
    let until = NOW.plus(Duration::from_secs(10));
    Account {
        version: Version(9),
        pair,
        lease: leased.then_some(Lease { holder: Holder(1), until }),
        cooldown: cooling.then_some(Cooldown {
            until,
            reason: CooldownReason::Unavailable(crate::UpstreamFault::Unexpected),
            failures: 1,
        }),
        ..Account::default()
    }
}

fn revocation() -> Revocation {
    Revocation {
        token: Secret::from("t"),
        kind: TokenKind::Access,
        origin: Origin::default(),
        expires_at: NOW.plus(DAY),
        retry: None,
    }
}

fn decided(intent: Intent, account: &Account, draw: Draw) -> Decision {
    decide(&request(intent), Progress::default(), account, cx(NOW, draw))
}

fn answers(decision: &Decision) -> bool {
    matches!(decision, Decision::Answer(_))
}

fn refreshes(decision: &Decision) -> bool {
    matches!(decision, Decision::Refresh(sent) if sent.token == Secret::from("refresh"))
}

fn named(decision: &Decision) -> &'static str {
    match decision {
        Decision::Answer(_) => "answer",
        Decision::Finish => "finish",
        Decision::Probe(_) => "probe",
        Decision::Unblock => "unblock",
        Decision::Revoke { withdraw: true } => "withdraw",
        Decision::Revoke { withdraw: false } => "revoke",
        Decision::LogIn => "login",
        Decision::Refresh(_) => "refresh",
        Decision::Wait(_) => "wait",
        Decision::Fail(_) => "fail",
    }
}

fn seen(generation: Option<u64>, grant: Option<&str>) -> OperatorTarget {
    let grant = grant.map(|token| Fingerprint::of(&token.into()));
    OperatorTarget::Seen { generation: generation.map(Generation), grant }
}

#[test]
fn the_decision_table() {
    let intents = [
        ("token", token(None), OperatorTarget::NotSeen),
        ("token; generation 6 was rejected", token(Some(Generation(6))), OperatorTarget::NotSeen),
        ("token; generation 7 was rejected", token(Some(Generation(7))), OperatorTarget::NotSeen),
        ("replace, before the first look", Intent::Replace, OperatorTarget::NotSeen),
        ("replace 7", Intent::Replace, seen(Some(7), None)),
        ("replace, there was none", Intent::Replace, seen(None, None)),
        ("revoke 7", Intent::Revoke, seen(Some(7), None)),
        ("revoke 6", Intent::Revoke, seen(Some(6), None)),
        ("unblock", Intent::Unblock, OperatorTarget::NotSeen),
        ("maintain", Intent::Maintain(Task::Renew), OperatorTarget::NotSeen),
    ];
    let seconds = Duration::from_secs;
    let pairs = [
        ("none", None, SPARES),
        ("fresh", Some(6 * DAY), SELECTS),
        ("due, not selected", Some(DAY / 2), SPARES),
        ("due, selected", Some(DAY / 2), SELECTS),
        ("too short for this caller", Some(seconds(30)), SPARES),
        ("within the clock margin", Some(seconds(2)), SPARES),
        ("expired", Some(Duration::ZERO), SPARES),
    ];
    let mut table = format!(
        "{:<36}{:<27}{:<11}{:<9}{:<9}{:<9}{}\n",
        "intent", "pair", "refresh", "free", "leased", "cooling", "leased and cooling"
    );
    for (intent_name, intent, target) in intents {
        for (pair_name, left, draw) in pairs {
            for consumed in [false, true] {
                let decided = |leased, cooling| {
                    let mut account = account(left.map(pair), leased, cooling);
                    account.mark_refresh_token(consumed);
                    let progress = Progress { target, ..Progress::default() };
                    named(&decide(&request(intent), progress, &account, cx(NOW, draw)))
                };
                let refresh = match (left, consumed) {
                    (None, _) => "none",
                    (Some(_), false) => "available",
                    (Some(_), true) => "consumed",
                };
                let (free, leased) = (decided(false, false), decided(true, false));
                let (cooling, both) = (decided(false, true), decided(true, true));
                writeln!(
                    table,
                    "{intent_name:<36}{pair_name:<27}{refresh:<11}{free:<9}{leased:<9}{cooling:<9}{both}"
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
fn f08_a_lapsed_lease_or_cooldown_blocks_no_request() {
    for mut account in [account(None, true, false), account(None, false, true)] {
        let lapsed = cx(NOW.plus(Duration::from_secs(10)), SPARES);
        let decision = decide(&request(token(None)), Progress::default(), &account, lapsed);
        assert_eq!(decision, Decision::LogIn);
        // Nor does one that only a wrong clock can have written.
        let in_a_year = NOW.plus(365 * DAY);
        account.lease = account.lease.map(|lease| Lease { until: in_a_year, ..lease });
        account.cooldown = account.cooldown.map(|cooldown| Cooldown { until: in_a_year, ..cooldown });
        assert_eq!(decided(token(None), &account, SPARES), Decision::LogIn);
    }
}

#[test]
fn f15_the_clock_margin_ends_a_token_earlier_never_later() {
    let margin_and_wish = POLICY.clock_margin + Duration::from_secs(60);
    let enough = pair(margin_and_wish);
    assert!(POLICY.usable(&enough, Duration::from_secs(60), NOW));
    assert_eq!(POLICY.expires_in_seconds(&enough, NOW), 60);
    let short = pair(Duration::from_millis(61_999));
    assert!(!POLICY.usable(&short, Duration::from_secs(60), NOW));
}

#[test]
fn f11_a_token_with_less_than_a_second_left_is_not_handed_out() {
    for (left_ms, served) in [(2_999, false), (3_000, true), (0, false)] {
        let pair = pair(Duration::from_millis(left_ms));
        let answer = Answer::from_pair(&pair, &POLICY, NOW, ServedFrom::Table);
        assert_eq!(answer.is_some(), served, "{left_ms} ms");
        assert!(answer.is_none_or(|answer| answer.expires_in_seconds == 1));
    }
}

#[test]
fn expires_in_is_at_most_the_configured_ttl() {
    let answer = Answer::from_pair(&pair(DAY), &POLICY, NOW, ServedFrom::Table).unwrap();
    assert_eq!(answer.expires_in_seconds, 900);
    assert_eq!(answer.expires_at, NOW.plus(Duration::from_secs(900)));
}

#[test]
fn a_short_lived_pair_is_usable_for_half_of_its_life() {
    let brief = Pair { issued_at: NOW, expires_at: NOW.plus(Duration::from_secs(20)), ..pair(DAY) };
    let wish = Duration::from_secs(60);
    assert!(POLICY.usable(&brief, wish, NOW.plus(Duration::from_secs(8))));
    assert!(!POLICY.usable(&brief, wish, NOW.plus(Duration::from_millis(8_001))));
    let due = POLICY.due_at(&AccountName::default(), &brief);
    assert!(due >= NOW.plus(Duration::from_secs(10)) && due <= NOW.plus(Duration::from_secs(11)), "{due:?}");
}

#[test]
fn f02_early_refresh_probability_rises_from_tiny_to_one() {
    let account = AccountName::default();
    let wish = Duration::from_secs(60);
    let selects = |left: Duration, draw| POLICY.selects_early_refresh(&account, &pair(left), wish, NOW, draw);
    assert!(!selects(DAY * 2, SELECTS), "not due");
    let one_in_a_thousand = Draw(u64::MAX / 1000);
    assert!(!selects(DAY * 8 / 10, one_in_a_thousand));
    assert!(selects(DAY / 4, one_in_a_thousand));
    assert!(
        selects(POLICY.clock_margin + wish, SPARES),
        "the last instant before a request would have to wait"
    );
}

#[test]
fn accounts_that_logged_in_together_are_not_due_together() {
    let due = |name| POLICY.due_at(&AccountName::parse(name).unwrap(), &pair(7 * DAY));
    let (one, other) = (due("emea"), due("apac"));
    assert_ne!(one, other);
    for due in [one, other] {
        let ahead = NOW.plus(7 * DAY).since(due);
        assert!(ahead <= DAY && ahead > DAY * 9 / 10, "{ahead:?}");
    }
}

#[test]
fn f12_f13_a_report_is_probed_and_one_verdict_answers_the_rest() {
    let decided = |rejected, verdict| {
        let pair = Pair { verdict, ..pair(6 * DAY) };
        named(&decided(token(Some(Generation(rejected))), &account(Some(pair), false, false), SPARES))
    };
    let ago = |seconds| Verdict::Alive { at: NOW.minus(Duration::from_secs(seconds)) };
    assert_eq!(decided(7, Verdict::Unverified), "probe");
    assert_eq!(decided(7, ago(14)), "answer", "found alive lately");
    assert_eq!(decided(7, ago(15)), "probe", "found alive a while ago");
    assert_eq!(decided(7, Verdict::Alive { at: NOW.plus(DAY) }), "probe", "found alive by a wrong clock");
    let after = |span| Verdict::Inconclusive { probe_after: NOW.plus(span) };
    assert_eq!(decided(7, after(Duration::from_millis(1))), "answer", "the last probe gave no verdict");
    assert_eq!(decided(7, after(Duration::ZERO)), "probe", "that was a while ago");
    assert_eq!(decided(6, Verdict::Unverified), "answer", "an older generation");
    assert_eq!(decided(8, Verdict::Unverified), "answer", "newer than any issued");
}

/// The clocks of its issuer and of the reporter's instance may differ by the margin.
#[test]
fn a_pair_issued_a_moment_ahead_is_probed_at_its_first_report() {
    for ahead_ms in [1, 2_000] {
        let issued_at = NOW.plus(Duration::from_millis(ahead_ms));
        let issued = account(Some(Pair { issued_at, ..pair(6 * DAY) }), false, false);
        let decided = |young_deaths| {
            let account = Account { young_deaths, ..issued.clone() };
            named(&decided(token(Some(Generation(7))), &account, SPARES))
        };
        assert_eq!(decided(0), "probe", "{ahead_ms}");
        assert_eq!(decided(9), "answer", "{ahead_ms}: others died young one after another");
    }
}

#[test]
fn a_dead_pair_is_never_usable_whatever_its_expiry() {
    let dead = Pair { verdict: Verdict::Dead, ..pair(6 * DAY) };
    for intent in [token(None), token(Some(Generation(7))), Intent::Maintain(Task::Renew)] {
        let account = account(Some(dead.clone()), false, false);
        assert!(refreshes(&decided(intent, &account, SPARES)), "{intent:?}");
    }
}

#[test]
fn pending_revocations_are_finished_by_operator_and_schedule() {
    let decided = |intent, leased, pair| {
        let account = Account { pending_revocations: vec![revocation()], ..account(pair, leased, false) };
        let progress = Progress { target: seen(Some(7), None), ..Progress::default() };
        decide(&request(intent), progress, &account, cx(NOW, SPARES))
    };
    assert_eq!(decided(Intent::Revoke, false, None), Decision::Revoke { withdraw: false });
    assert!(matches!(decided(Intent::Revoke, true, None), Decision::Wait(_)));
    let fresh = Some(pair(6 * DAY));
    let schedule = Intent::Maintain(Task::Revoke);
    assert_eq!(decided(schedule, false, fresh.clone()), Decision::Revoke { withdraw: false });
    assert_eq!(decided(schedule, true, fresh.clone()), Decision::Finish, "the lease is held");
    let renewal = Intent::Maintain(Task::Renew);
    assert_eq!(decided(renewal, false, fresh.clone()), Decision::Finish, "revocations come later");
    assert!(answers(&decided(token(None), false, fresh)), "token requests are not disturbed");
}

#[test]
fn a_failed_early_refresh_is_not_repeated_before_its_time() {
    let refreshed = |left, pause| {
        let early_refresh_after = Some(NOW.plus(pause));
        let account = Account { early_refresh_after, ..account(Some(pair(left)), false, false) };
        [(Intent::Maintain(Task::Renew), SPARES), (token(None), SELECTS)]
            .map(|(intent, draw)| refreshes(&decided(intent, &account, draw)))
    };
    let moment = Duration::from_millis(1);
    assert_eq!(refreshed(DAY / 2, moment), [false; 2]);
    assert_eq!(refreshed(DAY / 2, Duration::ZERO), [true; 2]);
    assert_eq!(refreshed(Duration::ZERO, moment), [true; 2], "an unusable pair does not wait");
}

#[test]
fn unblocking_changes_only_a_blocked_account() {
    let decided = |account: Account| named(&decided(Intent::Unblock, &account, SPARES));
    let free = || account(None, false, false);
    assert_eq!(decided(free()), "finish");
    let rejected_secret = Some(crate::testing::rejection("v1", NOW));
    assert_eq!(decided(Account { rejected_secret: rejected_secret.clone(), ..free() }), "unblock");
    assert_eq!(decided(Account { early_refresh_after: Some(NOW), ..free() }), "unblock");
    assert_eq!(decided(Account { young_deaths: 1, ..free() }), "unblock");
    assert_eq!(decided(account(None, false, true)), "unblock");
    assert_eq!(decided(Account { rejected_secret, ..account(None, true, false) }), "wait");
}

#[test]
fn a_consumed_or_expired_refresh_token_means_a_login() {
    let renewed = |refresh_token| {
        let pair = Pair { refresh_token, ..pair(Duration::ZERO) };
        named(&decided(token(None), &account(Some(pair), false, false), SPARES))
    };
    let until = |span| Some(NOW.plus(POLICY.clock_margin).plus(span));
    let available = |expires_at| Some(RefreshToken { expires_at, ..testing::refresh_token("refresh") });
    assert_eq!(renewed(available(None)), "refresh", "an unknown expiry is worth a try");
    assert_eq!(renewed(available(until(Duration::from_millis(1)))), "refresh");
    assert_eq!(renewed(available(until(Duration::ZERO))), "login");
    assert_eq!(renewed(Some(RefreshToken { consumed: true, ..testing::refresh_token("refresh") })), "login");
    assert_eq!(renewed(None), "login");
}

#[test]
fn a_caller_that_asks_for_a_longer_life_renews_earlier() {
    let last_instant = POLICY.clock_margin + Duration::from_secs(60);
    let account = account(Some(pair(last_instant)), false, false);
    let decided = |min_ttl| decided(Intent::Token { min_ttl, rejected: None }, &account, SPARES);
    assert!(refreshes(&decided(Duration::from_secs(60))));
    assert!(answers(&decided(Duration::ZERO)));
}

#[test]
fn a_rejected_secret_does_not_withhold_a_usable_pair() {
    let consumed = Pair { refresh_token: None, ..pair(6 * DAY) };
    let rejected_secret = Some(crate::testing::rejection("v1", NOW));
    let account = Account { rejected_secret, ..account(Some(consumed), false, false) };
    assert!(answers(&decided(token(None), &account, SELECTS)));
}

#[test]
fn an_operator_revokes_no_pair_of_a_later_login() {
    let of = |target, sent: Option<&str>, pending: Vec<Revocation>| {
        let sent = sent.map(|sent| vec![Fingerprint::of(&sent.into())]);
        let grant = sent.map(|sent| Box::new(GrantState { sent, ..GrantState::default() }));
        let account =
            Account { grant, pending_revocations: pending, ..account(Some(pair(DAY)), false, false) };
        let progress = Progress { target, ..Progress::default() };
        decide(&request(Intent::RevokeConfirmed), progress, &account, cx(NOW, SPARES))
    };
    let grant = seen(None, Some("first"));
    assert_eq!(of(grant, Some("first"), vec![]), Decision::Revoke { withdraw: true });
    assert_eq!(of(grant, Some("first"), vec![revocation()]), Decision::Revoke { withdraw: true });
    assert_eq!(of(grant, Some("later"), vec![]), Decision::Finish);
    assert_eq!(of(grant, Some("later"), vec![revocation()]), Decision::Revoke { withdraw: false });
    assert_eq!(of(grant, None, vec![]), Decision::Finish);
    assert_eq!(of(seen(None, None), Some("first"), vec![]), Decision::Finish);
    assert_eq!(of(seen(Some(6), None), None, vec![]), Decision::Finish);
    assert_eq!(of(seen(Some(7), None), None, vec![]), Decision::Revoke { withdraw: true });
}

#[test]
fn maintenance_renews_a_grant_each_week_and_a_login_when_due() {
    let renews = |is_grant: bool, age: Duration| {
        let pair = Some(Pair { issued_at: NOW.minus(age), ..pair(30 * DAY) });
        let account = Account { grant: is_grant.then(Box::default), ..account(pair, false, false) };
        pair_to_renew(&AccountName::default(), &account, cx(NOW, SPARES)).is_some()
    };
    let week = 7 * DAY;
    assert_eq!([renews(true, week), renews(true, week.saturating_sub(POLICY.clock_margin))], [true, false]);
    assert!(!renews(false, week));
}
