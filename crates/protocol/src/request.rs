//! What a caller asks for and gets.

use crate::{
    AccountName, Context, Extra, Failure, Generation, Moment, Pair, Policy, Secret, ServedFrom, Timestamp,
};
use std::time::Duration;

/// One request for one account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// The account whose pair is requested.
    pub account: AccountName,
    /// What to do.
    pub intent: Intent,
    /// A cached record that was read after this moment is as good as a new read.
    pub arrived: Moment,
    /// When the caller gives up, by the clock at its arrival. No upstream call starts unless it can end before.
    pub deadline: Timestamp,
}

impl Request {
    /// The deadline in the store's time as corrected since.
    pub fn ends(&self, cx: Context<'_>) -> Timestamp {
        cx.ends(self.arrived, self.deadline)
    }
}

/// One half of the schedule's work on an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Renew the pair if it is due.
    Renew,
    /// Revoke the pending tokens.
    Revoke,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intent {
    /// A token that the caller may keep for a while.
    Token {
        /// The token must be valid for at least this long.
        min_ttl: Duration,
        /// The API refused the token of this generation.
        rejected: Option<Generation>,
    },
    /// An operator wants another pair than the current one, whatever its expiry.
    Replace,
    /// An operator wants the pair revoked upstream and forgotten.
    Revoke,
    /// The same, although only a person can renew the grant after it.
    RevokeConfirmed,
    /// An operator wants the rejected secret version and the cooldown forgotten. Nothing is sent.
    Unblock,
    /// The schedule. Renewals come before revocations, of all accounts.
    Maintain(Task),
}

impl Intent {
    /// How long the token must be valid. Zero if no token is requested.
    pub fn min_ttl(self) -> Duration {
        match self {
            Self::Token { min_ttl, .. } => min_ttl,
            Self::Replace | Self::Revoke | Self::RevokeConfirmed | Self::Unblock | Self::Maintain(_) => {
                Duration::ZERO
            }
        }
    }
}

/// How a request ended, if it did not fail.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A token is handed out.
    Token(Answer),
    /// The operator's or the schedule's task is done as far as possible.
    Report {
        /// Whether this request renewed the pair.
        renewed: bool,
        /// Tokens that remain to be revoked.
        pending_revocations: usize,
    },
    /// The account is unblocked.
    Unblocked {
        /// What still prevents a renewal, if anything.
        held_by: Option<Failure>,
    },
}

/// A token that is handed out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The bearer token.
    pub access_token: Secret,
    /// Callers report this generation when the API refuses the token.
    pub generation: Generation,
    /// Whole seconds that the caller may keep it. At least one.
    pub expires_in_seconds: u64,
    /// The same instant.
    pub expires_at: Timestamp,
    /// Memory, table or upstream.
    pub served_from: ServedFrom,
    /// Fields of the upstream's answer.
    pub extra: Option<Extra>,
}

impl Answer {
    /// The answer from a pair, or `None` if it cannot be kept for a whole second.
    pub fn from_pair(pair: &Pair, policy: &Policy, now: Timestamp, served_from: ServedFrom) -> Option<Self> {
        let expires_in_seconds = policy.expires_in_seconds(pair, now);
        (expires_in_seconds > 0).then(|| Self {
            access_token: pair.access_token.clone(),
            generation: pair.generation,
            expires_in_seconds,
            expires_at: now.plus(Duration::from_secs(expires_in_seconds)),
            served_from,
            extra: pair.extra.clone(),
        })
    }
}
