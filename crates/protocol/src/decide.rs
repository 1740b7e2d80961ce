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
    Replace(Target),
    /// An operator's wish: the pair revoked upstream, and forgotten.
    Revoke(Target),
    /// The schedule: go on with what is to be revoked, and renew what is due.
    Maintain {
        /// Whether what is to be revoked has had its turn.
        revoked: bool,
    },
    /// Nothing more than what has been done by now.
    Report,
}

/// Which pair an operator wants to be rid of: the one that is there at the first look, and no later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Not looked at the record yet.
    NotSeen,
    /// The pair that was there at the first look. Two operators at once are one by that.
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
            Goal::Replace(Target::Pair(old)) => {
                Some(pair.generation) != old && policy.usable(pair, policy::SHORTEST_TTL, now)
            }
            Goal::Replace(Target::NotSeen) | Goal::Revoke(_) | Goal::Maintain { .. } | Goal::Report => false,
        }
    }

    /// Whether this request says that the current pair was rejected, and no probe has said otherwise lately.
    fn doubts(&self, pair: &Pair, account: &Account, policy: &Policy, now: Timestamp) -> bool {
        let Goal::Token { rejected, .. } = self.goal else { return false };
        let interval = probe_interval(policy);
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
        Goal::Revoke(target) => decide_on_revoking(target, account, now),
        Goal::Maintain { revoked } => decide_on_maintaining(ask, revoked, account, policy, now),
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
        let rests = account.no_probe_before.is_some_and(|until| policy::lies_ahead(until, now));
        return match lease {
            // Whoever holds it is about to find out, or to bring another pair.
            Some(lease) => Decision::Wait(lease.until),
            None if rests || cooldown.is_some() => Decision::Answer,
            None => Decision::Verify,
        };
    }
    let undisturbed = lease.is_none() && cooldown.is_none();
    if undisturbed && policy.volunteers(&ask.account, pair, ask.min_ttl(), now, draw) {
        Decision::Renew(grant)
    } else {
        Decision::Answer
    }
}

/// Withdraws the pair that is meant, or what a renewal of it has brought in the meantime, but no pair of a
/// later login. Waits for whoever holds the lease: that one may be about to log in, and must not find itself
/// beside another one who may.
fn decide_on_revoking(target: Target, account: &Account, now: Timestamp) -> Decision {
    let lease = policy::held(account.lease.as_ref(), now);
    let is_meant = |pair: &Pair| match target {
        Target::NotSeen | Target::Pair(None) => false,
        Target::Pair(seen) => Some(pair.generation) == seen || pair.replaces == seen,
    };
    match (account.pair.as_ref().is_some_and(is_meant), account.pending.is_empty(), lease) {
        (false, true, _) => Decision::Nothing,
        (_, _, Some(lease)) => Decision::Wait(lease.until),
        (withdraw, _, None) => Decision::Revoke { withdraw },
    }
}

fn decide_on_maintaining(
    ask: &Ask,
    revoked: bool,
    account: &Account,
    policy: &Policy,
    now: Timestamp,
) -> Decision {
    let disturbed = policy::held(account.lease.as_ref(), now).is_some()
        || policy::cooling(account.cooldown.as_ref(), now).is_some();
    if disturbed {
        return Decision::Nothing;
    }
    if !revoked && !account.pending.is_empty() {
        return Decision::Revoke { withdraw: false };
    }
    match &account.pair {
        Some(pair) if pair.dead || now >= policy.due_at(&ask.account, pair) => {
            Decision::Renew(grant_for(Some(pair), policy.clock_margin, now))
        }
        _ => Decision::Nothing,
    }
}

/// For how long one probe answers all reports.
pub fn probe_interval(policy: &Policy) -> Duration {
    SHORTEST_PROBE_INTERVAL.max(policy.lease)
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
mod tests;
