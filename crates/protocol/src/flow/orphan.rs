//! Making a pair worthless that was obtained and never saved, because somebody took over in the meantime.

use super::{
    super::{
        grant::Call,
        policy,
        record::{Account, Pair, Revocation},
    },
    Effect, Flow, Notice, State, Step,
};

impl Flow {
    /// Revokes the orphan of this flow, if it has one, now that the request can be answered. At best effort:
    /// what is not revoked dies by itself.
    ///
    /// Never a token that anybody may hold. Nobody must be renewing the pair, since the upstream may be about
    /// to give the same tokens again; and the orphan must never have been saved.
    pub(super) fn discard_orphan(&mut self, step: Step<'_>) -> Option<Effect> {
        let orphan = self.orphan.take()?;
        let account = self.account();
        if !was_never_saved(&orphan, &account) || policy::held(account.lease.as_ref(), step.now).is_some() {
            return None;
        }
        self.notices.push(Notice::OrphanRevoked(orphan.generation));
        let in_use = |revocation: &Revocation| {
            account.pair.as_ref().is_some_and(|pair| {
                pair.access_token == revocation.token
                    || pair.refresh_token.as_ref() == Some(&revocation.token)
            })
        };
        let revocations = orphan.revocations().filter(|revocation| !in_use(revocation)).collect();
        Some(self.revoke_orphan(step, revocations))
    }

    pub(super) fn revoke_orphan(&mut self, step: Step<'_>, mut rest: Vec<Revocation>) -> Effect {
        let not_after = self.ask.deadline.minus(step.policy.upstream_timeout);
        if rest.is_empty() || step.now > not_after {
            return self.act(step);
        }
        let next = rest.remove(0);
        self.state = State::RevokingOrphan(rest);
        Effect::Send { call: Call::Revoke(next), not_after }
    }
}

/// The current pair replaces the very pair that the orphan was to replace. Where there is none, or none that it
/// replaces, whatever was there before was withdrawn, and the orphan with it if it was ever saved.
fn was_never_saved(orphan: &Pair, account: &Account) -> bool {
    account.pair.as_ref().is_none_or(|pair| pair.replaces.is_none() || pair.replaces == orphan.replaces)
}
