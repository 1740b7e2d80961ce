//! What the fleet shares: one record per account, and one ledger of logins.
//!
//! Both are written only on the condition that the version which was read still stands. Versions are
//! milliseconds of the writer's clock, or the last version plus one where that clock is behind, so they keep
//! growing even where the record was deleted by DynamoDB's own clean-up or restored from a backup.

use super::time::Timestamp;
use crate::secret::Secret;
use std::{fmt, time::Duration};

/// A refresh token lives six months, as the upstream documents it.
const LONGEST_REFRESH_LIFE: Duration = Duration::from_secs(184 * 86_400);
/// How long a worthless record is kept, for whoever wants to see what happened.
const KEPT_WHEN_WORTHLESS: Duration = Duration::from_secs(30 * 86_400);

/// The name of an account: `[a-z0-9][a-z0-9-]{0,62}`. It names the secret and the stored record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(String);

impl AccountName {
    /// The account of a request that names none.
    pub const DEFAULT: &str = "default";

    /// Accepts a well-formed name, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let lower_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let mut bytes = text.bytes();
        let well_formed = text.len() <= 63
            && bytes.next().is_some_and(lower_or_digit)
            && bytes.all(|byte| lower_or_digit(byte) || byte == b'-');
        well_formed.then(|| Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AccountName {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The version of a stored item. Zero stands for "there is none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// The version that the next write carries: larger than this one, and never behind the writer's clock.
    #[must_use]
    pub fn next(self, now: Timestamp) -> Self {
        Self(self.0.saturating_add(1).max(now.as_millis()))
    }
}

/// Names one token pair. It is the version of the write that took the lease under which the pair was
/// obtained (the *fence*), so it grows with every pair and never names two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// Names one attempt to renew, or to pay for a login: drawn anew each time, so that neither a later
/// invocation of the same instance nor a write that arrives late is taken for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder(pub u64);

/// The version id that Secrets Manager gave a secret's value. Not secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretVersion(pub String);

impl fmt::Display for SecretVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How a pair was obtained, or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grant {
    /// With email and password. Counted by the upstream, ten a minute and address.
    Login,
    /// With the single-use refresh token.
    Refresh,
}

/// Which of the upstream's API versions an account logs in to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    /// Convirza V3.
    #[default]
    V3,
    /// Convirza V2: deprecated, and still in use. It documents neither refreshing nor revoking.
    V2,
}

/// Where a pair comes from: not the configured upstream where the account's secret names another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The API version.
    pub dialect: Dialect,
    /// The OAuth host, if it is not the usual one.
    pub oauth_url: Option<String>,
    /// The API, if it is not the usual one.
    pub api_url: Option<String>,
}

/// Which of a pair's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenKind {
    /// The bearer token.
    Access,
    /// The single-use refresh token.
    Refresh,
}

/// A token that is to be made worthless upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revocation {
    /// The token.
    pub token: Secret,
    /// Which kind it is.
    pub kind: TokenKind,
    /// Who issued it.
    pub origin: Origin,
}

/// An access token with the refresh token that came with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// Which pair this is.
    pub generation: Generation,
    /// The bearer token that callers get.
    pub access_token: Secret,
    /// The single-use refresh token; none where the upstream never gave one.
    pub refresh_token: Option<Secret>,
    /// Whether the refresh token was, or may have been, sent. A spent one is never sent again.
    pub refresh_spent: bool,
    /// When the request that brought this pair left.
    pub issued_at: Timestamp,
    /// When the access token dies if nobody uses it: a floor, since every use renews it.
    pub expires_at: Timestamp,
    /// When the refresh token dies; none where the upstream did not say so in a way that can be read.
    pub refresh_expires_at: Option<Timestamp>,
    /// How it was obtained.
    pub obtained_by: Grant,
    /// The pair that stood in the record when this one was asked for.
    pub replaces: Option<Generation>,
    /// Who issued it.
    pub origin: Origin,
    /// Whether a probe found the access token to be dead, whatever its expiry.
    pub dead: bool,
}

impl Pair {
    /// What has to be revoked to make this pair worthless. The refresh token first: whoever has it can get
    /// another access token. Nothing where the upstream documents no way to revoke.
    pub fn revocations(&self) -> impl Iterator<Item = Revocation> + '_ {
        let tokens = [
            (self.refresh_token.as_ref(), TokenKind::Refresh),
            (Some(&self.access_token), TokenKind::Access),
        ];
        let revocable = self.origin.dialect == Dialect::V3;
        tokens.into_iter().filter(move |_| revocable).filter_map(|(token, kind)| {
            Some(Revocation { token: token?.clone(), kind, origin: self.origin.clone() })
        })
    }
}

/// The right to renew, held by one attempt at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The attempt that holds it.
    pub holder: Holder,
    /// When it lapses by itself.
    pub until: Timestamp,
}

/// Why an account rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CooldownReason {
    /// The upstream answered 429.
    RateLimited,
    /// The upstream failed, hung, or answered what cannot be read.
    Unavailable,
    /// The fleet's own budget of logins was used up.
    BudgetExhausted,
}

/// A pause before the next attempt to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cooldown {
    /// No attempt before this instant.
    pub until: Timestamp,
    /// Why.
    pub reason: CooldownReason,
    /// Failures in a row, which the length of the next pause grows with.
    pub failures: u32,
}

/// What the fleet knows of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// The version that every write is conditional on. Zero: there is no record yet.
    pub version: Version,
    /// The current pair.
    pub pair: Option<Pair>,
    /// Who is renewing it.
    pub lease: Option<Lease>,
    /// The pause that a failed attempt asked for.
    pub cooldown: Option<Cooldown>,
    /// The version of the secret that the upstream refused. Not tried again.
    pub parked: Option<SecretVersion>,
    /// When a probe last found the current pair's access token alive.
    pub verified_at: Option<Timestamp>,
    /// A probe brought no verdict: no other one before this instant.
    pub no_probe_before: Option<Timestamp>,
    /// Tokens of pairs that were withdrawn, and not revoked yet.
    pub pending: Vec<Revocation>,
}

impl Account {
    /// The generation of the current pair, if there is one.
    pub fn generation(&self) -> Option<Generation> {
        self.pair.as_ref().map(|pair| pair.generation)
    }

    /// When the record is worth nothing any more, so that DynamoDB may clean it up: garbage collection only,
    /// expiry is always checked in code. Never while a secret version is parked or a token is to be revoked,
    /// which must not be forgotten.
    pub fn worthless_after(&self) -> Option<Timestamp> {
        if self.parked.is_some() || !self.pending.is_empty() {
            return None;
        }
        let written_at = Timestamp::from_millis(self.version.0);
        let refreshable_until = self.pair.as_ref().map(|pair| {
            pair.refresh_expires_at
                .unwrap_or_else(|| pair.issued_at.plus(LONGEST_REFRESH_LIFE))
                .max(pair.expires_at)
        });
        Some(refreshable_until.unwrap_or(written_at).max(written_at).plus(KEPT_WHEN_WORTHLESS))
    }

    /// Moves the pair to the pending revocations: nobody is handed it any more, and nothing is forgotten.
    pub fn withdraw_pair(&mut self) {
        if let Some(pair) = self.pair.take() {
            self.pending.extend(pair.revocations());
        }
        self.verified_at = None;
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.cooldown.map_or(0, |cooldown| cooldown.failures)
    }
}

/// One login that was paid for, whether or not it was then sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Debit {
    /// When, by the clock of the instance that paid.
    pub at: Timestamp,
    /// Until when it counts, by the settings of the instance that paid: another one may have others.
    pub until: Timestamp,
    /// Which attempt paid, so that it recognises its own debit after a lost reply.
    pub by: Holder,
}

/// The fleet's logins: what keeps it below the upstream's limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// The version that every write is conditional on. Zero: there is no ledger yet.
    pub version: Version,
    /// The debits that may still count.
    pub debits: Vec<Debit>,
    /// The upstream said 429: no login before this instant, whatever the account.
    pub blocked_until: Option<Timestamp>,
}

#[cfg(test)]
mod tests;
