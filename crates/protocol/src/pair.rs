//! An access token with the refresh token that came with it.

use crate::{
    Context, Extra, Generation, Origin, Secret, SecretVersion, Timestamp,
    policy::{InstantKind, lies_ahead},
};
use std::time::Duration;

/// The longest documented life of a refresh token, six months.
pub(crate) const LONGEST_REFRESH_LIFE: Duration = Duration::from_secs(184 * 86_400);
/// The longest token that is accepted from the upstream. The item is small enough with a pair of such tokens.
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;
/// Where refresh tokens live for less time, the end of one is no news. The alarm warns half of this time before it.
const SHORTEST_LIFE_WITH_WARNING: Duration = Duration::from_secs(28 * 86_400);

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
    /// Set once it has failed.
    pub retry: Option<RevocationRetry>,
}

/// When maintenance tries a revocation again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevocationRetry {
    /// Not before this instant.
    pub at: Timestamp,
    /// Failures in a row. The next pause grows with them.
    pub failures: u32,
}

impl Revocation {
    /// Whether maintenance tries it now, or gives it up.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let pauses = self.retry.is_some_and(|retry| lies_ahead(InstantKind::RevocationRetry, retry.at, now));
        !pauses || self.expires_at <= now
    }

    pub(crate) fn failures(&self) -> u32 {
        self.retry.map_or(0, |retry| retry.failures)
    }

    /// It has failed once more.
    pub(crate) fn failed(&mut self, cx: Context<'_>) {
        let failures = self.failures().saturating_add(1);
        self.retry =
            Some(RevocationRetry { at: cx.steady.plus(cx.policy.revocation_retry(failures)), failures });
    }
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
            let (token, origin) = (token?.clone(), self.origin.clone());
            Some(Revocation { token, kind, origin, expires_at, retry: None })
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
    pub(crate) fn refreshable_until(&self) -> Timestamp {
        let stated = self.refresh_token.as_ref().and_then(|refresh| refresh.expires_at);
        stated.unwrap_or_else(|| self.issued_at.plus(LONGEST_REFRESH_LIFE))
    }
}
