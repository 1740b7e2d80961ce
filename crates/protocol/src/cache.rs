//! What one instance knows of an account, and what it may answer from that alone.

use crate::{
    Account, Answer, Context, Decision, Failure, Intent, Progress, Request, STORE_RETRY, SecretVersion,
    ServedFrom, Timestamp, Version, decide,
};

/// An instance's knowledge of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cache {
    /// The record as it was last read or written.
    pub record: Option<CachedRecord>,
    /// A pair that was obtained and could not be saved. Saving it comes first.
    pub pending_write: Option<PendingWrite>,
    /// When the store last failed, if it has not answered since.
    pub store_failed_at: Option<Timestamp>,
    /// The secret version that the upstream rejected, and when it was last seen to be the current one.
    pub rejected_secret: Option<(SecretVersion, Timestamp)>,
}

/// A copy of the shared record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CachedRecord {
    /// The record.
    pub account: Account,
    /// When the read was asked for. The copy contains every write that ended before.
    pub read_at: Timestamp,
}

/// A write that was not applied yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PendingWrite {
    /// The fence: the version that the record must still have.
    pub expected: Version,
    /// The record with the new pair.
    pub next: Account,
}

/// What the cache says to a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// It can be answered without I/O.
    Answer(Answer),
    /// The record was read, or could not be read, since the request arrived: it cannot be answered.
    Fail(Failure),
    /// The shared record has to be read.
    Miss {
        /// This request was selected for early refresh. Selection happens once per request.
        early_refresh: bool,
    },
}

impl Cache {
    /// What the cache alone says to a request. A cached record may answer it. Only one that was read since the request
    /// arrived, which is as good as a read of its own, may refuse it. None leads to a renewal.
    pub fn look_up(&self, request: &Request, cx: Context<'_>) -> Lookup {
        const MISS: Lookup = Lookup::Miss { early_refresh: false };
        let Intent::Token { rejected, .. } = request.intent else { return MISS };
        let progress = Progress::default();
        if let Some(failed_at) = self.store_failed_at {
            let since_arrival = failed_at > request.arrived_at;
            let lately = failed_at <= cx.now && cx.now.since(failed_at) < STORE_RETRY;
            return match self.answer(request, progress, cx) {
                Some(answer) if since_arrival || lately => Lookup::Answer(answer),
                None if since_arrival => Lookup::Fail(Failure::StoreUnavailable),
                _ => MISS,
            };
        }
        let Some(cached) = self.record.as_ref().filter(|_| self.pending_write.is_none()) else { return MISS };
        let young = cached.read_at <= cx.now && cx.now.since(cached.read_at) < cx.policy.memory_ttl;
        let read_since_arrival = cached.read_at > request.arrived_at;
        let superseded = rejected > cached.account.generation();
        if !read_since_arrival && (superseded || !young) {
            return MISS;
        }
        match decide(request, progress, &cached.account, cx) {
            Decision::Answer(answer) => Lookup::Answer(Answer { served_from: ServedFrom::Memory, ..answer }),
            // If the cached pair is usable, it was the draw that decided.
            Decision::Refresh { .. } | Decision::LogIn => {
                Lookup::Miss { early_refresh: self.answer(request, progress, cx).is_some() }
            }
            Decision::Fail(failure) if read_since_arrival => Lookup::Fail(failure),
            _ => MISS,
        }
    }

    /// The answer of the cached record, however old it is: for when nothing better is available.
    pub fn answer(&self, request: &Request, progress: Progress, cx: Context<'_>) -> Option<Answer> {
        let pair = self.record.as_ref()?.account.pair.as_ref()?;
        request.answer_with(progress, pair, cx, ServedFrom::Memory)
    }
}

#[cfg(test)]
mod tests;
