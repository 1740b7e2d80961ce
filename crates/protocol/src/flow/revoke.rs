//! Revoking tokens upstream.
//!
//! The lease-taking write moves an operator's pair to the pending revocations, so that it is no longer handed out and a
//! crash forgets nothing. Then the tokens are revoked, and one write removes the revoked ones. A flow that obtained a
//! pair and lost the lease adds its tokens to the pending revocations, for the next maintenance.

use super::{
    Flow,
    state::{Ending, Held, Next, State},
};
use crate::{Account, Call, Context, Credentials, Intent, Notice, Pair, Revocation, UpstreamReply};

impl Flow {
    /// Revokes the next pending token, of those that failed least. Tokens that cannot be revoked now stay pending, behind
    /// those that were not tried, so that tokens that always fail do not block others. An operator does not wait for the
    /// end of their pauses. An expired token is dropped; one of the current pair is in use.
    pub(super) fn revoke_pending(
        &mut self,
        cx: Context<'_>,
        mut held: Held,
        secret: Option<Credentials>,
        mut failed: Vec<Revocation>,
    ) -> Next {
        let not_after = self.latest_send(cx, &held);
        let pair = held.account.pair.as_ref();
        let given_up = |revocation: &mut Revocation| {
            revocation.expires_at <= cx.now || pair.is_some_and(|pair| pair.holds(&revocation.token))
        };
        let dropped = held.account.pending_revocations.extract_if(.., given_up).count();
        self.report_dropped(dropped);
        let paced = matches!(self.request.intent, Intent::Maintain(_));
        let pending = held.account.pending_revocations.iter().enumerate();
        let due = pending.filter(|(_, revocation)| !paced || revocation.is_due(cx.now));
        let next = due.min_by_key(|(_, revocation)| revocation.failures()).map(|(index, _)| index);
        let Some(next) = next.filter(|_| cx.now <= not_after) else {
            held.account.pending_revocations.append(&mut failed);
            return Next::Save(held, Ending::Revoked);
        };
        let mut current = held.account.pending_revocations.remove(next);
        let client = secret.as_ref().and_then(|secret| secret.client_at(&current.origin)).cloned();
        if client.is_none() && current.origin.needs_client() {
            current.failed(cx);
            failed.push(current);
            return Next::RevokePending(held, secret, failed);
        }
        let call = Call::Revoke(current.clone(), client);
        Next::Send(State::Revoking { held, secret, current, failed }, call, not_after)
    }

    pub(super) fn revoked(
        &mut self,
        cx: Context<'_>,
        mut held: Held,
        secret: Option<Credentials>,
        mut current: Revocation,
        mut failed: Vec<Revocation>,
        reply: &UpstreamReply,
    ) -> Next {
        if !matches!(reply, UpstreamReply::Revoked | UpstreamReply::TooLate) {
            current.failed(cx);
        }
        if let UpstreamReply::RateLimited(_) = reply {
            // The others would be refused too. The next maintenance tries them, and then this one.
            held.account.pending_revocations.append(&mut failed);
            held.account.pending_revocations.push(current);
            return Next::Save(held, Ending::Revoked);
        }
        if matches!(reply, UpstreamReply::Refused | UpstreamReply::ClientRefused) {
            self.notices.push(Notice::RevocationRefused);
        }
        if *reply != UpstreamReply::Revoked {
            failed.push(current);
        }
        Next::RevokePending(held, secret, failed)
    }

    /// Adds the tokens of this flow's orphan, if it has one, to the pending revocations, now that the request can be
    /// answered. Best effort: a token that is not revoked simply expires.
    ///
    /// Never a token that a caller may hold. No attempt may hold the lease, because the upstream may be about to return
    /// the same tokens again, and the orphan must never have been saved.
    pub(super) fn discard_orphan(&mut self, cx: Context<'_>) -> Option<Next> {
        let orphan = self.orphan.take()?;
        let account = self.account(cx);
        if !was_never_saved(&orphan, &account) || account.active_lease(cx.now).is_some() {
            return None;
        }
        self.notices.push(Notice::OrphanRecorded(orphan.generation));
        let pair = account.pair.as_ref();
        let in_use = |revocation: &Revocation| pair.is_some_and(|pair| pair.holds(&revocation.token));
        let unused = orphan.revocations().filter(|revocation| !in_use(revocation));
        let mut next = account.clone();
        let dropped = next.add_revocations(unused);
        self.report_dropped(dropped);
        Some(Self::write_record(cx, next, Ending::OrphanRecorded))
    }

    /// Reports how many tokens were dropped, if any.
    fn report_dropped(&mut self, tokens: usize) {
        if tokens > 0 {
            self.notices.push(Notice::RevocationsDropped(tokens));
        }
    }
}

/// The current pair replaces the same pair that the orphan was meant to replace. If there is no pair, or none that it
/// replaces, then the previous one was withdrawn, and the orphan with it if it was ever saved.
fn was_never_saved(orphan: &Pair, account: &Account) -> bool {
    account.pair.as_ref().is_none_or(|pair| pair.replaces.is_none() || pair.replaces == orphan.replaces)
}
