//! The shared record of one account.
//!
//! Every write is conditional on the version that was read. A version is the writer's clock in milliseconds, or the
//! last version plus one if that clock is behind. So versions keep growing even after DynamoDB deletes the item.

use crate::{
    Context, Effect, Extra, Generation, GrantState, Origin, Secret, Timestamp, UpstreamFault,
    policy::{InstantKind, lies_ahead, lies_too_far},
};
use std::{fmt, time::Duration};

/// The longest documented life of a refresh token, six months.
const LONGEST_REFRESH_LIFE: Duration = Duration::from_secs(184 * 86_400);
/// Pending revocations of one account: 16 pairs.
pub const MAX_PENDING_REVOCATIONS: usize = 32;
/// The most bytes that their tokens may have in total: DynamoDB accepts no item above 400 KB.
pub const MAX_PENDING_BYTES: usize = 128 * 1024;
/// The longest token that is accepted from the upstream. The item is small enough with a pair of such tokens.
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// Where refresh tokens live for less time, the end of one is no news. The alarm warns half of this time before it.
const SHORTEST_LIFE_WITH_WARNING: Duration = Duration::from_secs(28 * 86_400);
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

/// The version id that Secrets Manager gave a secret's value. Not confidential.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretVersion(pub String);

impl fmt::Display for SecretVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

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

/// How a pair was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObtainedBy {
    /// With the secret's credentials. Convirza allows ten per minute and address.
    Login,
    /// With the single-use refresh token.
    Refresh,
}

/// A token, and the upstream that issued it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IssuedToken {
    /// The token itself.
    pub token: Secret,
    /// Where it is sent.
    pub origin: Origin,
}

/// Which token of a pair. The revoke call has to say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum TokenKind {
    Access,
    Refresh,
}

/// A token that is to be revoked upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revocation {
    /// The token itself.
    pub token: Secret,
    /// As the revoke call names it.
    pub kind: TokenKind,
    /// The upstream that issued it, and has to revoke it.
    pub origin: Origin,
    /// When the token expires by itself. It is given up then.
    pub expires_at: Timestamp,
}

/// The single-use refresh token of a pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RefreshToken {
    /// The token. Kept after use, for its revocation and for an upstream that returns no successor.
    pub token: Secret,
    /// Its expiry, if the upstream stated a readable one.
    pub expires_at: Option<Timestamp>,
    /// It was sent, or may have been, and is never sent again.
    pub consumed: bool,
    /// The longest stated life of an earlier refresh token of its session, if that is long enough for a warning.
    pub earlier_life: Option<Duration>,
}

/// What the last probe of an access token found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It was not probed.
    Unverified,
    /// The upstream accepted it.
    Alive {
        /// When the probe ended.
        at: Timestamp,
    },
    /// The probe gave no verdict.
    Inconclusive {
        /// No other probe before this instant.
        probe_after: Timestamp,
    },
    /// The upstream refused it, whatever its expiry says. It is never handed out again.
    Dead,
}

/// An access token with the refresh token that came with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Identifies the pair to callers, who report it when the API refuses its token.
    pub generation: Generation,
    /// The bearer token that callers get.
    pub access_token: Secret,
    /// What the next renewal sends, if the upstream gave one.
    pub refresh_token: Option<RefreshToken>,
    /// When the request that obtained this pair left.
    pub issued_at: Timestamp,
    /// When the access token expires if nobody uses it: a floor, since every use extends it.
    pub expires_at: Timestamp,
    /// For operators: a login is counted against the limit, a refresh is not.
    pub obtained_by: ObtainedBy,
    /// The generation in the record when this pair was requested. It shows whether an orphan was ever saved.
    pub replaces: Option<Generation>,
    /// The upstream that issued it.
    pub origin: Origin,
    /// The secret version of the login that this pair descends from.
    pub secret_version: Option<SecretVersion>,
    /// Whether the access token was found alive or dead.
    pub verdict: Verdict,
    /// Fields of the upstream's answer that callers get.
    pub extra: Option<Extra>,
    /// Renewed this long before its expiry, instead of the policy's time.
    pub refresh_ahead: Option<Duration>,
}

impl Pair {
    /// The revocations that make this pair worthless. The refresh token comes first, because it can obtain another
    /// access token. Empty if the upstream documents no revocation.
    pub fn revocations(&self) -> impl Iterator<Item = Revocation> + '_ {
        let refresh_token = self.refresh_token.as_ref();
        let tokens = [
            (refresh_token.map(|refresh| &refresh.token), TokenKind::Refresh, self.refreshable_until()),
            (Some(&self.access_token), TokenKind::Access, self.expires_at),
        ];
        let revocable = self.origin.revokes();
        tokens.into_iter().filter(move |_| revocable).filter_map(|(token, kind, expires_at)| {
            Some(Revocation { token: token?.clone(), kind, origin: self.origin.clone(), expires_at })
        })
    }

    /// A token of this pair, for a call.
    pub(crate) fn issued(&self, token: &Secret) -> IssuedToken {
        IssuedToken { token: token.clone(), origin: self.origin.clone() }
    }

    /// Whether a token is one of this pair's.
    pub fn holds(&self, token: &Secret) -> bool {
        self.access_token == *token || self.refresh_token.as_ref().is_some_and(|own| own.token == *token)
    }

    /// The longest stated life of a refresh token of this session, if its end is news. Servers that limit a session state
    /// less after each refresh.
    pub(crate) fn longest_refresh_life(&self) -> Option<Duration> {
        let refresh_token = self.refresh_token.as_ref()?;
        let life =
            refresh_token.expires_at.map(|at| at.since(self.issued_at)).max(refresh_token.earlier_life);
        life.filter(|life| *life >= SHORTEST_LIFE_WITH_WARNING)
    }

    /// The expiry that operators are warned of: that of a refresh token that can still be sent, of a session whose refresh
    /// tokens do not always live that briefly.
    pub fn session_ends_at(&self) -> Option<Timestamp> {
        let refresh_token = self.refresh_token.as_ref().filter(|refresh_token| !refresh_token.consumed)?;
        refresh_token.expires_at.filter(|_| self.longest_refresh_life().is_some())
    }

    /// When the refresh token expires, as stated or at the latest.
    fn refreshable_until(&self) -> Timestamp {
        let stated = self.refresh_token.as_ref().and_then(|refresh| refresh.expires_at);
        stated.unwrap_or_else(|| self.issued_at.plus(LONGEST_REFRESH_LIFE))
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

    /// Forgets everything that delays the next attempt to renew.
    #[must_use]
    pub(crate) fn unblocked(self) -> Self {
        let (rejected_secret, cooldown, early_refresh_after) = (None, None, None);
        let mut grant = self.grant;
        if let Some(grant) = &mut grant {
            grant.unblock();
        }
        Self { rejected_secret, cooldown, early_refresh_after, young_deaths: 0, grant, ..self }
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
