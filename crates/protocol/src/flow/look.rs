//! Reading the record, deciding, waiting for another attempt, and finishing.

use super::{
    Flow,
    state::{Ending, Next, Purpose, SaveAttempt},
};
use crate::{
    Account, Answer, CachedRecord, Context, Decision, Draw, Failure, Intent, LimiterName, LoginLimiter,
    Lookup, OperatorTarget, Outcome, Read, STORE_TIMEOUT, ServedFrom, StoreError, Timestamp, decide,
    policy::WRITE_RETRY,
};
use std::time::Duration;

/// How long a request without a usable pair tries to write a lease, after the first try.
const LEASE_PATIENCE: Duration = Duration::from_millis(2_500);
/// Reserved at the end of a wait for one last read of the record.
const LAST_LOOK: Duration = Duration::from_millis(250);

impl Flow {
    pub(super) fn look_up(&mut self, cx: Context<'_>) -> Next {
        match self.cache.look_up(&self.request, cx) {
            Lookup::Answer(answer) => Next::Done(Ok(Outcome::Token(answer))),
            Lookup::Fail(failure) => Next::Done(Err(failure)),
            Lookup::Miss { early_refresh } => {
                self.early_refresh = early_refresh;
                match self.cache.pending_write.clone() {
                    Some(pending) => SaveAttempt::start(cx, pending, Ending::Pending, None),
                    None => Next::Look,
                }
            }
        }
    }

    pub(super) fn looked(&mut self, cx: Context<'_>, read: Read<Account>) -> Next {
        match read {
            Ok(account) => {
                if let Some(pending) = self.cache.pending_write.take_if(|write| write.next.grant.is_some()) {
                    return self.adopt(cx, pending, account);
                }
                self.remember(cx, account);
                if cx.clock_is_trusted || !self.looks_at_time_again() { Next::Decide } else { Next::Look }
            }
            Err(StoreError::Unreachable) if self.reads_again(cx) => Next::Look,
            Err(error) => self.store_failed(cx, error),
        }
    }

    /// A read that ran out of time says nothing: a freeze may have interrupted it. A request that memory cannot answer
    /// reads once more.
    fn reads_again(&mut self, cx: Context<'_>) -> bool {
        let ran_out = cx.uptime.since(self.requested_at.uptime) >= STORE_TIMEOUT;
        let in_time = cx.now < self.request.ends(cx);
        let unanswered = self.cache.answer(&self.request, self.progress, cx).is_none();
        ran_out && in_time && unanswered && !std::mem::replace(&mut self.read_again, true)
    }

    /// The clock cannot be trusted. The store's next response may correct it, so a request waits for one more.
    pub(super) fn looks_at_time_again(&mut self) -> bool {
        !std::mem::replace(&mut self.looked_at_time_again, true)
    }

    /// Decides on the record as it was last read.
    pub(super) fn decide(&mut self, cx: Context<'_>) -> Next {
        let account = self.account(cx);
        let by_an_operator =
            matches!(self.request.intent, Intent::Replace | Intent::Revoke | Intent::RevokeConfirmed);
        if by_an_operator && self.progress.target == OperatorTarget::NotSeen {
            self.progress.target = OperatorTarget::of(&account);
        }
        let draw = if self.early_refresh { Draw(0) } else { cx.draw };
        match decide(&self.request, self.progress, &account, Context { draw, ..cx }) {
            Decision::Answer(answer) => {
                self.discard_orphan(cx).unwrap_or_else(|| Next::Done(Ok(Outcome::Token(answer))))
            }
            Decision::Fail(failure) => self.discard_orphan(cx).unwrap_or_else(|| self.finish(cx, failure)),
            Decision::Finish => self.report(cx, &account),
            Decision::Wait(until) => self.wait(cx, until),
            // An operator's refresh reads the secret first: its current version may be for another user. So does a
            // refresh for which the client has to authenticate.
            Decision::Refresh(refresh_token)
                if self.request.intent != Intent::Replace && !refresh_token.origin.needs_client() =>
            {
                self.before_lease(cx, true).unwrap_or(Next::Acquire(Purpose::Refresh(refresh_token, None)))
            }
            Decision::Refresh(_) | Decision::LogIn => {
                self.before_lease(cx, true).unwrap_or_else(|| self.check_secret(cx))
            }
            Decision::Probe(access_token) => {
                self.before_lease(cx, false).unwrap_or(Next::Acquire(Purpose::Probe(access_token)))
            }
            Decision::Unblock => {
                self.progress.unblocked = true;
                Self::write_record(cx, account.unblocked(), Ending::Unblocked)
            }
            Decision::Revoke { withdraw } => {
                self.end_if_too_late(cx).unwrap_or(Next::Acquire(Purpose::Revoke { withdraw }))
            }
        }
    }

    /// Nothing is left to do except for an orphan, which has to wait for the holder of the lease.
    fn report(&mut self, cx: Context<'_>, account: &Account) -> Next {
        match (account.active_lease(cx.now), self.orphan.is_some()) {
            (Some(lease), true) => self.wait(cx, lease.until),
            (None, true) => self.discard_orphan(cx).unwrap_or(Next::Decide),
            (_, false) if self.request.intent == Intent::Unblock => {
                Next::ReadLimiter(self.limiter_of(cx, account))
            }
            (_, false) => Next::Done(Ok(Outcome::Report {
                renewed: self.renewed,
                pending_revocations: account.pending_revocations.len(),
            })),
        }
    }

    /// The limiter of the account's logins, as far as the record says where they go.
    fn limiter_of(&self, cx: Context<'_>, account: &Account) -> LimiterName {
        let origin = account.pair.as_ref().map(|pair| pair.origin.clone()).unwrap_or_default();
        cx.limits.name_of(&origin, &self.request.account)
    }

    /// Reports to the operator what still prevents a renewal of the unblocked account.
    pub(super) fn read_limiter(&self, cx: Context<'_>, read: Read<LoginLimiter>) -> Next {
        let account = self.account(cx);
        let budget = cx.limits.budget_of(cx.policy, &self.limiter_of(cx, &account));
        let lease = account.active_lease(cx.now);
        let held_by = match (lease, read) {
            (Some(lease), _) => Some(Failure::in_progress(lease.until, cx.now)),
            (None, Ok(limiter)) => limiter.delay(budget, cx.now).map(|delay| Failure::delayed(delay, cx.now)),
            (None, Err(error)) => Some(error.into()),
        };
        Next::Done(Ok(Outcome::Unblocked { held_by }))
    }

    /// The step before taking the lease for a renewal or a probe: the end of the request if too little time is left, or
    /// the contention jitter. `None` if the lease can be taken now.
    fn before_lease(&mut self, cx: Context<'_>, renews: bool) -> Option<Next> {
        self.end_if_too_late(cx).or_else(|| self.jitter(cx, renews))
    }

    /// The contention jitter: a request that may be part of a herd pauses once before it takes the lease, and rereads
    /// the record. Herds form when a pair has expired or died; an account without a pair has none yet.
    fn jitter(&mut self, cx: Context<'_>, renews: bool) -> Option<Next> {
        let alone = !matches!(self.request.intent, Intent::Token { .. }) || self.account(cx).pair.is_none();
        if alone || std::mem::replace(&mut self.jittered, true) {
            return None;
        }
        let span = cx.policy.contention_jitter(cx.draw);
        if span.is_zero() {
            return None;
        }
        // Selection for early refresh happens once per request.
        self.early_refresh |= renews;
        Some(self.pause(cx.now.plus(span)))
    }

    /// The end of the flow, if too little time is left for an upstream call and a write.
    fn end_if_too_late(&self, cx: Context<'_>) -> Option<Next> {
        let has_time = cx.policy.has_time_for_a_renewal(cx.now, self.request.ends(cx));
        (!has_time).then(|| self.finish(cx, Failure::TooLittleTime))
    }

    /// Waits for the holder of the lease, with growing pauses, never beyond the caller's deadline.
    pub(super) fn wait(&mut self, cx: Context<'_>, lease_until: Timestamp) -> Next {
        let last_look = self.request.ends(cx).minus(LAST_LOOK);
        if cx.now >= last_look {
            return self.finish(cx, Failure::in_progress(lease_until, cx.now));
        }
        self.look_later(cx, last_look)
    }

    /// Reads the record again after a pause that grows with every read.
    fn look_later(&mut self, cx: Context<'_>, latest: Timestamp) -> Next {
        let pause = cx.policy.poll_pause(self.polls, cx.draw);
        self.pause(cx.now.plus(pause).min(latest))
    }

    fn pause(&mut self, until: Timestamp) -> Next {
        self.polls += 1;
        Next::LookAt(until)
    }

    /// Ends the flow: with a token if the last known pair is usable, whatever failed, otherwise with the failure.
    pub(super) fn finish(&self, cx: Context<'_>, failure: Failure) -> Next {
        let answer = self.cache.answer(&self.request, self.progress, cx);
        let token = answer.map(|answer| Outcome::Token(Answer { served_from: self.source, ..answer }));
        Next::Done(token.ok_or(failure))
    }

    pub(super) fn store_failed(&mut self, cx: Context<'_>, error: StoreError) -> Next {
        self.cache.store_failure = Some((error.clone(), cx.moment()));
        self.finish(cx, error.into())
    }

    /// A write of a lease was not applied although the record did not change. With a usable pair, the request is
    /// answered at once. Without one, it tries for a few seconds. Either way the instance remembers it for a while.
    pub(super) fn lease_not_written(&mut self, cx: Context<'_>) -> Next {
        let since = *self.lease_failed_since.get_or_insert(cx.now);
        let usable = self.cache.answer(&self.request, self.progress, cx).is_some();
        let over = cx.now.since(since) >= LEASE_PATIENCE || cx.now >= self.request.ends(cx);
        if usable || over || self.refusal.is_some() {
            let failure = self.not_written(WRITE_RETRY);
            self.cache.writes_failed = Some((failure.clone(), cx.moment()));
            return self.finish(cx, failure);
        }
        self.look_later(cx, self.request.ends(cx))
    }

    /// Why a write was not applied: the store's reason, if it gave one.
    pub(super) fn not_written(&self, retry_after: Duration) -> Failure {
        self.refusal.clone().map_or(Failure::StoreUnavailable { retry_after }, Failure::Misconfigured)
    }

    /// Keeps a record that the last effect has read or written.
    pub(super) fn remember(&mut self, cx: Context<'_>, account: Account) {
        let known = self.cache.record.as_ref().filter(|cached| cached.account.version == account.version);
        let seen = known.and_then(|cached| cached.impossible_lease_seen).unwrap_or_else(|| cx.moment());
        let impossible_lease_seen = account.has_impossible_lease(cx.now).then_some(seen);
        let read_at = self.requested_at;
        self.cache.record = Some(CachedRecord { account, read_at, impossible_lease_seen });
        self.cache.store_failure = None;
        self.source = ServedFrom::Table;
    }

    /// The record as last read, or the empty record before that.
    ///
    /// The holder of a lease that lies further ahead than any lease can may still be at work, behind a wrong clock. So
    /// its lease is respected for as long as one lasts, from when this instance first saw it.
    pub(super) fn account(&self, cx: Context<'_>) -> Account {
        let Some(CachedRecord { account, impossible_lease_seen, .. }) = &self.cache.record else {
            return Account::default();
        };
        let mut account = account.clone();
        if let (Some(lease), Some(seen)) = (&mut account.lease, impossible_lease_seen)
            && self.request.intent != Intent::Unblock
        {
            lease.until = cx.at(seen.uptime.plus(cx.policy.lease + cx.policy.clock_margin));
        }
        account
    }
}
