//! The conditional write: write, read back if the outcome is not certain, back off, try again.
//!
//! Lease, login permit, block of all logins and the save that ends a lease are all written this way. A conflict
//! proves nothing by itself: the client library's own retry may have met the first try, whose reply was lost.

use super::{
    Flow, Next,
    lease::LeaseAttempt,
    permit::{BlockAttempt, PermitAttempt},
    save::{Ending, SaveAttempt},
};
use crate::{COMMIT_RESERVE, Context, Effect, Event, Failure, WriteOutcome};

/// Tries to write the login limiter before giving up.
const LIMITER_TRIES: u32 = 8;

/// A conditional write on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Attempt {
    Lease(LeaseAttempt),
    Save(SaveAttempt),
    Permit(PermitAttempt),
    Block(BlockAttempt),
}

impl Attempt {
    pub(super) fn read_effect(&self) -> Effect {
        match self {
            Self::Lease(_) | Self::Save(_) => Effect::ReadAccount,
            Self::Permit(attempt) => Effect::ReadLimiter(attempt.name()),
            Self::Block(attempt) => Effect::ReadLimiter(attempt.name.clone()),
        }
    }

    /// A save is written once more as it is. The limiter changes with every login of the fleet, so it is read first;
    /// the record of a lease, too.
    pub(super) fn after_back_off(self, cx: Context<'_>) -> Next {
        match self {
            Self::Save(attempt) => attempt.write(cx),
            Self::Permit(_) | Self::Block(_) => Next::ReadBack(self),
            Self::Lease(_) => Next::Look,
        }
    }

    /// Counts a try that was not applied, as far as is known. A lease is tried once.
    fn count_try(&mut self) -> u32 {
        let tries = match self {
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
        match (outcome, write) {
            (WriteOutcome::Applied, Attempt::Lease(attempt)) => self.lease_taken(cx, attempt),
            (WriteOutcome::Applied, Attempt::Save(attempt)) => {
                let account = attempt.write.next.clone();
                self.saved(cx, attempt, account)
            }
            (WriteOutcome::Applied, Attempt::Permit(attempt)) => self.use_permit(cx, attempt),
            (WriteOutcome::Applied, Attempt::Block(attempt)) => {
                self.cool_down(cx, attempt.held, attempt.cooldown)
            }
            // Best effort: the request has its answer.
            (_, Attempt::Save(attempt)) if attempt.ending == Ending::OrphanRecorded => Next::Decide,
            (_, write @ (Attempt::Lease(_) | Attempt::Save(_))) => Next::ReadBack(write),
            // Nearly always another account's permit: back off before reading.
            (WriteOutcome::Conflict | WriteOutcome::Unknown, write) => self.retry(cx, write),
        }
    }

    /// What the item says of the write. The limiter is also read before anything was written.
    pub(super) fn read_back(&mut self, cx: Context<'_>, write: Attempt, event: Event) -> Next {
        match (write, event) {
            (Attempt::Lease(attempt), Event::Account(Ok(account))) => {
                self.lease_read_back(cx, attempt, account)
            }
            (Attempt::Lease(_), Event::Account(Err(error))) => self.store_failed(cx, error),
            (Attempt::Save(attempt), Event::Account(Ok(account))) if attempt.is_applied(&account) => {
                self.saved(cx, attempt, account)
            }
            (Attempt::Save(attempt), Event::Account(Ok(account)))
                if account.version != attempt.write.expected =>
            {
                self.lease_lost(&attempt, account)
            }
            (write @ Attempt::Save(_), Event::Account(_)) => self.retry(cx, write),
            (Attempt::Permit(attempt), Event::Limiter(Ok(limiter))) => {
                self.write_permit(cx, attempt, &limiter)
            }
            (Attempt::Permit(attempt), Event::Limiter(Err(error))) => Next::fail(attempt.held, error.into()),
            (Attempt::Block(attempt), Event::Limiter(Ok(limiter))) => attempt.write(cx, &limiter),
            // The account itself is in cooldown at least.
            (Attempt::Block(attempt), Event::Limiter(Err(_))) => {
                self.cool_down(cx, attempt.held, attempt.cooldown)
            }
            _ => Next::unexpected(),
        }
    }

    /// Backs off before the next try, if there is to be one.
    fn retry(&mut self, cx: Context<'_>, mut write: Attempt) -> Next {
        let tries = write.count_try();
        let until = cx.now.plus(cx.policy.poll_pause(tries, cx.draw));
        let deadline = self.request.deadline;
        match write {
            Attempt::Save(attempt) if !attempt.is_retried(until, deadline) => self.not_saved(cx, attempt),
            Attempt::Permit(attempt) if tries >= LIMITER_TRIES => {
                Next::fail(attempt.held, Failure::StoreUnavailable)
            }
            Attempt::Permit(attempt) if until > self.latest_send(cx, &attempt.held) => {
                Next::fail(attempt.held, Failure::TooLittleTime)
            }
            Attempt::Block(attempt)
                if tries >= LIMITER_TRIES || until.plus(COMMIT_RESERVE) > attempt.ends(deadline) =>
            {
                self.cool_down(cx, attempt.held, attempt.cooldown)
            }
            write => Next::BackOff(write, until),
        }
    }
}
