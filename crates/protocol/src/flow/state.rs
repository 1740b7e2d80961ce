//! What a flow waits for, where it goes next, and what the holder of a lease knows. The other modules of the flow
//! import types only from here.

use crate::{
    Account, AccountWrite, Call, Choice, Context, Cooldown, CooldownReason, Credentials, Effect, Failure,
    Generation, GrantState, Holder, IssuedToken, Lease, LimiterName, Moment, Notice, Origin, Outcome,
    Revocation, Timestamp, UpstreamFault,
};
use std::time::Duration;

/// What a flow waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::large_enum_variant, reason = "a flow has one state, which each step replaces")]
pub(super) enum State {
    Start,
    ReadingRecord,
    Waiting,
    CheckingSecret,
    Writing(Attempt),
    ReadingBack(Attempt),
    BackingOff(Attempt),
    Refreshing(Held, Option<Credentials>),
    RenewingGrant(Held, Marked),
    RereadingSecret(Held),
    LoggingIn(Held, Credentials),
    Probing(Held),
    ReadingClient(Held),
    Revoking { held: Held, secret: Option<Credentials>, current: Revocation, failed: Vec<Revocation> },
    ReadingLimiter,
    Done,
}

/// Where a flow goes next.
pub(super) enum Next {
    /// Read the record, then decide.
    Look,
    /// Pause, then read the record.
    LookAt(Timestamp),
    /// Decide on the record as it was last read.
    Decide,
    /// Read the secret, then take the lease for a login.
    CheckSecret,
    Acquire(Purpose),
    RereadSecret(Held),
    AcquirePermit(Held, Permitted),
    /// Mark the refresh token of a grant, then send it, until this instant at the latest.
    MarkGrant(Held, Credentials, Option<Timestamp>),
    /// Read the secret for the client's authentication, then revoke.
    ReadClient(Held),
    RevokePending(Held, Option<Credentials>, Vec<Revocation>),
    /// End the lease: write `held.account`.
    Save(Held, Ending),
    Write(Attempt, Effect),
    ReadBack(Attempt),
    BackOff(Attempt, Timestamp),
    /// Send a call, until this instant at the latest, and wait for the reply in this state.
    Send(State, Call, Timestamp),
    /// Read the limiter of the account's logins, to report what it delays.
    ReadLimiter(LimiterName),
    Done(Result<Outcome, Failure>),
}

impl Next {
    /// End the lease without a pair, for this reason.
    pub(super) fn fail(held: Held, failure: Failure) -> Self {
        Self::Save(held, Ending::Failed(failure))
    }

    pub(super) fn unexpected() -> Self {
        Self::Done(Err(Failure::Defect("an event came that does not answer the last effect")))
    }
}

/// What the holder of a lease knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Held {
    /// The record as the lease-taking write left it, with what the holder has found out since. Its version is the fence.
    pub(super) account: Account,
    pub(super) lease: Lease,
}

impl Held {
    /// The cooldown after a 429, which is not a failure of the upstream.
    pub(super) fn rate_limited(&self, cx: Context<'_>, pause: Duration) -> Cooldown {
        let (until, failures) = (cx.steady.plus(pause), self.account.failures());
        Cooldown { until, reason: CooldownReason::RateLimited, failures }
    }

    pub(super) fn fence(&self) -> Generation {
        Generation(self.account.version.0)
    }

    /// The cooldown after one more failure of this kind, at least as long as the upstream asked for. It leaves half of
    /// a grace period, because a token in doubt that is not sent again in time costs a person's consent.
    pub(super) fn next_cooldown(
        &self,
        cx: Context<'_>,
        fault: UpstreamFault,
        retry_after: Option<Duration>,
    ) -> Cooldown {
        let failures = self.account.failures().saturating_add(1);
        let pause = cx.steady.plus(cx.policy.cooldown(fault, failures, retry_after, cx.draw));
        let half_of_grace = self.account.grant.as_ref().and_then(|grant| grant.half_of_grace(cx));
        let until = half_of_grace.map_or(pause, |half| pause.min(half));
        Cooldown { until, reason: CooldownReason::Unavailable(fault), failures }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Refresh(IssuedToken, Option<Credentials>),
    LogIn(Credentials),
    /// Send the refresh token of a grant that only a person can renew.
    RenewGrant(Credentials),
    Probe(IssuedToken),
    Revoke {
        withdraw: bool,
    },
}

/// How a lease ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ending {
    /// A new pair.
    Obtained,
    /// A pair of an earlier request of this instance, which could not save it.
    Pending,
    /// No pair, and the reason.
    Failed(Failure),
    /// Nothing that ends the request: read the record and decide again.
    Released,
    /// Pending revocations were tried once.
    Revoked,
    /// The tokens of an orphan will be revoked. Written without a lease.
    OrphanRecorded,
    /// An operator's unblock. Written without a lease.
    Unblocked,
}

/// A conditional write in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Attempt {
    Lease(LeaseAttempt),
    Save(SaveAttempt),
    Mark(Box<MarkAttempt>),
    Permit(PermitAttempt),
    Block(BlockAttempt),
}

/// The write that takes the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct LeaseAttempt {
    pub(super) write: AccountWrite,
    pub(super) lease: Lease,
    pub(super) purpose: Purpose,
    /// Its further effects, reported once it is applied, or may be.
    pub(super) notices: Vec<Notice>,
}

/// A marked refresh token that is about to leave, or has left.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Marked {
    /// The secret with which the client authenticates.
    pub(super) secret: Credentials,
    pub(super) choice: Choice,
    /// The state without this mark.
    pub(super) before: GrantState,
}

/// The write that marks a refresh token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct MarkAttempt {
    /// The lease, and the record without the mark.
    pub(super) held: Held,
    pub(super) write: AccountWrite,
    pub(super) marked: Marked,
    /// The latest instant at which the token may leave.
    pub(super) not_after: Timestamp,
    pub(super) tries: u32,
}

/// The write that ends a lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SaveAttempt {
    /// Conditional on the fence: no other attempt may have written since.
    pub(super) write: AccountWrite,
    pub(super) ending: Ending,
    /// The lease that it ends, if any.
    pub(super) lease: Option<Lease>,
    /// When the first try was made.
    pub(super) since: Timestamp,
    /// When the last try was made.
    pub(super) requested_at: Moment,
    pub(super) tries: u32,
}

/// What needs a permit: a login, or a refresh if the host counts refreshes too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Permitted {
    Login(Credentials),
    Refresh(IssuedToken, Option<Credentials>),
    /// The refresh of a grant that only a person can renew.
    Grant(Credentials),
}

impl Permitted {
    pub(super) fn origin(&self) -> &Origin {
        match self {
            Self::Login(credentials) | Self::Grant(credentials) => &credentials.origin,
            Self::Refresh(token, _) => &token.origin,
        }
    }
}

/// A permit that is being acquired for one call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PermitAttempt {
    pub(super) held: Held,
    pub(super) name: LimiterName,
    pub(super) permitted: Permitted,
    pub(super) permit: Holder,
    /// When the permit of the last try was dated.
    pub(super) acquired_at: Timestamp,
    /// It got a new date once, because writing it took longer than it stays fresh.
    pub(super) redated: bool,
    pub(super) tries: u32,
}

/// A 429 that the whole fleet has to know: the limit counts by address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BlockAttempt {
    pub(super) held: Held,
    /// It begins with the write, because the limiter's response may correct the clock.
    pub(super) pause: Duration,
    pub(super) name: LimiterName,
    pub(super) tries: u32,
}
