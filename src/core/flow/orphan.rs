//! Making a pair worthless that was obtained and never saved, because somebody took over in the meantime.

use super::{
    super::{
        grant::{Call, TokenKind},
        policy,
        record::{Account, Pair},
    },
    Effect, Flow, Notice, State, Step,
};
use crate::secret::Secret;

/// Tokens that are being revoked, one after another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Revocation {
    tokens: Vec<(Secret, TokenKind)>,
    oauth_url: Option<String>,
}

impl Flow {
    /// Revokes the orphan of this flow, if it has one, now that the request can be answered. At best effort:
    /// what is not revoked dies by itself.
    ///
    /// Never a token that anybody may hold. Nobody must be renewing the pair, since the upstream may be about
    /// to give the same tokens again; and the current pair must replace the very pair that the orphan was to
    /// replace, which proves that the orphan was never saved.
    pub(super) fn discard_orphan(&mut self, step: Step<'_>) -> Option<Effect> {
        let orphan = self.orphan.take()?;
        let account = self.account();
        if !was_never_saved(&orphan, &account) || policy::held(account.lease.as_ref(), step.now).is_some() {
            return None;
        }
        self.notices.push(Notice::OrphanRevoked(orphan.generation));
        let in_use = |token: &Secret| {
            account
                .pair
                .as_ref()
                .is_some_and(|pair| pair.access_token == *token || pair.refresh_token.as_ref() == Some(token))
        };
        let tokens =
            [(Some(orphan.access_token), TokenKind::Access), (orphan.refresh_token, TokenKind::Refresh)]
                .into_iter()
                .filter_map(|(token, kind)| Some((token.filter(|token| !in_use(token))?, kind)))
                .collect();
        Some(self.revoke_next(step, Revocation { tokens, oauth_url: orphan.oauth_url }))
    }

    pub(super) fn revoke_next(&mut self, step: Step<'_>, mut revocation: Revocation) -> Effect {
        let not_after = self.ask.deadline.minus(step.policy.upstream_timeout);
        match revocation.tokens.pop().filter(|_| step.now <= not_after) {
            Some((token, kind)) => {
                let call = Call::Revoke { token, kind, oauth_url: revocation.oauth_url.clone() };
                self.state = State::Revoking(revocation);
                Effect::Send { call, not_after }
            }
            None => self.act(step),
        }
    }
}

fn was_never_saved(orphan: &Pair, account: &Account) -> bool {
    account.pair.as_ref().is_some_and(|pair| pair.replaces == orphan.replaces)
}
