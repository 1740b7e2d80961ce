//! The record of an invocation: the contents of its log line.

use crate::work::Work;
use protocol::{Account, GrantHealth, Pair, Secret, ServedFrom, Timestamp, Verdict, needs_a_person};

/// The severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Severity {
    Info,
    Warn,
    Error,
}

impl Severity {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// One invocation: who requested what, and how it ended.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When it was answered.
    pub at: Timestamp,
    /// The severity of the line.
    pub severity: Severity,
    /// What happened.
    pub message: &'a str,
    /// Lambda's id of the invocation.
    pub request_id: &'a str,
    /// The X-Ray header.
    pub trace_id: Option<&'a str>,
    /// The way in.
    pub entry: &'static str,
    /// The alias that was invoked.
    pub alias: Option<&'a str>,
    /// The caller, if known.
    pub caller: Option<&'a str>,
    /// The name that the caller gives itself, which proves nothing.
    pub client: Option<&'a str>,
    /// The action, if known.
    pub action: Option<&'static str>,
    /// The account, if the request concerns one.
    pub account: Option<&'a str>,
    /// The generation of the pair that answered.
    pub generation: Option<u64>,
    /// Where a token came from.
    pub served_from: Option<ServedFrom>,
    /// `ok`, or the code of the error.
    pub outcome: &'static str,
    /// Whether the error is a fault of the broker or a dependency.
    pub is_failure: bool,
    /// From arrival to answer.
    pub duration_ms: u64,
    /// The token, if it was handed out. Only its fingerprint is logged.
    pub token: Option<&'a Secret>,
    /// The number of the `audit` rule that alone allowed the request.
    pub audit_rule: Option<usize>,
    /// Further numbers.
    pub counts: &'a [(&'static str, u64)],
    /// The work that the request took.
    pub work: Work,
}

/// What maintenance found for one account. Each account has its own line, because a line can carry metrics for one
/// account only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AccountRecord {
    pub token_seconds_left: Option<u64>,
    pub refresh_token_seconds_left: Option<u64>,
    pub pending_revocations: Option<u64>,
    pub is_secret_rejected: Option<bool>,
    /// `None` unless only a person can renew the grant.
    pub grant: Option<GrantHealth>,
    /// Of such a grant.
    pub needs_a_person: Option<bool>,
}

impl AccountRecord {
    /// What a record says at this time.
    pub fn of(account: &Account, at: Timestamp) -> Self {
        let seconds_left = |until: Timestamp| until.since(at).as_secs();
        let pair = account.pair.as_ref();
        Self {
            token_seconds_left: pair.map(|pair| match pair.verdict {
                Verdict::Dead => 0,
                Verdict::Unverified | Verdict::Alive { .. } | Verdict::Inconclusive { .. } => {
                    seconds_left(pair.expires_at)
                }
            }),
            refresh_token_seconds_left: pair.and_then(Pair::session_ends_at).map(seconds_left),
            pending_revocations: Some(account.pending_revocations.len() as u64),
            is_secret_rejected: Some(account.rejected_secret.is_some()),
            grant: account.grant.as_ref().map(|grant| grant.health()),
            needs_a_person: account.grant.as_ref().map(|_| needs_a_person(account, at)),
        }
    }
}
