//! Renewing a grant that only a person can renew: secret, lease, permit where refreshes count, mark, call, save.

use super::{
    Flow,
    lease::OTHER_GRANT,
    state::{Attempt, Ending, Held, MarkAttempt, Marked, Next, Purpose, SaveAttempt, State},
};
use crate::{
    Account, AccountWrite, Adoption, Answer, Call, Context, Credentials, Failure, Intent, IssuedToken, Mark,
    Notice, Outcome, ServedFrom, Timestamp, Unclear, UpstreamFault, UpstreamReply, Withheld, adoption,
    choose,
    grant::{renewed, settled_at},
};

impl MarkAttempt {
    pub(super) fn write(self) -> Next {
        let effect = self.write.effect();
        Next::Write(Attempt::Mark(Box::new(self)), effect)
    }
}

impl Flow {
    /// The secret was read for a grant: what may be sent now, if anything.
    pub(super) fn check_grant(&mut self, cx: Context<'_>, account: &Account, secret: Credentials) -> Next {
        let is_in_use = account.pair.is_some() || !account.pending_revocations.is_empty();
        if account.grant.is_none() && is_in_use {
            return self.finish(cx, Failure::BadSecret(OTHER_GRANT.to_owned()));
        }
        match choose(account, &secret, cx) {
            Ok(_) => Next::Acquire(Purpose::RenewGrant(secret)),
            Err(withheld) => {
                // The secret is not read again for a while.
                (self.cache.rejection_seen, self.cache.withheld) = (Some(cx.moment()), Some(withheld));
                self.finish(cx, Self::withheld(cx, account, withheld))
            }
        }
    }

    /// The request's failure when no token may be sent.
    pub(super) fn withheld(cx: Context<'_>, account: &Account, withheld: Withheld) -> Failure {
        match withheld {
            Withheld::Lost => Failure::GrantLost,
            Withheld::InDoubt => {
                let mark = account.grant.as_ref().and_then(|grant| grant.current().mark);
                let retry_after = mark.map(|mark| mark.settled_at.since(cx.now)).unwrap_or_default();
                Failure::UpstreamUnavailable { fault: UpstreamFault::NoResponse, retry_after }
            }
        }
    }

    /// Marks the token before it is sent, under the lease. The version of this write is the fence.
    pub(super) fn mark_grant(
        &self,
        cx: Context<'_>,
        held: Held,
        secret: Credentials,
        not_after: Option<Timestamp>,
    ) -> Next {
        let choice = match choose(&held.account, &secret, cx) {
            Ok(choice) => choice,
            Err(withheld) => {
                let failure = Self::withheld(cx, &held.account, withheld);
                return Next::fail(held, failure);
            }
        };
        let limits = [not_after, choice.not_after].into_iter().flatten();
        let not_after = limits.fold(self.latest_send(cx, &held), Ord::min);
        let grace = secret.client().map(|client| client.resend_within).unwrap_or_default();
        let before = held.account.grant.as_deref().cloned().unwrap_or_default();
        let settled_at = settled_at(cx.policy, self.request.ends(cx));
        let mark = Mark { at: cx.now, settled_at, by: held.lease.holder };
        let grant = Some(Box::new(before.marked(&choice, mark, grace)));
        let write = AccountWrite::new(Account { grant, ..held.account.clone() }, cx);
        let marked = Marked { secret, choice, before };
        MarkAttempt { held, write, marked, not_after, tries: 0 }.write()
    }

    /// The token is marked: it may leave.
    pub(super) fn send_marked(&mut self, cx: Context<'_>, attempt: MarkAttempt) -> Next {
        let MarkAttempt { held, write, marked, not_after, .. } = attempt;
        self.remember(cx, write.next.clone());
        let held = Held { account: write.next, ..held };
        let origin = marked.secret.origin.clone();
        let call = Call::Refresh(
            IssuedToken { token: marked.choice.token.clone(), origin },
            marked.secret.client().cloned(),
        );
        Next::Send(State::RenewingGrant(held, marked), call, not_after)
    }

    /// The consequences of the reply to a marked call.
    pub(super) fn grant_replied(
        &mut self,
        cx: Context<'_>,
        mut held: Held,
        marked: Marked,
        reply: UpstreamReply,
    ) -> Next {
        let Marked { secret, choice, before } = marked;
        let has_pair = held.account.pair.is_some();
        let Some(state) = &mut held.account.grant else { return Next::unexpected() };
        match &reply {
            // Certainly not carried out.
            UpstreamReply::NeverLeft
            | UpstreamReply::TooLate
            | UpstreamReply::RateLimited(_)
            | UpstreamReply::ClientRefused => **state = before,
            UpstreamReply::Unauthorized => state.refused(&before, &choice, &secret.version, has_pair),
            UpstreamReply::Unclear(Unclear::Unexpected { .. }) => {
                state.responded(&before, &choice, cx.now.plus(cx.policy.longest_travel()));
            }
            _ => {}
        }
        let lost = state.current().lost;
        let name = cx.limits.name_of(&secret.origin, &self.request.account);
        let not_sent = matches!(reply, UpstreamReply::NeverLeft | UpstreamReply::TooLate);
        if !not_sent {
            self.unsent_permit = None;
        }
        match reply {
            UpstreamReply::Granted(reply) => {
                let (fence, sent_at) = (held.fence(), self.sent_at(cx, &reply));
                let (pair, state) = renewed(&held.account, &choice, &secret, reply, fence, sent_at);
                held.account.grant = Some(Box::new(state));
                Self::obtained(cx, held, pair)
            }
            UpstreamReply::TooLate => Next::Save(held, Ending::Released),
            UpstreamReply::Unauthorized => {
                self.notices.push(Notice::RefreshRefused);
                if lost { Next::fail(held, Failure::GrantLost) } else { Next::Save(held, Ending::Released) }
            }
            UpstreamReply::RateLimited(retry_after) => Self::rate_limited(cx, held, name, retry_after),
            UpstreamReply::ClientRefused => self.unavailable(cx, held, UpstreamFault::Refused, None),
            UpstreamReply::Unclear(Unclear::Unexpected { retry_after }) => {
                self.unavailable(cx, held, UpstreamFault::Unexpected, retry_after)
            }
            // A refusal without a code says nothing certain about the grant.
            UpstreamReply::Refused | UpstreamReply::Revoked | UpstreamReply::Alive => {
                self.unavailable(cx, held, UpstreamFault::Unexpected, None)
            }
            UpstreamReply::Unclear(Unclear::NoResponse) | UpstreamReply::NeverLeft => {
                self.unavailable(cx, held, UpstreamFault::NoResponse, None)
            }
        }
    }

    /// A pair of a grant could not be saved, and another attempt has written the record since. It is adopted if it
    /// belongs there, or kept in memory until the other attempt ends.
    pub(super) fn adopt(&mut self, cx: Context<'_>, pending: AccountWrite, record: Account) -> Next {
        match adoption(&pending.next, &record, cx) {
            Adoption::Adopt(next) => {
                self.remember(cx, next.clone());
                self.cache.pending_write = Some(pending);
                SaveAttempt::start(cx, AccountWrite::new(next, cx), Ending::Pending, None)
            }
            Adoption::Later => {
                // The cache still answers with the pending pair, unless an operator has withdrawn it.
                let on_trial = record.grant.as_ref().is_some_and(|grant| grant.trial.is_some());
                let is_withdrawn = record.pair.is_none() && !on_trial;
                let answer = self.pending_answer(cx, &pending).filter(|_| !is_withdrawn);
                let lease = record.lease;
                if is_withdrawn {
                    self.remember(cx, record);
                }
                self.cache.pending_write = Some(pending);
                match (answer, lease) {
                    (Some(answer), _) => Next::Done(Ok(Outcome::Token(answer))),
                    (None, Some(lease)) => self.wait(cx, lease.until),
                    (None, None) => Next::Look,
                }
            }
            Adoption::Superseded => {
                self.cache.pending_write = None;
                self.remember(cx, record);
                Next::Decide
            }
            Adoption::Withdrawn => {
                self.cache.pending_write = None;
                self.orphan = pending.next.pair;
                self.remember(cx, record);
                self.discard_orphan(cx).unwrap_or(Next::Decide)
            }
        }
    }

    /// The answer from a pair that only this instance holds.
    fn pending_answer(&self, cx: Context<'_>, pending: &AccountWrite) -> Option<Answer> {
        let Intent::Token { .. } = self.request.intent else { return None };
        let pair = pending.next.pair.as_ref()?;
        Answer::from_pair(pair, cx.policy, cx.now, ServedFrom::Memory)
    }
}
