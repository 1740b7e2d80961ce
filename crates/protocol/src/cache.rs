//! What one instance knows of an account, and what it may answer from that alone.

use crate::{
    Account, AccountWrite, Answer, Context, Decision, Failure, Intent, Progress, Request, STORE_RETRY,
    SecretError, SecretVersion, ServedFrom, StoreError, Timestamp, Version, decide, policy::SECRET_RETRY,
};
use std::time::Duration;

/// An instance's knowledge of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cache {
    /// The record as it was last read or written.
    pub record: Option<CachedRecord>,
    /// A pair that was obtained and could not be saved. Saving it comes first.
    pub pending_write: Option<AccountWrite>,
    /// How the store last failed, and when that was, if it has not answered since.
    pub store_failure: Option<(StoreError, Timestamp)>,
    /// When writes of the record last failed while it could be read, if none was applied since.
    pub writes_failed_at: Option<Timestamp>,
    /// Why the secret could not be read the last time, and when that was.
    pub secret_failure: Option<(SecretError, Timestamp)>,
    /// The secret version that the upstream rejected, and when it was last seen to be the current one.
    pub rejected_secret: Option<(SecretVersion, Timestamp)>,
}

/// A copy of the shared record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CachedRecord {
    /// The record.
    pub account: Account,
    /// When the read was requested. The copy contains every write that ended before.
    pub read_at: Timestamp,
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
        let Intent::Token { rejected, .. } = request.intent else {
            return MISS;
        };
        let progress = Progress::default();
        let last_resort = self.answer(request, progress, cx);
        if let Some((error, at)) = &self.store_failure {
            let since_arrival = *at > request.arrived_at;
            return match last_resort {
                Some(answer) if since_arrival || within(*at, STORE_RETRY, cx) => Lookup::Answer(answer),
                None if since_arrival => Lookup::Fail(error.clone().into()),
                _ => MISS,
            };
        }
        let Some(cached) = self.record.as_ref().filter(|_| self.pending_write.is_none()) else {
            return MISS;
        };
        let young = within(cached.read_at, cx.policy.memory_ttl, cx);
        let read_since_arrival = cached.read_at > request.arrived_at;
        // A generation is the version of a write, so none is ahead of the clock by more than the margin. With numbers
        // between the current generation and the present, a caller can have the table read, and nothing else.
        let possible = cx.now.plus(cx.policy.clock_margin).as_millis();
        let superseded = rejected.is_some_and(|generation| generation.0 <= possible)
            && rejected > cached.account.generation();
        // A record that led to a secret which cannot be read says so again for a while, without another read of either.
        let refused = self.recent_secret_failure(cx).filter(|_| within(cached.read_at, SECRET_RETRY, cx));
        let stale = !read_since_arrival && (superseded || !young);
        match (decide(request, progress, &cached.account, cx), refused) {
            (Decision::LogIn, Some(error)) if last_resort.is_none() => Lookup::Fail(error.clone().into()),
            _ if stale => MISS,
            (Decision::Answer(answer), _) => {
                Lookup::Answer(Answer { served_from: ServedFrom::Memory, ..answer })
            }
            // If the cached pair is usable, it was the draw that decided.
            (Decision::Refresh(_) | Decision::LogIn, _) => {
                Lookup::Miss { early_refresh: last_resort.is_some() }
            }
            (Decision::Fail(failure), _) if read_since_arrival => Lookup::Fail(failure),
            _ => MISS,
        }
    }

    /// The cache with a record that was read ahead of the first request. What a request has read or written meanwhile stays.
    #[must_use]
    pub fn with_prefetched(mut self, account: Account, read_at: Timestamp) -> Self {
        self.record.get_or_insert(CachedRecord { account, read_at });
        self
    }

    /// Why the secret could not be read a moment ago.
    pub(crate) fn recent_secret_failure(&self, cx: Context<'_>) -> Option<&SecretError> {
        self.secret_failure.as_ref().filter(|(_, at)| within(*at, SECRET_RETRY, cx)).map(|(error, _)| error)
    }

    /// Whether the instance loses nothing by forgetting the account: it has no record, and no recent failure.
    pub fn is_forgettable(&self, cx: Context<'_>) -> bool {
        let unknown = self.record.as_ref().is_none_or(|cached| cached.account.version == Version(0));
        unknown && self.pending_write.is_none() && self.recent_secret_failure(cx).is_none()
    }

    /// The answer of the cached record, however old it is: for when nothing better is available.
    pub fn answer(&self, request: &Request, progress: Progress, cx: Context<'_>) -> Option<Answer> {
        let pair = self.record.as_ref()?.account.pair.as_ref()?;
        request.answer_with(progress, pair, cx, ServedFrom::Memory)
    }
}

/// Whether an instant of this instance's own clock lies at most this far back. After the clock went back, it does not.
pub(crate) fn within(at: Timestamp, span: Duration, cx: Context<'_>) -> bool {
    at <= cx.now && cx.now.since(at) < span
}

#[cfg(test)]
mod tests;
