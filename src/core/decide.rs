//! One look at an account's record: answer, wait, fail or renew.

use super::{
    error::Failure,
    grant::grant_for,
    policy::{self, Policy},
    record::{Account, AccountName, Cooldown, CooldownReason, Generation, Grant, Pair},
    time::{Draw, Timestamp},
};
use crate::secret::Secret;
use std::time::Duration;

/// For how long (or a lease, where that is longer) one probe answers all reports that a token was rejected:
/// an API may refuse a request for another reason, and a thousand callers may say so at once.
const SHORTEST_PROBE_INTERVAL: Duration = Duration::from_secs(15);

/// One request, as the core knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ask {
    /// Whose token.
    pub account: AccountName,
    /// What for.
    pub goal: Goal,
    /// When the request arrived.
    pub arrived_at: Timestamp,
    /// When the caller is gone. Nothing is begun that cannot end before.
    pub deadline: Timestamp,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Goal {
    /// A token that can be kept for a while.
    Token {
        /// For how long at least.
        min_ttl: Duration,
        /// "The API refused the token of this generation."
        rejected: Option<Generation>,
    },
    /// An operator's wish: another pair than the current one, whatever its expiry.
    Replace(Replaced),
    /// An operator's wish: the pair revoked upstream, and forgotten.
    Revoke,
    /// The schedule: renew what is due, and go on with what is to be revoked.
    Maintain,
    /// Nothing more than what has been done by now.
    Report,
}

/// Which pair an operator wants to be rid of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replaced {
    /// Not looked at the record yet.
    Unknown,
    /// The pair that was there at the first look. Any other will do, so that two operators at once are one.
    Pair(Option<Generation>),
}

/// What is to be done about a request, given a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The pair serves.
    Answer,
    /// There is nothing to do, or nothing more.
    Nothing,
    /// It is to be renewed by this request.
    Renew(Grant),
    /// A caller says that its token was rejected: probe it.
    Verify,
    /// Go on with what is to be revoked, after withdrawing the pair where that is wanted.
    Revoke {
        /// Whether the current pair is to go.
        withdraw: bool,
    },
    /// Somebody else is renewing it, until this instant at the latest.
    Wait(Timestamp),
    /// Nothing serves, and nothing can be done about it now.
    Fail(Failure),
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServedFrom {
    /// The instance's memory.
    Memory,
    /// The shared record.
    Table,
    /// A renewal by this request.
    Upstream,
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Done {
    /// A token.
    Token(Answer),
    /// All that could be done for now.
    Report {
        /// Whether this request has renewed the pair.
        renewed: bool,
        /// Tokens that are still to be revoked.
        pending: usize,
    },
}

/// A token, handed out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The bearer token.
    pub access_token: Secret,
    /// Which pair it belongs to.
    pub generation: Generation,
    /// Whole seconds that the caller may keep it. At least one.
    pub expires_in_seconds: u64,
    /// The same instant.
    pub expires_at: Timestamp,
    /// Where it came from.
    pub served_from: ServedFrom,
}

impl Ask {
    /// Whether a pair can be handed to this request. A report that it was rejected does not count here:
    /// without a verdict the same token is the best there is.
    pub fn served_by(&self, pair: &Pair, policy: &Policy, now: Timestamp) -> bool {
        if pair.dead {
            return false;
        }
        match self.goal {
            Goal::Token { min_ttl, .. } => policy.usable(pair, min_ttl, now),
            Goal::Replace(Replaced::Pair(old)) => {
                Some(pair.generation) != old && policy.usable(pair, policy::SHORTEST_TTL, now)
            }
            Goal::Replace(Replaced::Unknown) | Goal::Revoke | Goal::Maintain | Goal::Report => false,
        }
    }

    /// Whether this request says that the current pair was rejected, and no probe has said otherwise lately.
    fn doubts(&self, pair: &Pair, account: &Account, policy: &Policy, now: Timestamp) -> bool {
        let Goal::Token { rejected, .. } = self.goal else { return false };
        let interval = SHORTEST_PROBE_INTERVAL.max(policy.lease);
        let verified_lately = account.verified_at.is_some_and(|at| {
            policy::lies_ahead(at.plus(interval), now) && at <= now.plus(policy.clock_margin)
        });
        rejected == Some(pair.generation) && !verified_lately
    }

    /// The answer that a pair makes, if it can be kept for a second at all.
    pub fn answer(
        &self,
        pair: &Pair,
        policy: &Policy,
        now: Timestamp,
        served_from: ServedFrom,
    ) -> Option<Answer> {
        let expires_in_seconds = policy.expires_in_seconds(pair, now);
        (expires_in_seconds > 0).then(|| Answer {
            access_token: pair.access_token.clone(),
            generation: pair.generation,
            expires_in_seconds,
            expires_at: now.plus(Duration::from_secs(expires_in_seconds)),
            served_from,
        })
    }

    fn min_ttl(&self) -> Duration {
        match self.goal {
            Goal::Token { min_ttl, .. } => min_ttl,
            _ => Duration::ZERO,
        }
    }
}

/// What to do about a request, given the record. Total: every record gives exactly one decision.
pub fn decide(ask: &Ask, account: &Account, policy: &Policy, now: Timestamp, draw: Draw) -> Decision {
    match ask.goal {
        Goal::Token { .. } | Goal::Replace(_) => decide_on_pair(ask, account, policy, now, draw),
        Goal::Revoke => decide_on_revoking(account, now),
        Goal::Maintain => decide_on_maintaining(ask, account, policy, now),
        Goal::Report => Decision::Nothing,
    }
}

fn decide_on_pair(ask: &Ask, account: &Account, policy: &Policy, now: Timestamp, draw: Draw) -> Decision {
    let lease = policy::held(account.lease.as_ref(), now);
    let cooldown = policy::cooling(account.cooldown.as_ref(), now);
    let grant = grant_for(account.pair.as_ref(), policy.clock_margin, now);
    let Some(pair) = account.pair.as_ref().filter(|pair| ask.served_by(pair, policy, now)) else {
        return match (lease, cooldown) {
            (Some(lease), _) => Decision::Wait(lease.until),
            (None, Some(cooldown)) => Decision::Fail(resting(cooldown, now)),
            (None, None) => Decision::Renew(grant),
        };
    };
    if ask.doubts(pair, account, policy, now) {
        return match (lease, cooldown) {
            // Whoever holds it is about to find out, or to bring another pair.
            (Some(lease), _) => Decision::Wait(lease.until),
            (None, Some(_)) => Decision::Answer,
            (None, None) => Decision::Verify,
        };
    }
    let undisturbed = lease.is_none() && cooldown.is_none();
    if undisturbed && policy.volunteers(&ask.account, pair, ask.min_ttl(), now, draw) {
        Decision::Renew(grant)
    } else {
        Decision::Answer
    }
}

/// A pair is withdrawn whoever is renewing it: their write will fail. What is pending already is left to
/// whoever is on it.
fn decide_on_revoking(account: &Account, now: Timestamp) -> Decision {
    let lease = policy::held(account.lease.as_ref(), now);
    match (account.pair.is_some(), account.pending.is_empty(), lease) {
        (true, _, _) => Decision::Revoke { withdraw: true },
        (false, true, None) => Decision::Nothing,
        (false, _, Some(lease)) => Decision::Wait(lease.until),
        (false, false, None) => Decision::Revoke { withdraw: false },
    }
}

fn decide_on_maintaining(ask: &Ask, account: &Account, policy: &Policy, now: Timestamp) -> Decision {
    let disturbed = policy::held(account.lease.as_ref(), now).is_some()
        || policy::cooling(account.cooldown.as_ref(), now).is_some();
    if disturbed {
        return Decision::Nothing;
    }
    if !account.pending.is_empty() {
        return Decision::Revoke { withdraw: false };
    }
    match &account.pair {
        Some(pair) if pair.dead || now >= policy.due_at(&ask.account, pair) => {
            Decision::Renew(grant_for(Some(pair), policy.clock_margin, now))
        }
        _ => Decision::Nothing,
    }
}

/// The failure that a caller sees while an account rests.
pub fn resting(cooldown: Cooldown, now: Timestamp) -> Failure {
    let retry_after = cooldown.until.since(now);
    match cooldown.reason {
        CooldownReason::RateLimited => Failure::UpstreamRateLimited { retry_after },
        CooldownReason::Unavailable => Failure::UpstreamUnavailable { retry_after },
        CooldownReason::BudgetExhausted => Failure::LoginBudgetExhausted { retry_after },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{
        record::{Holder, Lease, Origin, Revocation, SecretVersion, TokenKind, Version},
        test_policy,
    };
    use std::fmt::Write;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
    const DAY: Duration = Duration::from_secs(86_400);
    const EAGER: Draw = Draw(0);
    const SHY: Draw = Draw(u64::MAX);

    fn ask(goal: Goal) -> Ask {
        let deadline = NOW.plus(Duration::from_secs(28));
        Ask { account: AccountName::default(), goal, arrived_at: NOW, deadline }
    }

    fn token(rejected: Option<Generation>) -> Goal {
        Goal::Token { min_ttl: Duration::from_secs(60), rejected }
    }

    /// A pair of generation 7 that lived for a week and expires that long from now.
    fn pair(left: Duration, refresh_spent: bool) -> Pair {
        let expires_at = NOW.plus(left);
        Pair {
            generation: Generation(7),
            access_token: Secret::from("access"),
            refresh_token: Some(Secret::from("refresh")),
            refresh_spent,
            issued_at: expires_at.minus(7 * DAY),
            expires_at,
            refresh_expires_at: None,
            obtained_by: Grant::Login,
            replaces: None,
            origin: Origin::default(),
            dead: false,
        }
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
            ("another pair, not looked yet", Goal::Replace(Replaced::Unknown)),
            ("another pair than 7", Goal::Replace(Replaced::Pair(Some(Generation(7))))),
            ("another pair than none", Goal::Replace(Replaced::Pair(None))),
            ("to revoke", Goal::Revoke),
            ("to maintain", Goal::Maintain),
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
    fn f08_a_lapsed_lease_or_cooldown_is_none() {
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
        let answer =
            ask(token(None)).answer(&pair(DAY, false), &test_policy(), NOW, ServedFrom::Table).unwrap();
        assert_eq!(answer.expires_in_seconds, 900);
        assert_eq!(answer.expires_at, NOW.plus(Duration::from_secs(900)));
    }

    #[test]
    fn a_pair_that_lives_too_short_serves_for_half_of_its_life() {
        let policy = test_policy();
        let brief =
            Pair { issued_at: NOW, expires_at: NOW.plus(Duration::from_secs(20)), ..pair(DAY, false) };
        let wish = Duration::from_secs(60);
        assert!(policy.usable(&brief, wish, NOW.plus(Duration::from_secs(8))));
        assert!(!policy.usable(&brief, wish, NOW.plus(Duration::from_millis(8_001))));
        let due = policy.due_at(&AccountName::default(), &brief);
        assert!(
            due >= NOW.plus(Duration::from_secs(10)) && due <= NOW.plus(Duration::from_secs(11)),
            "{due:?}"
        );
    }

    #[test]
    fn f02_the_odds_of_renewing_ahead_rise_from_hardly_ever_to_surely() {
        let policy = test_policy();
        let account = AccountName::default();
        let wish = Duration::from_secs(60);
        let drawn = |left: Duration, draw| policy.volunteers(&account, &pair(left, false), wish, NOW, draw);
        assert!(!drawn(DAY * 2, EAGER), "not due");
        let one_in_a_thousand = Draw(u64::MAX / 1000);
        assert!(!drawn(DAY * 8 / 10, one_in_a_thousand));
        assert!(drawn(DAY / 4, one_in_a_thousand));
        assert!(drawn(policy.clock_margin + wish, SHY), "the last moment before somebody would have to wait");
    }

    #[test]
    fn f18_accounts_that_logged_in_together_are_not_due_together() {
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
    fn f12_f13_a_report_is_verified_and_one_verdict_answers_the_rest_for_a_while() {
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
            assert_eq!(
                decide(&ask(goal), &account, &test_policy(), NOW, SHY),
                Decision::Renew(Grant::Refresh)
            );
        }
        let account = account(Some(dead), false, false);
        let maintained = decide(&ask(Goal::Maintain), &account, &test_policy(), NOW, SHY);
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
        assert_eq!(decided(Goal::Revoke, false, None), Decision::Revoke { withdraw: false });
        assert!(matches!(decided(Goal::Revoke, true, None), Decision::Wait(_)));
        let fresh = Some(pair(6 * DAY, false));
        assert_eq!(decided(Goal::Maintain, false, fresh.clone()), Decision::Revoke { withdraw: false });
        assert_eq!(decided(Goal::Maintain, true, fresh.clone()), Decision::Nothing, "somebody is on it");
        assert_eq!(decided(token(None), false, fresh), Decision::Answer, "it disturbs nobody");
    }

    #[test]
    fn a_parked_version_does_not_keep_a_usable_pair_from_being_served() {
        let parked = Some(SecretVersion("v1".to_owned()));
        let account = Account { parked, ..account(Some(pair(6 * DAY, true)), false, false) };
        assert_eq!(decide(&ask(token(None)), &account, &test_policy(), NOW, EAGER), Decision::Answer);
    }
}
