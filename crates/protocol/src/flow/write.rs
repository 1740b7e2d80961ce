//! The conditional write: write, read back if the outcome is not certain, back off, try again.
//!
//! Lease, login permit, block of all logins and the save that ends a lease are all written this way. A conflict
//! proves nothing by itself: the client library's own retry may have met the first try, whose reply was lost.

use super::{
    Flow, Next, UNEXPECTED,
    lease::LeaseAttempt,
    permit::{BlockAttempt, PermitAttempt},
    save::{Ending, SaveAttempt},
};
use crate::{Account, COMMIT_RESERVE, Context, Effect, Failure, LoginLimiter, Notice, Read, WriteOutcome};

/// Tries to write the login limiter before giving up.
pub(super) const LIMITER_TRIES: u32 = 8;

/// A conditional write on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConditionalWrite {
    pub(super) kind: Kind,
    /// Writes that were not applied, as far as is known.
    pub(super) tries: u32,
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Lease(LeaseAttempt),
    Save(SaveAttempt),
    Permit(PermitAttempt),
    Block(BlockAttempt),
}

/// What a record that was read back says of a write.
pub(super) enum ReadBack {
    /// It was applied.
    Applied,
    /// The record is as it was before the write.
    Unchanged,
    /// Another attempt has written since.
    Superseded,
}

impl ConditionalWrite {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, tries: 0 }
    }

    pub(super) fn read_effect(&self) -> Effect {
        match self.kind {
            Kind::Lease(_) | Kind::Save(_) => Effect::ReadAccount,
            Kind::Permit(ref attempt) => Effect::ReadLimiter(attempt.name()),
            Kind::Block(ref attempt) => Effect::ReadLimiter(attempt.name.clone()),
        }
    }

    /// A save is written once more as it is. The limiter changes with every login of the fleet, so it is read first;
    /// the record of a lease, too.
    pub(super) fn after_back_off(self, cx: Context<'_>) -> Next {
        match self.kind {
            Kind::Save(attempt) => attempt.write_again(cx, self.tries),
            kind @ (Kind::Permit(_) | Kind::Block(_)) => Next::ReadBack(Self { kind, ..self }),
            Kind::Lease(_) => Next::Look,
        }
    }
}

impl Flow {
    pub(super) fn written(
        &mut self,
        cx: Context<'_>,
        write: ConditionalWrite,
        outcome: WriteOutcome,
    ) -> Next {
        match (outcome, write.kind) {
            (WriteOutcome::Applied, Kind::Lease(attempt)) => self.lease_taken(cx, attempt),
            (WriteOutcome::Applied, Kind::Save(attempt)) => {
                let account = attempt.next.clone();
                self.saved(cx, attempt, account)
            }
            (WriteOutcome::Applied, Kind::Permit(attempt)) => self.use_permit(cx, attempt, write.tries),
            (WriteOutcome::Applied, Kind::Block(attempt)) => {
                self.cool_down(cx, attempt.held, attempt.cooldown)
            }
            // Best effort: the request has its answer.
            (_, Kind::Save(attempt)) if attempt.ending == Ending::OrphanRecorded => Next::Decide,
            (WriteOutcome::Conflict | WriteOutcome::Unknown, kind @ (Kind::Lease(_) | Kind::Save(_))) => {
                Next::ReadBack(ConditionalWrite { kind, ..write })
            }
            // Nearly always another account's permit: back off before reading.
            (WriteOutcome::Conflict | WriteOutcome::Unknown, kind) => self.retry(cx, kind, write.tries),
        }
    }

    pub(super) fn read_back_account(
        &mut self,
        cx: Context<'_>,
        write: ConditionalWrite,
        read: Read<Account>,
    ) -> Next {
        match (write.kind, read) {
            (Kind::Lease(attempt), Ok(account)) => match attempt.read_back(&account) {
                ReadBack::Applied => self.lease_taken(cx, attempt),
                ReadBack::Unchanged => {
                    self.remember(account);
                    self.lease_not_written(cx)
                }
                ReadBack::Superseded => {
                    self.notices.push(Notice::LeaseConflict);
                    self.remember(account);
                    Next::Decide
                }
            },
            (Kind::Lease(_), Err(error)) => self.store_failed(cx, error),
            (Kind::Save(attempt), Ok(account)) => match attempt.read_back(&account) {
                ReadBack::Applied => self.saved(cx, attempt, account),
                ReadBack::Unchanged => self.retry(cx, Kind::Save(attempt), write.tries),
                ReadBack::Superseded => self.lease_lost(&attempt, account),
            },
            (kind @ Kind::Save(_), Err(_)) => self.retry(cx, kind, write.tries),
            (Kind::Permit(_) | Kind::Block(_), _) => Next::Done(Err(Failure::Defect(UNEXPECTED))),
        }
    }

    /// Also the first read, before anything was written.
    pub(super) fn read_back_limiter(
        &mut self,
        cx: Context<'_>,
        write: ConditionalWrite,
        read: Read<LoginLimiter>,
    ) -> Next {
        match (write.kind, read) {
            (Kind::Permit(attempt), Ok(limiter)) => self.write_permit(cx, attempt, write.tries, &limiter),
            (Kind::Permit(attempt), Err(error)) => Next::Save(attempt.held, Ending::Failed(error.into())),
            (Kind::Block(attempt), Ok(limiter)) => attempt.write(cx, write.tries, &limiter),
            // The account itself is in cooldown at least.
            (Kind::Block(attempt), Err(_)) => self.cool_down(cx, attempt.held, attempt.cooldown),
            (Kind::Lease(_) | Kind::Save(_), _) => Next::Done(Err(Failure::Defect(UNEXPECTED))),
        }
    }

    /// Backs off before the next try, if there is to be one.
    fn retry(&mut self, cx: Context<'_>, kind: Kind, tries: u32) -> Next {
        let tries = tries + 1;
        let until = cx.now.plus(cx.policy.poll_pause(tries, cx.draw));
        let deadline = self.request.deadline;
        match kind {
            Kind::Save(attempt) if attempt.is_retried(tries, until, deadline) => {
                Next::BackOff(ConditionalWrite { kind: Kind::Save(attempt), tries }, until)
            }
            Kind::Save(attempt) => self.not_saved(cx, attempt),
            Kind::Permit(attempt) if tries >= LIMITER_TRIES => {
                Next::Save(attempt.held, Ending::Failed(Failure::StoreUnavailable))
            }
            Kind::Permit(attempt) if until > self.latest_send(cx, &attempt.held) => {
                Next::Save(attempt.held, Ending::Failed(Failure::TooLittleTime))
            }
            Kind::Block(attempt)
                if tries >= LIMITER_TRIES || until.plus(COMMIT_RESERVE) > attempt.ends(deadline) =>
            {
                self.cool_down(cx, attempt.held, attempt.cooldown)
            }
            kind => Next::BackOff(ConditionalWrite { kind, tries }, until),
        }
    }
}
