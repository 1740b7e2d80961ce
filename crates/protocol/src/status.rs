//! What an operator may know of an account: everything but the tokens.

use super::{
    ledger::NextLogin,
    policy::{self, Policy},
    record::{Account, AccountName, Cooldown, Generation, Grant, Lease, Ledger, SecretVersion},
    time::Timestamp,
};

/// One account, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccountStatus {
    /// Whose.
    pub account: AccountName,
    /// The current pair, if there is one.
    pub pair: Option<PairStatus>,
    /// The lease, if somebody is renewing the pair.
    pub lease: Option<Lease>,
    /// The cooldown, if the account rests.
    pub cooldown: Option<Cooldown>,
    /// Failures in a row.
    pub failures: u32,
    /// The secret version that the upstream refused.
    pub parked: Option<SecretVersion>,
    /// When a probe last found the access token alive.
    pub verified_at: Option<Timestamp>,
    /// Tokens that are still to be revoked.
    pub pending_revocations: usize,
}

/// A pair without its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PairStatus {
    /// Which pair it is.
    pub generation: Generation,
    /// How it was obtained.
    pub obtained_by: Grant,
    /// When the request that brought it left.
    pub issued_at: Timestamp,
    /// When it is due for renewal.
    pub due_at: Timestamp,
    /// When the access token dies if nobody uses it.
    pub expires_at: Timestamp,
    /// When the refresh token dies, where that is known.
    pub refresh_expires_at: Option<Timestamp>,
    /// Whether the refresh token was sent, so that the next renewal is a login.
    pub refresh_spent: bool,
    /// Whether a probe found the access token dead.
    pub dead: bool,
}

/// The fleet's logins, as they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LedgerStatus {
    /// Debits that still count.
    pub debits: usize,
    /// How many may count at once.
    pub budget: usize,
    /// When the next login is free.
    pub next_login: NextLogin,
}

/// Describes an account.
pub fn of_account(name: AccountName, account: &Account, policy: &Policy, now: Timestamp) -> AccountStatus {
    let pair = account.pair.as_ref().map(|pair| PairStatus {
        generation: pair.generation,
        obtained_by: pair.obtained_by,
        issued_at: pair.issued_at,
        due_at: policy.due_at(&name, pair),
        expires_at: pair.expires_at,
        refresh_expires_at: pair.refresh_expires_at,
        refresh_spent: pair.refresh_spent,
        dead: pair.dead,
    });
    AccountStatus {
        account: name,
        pair,
        lease: policy::held(account.lease.as_ref(), now),
        cooldown: policy::cooling(account.cooldown.as_ref(), now),
        failures: account.failures(),
        parked: account.parked.clone(),
        verified_at: account.verified_at,
        pending_revocations: account.pending.len(),
    }
}

/// Describes the ledger.
pub fn of_ledger(ledger: &Ledger, policy: &Policy, now: Timestamp) -> LedgerStatus {
    LedgerStatus {
        debits: ledger.counting(now).count(),
        budget: policy.login_budget,
        next_login: ledger.next_free_at(policy, now),
    }
}
