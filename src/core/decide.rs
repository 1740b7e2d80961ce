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

/// How often a report that the current generation was rejected is believed, at most (or once a lease, where
/// that is longer). Without a bound, a caller whose requests are refused for another reason would renew the
/// pair as fast as it can ask.
const REPORT_INTERVAL: Duration = Duration::from_secs(15);

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
    /// It is to be renewed by this request.
    Renew(Grant),
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
    /// Whether a pair is what this request wants.
    pub fn served_by(&self, pair: &Pair, policy: &Policy, now: Timestamp) -> bool {
        match self.goal {
            Goal::Token { min_ttl, rejected } => {
                policy.usable(pair, min_ttl, now) && !believed(rejected, pair, policy, now)
            }
            Goal::Replace(Replaced::Unknown) => false,
            Goal::Replace(Replaced::Pair(old)) => {
                Some(pair.generation) != old && policy.usable(pair, policy::SHORTEST_TTL, now)
            }
        }
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
            Goal::Replace(_) => Duration::ZERO,
        }
    }
}

/// What to do about a request, given the record. Total: every record gives exactly one decision.
pub fn decide(ask: &Ask, account: &Account, policy: &Policy, now: Timestamp, draw: Draw) -> Decision {
    let lease = policy::held(account.lease.as_ref(), now);
    let cooldown = policy::cooling(account.cooldown.as_ref(), now);
    let grant = grant_for(account.pair.as_ref(), policy.clock_margin, now);
    if let Some(pair) = account.pair.as_ref().filter(|pair| ask.served_by(pair, policy, now)) {
        let undisturbed = lease.is_none() && cooldown.is_none();
        return if undisturbed && policy.volunteers(&ask.account, pair, ask.min_ttl(), now, draw) {
            Decision::Renew(grant)
        } else {
            Decision::Answer
        };
    }
    match (lease, cooldown) {
        (Some(lease), _) => Decision::Wait(lease.until),
        (None, Some(cooldown)) => Decision::Fail(resting(cooldown, now)),
        (None, None) => Decision::Renew(grant),
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

/// Whether a report that a generation was rejected speaks of this pair, and is to be acted upon. A report on
/// an older pair is answered by this one; a report on this pair is believed unless the pair is so young that
/// the same reason would have it renewed again and again.
fn believed(rejected: Option<Generation>, pair: &Pair, policy: &Policy, now: Timestamp) -> bool {
    rejected == Some(pair.generation) && now.since(pair.issued_at) >= REPORT_INTERVAL.max(policy.lease)
}
