//! The rule for grants that only a person can renew, checked by true time. `docs/protocol/grants.md` explains it.
//!
//! | invariant | checked |
//! | --- | --- |
//! | I2 | when a call leaves |
//! | I6 | when the server ends a grant, and when a record says that one is lost |

use crate::{MINUTE, plans::Incident, upstream::number, world::Occurrence, world::World};
use protocol::{Account, Call, GrantHealth, IssuedToken, Verdict, millis};
use std::collections::{HashMap, HashSet};

/// How long it takes until a person consents again.
const CONSENT_TAKES_MS: u64 = 30 * MINUTE;

/// What the checks need to know of the past. Refresh tokens have their upstream's numbers.
#[derive(Default)]
pub(crate) struct Grants {
    /// When calls left, by the token that they sent, if it may have been used.
    calls_ms: HashMap<usize, Vec<u64>>,
    /// Tokens whose call the network carried out twice.
    copied: HashSet<usize>,
    /// Tokens that a record has held.
    saved: HashSet<usize>,
    /// The version of the secret under which a record last called a token lost.
    lost_under: HashMap<usize, usize>,
}

impl World {
    /// A call leaves. A token that may have been used is sent again only within the grace period or as the last resort,
    /// when no earlier call can arrive any more. A lost one is not sent under the same version of the secret.
    pub(crate) fn refresh_token_leaves(&mut self, account: usize, call: &Call) {
        let (Some(grace_ms), Call::Refresh(IssuedToken { token, .. }, _)) = (self.plan.grace_ms, call) else {
            return;
        };
        let (token, now_ms) = (number(token), self.now_ms);
        let travel_ms = 2 * millis(self.policy.upstream_timeout);
        let ended = self.store.accounts[account].pair.as_ref().is_none_or(|pair| {
            pair.verdict == Verdict::Dead || self.upstream.expires_at_ms(&pair.access_token) <= now_ms
        });
        let calls_ms = self.grants.calls_ms.entry(token).or_default();
        if let Some(first_ms) = calls_ms.first().copied() {
            let settled = calls_ms.iter().all(|left_ms| left_ms + travel_ms <= now_ms);
            let in_grace = now_ms + travel_ms <= first_ms + grace_ms;
            let tally = &mut self.checks.tally;
            tally.sent_within_grace += u64::from(in_grace);
            tally.sent_as_last_resort += u64::from(!in_grace);
            self.checks.hold("I2", settled && (in_grace || ended), || {
                format!("refresh token {token} in doubt since {first_ms} is sent again at {now_ms}")
            });
        }
        self.grants.calls_ms.entry(token).or_default().push(now_ms);
        let is_lost = self.grants.lost_under.get(&token) == Some(&self.secrets.version(account));
        self.checks.hold("I2", !is_lost, || format!("the lost refresh token {token} is sent at {now_ms}"));
    }

    /// The network carries out a call twice. That may cost the grant.
    pub(crate) fn call_is_copied(&mut self, call: &Call) {
        if let Call::Refresh(IssuedToken { token, .. }, _) = call {
            self.grants.copied.insert(number(token));
        }
    }

    /// The server ends a grant because this token was used twice. It may only if the network used it twice, or if there
    /// was no grace period and no record ever held the successor.
    pub(crate) fn grant_ends(&mut self, token: usize, successor: usize) {
        self.checks.tally.grants_ended += 1;
        let excused = self.grants.copied.contains(&token) || !self.grants.saved.contains(&successor);
        let holds = self.plan.grace_ms == Some(0) && excused;
        let now_ms = self.now_ms;
        self.checks.hold("I6", holds, || format!("refresh token {token} was used twice, until {now_ms}"));
    }

    /// A record is written. If it says that a grant is lost, that has to be true, and a person consents again after a while.
    pub(crate) fn grant_is_written(&mut self, account: usize, record: &Account) {
        let held = record.pair.as_ref().and_then(|pair| pair.refresh_token.as_ref()).map(|held| &held.token);
        self.grants.saved.extend(held.map(number));
        let Some(grant) = record.grant.as_ref().filter(|grant| grant.health() == GrantHealth::Lost) else {
            return;
        };
        let usage = grant.current();
        let Some(token) = grant.trial.as_ref().map(|trial| &trial.token).or(held).map(number) else { return };
        let version = usage.lost_under.last().and_then(|version| version.0.parse().ok()).unwrap_or_default();
        if self.grants.lost_under.insert(token, version) == Some(version) {
            return;
        }
        if usage.mark.is_none() {
            self.grants.calls_ms.remove(&token);
        }
        let ended = self.upstream.has_ended(token);
        self.checks.hold("I6", ended, || format!("the record calls the living refresh token {token} lost"));
        self.after(CONSENT_TAKES_MS, Occurrence::Incident(Incident::PersonConsents(account)));
    }
}
