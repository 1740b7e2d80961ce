//! Ending the lease: one conditional write saves a pair, a failure, a verdict, or nothing.

use super::{
    Flow,
    state::{Attempt, Ending, Held, Next, SaveAttempt},
};
use crate::{
    Account, AccountWrite, Answer, COMMIT_RESERVE, CachedRecord, Context, Failure, Intent, Lease, Notice,
    Outcome, STORE_RETRY, ServedFrom, StoreError, Timestamp, UpstreamFault,
};
use std::time::Duration;

/// Tries to save anything but a pair.
const TRIES_WITHOUT_A_PAIR: u32 = 3;
/// How long a save is retried after its first try.
const PATIENCE: Duration = Duration::from_millis(2_500);

impl SaveAttempt {
    /// The first try.
    pub(super) fn start(cx: Context<'_>, write: AccountWrite, ending: Ending, lease: Option<Lease>) -> Next {
        Self { write, ending, lease, since: cx.now, requested_at: cx.moment(), tries: 0 }.write(cx)
    }

    pub(super) fn write(mut self, cx: Context<'_>) -> Next {
        self.requested_at = cx.moment();
        let effect = self.write.effect();
        Next::Write(Attempt::Save(self), effect)
    }

    fn brings_a_pair(&self) -> bool {
        matches!(self.ending, Ending::Obtained | Ending::Pending)
    }

    /// Whether a record that was read back shows that the write was applied.
    pub(super) fn is_applied(&self, account: &Account) -> bool {
        if self.brings_a_pair() {
            account.generation() == self.write.next.generation()
        } else {
            *account == self.write.next
        }
    }

    /// Whether the record holds this attempt's mark of a token, which was taken for not written. Nothing else leaves the
    /// attempt's lease in the record, and the token has not left.
    pub(super) fn meets_own_mark(&self, account: &Account) -> bool {
        account.version != self.write.expected && self.lease.is_some() && account.lease == self.lease
    }

    /// Takes that mark back.
    pub(super) fn replacing(mut self, cx: Context<'_>, mark: &Account) -> Next {
        self.write = AccountWrite::new(Account { version: mark.version, ..self.write.next }, cx);
        self.write(cx)
    }

    /// A pair that is not saved in a few seconds is handed out, and saved by the next request of the instance.
    /// Everything else needs few tries, because the lease lapses by itself.
    pub(super) fn is_retried(&self, pause_until: Timestamp, deadline: Timestamp) -> bool {
        let patient = pause_until.since(self.since) < PATIENCE;
        // Only this pair can renew a grant.
        let patient = patient || self.write.next.grant.is_some();
        match self.ending {
            Ending::Obtained => patient && pause_until.plus(COMMIT_RESERVE) < deadline,
            Ending::Pending | Ending::OrphanRecorded => false,
            Ending::Failed(_) | Ending::Released | Ending::Revoked | Ending::Unblocked => {
                self.tries < TRIES_WITHOUT_A_PAIR && patient && pause_until < deadline
            }
        }
    }
}

impl Flow {
    /// Ends the lease.
    pub(super) fn save(&mut self, cx: Context<'_>, held: Held, ending: Ending) -> Next {
        if ending == Ending::Obtained && held.account.grant.is_some() {
            // Others are answered with it while it is saved.
            self.remember(cx, held.account.clone());
        }
        let write = AccountWrite::new(Account { lease: None, ..held.account }, cx);
        SaveAttempt::start(cx, write, ending, Some(held.lease))
    }

    /// Writes a record without a lease, if its version is still the given one.
    pub(super) fn write_record(cx: Context<'_>, account: Account, ending: Ending) -> Next {
        SaveAttempt::start(cx, AccountWrite::new(Account { lease: None, ..account }, cx), ending, None)
    }

    pub(super) fn saved(&mut self, cx: Context<'_>, attempt: SaveAttempt, account: Account) -> Next {
        if let Some(generation) = attempt.write.next.generation().filter(|_| attempt.brings_a_pair()) {
            self.renewed = true;
            self.notices.push(Notice::PairSaved(generation));
        }
        if attempt.ending != Ending::OrphanRecorded {
            self.cache.pending_write = None;
        }
        self.cache.writes_failed = None;
        self.remember(cx, account);
        match attempt.ending {
            Ending::Obtained => {
                self.discard_orphan(cx).unwrap_or_else(|| self.hand_out(cx, &attempt.write.next))
            }
            Ending::Failed(failure) => self.finish(cx, failure),
            Ending::Pending | Ending::OrphanRecorded => Next::Decide,
            Ending::Unblocked => {
                self.notices.push(Notice::Unblocked);
                Next::Decide
            }
            Ending::Released => Next::Look,
            Ending::Revoked => {
                self.progress.tried_revocations = true;
                Next::Decide
            }
        }
    }

    /// The write could not be carried out, or its outcome remains unknown.
    pub(super) fn not_saved(&mut self, cx: Context<'_>, attempt: SaveAttempt) -> Next {
        let error = self.refusal.clone().map_or(StoreError::Unreachable, StoreError::Misconfigured);
        self.cache.store_failure = Some((error, cx.moment()));
        match attempt.ending {
            Ending::Obtained => {
                self.notices.extend(attempt.write.next.generation().map(Notice::WritePending));
                let account = attempt.write.next.clone();
                let read_at = attempt.requested_at;
                self.cache.record = Some(CachedRecord { account, read_at, impossible_lease_seen: None });
                self.cache.pending_write = Some(attempt.write.clone());
                self.hand_out(cx, &attempt.write.next)
            }
            Ending::Failed(failure) => self.finish(cx, failure),
            Ending::OrphanRecorded => Next::Decide,
            Ending::Pending | Ending::Released | Ending::Revoked | Ending::Unblocked => {
                self.finish(cx, self.not_written(STORE_RETRY))
            }
        }
    }

    /// Another attempt holds the lease by now, or has ended it: decide again on what it wrote.
    pub(super) fn lease_lost(&mut self, cx: Context<'_>, attempt: &SaveAttempt, account: Account) -> Next {
        if attempt.brings_a_pair() {
            self.notices.extend(attempt.write.next.generation().map(Notice::LeaseLost));
        }
        if attempt.brings_a_pair() && attempt.write.next.grant.is_some() {
            let pending = self.cache.pending_write.take().unwrap_or_else(|| attempt.write.clone());
            return self.adopt(cx, pending, account);
        }
        // A pending pair has been handed out. It stays valid until it expires, unless an operator has withdrawn the
        // pair that it replaces.
        if attempt.ending == Ending::Obtained || (attempt.brings_a_pair() && account.pair.is_none()) {
            self.orphan.clone_from(&attempt.write.next.pair);
        }
        if attempt.ending == Ending::Unblocked {
            self.progress.unblocked = false;
        }
        self.cache.pending_write = None;
        self.remember(cx, account);
        Next::Decide
    }

    /// Answers with the pair that was just obtained, even if its life is shorter than requested.
    fn hand_out(&mut self, cx: Context<'_>, account: &Account) -> Next {
        if matches!(self.request.intent, Intent::Maintain(_)) {
            return Next::Decide;
        }
        let pair = account.pair.as_ref();
        let answer = pair.and_then(|pair| Answer::from_pair(pair, cx.policy, cx.now, ServedFrom::Upstream));
        let cooldown = account.cooldown.map(|cooldown| cooldown.until.since(cx.now));
        let fault = UpstreamFault::Unexpected;
        let failure = Failure::UpstreamUnavailable { fault, retry_after: cooldown.unwrap_or_default() };
        Next::Done(answer.map(Outcome::Token).ok_or(failure))
    }
}
