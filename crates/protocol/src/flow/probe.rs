//! Verifying a caller's report: one probe, under the lease, before the report is believed. The verdict is saved and
//! answers everyone else who reports the same token.

use super::{Flow, Held, Next, save::Ending};
use crate::{Context, Failure, Notice, UpstreamReply, Verdict, policy::YOUNG};

impl Flow {
    pub(super) fn probed(&mut self, cx: Context<'_>, mut held: Held, reply: &UpstreamReply) -> Next {
        let generation = held.account.generation();
        let verdict = match reply {
            UpstreamReply::Alive => {
                self.notices.extend(generation.map(Notice::FoundAlive));
                Verdict::Alive { at: cx.now }
            }
            UpstreamReply::Unauthorized => {
                self.notices.extend(generation.map(Notice::FoundDead));
                let issued_at = held.account.pair.as_ref().map(|pair| pair.issued_at);
                let young = issued_at.is_some_and(|at| cx.now.since(at) < YOUNG);
                let deaths = held.account.young_deaths;
                held.account.young_deaths = if young { deaths.saturating_add(1) } else { 0 };
                Verdict::Dead
            }
            UpstreamReply::TooLate => {
                return Next::fail(held, Failure::TooLittleTime);
            }
            // No verdict: the caller gets the same token, and the next probe has to wait. The account gets no
            // cooldown: the API's trouble is not the OAuth host's.
            UpstreamReply::RateLimited(retry_after) => {
                let pause = cx.policy.rate_limit_pause(*retry_after, cx.draw);
                Verdict::Inconclusive { probe_after: cx.now.plus(pause) }
            }
            UpstreamReply::Unclear
            | UpstreamReply::Refused
            | UpstreamReply::NeverLeft
            | UpstreamReply::Granted(_)
            | UpstreamReply::Revoked => {
                let pause = cx.draw.stretched(cx.policy.probe_interval());
                Verdict::Inconclusive { probe_after: cx.now.plus(pause) }
            }
        };
        if let Some(pair) = &mut held.account.pair {
            pair.verdict = verdict;
        }
        Next::Save(held, Ending::Released)
    }
}
