//! The conditional write: write, read back if the outcome is uncertain, back off, try again.
//!
//! Lease, login permit, block of all logins and the save that ends a lease are all written this way. A conflict
//! proves nothing by itself: the client library's own retry may have met the first try, whose reply was lost.

use super::{
    Flow,
    state::{Attempt, BlockAttempt, Ending, Next, PermitAttempt, SaveAttempt},
};
use crate::{COMMIT_RESERVE, Context, Effect, Event, Failure, STORE_RETRY, WriteOutcome};

/// Tries to write the login limiter before giving up.
const LIMITER_TRIES: u32 = 8;
/// Tries to mark the refresh token of a grant.
const MARK_TRIES: u32 = 3;

impl Attempt {
    pub(super) fn read_effect(&self) -> Effect {
        match self {
            Self::Lease(_) | Self::Save(_) | Self::Mark(_) => Effect::ReadAccount,
            Self::Permit(PermitAttempt { name, .. }) | Self::Block(BlockAttempt { name, .. }) => {
                Effect::ReadLimiter(name.clone())
            }
        }
    }

    /// A save is written again unchanged. The limiter changes with every login of the fleet, so it is read first.
    pub(super) fn after_back_off(self, cx: Context<'_>) -> Next {
        match self {
            Self::Save(attempt) => attempt.write(cx),
            Self::Mark(attempt) => attempt.write(),
            Self::Lease(_) | Self::Permit(_) | Self::Block(_) => Next::ReadBack(self),
        }
    }

    /// Counts a try that was not applied, as far as is known. A lease is tried once.
    fn count_try(&mut self) -> u32 {
        let tries = match self {
            Self::Mark(attempt) => &mut attempt.tries,
            Self::Save(SaveAttempt { tries, .. })
            | Self::Permit(PermitAttempt { tries, .. })
            | Self::Block(BlockAttempt { tries, .. }) => tries,
            Self::Lease(_) => return 1,
        };
        *tries += 1;
        *tries
    }
}

impl Flow {
    pub(super) fn written(&mut self, cx: Context<'_>, write: Attempt, outcome: WriteOutcome) -> Next {
        self.refusal = match &outcome {
            WriteOutcome::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        };
        match (outcome, write) {
            (WriteOutcome::Applied, Attempt::Lease(lease)) => self.lease_taken(cx, lease),
            (WriteOutcome::Applied, Attempt::Save(save)) => {
                let account = save.write.next.clone();
                self.saved(cx, save, account)
            }
            (WriteOutcome::Applied, Attempt::Mark(mark)) => self.send_marked(cx, *mark),
            (WriteOutcome::Applied, Attempt::Permit(permit)) => self.use_permit(cx, permit),
            (WriteOutcome::Applied, Attempt::Block(block)) => self.blocked(cx, block),
            // Best effort: the request has its answer.
            (_, Attempt::Save(save)) if save.ending == Ending::OrphanRecorded => Next::Decide,
            (_, write @ (Attempt::Lease(_) | Attempt::Save(_) | Attempt::Mark(_))) => Next::ReadBack(write),
            // Nearly always another account's permit: back off before reading.
            (WriteOutcome::Conflict | WriteOutcome::Unknown | WriteOutcome::Refused(_), write) => {
                self.retry(cx, write)
            }
        }
    }

    /// What the item shows about the write. The limiter is also read before anything is written.
    pub(super) fn read_back(&mut self, cx: Context<'_>, write: Attempt, event: Event) -> Next {
        match (write, event) {
            (Attempt::Lease(lease), Event::Account(Ok(account))) => self.lease_read_back(cx, lease, account),
            // It may have been applied, so its further effects are reported: twice is better than never.
            (Attempt::Lease(lease), Event::Account(Err(error))) => {
                self.notices.extend(lease.notices);
                self.store_failed(cx, error)
            }
            (Attempt::Save(save), Event::Account(Ok(account))) if save.is_applied(&account) => {
                self.saved(cx, save, account)
            }
            (Attempt::Save(save), Event::Account(Ok(account))) if save.meets_own_mark(&account) => {
                save.replacing(cx, &account)
            }
            (Attempt::Save(save), Event::Account(Ok(account))) if account.version != save.write.expected => {
                self.lease_lost(cx, &save, account)
            }
            (Attempt::Mark(mark), Event::Account(Ok(account))) if account == mark.write.next => {
                self.send_marked(cx, *mark)
            }
            (Attempt::Mark(mark), Event::Account(Ok(account))) if account.version != mark.write.expected => {
                self.remember(cx, account);
                Next::Decide
            }
            (write @ (Attempt::Save(_) | Attempt::Mark(_)), Event::Account(_)) => self.retry(cx, write),
            (Attempt::Permit(permit), Event::Limiter(Ok(limiter))) => self.write_permit(cx, permit, &limiter),
            (Attempt::Permit(permit), Event::Limiter(Err(error))) => {
                Next::fail(permit.give_up(), error.into())
            }
            (Attempt::Block(block), Event::Limiter(Ok(limiter))) => block.write(cx, &limiter),
            // The account itself is in cooldown at least.
            (Attempt::Block(block), Event::Limiter(Err(_))) => self.blocked(cx, block),
            (
                Attempt::Lease(_)
                | Attempt::Save(_)
                | Attempt::Mark(_)
                | Attempt::Permit(_)
                | Attempt::Block(_),
                _,
            ) => Next::unexpected(),
        }
    }

    /// Backs off before the next try, if there is to be one.
    fn retry(&mut self, cx: Context<'_>, mut write: Attempt) -> Next {
        let tries = write.count_try();
        let until = cx.now.plus(cx.policy.poll_pause(tries, cx.draw));
        let deadline = self.request.ends(cx);
        match write {
            Attempt::Save(save) if !save.is_retried(until, deadline) => self.not_saved(cx, save),
            Attempt::Mark(mark) if tries >= MARK_TRIES || until > mark.not_after => {
                Next::fail(mark.held, self.not_written(STORE_RETRY))
            }
            Attempt::Permit(permit) if tries >= LIMITER_TRIES => {
                Next::fail(permit.give_up(), self.not_written(STORE_RETRY))
            }
            Attempt::Permit(permit) if until > self.latest_send(cx, &permit.held) => {
                Next::fail(permit.give_up(), Failure::TooLittleTime)
            }
            Attempt::Block(block)
                if tries >= LIMITER_TRIES || until.plus(COMMIT_RESERVE) > block.ends(deadline) =>
            {
                self.blocked(cx, block)
            }
            write => Next::BackOff(write, until),
        }
    }
}
