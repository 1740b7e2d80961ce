//! One look at an account's record: answer, wait, fail or renew.

use crate::{
    Account, AccountName, Answer, Context, Failure, Generation, Intent, IssuedToken, Pair, RefreshToken,
    Request, ServedFrom, Task, Timestamp, Verdict,
    grant::{Fingerprint, idle_renewal_at, is_in_grace},
    policy::{InstantKind, REPLACE_INTERVAL, SHORTEST_TTL, lies_ahead},
};
use std::time::Duration;

/// What to do about a request, given a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Hand out the current pair.
    Answer(Answer),
    /// Nothing is left to do.
    Finish,
    /// Renew the pair with its refresh token.
    Refresh(IssuedToken),
    /// Renew the pair with the secret's credentials.
    LogIn,
    /// The caller reports the pair as rejected. Probe it to find out whether it is dead.
    Probe(IssuedToken),
    /// Forget the rejected secret version, the cooldown and everything else that delays the next attempt.
    Unblock,
    /// Revoke the pending tokens, after withdrawing the pair if requested.
    Revoke {
        /// Whether to withdraw the current pair first.
        withdraw: bool,
    },
    /// Another attempt holds the lease, until this instant at the latest.
    Wait(Timestamp),
    /// No usable pair, and no attempt is allowed now.
    Fail(Failure),
}

/// What a flow has learned so far, beyond the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    /// The pair that an operator wants replaced or revoked.
    pub target: OperatorTarget,
    /// Whether this flow has already tried to revoke the pending tokens.
    pub tried_revocations: bool,
    /// Whether this flow has already unblocked the account.
    pub unblocked: bool,
}

/// The pair that an operator wants replaced or revoked: the one in the record when the flow first read it, not a later
/// one. So two concurrent operators have the effect of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OperatorTarget {
    /// The flow has not read the record yet.
    #[default]
    NotSeen,
    /// What the record held at the first read.
    Seen {
        /// The generation of the pair, if there was one.
        generation: Option<Generation>,
        /// The newest bootstrap token, if it is a grant's record. A refresh does not change it.
        grant: Option<Fingerprint>,
    },
}

impl OperatorTarget {
    /// The target of an operator who sees this record.
    pub(crate) fn of(account: &Account) -> Self {
        let grant = account.grant.as_ref().and_then(|grant| grant.newest());
        Self::Seen { generation: account.generation(), grant }
    }
}

impl Request {
    /// The answer from a pair, if the pair is usable for this request.
    ///
    /// A report that the pair was rejected does not count here: without a verdict, the same token is the best answer.
    pub fn answer_with(
        &self,
        progress: Progress,
        pair: &Pair,
        cx: Context<'_>,
        served_from: ServedFrom,
    ) -> Option<Answer> {
        self.answer_within(Duration::MAX, progress, pair, cx, served_from)
    }

    /// The answer from a pair that cannot be renewed now. An OAuth 2.0 server may refuse a refresh until shortly before
    /// the pair expires, so any remaining life is enough, whatever the caller asked for.
    pub(crate) fn last_answer_with(
        &self,
        progress: Progress,
        pair: &Pair,
        cx: Context<'_>,
        served_from: ServedFrom,
    ) -> Option<Answer> {
        let enough = if pair.origin.needs_client() { SHORTEST_TTL } else { Duration::MAX };
        self.answer_within(enough, progress, pair, cx, served_from)
    }

    fn answer_within(
        &self,
        enough: Duration,
        progress: Progress,
        pair: &Pair,
        cx: Context<'_>,
        served_from: ServedFrom,
    ) -> Option<Answer> {
        let min_ttl = match (self.intent, progress.target) {
            (Intent::Token { min_ttl, .. }, _) => min_ttl.min(enough),
            (Intent::Replace, OperatorTarget::Seen { generation, .. })
                if generation != Some(pair.generation) =>
            {
                SHORTEST_TTL
            }
            (
                Intent::Replace
                | Intent::Revoke
                | Intent::RevokeConfirmed
                | Intent::Unblock
                | Intent::Maintain(_),
                _,
            ) => return None,
        };
        let usable = pair.verdict != Verdict::Dead && cx.policy.usable(pair, min_ttl, cx.now);
        if usable { Answer::from_pair(pair, cx.policy, cx.now, served_from) } else { None }
    }

    /// Whether this request reports the current pair as rejected, and the report is worth a probe: no recent probe has
    /// found the pair alive, and the last generations did not die young one after another.
    fn doubts(&self, pair: &Pair, account: &Account, cx: Context<'_>) -> bool {
        let Intent::Token { rejected, .. } = self.intent else {
            return false;
        };
        let verified_lately =
            matches!(pair.verdict, Verdict::Alive { at } if lately(at, cx.policy.probe_interval(), cx));
        let trusted = lately(pair.issued_at, cx.policy.trusted_for(account.young_deaths), cx);
        rejected == Some(pair.generation) && !verified_lately && !trusted
    }
}

/// What to do about a request, given the record. Total: every record leads to exactly one decision.
pub fn decide(request: &Request, progress: Progress, account: &Account, cx: Context<'_>) -> Decision {
    match request.intent {
        Intent::Token { .. } | Intent::Replace => decide_on_pair(request, progress, account, cx),
        Intent::Revoke => decide_on_revoking(false, progress, account, cx),
        Intent::RevokeConfirmed => decide_on_revoking(true, progress, account, cx),
        Intent::Unblock => decide_on_unblocking(progress, account, cx),
        Intent::Maintain(task) => decide_on_maintaining(task, request, progress, account, cx),
    }
}

fn decide_on_pair(request: &Request, progress: Progress, account: &Account, cx: Context<'_>) -> Decision {
    let (lease, cooldown) = (account.active_lease(cx.now), account.active_cooldown(cx.now));
    let usable = account
        .pair
        .as_ref()
        .and_then(|pair| Some((pair, request.answer_with(progress, pair, cx, ServedFrom::Table)?)));
    if let (Intent::Replace, Some(at), Some(pair)) = (request.intent, account.replaced_at, &account.pair)
        && lease.is_none()
        && lately(at, REPLACE_INTERVAL, cx)
        && pair.verdict != Verdict::Dead
        && let Some(answer) = Answer::from_pair(pair, cx.policy, cx.now, ServedFrom::Table)
    {
        return Decision::Answer(answer);
    }
    let Some((pair, answer)) = usable else {
        return match (lease, cooldown) {
            (Some(lease), _) => Decision::Wait(lease.until),
            (None, Some(cooldown)) => {
                let pair = account.pair.as_ref();
                let last =
                    pair.and_then(|pair| request.last_answer_with(progress, pair, cx, ServedFrom::Table));
                last.map_or_else(|| Decision::Fail(Failure::cooling_down(cooldown, cx.now)), Decision::Answer)
            }
            (None, None) => renew(account, cx),
        };
    };
    if request.doubts(pair, account, cx) {
        return match (lease, pair.verdict) {
            // The holder will soon find out, or obtain another pair.
            (Some(lease), _) => Decision::Wait(lease.until),
            (None, Verdict::Inconclusive { probe_after })
                if lies_ahead(InstantKind::Pause, probe_after, cx.now) =>
            {
                Decision::Answer(answer)
            }
            (None, _) if cooldown.is_some() => Decision::Answer(answer),
            (None, _) => Decision::Probe(pair.issued(&pair.access_token)),
        };
    }
    let min_ttl = request.intent.min_ttl();
    let selected = || cx.policy.selects_early_refresh(&request.account, pair, min_ttl, cx.now, cx.draw);
    if account.is_idle(cx.now) && (is_in_grace(account, cx) || (may_refresh_early(account, cx) && selected()))
    {
        renew(account, cx)
    } else {
        Decision::Answer(answer)
    }
}

/// Withdraws the operator's target, or the pair with which a renewal replaced it meanwhile, but no pair of a later
/// login. A grant is withdrawn however often it was refreshed meanwhile. Waits for the lease: its holder may be about
/// to log in, and a second attempt must not do so at the same time.
fn decide_on_revoking(confirmed: bool, progress: Progress, account: &Account, cx: Context<'_>) -> Decision {
    if progress.tried_revocations {
        return Decision::Finish;
    }
    let grant = account.grant.as_ref().and_then(|grant| grant.newest());
    let is_target = |pair: &Pair| match progress.target {
        OperatorTarget::Seen { grant: Some(seen), .. } if grant == Some(seen) => true,
        OperatorTarget::Seen { generation: Some(seen), .. } => {
            pair.generation == seen || pair.replaces == Some(seen)
        }
        OperatorTarget::Seen { generation: None, .. } | OperatorTarget::NotSeen => false,
    };
    let trial = account.grant.as_ref().is_some_and(|grant| grant.trial.is_some());
    let withdraw = account.pair.as_ref().map_or(trial, is_target);
    if withdraw && account.grant.is_some() && !confirmed {
        return Decision::Fail(Failure::Unconfirmed);
    }
    match (withdraw, account.pending_revocations.is_empty(), account.active_lease(cx.now)) {
        (false, true, _) => Decision::Finish,
        (_, _, Some(lease)) => Decision::Wait(lease.until),
        (withdraw, _, None) => Decision::Revoke { withdraw },
    }
}

fn decide_on_maintaining(
    task: Task,
    request: &Request,
    progress: Progress,
    account: &Account,
    cx: Context<'_>,
) -> Decision {
    if !account.is_idle(cx.now) {
        return Decision::Finish;
    }
    match task {
        Task::Renew => {
            pair_to_renew(&request.account, account, cx).map_or(Decision::Finish, |_| renew(account, cx))
        }
        Task::Revoke => {
            let is_due = account.pending_revocations.iter().any(|revocation| revocation.is_due(cx.now));
            if is_due && !progress.tried_revocations {
                Decision::Revoke { withdraw: false }
            } else {
                Decision::Finish
            }
        }
    }
}

/// Waits for the lease, because its holder would lose it to this write. An impossibly long lease is cleared.
fn decide_on_unblocking(progress: Progress, account: &Account, cx: Context<'_>) -> Decision {
    let blocked = account.has_impossible_lease(cx.now)
        || account.rejected_secret.is_some()
        || account.cooldown.is_some()
        || account.early_refresh_after.is_some()
        || account.young_deaths > 0
        || account.pending_revocations.iter().any(|revocation| revocation.retry.is_some())
        || account.grant.as_ref().is_some_and(|grant| grant.current().lost);
    match (blocked && !progress.unblocked, account.active_lease(cx.now)) {
        (false, _) => Decision::Finish,
        (true, Some(lease)) => Decision::Wait(lease.until),
        (true, None) => Decision::Unblock,
    }
}

/// The pair, if maintenance should renew it: it is dead, expired, or due without a recent failed early renewal.
pub(crate) fn pair_to_renew<'a>(
    name: &AccountName,
    account: &'a Account,
    cx: Context<'_>,
) -> Option<&'a Pair> {
    let pair = account.pair.as_ref()?;
    let unusable = pair.verdict == Verdict::Dead || !cx.policy.usable(pair, SHORTEST_TTL, cx.now);
    let idle = account.grant.is_some() && cx.now >= idle_renewal_at(cx.policy, pair);
    let due = is_in_grace(account, cx)
        || (idle || cx.now >= cx.policy.due_at(name, pair)) && may_refresh_early(account, cx);
    (unusable || due).then_some(pair)
}

fn may_refresh_early(account: &Account, cx: Context<'_>) -> bool {
    account.early_refresh_after.is_none_or(|after| !lies_ahead(InstantKind::Pause, after, cx.now))
}

/// Whether something happened less than `within` ago. An instant ahead of this clock, up to the margin, counts as now.
pub(crate) fn lately(at: Timestamp, within: Duration, cx: Context<'_>) -> bool {
    cx.now.since(at) < within && at <= cx.now.plus(cx.policy.clock_margin)
}

/// A refresh if there is a refresh token that is neither consumed nor expired, otherwise a login. Whether the token of a
/// grant may be sent depends on the secret, which a login reads first.
fn renew(account: &Account, cx: Context<'_>) -> Decision {
    refreshable(account, cx).map_or(Decision::LogIn, Decision::Refresh)
}

/// The refresh token, if it may be sent and a login could make up for its loss.
pub(crate) fn refreshable(account: &Account, cx: Context<'_>) -> Option<IssuedToken> {
    let pair = account.pair.as_ref().filter(|_| account.grant.is_none())?;
    let RefreshToken { token, expires_at, consumed, .. } = pair.refresh_token.as_ref()?;
    let lives = expires_at.is_none_or(|at| at.minus(cx.policy.clock_margin) > cx.now);
    (!consumed && lives && pair.origin.refreshes()).then(|| pair.issued(token))
}

#[cfg(test)]
mod tests;
