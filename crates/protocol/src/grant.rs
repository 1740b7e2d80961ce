//! Grants that only a person can renew: which refresh token may be sent, and what each reply means for it.
//!
//! No login repairs such a grant, so a token that may have been used is sent again only
//!
//! 1. within the provider's documented grace period,
//! 2. as the last resort, when nothing is left to lose,
//! 3. if the server returned it again, or returned no successor, or
//! 4. once after it was lost, under a version of the secret that has not lost it.
//!
//! A mark is written before each call. The reply ends it; without one, the token is in doubt.

mod adoption;

pub use adoption::{Adoption, adoption};

use crate::{
    Account, Context, Credentials, Generation, Holder, NewRefreshToken, Origin, Pair, Policy, RefreshToken,
    Renewal, Secret, SecretVersion, Timestamp, TokenResponse, Verdict,
    policy::{InstantKind, lies_ahead},
};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The most fingerprints of bootstrap tokens, and secret versions that lost a token, that are kept.
const KEPT: usize = 32;
/// A grant that has been in doubt for this long, without an access token, does not heal by itself: every attempt at the
/// last resort failed.
const DOUBT_HEALS_WITHIN: Duration = Duration::from_secs(600);
/// A grant whose refresh token has no known expiry is renewed at least this often.
const IDLE_RENEWAL: Duration = Duration::from_secs(7 * 86_400);

/// Recognises a token without holding it: the first eight bytes of its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The fingerprint of a token.
    pub fn of(token: &Secret) -> Self {
        let digest: [u8; 32] = Sha256::digest(token.expose()).into();
        Self(digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

/// A refresh token was sent, or may have been, and the outcome is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// When it was first marked. The provider's grace period begins no earlier.
    pub at: Timestamp,
    /// The instant until which a call that sent it may still arrive.
    pub settled_at: Timestamp,
    /// The attempt that marked it last.
    pub by: Holder,
}

/// What is known about the use of one refresh token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Usage {
    /// Set while the token is in doubt.
    pub mark: Option<Mark>,
    /// The upstream answered `invalid_grant`, and no attempt followed.
    pub lost: bool,
    /// The versions of the secret whose client got `invalid_grant` for this token.
    pub lost_under: Vec<SecretVersion>,
}

/// A new grant whose bootstrap token was sent, and has not yielded a pair yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trial {
    /// The bootstrap token.
    pub token: Secret,
    /// The upstream that issued it. It is sent nowhere else.
    pub origin: Origin,
    /// Its use, separate from that of the pair's refresh token.
    pub usage: Usage,
}

/// The token that obtained a pair. It shows where a pair that could not be saved belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Predecessor {
    /// Its fingerprint.
    pub token: Fingerprint,
    /// The attempt that sent it, to distinguish its mark from others.
    pub by: Holder,
}

/// The record of a grant, except its pair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrantState {
    /// The use of the pair's refresh token.
    pub held: Usage,
    /// A new grant on trial. Its token is sent instead of the pair's.
    pub trial: Option<Trial>,
    /// The last bootstrap tokens that were sent. None of them is a new grant, whatever the secret says.
    pub sent: Vec<Fingerprint>,
    /// The token that obtained the pair.
    pub predecessor: Option<Predecessor>,
    /// The pair's refresh token is not sent before this instant, because a call of its predecessor may still arrive.
    pub send_after: Option<Timestamp>,
    /// The provider's grace period, as the secret of the last attempt states it. While it lasts, a token in doubt is
    /// worth an attempt.
    pub resend_within: Duration,
}

/// The state of a grant, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantHealth {
    /// The next renewal sends a token that was not used.
    Sound,
    /// The token may have been used.
    InDoubt,
    /// The upstream refused the token. A person has to give a new grant.
    Lost,
}

/// Why no refresh token of a grant is sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Withheld {
    /// It may have been used, or a call of its predecessor may still arrive.
    InDoubt,
    /// It is lost under this version of the secret, or there is none.
    Lost,
}

/// The token that the next call sends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// The token itself.
    pub token: Secret,
    /// The upstream that issued it.
    pub origin: Origin,
    /// Whether it comes from the secret and was never sent.
    pub is_new: bool,
    /// It has to leave by then, to arrive within the provider's grace period.
    pub not_after: Option<Timestamp>,
}

impl Usage {
    /// Marks the token before it leaves. The token is then no longer *lost*, and earlier calls still count.
    fn add(&mut self, mark: Mark) {
        let earlier = self.mark.unwrap_or(mark);
        let settled_at = mark.settled_at.max(earlier.settled_at);
        self.mark = Some(Mark { at: earlier.at, settled_at, by: mark.by });
        self.lost = false;
    }

    fn lose(&mut self, version: &SecretVersion) {
        self.lost = true;
        remember(&mut self.lost_under, version.clone());
    }

    fn unblock(&mut self) {
        if self.lost {
            self.lost_under.clear();
        }
    }
}

impl GrantState {
    /// The use of the token that the next call sends, unless that is a new one.
    pub fn current(&self) -> &Usage {
        self.trial.as_ref().map_or(&self.held, |trial| &trial.usage)
    }

    fn current_mut(&mut self) -> &mut Usage {
        self.trial.as_mut().map_or(&mut self.held, |trial| &mut trial.usage)
    }

    /// The newest bootstrap token that was sent.
    pub(crate) fn newest(&self) -> Option<Fingerprint> {
        self.sent.last().copied()
    }

    /// The middle of the time in which a token in doubt may be sent again by the provider's grace period, if it lies
    /// ahead.
    pub(crate) fn half_of_grace(&self, cx: Context<'_>) -> Option<Timestamp> {
        let mark = self.current().mark?;
        let half = |used_at: Timestamp| {
            let latest = used_at.plus(self.resend_within).minus(cx.policy.longest_travel());
            mark.settled_at.plus(latest.since(mark.settled_at) / 2)
        };
        // The first call may have been carried out, or only the one that just ended.
        let used_at = [mark.at, cx.now.minus(cx.policy.upstream_timeout)];
        used_at.map(half).into_iter().find(|half| mark.settled_at.max(cx.now) < *half)
    }

    /// The state, for operators.
    pub fn health(&self) -> GrantHealth {
        match self.current() {
            Usage { lost: true, .. } => GrantHealth::Lost,
            Usage { mark: Some(_), .. } => GrantHealth::InDoubt,
            Usage { .. } => GrantHealth::Sound,
        }
    }

    /// Forgets everything except the bootstrap tokens that were sent, because an operator revoked the grant.
    /// Returns the grant that was on trial.
    pub(crate) fn withdraw(&mut self) -> Option<Trial> {
        let sent = std::mem::take(&mut self.sent);
        std::mem::replace(self, Self { sent, ..Self::default() }).trial
    }

    /// Allows one attempt with a token that is lost.
    pub fn unblock(&mut self) {
        self.current_mut().unblock();
    }

    /// The state with a mark of the token that is about to leave.
    #[must_use]
    pub fn marked(&self, choice: &Choice, mark: Mark, resend_within: Duration) -> Self {
        let mut marked = Self { resend_within, ..self.clone() };
        if choice.is_new {
            remember(&mut marked.sent, Fingerprint::of(&choice.token));
            marked.trial = Some(Trial {
                token: choice.token.clone(),
                origin: choice.origin.clone(),
                usage: Usage::default(),
            });
        }
        marked.current_mut().add(mark);
        marked
    }

    /// The upstream responded, and may have carried out the call. Any copy of it arrives by `latest_arrival`; copies of
    /// earlier calls arrive by the time that `before` records.
    pub fn responded(&mut self, before: &Self, choice: &Choice, latest_arrival: Timestamp) {
        let earlier = before.current().mark.filter(|_| !choice.is_new);
        if let Some(mark) = &mut self.current_mut().mark {
            let own = latest_arrival.min(mark.settled_at);
            mark.settled_at = earlier.map_or(own, |earlier| own.max(earlier.settled_at));
        }
    }

    /// `invalid_grant`: the token is lost under this version of the secret. The mark returns to what it was `before`
    /// the attempt. A refused new grant gives way to the record's previous one.
    pub fn refused(&mut self, before: &Self, choice: &Choice, version: &SecretVersion, has_pair: bool) {
        let sent = std::mem::take(&mut self.sent);
        *self = Self { sent, ..before.clone() };
        match (choice.is_new, &mut self.trial) {
            // The record continues with an earlier trial, or with the pair's own token.
            (true, Some(_)) => {}
            (true, None) if has_pair => {}
            (true, None) => {
                let mut usage = Usage::default();
                usage.lose(version);
                self.trial =
                    Some(Trial { token: choice.token.clone(), origin: choice.origin.clone(), usage });
            }
            (false, Some(_)) if has_pair => self.trial = None,
            (false, _) => self.current_mut().lose(version),
        }
    }
}

/// The token of a record's grant that may be sent now, with this secret.
///
/// # Errors
/// Why none may be sent.
pub fn choose(account: &Account, secret: &Credentials, cx: Context<'_>) -> Result<Choice, Withheld> {
    let none = GrantState::default();
    let state = account.grant.as_deref().unwrap_or(&none);
    let held =
        account.pair.as_ref().and_then(|pair| Some((&pair.refresh_token.as_ref()?.token, &pair.origin)));
    let current = state.trial.as_ref().map(|trial| (&trial.token, &trial.origin)).or(held);
    if let Some(bootstrap) = secret.bootstrap()
        && current.is_none_or(|(token, _)| token != bootstrap)
        && !state.sent.contains(&Fingerprint::of(bootstrap))
    {
        let (token, origin) = (bootstrap.clone(), secret.origin.clone());
        return Ok(Choice { token, origin, is_new: true, not_after: None });
    }
    // Another upstream does not know the token, and must not learn it.
    let Some((token, origin)) = current.filter(|(_, origin)| secret.client_at(origin).is_some()) else {
        return Err(Withheld::Lost);
    };
    let usage = state.current();
    if usage.lost && usage.lost_under.contains(&secret.version) {
        return Err(Withheld::Lost);
    }
    let unsettled = state.send_after.filter(|_| state.trial.is_none());
    if unsettled.is_some_and(|until| lies_ahead(InstantKind::Settling, until, cx.now)) {
        return Err(Withheld::InDoubt);
    }
    let not_after = match usage.mark {
        None => None,
        Some(mark) => {
            let grace = secret.client().map_or(Duration::ZERO, |client| client.resend_within);
            resend(mark, account.pair.as_ref(), grace, cx)?
        }
    };
    Ok(Choice { token: token.clone(), origin: origin.clone(), is_new: false, not_after })
}

/// Until when a token in doubt may leave, or `None` if nothing is left to lose.
fn resend(
    mark: Mark,
    pair: Option<&Pair>,
    grace: Duration,
    cx: Context<'_>,
) -> Result<Option<Timestamp>, Withheld> {
    if lies_ahead(InstantKind::Settling, mark.settled_at, cx.now) {
        return Err(Withheld::InDoubt);
    }
    let latest = mark.at.plus(grace).minus(cx.policy.longest_travel());
    if cx.now <= latest {
        return Ok(Some(latest));
    }
    // A server may answer the second use of a token by ending a living access token.
    let ended =
        |pair: &Pair| pair.verdict == Verdict::Dead || pair.expires_at.plus(cx.policy.clock_margin) <= cx.now;
    if pair.is_none_or(ended) { Ok(None) } else { Err(Withheld::InDoubt) }
}

/// Until when a token in doubt may leave, by the record alone. `None` if nothing is left to lose, or if there is no
/// doubt.
fn resend_by_record(account: &Account, cx: Context<'_>) -> Result<Option<Timestamp>, Withheld> {
    let Some(state) = &account.grant else { return Ok(None) };
    let Some(mark) = state.current().mark else { return Ok(None) };
    resend(mark, account.pair.as_ref(), state.resend_within, cx)
}

/// Whether a token in doubt can be sent again within the grace period, which justifies an attempt before the pair is
/// due.
pub(crate) fn is_in_grace(account: &Account, cx: Context<'_>) -> bool {
    let lost = account.grant.as_ref().is_some_and(|state| state.current().lost);
    !lost && matches!(resend_by_record(account, cx), Ok(Some(_)))
}

/// Whether the secret, as it was recently read, still allows no attempt.
pub(crate) fn is_still_withheld(withheld: Withheld, account: &Account, cx: Context<'_>) -> bool {
    match withheld {
        Withheld::Lost => {
            let state = account.grant.as_deref();
            let has_token = account.pair.is_some() || state.is_some_and(|state| state.trial.is_some());
            !has_token
                || state.is_some_and(|state| state.current().lost && !state.current().lost_under.is_empty())
        }
        Withheld::InDoubt => resend_by_record(account, cx).is_err(),
    }
}

/// When the mark of a call that is about to leave ends: no copy of it arrives later.
pub(crate) fn settled_at(policy: &Policy, deadline: Timestamp) -> Timestamp {
    deadline.plus(policy.longest_travel() + policy.clock_margin)
}

/// The pair from a marked refresh, obtained under the fence `generation` by a request that left at `sent_at`, with the
/// grant's new state. Without a successor, the sent token stays.
pub(crate) fn renewed(
    account: &Account,
    choice: &Choice,
    secret: &Credentials,
    granted: TokenResponse,
    generation: Generation,
    sent_at: Timestamp,
) -> (Pair, GrantState) {
    let before = account.pair.as_ref();
    let state = account.grant.as_deref().cloned().unwrap_or_default();
    let predecessor = state.current().mark.map(|mark| {
        let token = Fingerprint::of(&choice.token);
        Predecessor { token, by: mark.by }
    });
    // The token was used, and its successor is lost.
    let in_doubt = granted.refresh_token == NewRefreshToken::Unusable;
    let held = if in_doubt { state.current().clone() } else { Usage::default() };
    let is_own = |pair: &&Pair| pair.refresh_token.as_ref().is_some_and(|own| own.token == choice.token);
    let session = before.filter(is_own);
    let own_expiry = session.and_then(|pair| pair.refresh_token.as_ref()?.expires_at);
    let stated = granted.refresh_expires_at(sent_at);
    let (token, expires_at) = match &granted.refresh_token {
        NewRefreshToken::Token(token) => (token, stated),
        NewRefreshToken::Absent | NewRefreshToken::Unusable => (&choice.token, stated.or(own_expiry)),
    };
    let earlier_life = session.and_then(Pair::longest_refresh_life);
    let successor = RefreshToken { token: token.clone(), expires_at, consumed: false, earlier_life };
    let pair = granted.into_pair(generation, sent_at, before, Renewal::Refresh(Some(secret.clone())));
    let pair = Pair { refresh_token: Some(successor), secret_version: Some(secret.version.clone()), ..pair };
    (pair, GrantState { held, trial: None, predecessor, send_after: None, ..state })
}

/// Whether a person has to act: the grant is lost, or callers have had no token for a while because it stays in doubt. A
/// server may refuse a dead token without a code, for ever.
pub fn needs_a_person(account: &Account, now: Timestamp) -> bool {
    let Some(usage) = account.grant.as_deref().map(GrantState::current) else { return false };
    let stays_in_doubt = |mark: Mark| {
        let ended_at = account.pair.as_ref().map_or(mark.at, |pair| match pair.verdict {
            Verdict::Dead => mark.at,
            Verdict::Unverified | Verdict::Alive { .. } | Verdict::Inconclusive { .. } => pair.expires_at,
        });
        now >= ended_at.max(mark.at).plus(DOUBT_HEALS_WITHIN)
    };
    usage.lost || usage.mark.is_some_and(stays_in_doubt)
}

/// When maintenance refreshes a grant although its access token is not due, so that its refresh token does not expire
/// unused.
pub(crate) fn idle_renewal_at(policy: &Policy, pair: &Pair) -> Timestamp {
    let weekly = pair.issued_at.plus(IDLE_RENEWAL);
    let Some(end) = pair.refresh_token.as_ref().and_then(|token| token.expires_at) else { return weekly };
    let life = end.since(pair.issued_at);
    end.minus(policy.refresh_ahead.max(IDLE_RENEWAL).min(life / 2))
}

/// Adds an entry, and drops the oldest if there are too many.
fn remember<T: PartialEq>(entries: &mut Vec<T>, entry: T) {
    entries.retain(|known| *known != entry);
    entries.push(entry);
    let excess = entries.len().saturating_sub(KEPT);
    entries.drain(..excess);
}

#[cfg(test)]
mod tests;
