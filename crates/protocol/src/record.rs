//! The shared record of one account.
//!
//! Every write is conditional on the version that was read. A version is the writer's clock in milliseconds, or the
//! last version plus one if that clock is behind. So versions keep growing even after DynamoDB deletes the item.

use crate::{
    Context, Effect, Generation, GrantState, Pair, Revocation, SecretVersion, Timestamp, TokenKind,
    UpstreamFault,
    pair::LONGEST_REFRESH_LIFE,
    policy::{InstantKind, lies_ahead, lies_too_far},
};
use std::time::Duration;

/// Pending revocations of one account: 16 pairs.
pub const MAX_PENDING_REVOCATIONS: usize = 32;
/// The most bytes that their tokens may have in total: DynamoDB accepts no item above 400 KB.
pub const MAX_PENDING_BYTES: usize = 128 * 1024;
/// How long a record without any value is kept, for operators who investigate.
const KEPT_AFTER_EXPIRY: Duration = Duration::from_secs(30 * 86_400);

/// The version of a stored item. Zero means that there is no item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The version of the next write: larger than this one, and never behind the writer's clock.
    #[must_use]
    pub fn next(self, now: Timestamp) -> Self {
        Self(self.0.saturating_add(1).max(now.as_millis()))
    }
}

/// Identifies one attempt to take the lease or a login permit. Drawn for each attempt, so that a late write of an
/// earlier attempt is never mistaken for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(pub u64);

/// A secret version that the upstream rejected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RejectedSecret {
    /// The version. It is not tried again while it is the current one, except as `retry_at` says.
    pub version: SecretVersion,
    /// Rejections in a row. The next retry waits longer with each.
    pub refusals: u32,
    /// When a request may try the version again. Earlier releases did not write it; the next write sets it.
    pub retry_at: Option<Timestamp>,
}

impl RejectedSecret {
    /// This version, rejected once more.
    pub(crate) fn rejected(before: Option<&Self>, version: SecretVersion, cx: Context<'_>) -> Self {
        let earlier = before.filter(|before| before.version == version).map_or(0, |before| before.refusals);
        let refusals = earlier.saturating_add(1);
        let retry_at = Some(cx.steady.plus(cx.policy.secret_retry(refusals, cx.draw)));
        Self { version, refusals, retry_at }
    }

    /// Whether a request may try the version again.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.retry_at.is_some_and(|at| !lies_ahead(InstantKind::SecretRetry, at, now))
    }
}

/// The right to renew, held by one attempt at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The attempt that took it.
    pub holder: Holder,
    /// It lapses at this instant, whatever happened to its holder.
    pub until: Timestamp,
}

/// Why an account is in cooldown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CooldownReason {
    /// The upstream answered 429.
    RateLimited,
    /// The upstream failed in this way.
    Unavailable(UpstreamFault),
    /// The fleet's own login budget was exhausted.
    BudgetExhausted,
}

/// A pause before the next attempt to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cooldown {
    /// No attempt before this instant.
    pub until: Timestamp,
    /// Callers without a usable pair get this as their error.
    pub reason: CooldownReason,
    /// Failures in a row. The next cooldown grows with them.
    pub failures: u32,
}

/// What the fleet knows about one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// Every write is conditional on it. Zero: there is no record yet.
    pub version: Version,
    /// The current pair.
    pub pair: Option<Pair>,
    /// Set while an attempt renews, probes or revokes.
    pub lease: Option<Lease>,
    /// Set after a failed attempt.
    pub cooldown: Option<Cooldown>,
    /// The secret version that the upstream rejected last, unless a login has succeeded since.
    pub rejected_secret: Option<RejectedSecret>,
    /// Tokens of withdrawn pairs and of orphans that are not revoked yet. At most [`MAX_PENDING_REVOCATIONS`] of them,
    /// of [`MAX_PENDING_BYTES`] in all.
    pub pending_revocations: Vec<Revocation>,
    /// Consecutive generations found dead soon after their issue. Each makes the next verdict wait longer.
    pub young_deaths: u32,
    /// When an operator's refresh last ran.
    pub replaced_at: Option<Timestamp>,
    /// After a failed early renewal: no other is tried before this instant while the pair is usable.
    pub early_refresh_after: Option<Timestamp>,
    /// The state of a grant that only a person can renew; `None` for all others, which a login can replace.
    pub grant: Option<Box<GrantState>>,
}

impl Account {
    /// The generation of the current pair.
    pub fn generation(&self) -> Option<Generation> {
        self.pair.as_ref().map(|pair| pair.generation)
    }

    /// The record of a grant that only a person can renew. It is stored apart from others, so it starts empty.
    #[must_use]
    pub(crate) fn into_grant(self) -> Self {
        if self.grant.is_some() {
            return self;
        }
        Self { lease: self.lease, grant: Some(Box::default()), ..Self::default() }
    }

    /// Marks the refresh token as consumed, before it leaves; or takes the mark back, if it did not leave or was refused
    /// unused.
    pub fn mark_refresh_token(&mut self, consumed: bool) {
        if let Some(refresh_token) = self.pair.as_mut().and_then(|pair| pair.refresh_token.as_mut()) {
            refresh_token.consumed = consumed;
        }
    }

    /// When DynamoDB may delete the record: 30 days after everything in it has expired. Garbage collection only: expiry
    /// is always checked in code. `None` while a secret version is rejected, and for a grant, which must not be
    /// forgotten.
    pub fn garbage_collection_time(&self) -> Option<Timestamp> {
        if self.rejected_secret.is_some() || self.grant.is_some() {
            return None;
        }
        let written_at = Timestamp::from_millis(self.version.0);
        let pair = self.pair.iter().map(|pair| pair.refreshable_until().max(pair.expires_at));
        let pending = self.pending_revocations.iter().map(|revocation| revocation.expires_at);
        let valuable_until = pair.chain(pending).fold(written_at, Timestamp::max);
        Some(valuable_until.plus(KEPT_AFTER_EXPIRY))
    }

    /// Moves the pair to the pending revocations. It is no longer handed out, and its tokens are not forgotten.
    /// Returns how many revocations were dropped to make room.
    pub fn withdraw_pair(&mut self) -> usize {
        let pair = self.pair.take();
        let trial = self.grant.as_mut().and_then(|grant| grant.withdraw());
        let written_at = Timestamp::from_millis(self.version.0);
        let trial = trial.filter(|trial| trial.origin.revokes()).map(|trial| Revocation {
            token: trial.token,
            kind: TokenKind::Refresh,
            origin: trial.origin,
            expires_at: written_at.plus(LONGEST_REFRESH_LIFE),
            retry: None,
        });
        let pair = pair.iter().flat_map(Pair::revocations);
        self.add_revocations(pair.chain(trial))
    }

    /// Adds tokens to revoke, without duplicates. If they are too many or too long, drops the oldest access tokens
    /// first, because those expire first. Returns how many were dropped.
    pub fn add_revocations(&mut self, revocations: impl IntoIterator<Item = Revocation>) -> usize {
        for revocation in revocations {
            if self.pending_revocations.iter().all(|known| known.token != revocation.token) {
                self.pending_revocations.push(revocation);
            }
        }
        let before = self.pending_revocations.len();
        while self.pending_revocations.len() > MAX_PENDING_REVOCATIONS
            || self.pending_bytes() > MAX_PENDING_BYTES
        {
            let access = |revocation: &Revocation| revocation.kind == TokenKind::Access;
            let oldest = self.pending_revocations.iter().position(access).unwrap_or_default();
            self.pending_revocations.remove(oldest);
        }
        before - self.pending_revocations.len()
    }

    fn pending_bytes(&self) -> usize {
        self.pending_revocations.iter().map(|revocation| revocation.token.expose().len()).sum()
    }

    /// Forgets everything that delays the next attempt to renew or to revoke.
    #[must_use]
    pub(crate) fn unblocked(self) -> Self {
        let (rejected_secret, cooldown, early_refresh_after) = (None, None, None);
        let (mut grant, mut pending_revocations) = (self.grant, self.pending_revocations);
        if let Some(grant) = &mut grant {
            grant.unblock();
        }
        for revocation in &mut pending_revocations {
            revocation.retry = None;
        }
        Self {
            rejected_secret,
            cooldown,
            early_refresh_after,
            young_deaths: 0,
            grant,
            pending_revocations,
            ..self
        }
    }

    /// The lease, if it is held at this instant.
    pub fn active_lease(&self, now: Timestamp) -> Option<Lease> {
        self.lease.filter(|lease| lies_ahead(InstantKind::Lease, lease.until, now))
    }

    /// Whether the lease lies further ahead than any lease can, because its holder's clock is or was wrong.
    pub fn has_impossible_lease(&self, now: Timestamp) -> bool {
        self.lease.is_some_and(|lease| lies_too_far(InstantKind::Lease, lease.until, now))
    }

    /// The cooldown, if it lasts at this instant.
    pub fn active_cooldown(&self, now: Timestamp) -> Option<Cooldown> {
        self.cooldown.filter(|cooldown| lies_ahead(InstantKind::Pause, cooldown.until, now))
    }

    /// Whether an attempt to renew may begin: no lease is held, and no cooldown lasts.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.active_lease(now).is_none() && self.active_cooldown(now).is_none()
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.cooldown.map_or(0, |cooldown| cooldown.failures)
    }
}

/// A write of an account's record, carried out if the record still has the expected version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccountWrite {
    /// The version that was read, or the fence: the version that the lease was taken with. Zero: there was no record.
    pub expected: Version,
    /// The new record.
    pub next: Account,
}

impl AccountWrite {
    /// The write of a record of the expected version, with changes.
    pub(crate) fn new(mut changed: Account, cx: Context<'_>) -> Self {
        if let Some(RejectedSecret { refusals, retry_at: retry_at @ None, .. }) = &mut changed.rejected_secret
        {
            *retry_at = Some(cx.steady.plus(cx.policy.secret_retry(*refusals, cx.draw)));
        }
        let expected = changed.version;
        Self { expected, next: Account { version: expected.next(cx.now), ..changed } }
    }

    pub(crate) fn effect(&self) -> Effect {
        Effect::WriteAccount { expected: self.expected, next: self.next.clone() }
    }
}

#[cfg(test)]
mod tests;
