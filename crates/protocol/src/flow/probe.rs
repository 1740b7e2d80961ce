//! Verifying a caller's report: one probe, under the lease, before the report is believed. The verdict is saved and
//! answers everyone else who reports the same token.

use super::{
    Flow,
    state::{Ending, Held, Next},
};
use crate::{Context, Failure, Notice, UpstreamReply, Verdict, decision::lately, policy::YOUNG};

impl Flow {
    pub(super) fn probed(&mut self, cx: Context<'_>, mut held: Held, reply: &UpstreamReply) -> Next {
        let generation = held.account.generation();
        // No verdict: the caller gets the same token, and the next probe has to wait. The account gets no cooldown,
        // because a fault of the API is not one of the OAuth host.
        let inconclusive = |pause| Verdict::Inconclusive { probe_after: cx.steady.plus(pause) };
        let verdict = match reply {
            UpstreamReply::Alive => {
                self.notices.extend(generation.map(Notice::FoundAlive));
                Verdict::Alive { at: cx.steady }
            }
            UpstreamReply::Unauthorized => {
                self.notices.extend(generation.map(Notice::FoundDead));
                let pair = held.account.pair.as_ref();
                let young = pair.is_some_and(|pair| lately(pair.issued_at, YOUNG, cx));
                let deaths = held.account.young_deaths;
                held.account.young_deaths = if young { deaths.saturating_add(1) } else { 0 };
                Verdict::Dead
            }
            UpstreamReply::TooLate => return Next::fail(held, Failure::TooLittleTime),
            UpstreamReply::RateLimited(retry_after) => {
                inconclusive(cx.policy.rate_limit_pause(*retry_after, cx.draw))
            }
            UpstreamReply::Unclear(_)
            | UpstreamReply::Refused
            | UpstreamReply::ClientRefused
            | UpstreamReply::NeverLeft
            | UpstreamReply::Granted(_)
            | UpstreamReply::Revoked => inconclusive(cx.draw.stretched(cx.policy.probe_interval())),
        };
        if let Some(pair) = &mut held.account.pair {
            pair.verdict = verdict;
        }
        Next::Save(held, Ending::Released)
    }
}
