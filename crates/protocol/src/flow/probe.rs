//! Verifying a caller's report: one probe, under the lease, before the report is believed. The verdict is saved and
//! answers everyone else who reports the same token.

use super::{Flow, Held, Next, save::Ending};
use crate::{Context, Failure, Notice, UpstreamReply, Verdict};

impl Flow {
    pub(super) fn probed(&mut self, cx: Context<'_>, mut held: Held, reply: &UpstreamReply) -> Next {
        let generation = held.account.generation();
        let verdict = match reply {
            UpstreamReply::Alive => {
                self.notices.extend(generation.map(Notice::FoundAlive));
                Verdict::Alive { at: cx.now }
            }
            UpstreamReply::Refused => {
                self.notices.extend(generation.map(Notice::FoundDead));
                Verdict::Dead
            }
            UpstreamReply::TooLate => return Next::Save(held, Ending::Failed(Failure::TooLittleTime)),
            // No verdict: the caller gets the same token, and the next probe has to wait. The account gets no
            // cooldown: the API's trouble is not the OAuth host's.
            UpstreamReply::RateLimited(asked) => {
                let pause = cx.policy.rate_limit_pause(*asked, cx.draw);
                Verdict::Inconclusive { probe_after: cx.now.plus(pause) }
            }
            UpstreamReply::Unclear
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
