//! What one instance knows about an account, and which requests it may answer from that alone.

use crate::{
    Account, AccountWrite, Answer, Context, Decision, Failure, Intent, Moment, Progress, Request,
    STORE_RETRY, SecretError, ServedFrom, StoreError, Version, Withheld, decide, policy::SECRET_RETRY,
};

/// An instance's knowledge of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cache {
    /// The record as it was last read or written.
    pub record: Option<CachedRecord>,
    /// A pair that was obtained but could not be saved. The next request saves it first.
    pub pending_write: Option<AccountWrite>,
    /// How and when the store last failed, if it has not answered since.
    pub store_failure: Option<(StoreError, Moment)>,
    /// How and when writes of the record last failed although it could be read, if none has been applied since.
    pub writes_failed: Option<(Failure, Moment)>,
    /// Why and when the last read of the secret failed.
    pub secret_failure: Option<(SecretError, Moment)>,
    /// When a read of the secret last returned the rejected version, or allowed no refresh of a grant.
    pub rejection_seen: Option<Moment>,
    /// Why it allowed none.
    pub withheld: Option<Withheld>,
}

/// A copy of the shared record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CachedRecord {
    /// The record.
    pub account: Account,
    /// When the read was requested. The copy contains every write that ended before then.
    pub read_at: Moment,
    /// When this version was first read, if its lease lies further ahead than any lease can.
    pub impossible_lease_seen: Option<Moment>,
}

/// The result of looking up a request in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// It can be answered without I/O.
    Answer(Answer),
    /// The request cannot be answered: the record was read, or the read failed, after it arrived.
    Fail(Failure),
    /// The shared record has to be read.
    Miss {
        /// This request was selected for early refresh. Selection happens once per request.
        early_refresh: bool,
    },
}

impl Cache {
    /// Looks up a request in the cache. A cached record may answer it, but may refuse it only if it was read after the
    /// request arrived, which is as good as a new read. A cached record never leads to a renewal.
    pub fn look_up(&self, request: &Request, cx: Context<'_>) -> Lookup {
        const MISS: Lookup = Lookup::Miss { early_refresh: false };
        let Intent::Token { rejected, .. } = request.intent else {
            return MISS;
        };
        let progress = Progress::default();
        let last_resort = self.answer(request, progress, cx);
        if let Some((error, at)) = &self.store_failure {
            let since_arrival = at.uptime > request.arrived.uptime;
            return match last_resort {
                Some(answer) if since_arrival || at.is_within(STORE_RETRY, cx) => Lookup::Answer(answer),
                None if since_arrival => Lookup::Fail(error.clone().into()),
                _ => MISS,
            };
        }
        let Some(cached) = self.record.as_ref().filter(|_| self.pending_write.is_none()) else {
            return MISS;
        };
        let young = cached.read_at.is_within(cx.policy.memory_ttl, cx);
        let read_since_arrival = cached.read_at.uptime > request.arrived.uptime;
        // A generation is the version of a write, so none is ahead of the clock by more than the margin. A caller who
        // invents a number between the current generation and the present causes a read of the table, and nothing else.
        // The clock may have stepped back since the read.
        let by_uptime = cached.read_at.wall.plus(cx.uptime.since(cached.read_at.uptime));
        let possible = cx.now.max(by_uptime).plus(cx.policy.clock_margin).as_millis();
        let superseded = rejected.is_some_and(|generation| generation.0 <= possible)
            && rejected > cached.account.generation();
        let stale = !read_since_arrival && (superseded || !young);
        match (decide(request, progress, &cached.account, cx), self.recent_secret_failure(cx)) {
            // Another instance may have saved a pair meanwhile, so only a current record shows that the secret is
            // needed.
            (Decision::LogIn, Some(error)) if last_resort.is_none() && read_since_arrival => {
                Lookup::Fail(error.clone().into())
            }
            _ if stale => MISS,
            (Decision::Answer(answer), _) => {
                Lookup::Answer(Answer { served_from: ServedFrom::Memory, ..answer })
            }
            // If the cached pair is usable, the draw selected this request.
            (Decision::Refresh(_) | Decision::LogIn, _) => {
                let pair = cached.account.pair.as_ref();
                let usable =
                    pair.and_then(|pair| request.answer_with(progress, pair, cx, ServedFrom::Memory));
                Lookup::Miss { early_refresh: usable.is_some() }
            }
            (Decision::Fail(failure), _) if read_since_arrival => Lookup::Fail(failure),
            _ => MISS,
        }
    }

    /// The cache with a record that was read before the first request. It does not replace a record that a request has
    /// read or written meanwhile.
    #[must_use]
    pub fn with_prefetched(mut self, account: Account, read_at: Moment) -> Self {
        self.record.get_or_insert(CachedRecord { account, read_at, impossible_lease_seen: None });
        self
    }

    /// Why a recent read of the secret failed.
    pub(crate) fn recent_secret_failure(&self, cx: Context<'_>) -> Option<&SecretError> {
        self.secret_failure.as_ref().filter(|(_, at)| at.is_within(SECRET_RETRY, cx)).map(|(error, _)| error)
    }

    /// Whether the instance can forget the account without loss: it has neither a record nor a recent failure.
    pub fn is_forgettable(&self, cx: Context<'_>) -> bool {
        let unknown = self.record.as_ref().is_none_or(|cached| cached.account.version == Version(0));
        unknown && self.pending_write.is_none() && self.recent_secret_failure(cx).is_none()
    }

    /// The answer from the cached record, however old, when nothing better is available.
    pub fn answer(&self, request: &Request, progress: Progress, cx: Context<'_>) -> Option<Answer> {
        let pair = self.record.as_ref()?.account.pair.as_ref()?;
        request.last_answer_with(progress, pair, cx, ServedFrom::Memory)
    }
}

#[cfg(test)]
mod tests;
