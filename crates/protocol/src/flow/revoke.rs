//! Revoking tokens upstream: those of withdrawn pairs, and those of orphans.
//!
//! The lease-taking write moves an operator's pair to the pending revocations, so that it is no longer handed out and
//! a crash forgets nothing. Then the tokens are revoked, and one write removes those that are.

use super::{Flow, Held, Next, Work, save::Ending};
use crate::{Account, Call, Context, Pair, Revocation, UpstreamReply};

impl Flow {
    /// Revokes the next pending token. Those that cannot be revoked now stay pending, in `failed`.
    pub(super) fn revoke_pending(
        &mut self,
        cx: Context<'_>,
        mut held: Held,
        mut failed: Vec<Revocation>,
    ) -> Next {
        let not_after = self.latest_send(cx, &held);
        if cx.now > not_after {
            failed.append(&mut held.account.pending_revocations);
        }
        if held.account.pending_revocations.is_empty() {
            held.account.pending_revocations = failed;
            return Next::Save(held, Ending::Revoked);
        }
        let current = held.account.pending_revocations.remove(0);
        let call = Call::Revoke(current.clone());
        Next::Send(held, Work::Revoking { current, failed }, call, not_after)
    }

    pub(super) fn revoked(
        held: Held,
        current: Revocation,
        mut failed: Vec<Revocation>,
        reply: &UpstreamReply,
    ) -> Next {
        if *reply != UpstreamReply::Revoked {
            failed.push(current);
        }
        Next::RevokePending(held, failed)
    }

    /// Revokes the orphan of this flow, if it has one, now that the request can be answered. Best effort: a token that
    /// is not revoked expires by itself.
    ///
    /// Never a token that a caller may hold. No attempt may hold the lease, since the upstream may be about to give the
    /// same tokens again, and the orphan must never have been saved.
    pub(super) fn discard_orphan(&mut self, cx: Context<'_>) -> Option<Next> {
        let orphan = self.orphan.take()?;
        let account = self.account();
        if !was_never_saved(&orphan, &account) || account.active_lease(cx.now).is_some() {
            return None;
        }
        self.notices.push(crate::Notice::OrphanRevoked(orphan.generation));
        let current = account.pair.as_ref();
        let in_use = |revocation: &Revocation| {
            current.is_some_and(|pair| {
                let refresh_token = pair.refresh_token.parts().map(|(token, _)| token);
                pair.access_token == revocation.token || refresh_token == Some(&revocation.token)
            })
        };
        Some(Next::RevokeOrphan(orphan.revocations().filter(|revocation| !in_use(revocation)).collect()))
    }

    pub(super) fn revoke_orphan(&mut self, cx: Context<'_>, mut remaining: Vec<Revocation>) -> Next {
        let not_after = self.request.deadline.minus(cx.policy.upstream_timeout);
        if remaining.is_empty() || cx.now > not_after {
            return Next::Decide;
        }
        let next = remaining.remove(0);
        Next::SendOrphan(remaining, Call::Revoke(next), not_after)
    }
}

/// The current pair replaces the very pair that the orphan was to replace. If there is no pair, or none that it
/// replaces, then the previous one was withdrawn, and the orphan with it if it was ever saved.
fn was_never_saved(orphan: &Pair, account: &Account) -> bool {
    account.pair.as_ref().is_none_or(|pair| pair.replaces.is_none() || pair.replaces == orphan.replaces)
}
