//! What a flow asks the outside world to do, and what it gets back.

#![allow(clippy::large_enum_variant, reason = "one of each exists at a time, and is taken apart at once")]

use crate::{
    Account, Call, Credentials, Draw, Failure, Generation, LimiterName, LoginLimiter, LoginLimits, Moment,
    Outcome, Policy, Present, SecretVersion, Timestamp, UpstreamReply, Uptime, Version, policy::STORE_RETRY,
};

/// The context of one step: everything that a decision may depend on besides the request and the record.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The policy that the operator configured.
    pub policy: &'a Policy,
    /// The limits of other hosts.
    pub limits: &'a LoginLimits,
    /// The present, in the store's time as the instance knows it.
    pub now: Timestamp,
    /// The same, for the beginning of a pause: see [`Present`].
    pub steady: Timestamp,
    /// The present, by the process's clock that never steps.
    pub uptime: Uptime,
    /// Whether a lease or a permit may be dated by `now`.
    pub clock_is_trusted: bool,
    /// A fresh random number: it selects for early refresh, adds jitter to pauses, and identifies attempts.
    pub draw: Draw,
}

impl<'a> Context<'a> {
    /// The context in a process whose clocks agree, as in tests.
    pub fn new(policy: &'a Policy, now: Timestamp, draw: Draw) -> Self {
        Self::at_present(policy, Present::of_agreeing_clocks(now), draw)
    }

    /// The surroundings at the present of a process.
    pub fn at_present(policy: &'a Policy, present: Present, draw: Draw) -> Self {
        let Present { now, steady, uptime, is_trusted: clock_is_trusted } = present;
        Self { policy, limits: const { &LoginLimits::NONE }, now, steady, uptime, clock_is_trusted, draw }
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment { wall: self.now, uptime: self.uptime }
    }

    /// A deadline from an earlier moment, in the store's time as corrected since.
    pub fn ends(&self, stated: Moment, deadline: Timestamp) -> Timestamp {
        self.at(stated.uptime.plus(deadline.since(stated.wall)))
    }

    /// A moment of this process, in the store's time as corrected since.
    pub(crate) fn at(&self, uptime: Uptime) -> Timestamp {
        self.now.plus(uptime.since(self.uptime)).minus(self.uptime.since(uptime))
    }
}

/// What to do about a flow next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Perform the effect and feed the event back.
    Perform(Effect),
    /// The request has ended.
    Done(Result<Outcome, Failure>),
}

/// One piece of I/O, or a pause.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Read the account's record with strong consistency. Answered by [`Event::Account`].
    ReadAccount,
    /// Write the account's record if its version is still `expected` (zero: no record). [`Event::Written`].
    WriteAccount {
        /// The version that was read.
        expected: Version,
        /// The new record.
        next: Account,
    },
    /// Read the login rate limiter with strong consistency. [`Event::Limiter`].
    ReadLimiter(LimiterName),
    /// Write the login rate limiter if its version is still `expected` (zero: no limiter). [`Event::Written`].
    WriteLimiter {
        /// The limiter's name.
        name: LimiterName,
        /// The version that was read.
        expected: Version,
        /// The new limiter.
        next: LoginLimiter,
    },
    /// Read the account's secret. [`Event::Secret`].
    ReadSecret,
    /// Send a call upstream, unless `not_after` has passed when it is about to leave. [`Event::Replied`].
    Send {
        /// What to send.
        call: Call,
        /// The latest instant at which it may leave.
        not_after: Timestamp,
    },
    /// Wait. [`Event::Resumed`].
    Pause {
        /// The end of the pause.
        until: Timestamp,
    },
}

impl Effect {
    /// The effect's name, for diagrams and tests.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ReadAccount => "read account",
            Self::WriteAccount { .. } => "write account",
            Self::ReadLimiter(_) => "read limiter",
            Self::WriteLimiter { .. } => "write limiter",
            Self::ReadSecret => "read secret",
            Self::Send { call, .. } => call.name(),
            Self::Pause { .. } => "pause",
        }
    }

    /// The event if no reply arrives in time, so that the outcome is unknown. `None` for the effects whose end the flow
    /// itself sees to: it sends a call only if it can end before the deadline, and never pauses beyond it.
    pub fn without_reply(&self) -> Option<Event> {
        match self {
            Self::ReadAccount => Some(Event::Account(Err(StoreError::Unreachable))),
            Self::ReadLimiter(_) => Some(Event::Limiter(Err(StoreError::Unreachable))),
            Self::WriteAccount { .. } | Self::WriteLimiter { .. } => {
                Some(Event::Written(WriteOutcome::Unknown))
            }
            Self::ReadSecret => Some(Event::Secret(Err(SecretError::Unreachable))),
            Self::Send { .. } | Self::Pause { .. } => None,
        }
    }
}

/// The result of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The record, or the empty record if there is none.
    Account(Read<Account>),
    /// The limiter, or the empty limiter if there is none.
    Limiter(Read<LoginLimiter>),
    /// How a conditional write ended.
    Written(WriteOutcome),
    /// The current version of the secret.
    Secret(Result<Credentials, SecretError>),
    /// How a call to the upstream ended.
    Replied(UpstreamReply),
    /// The pause is over.
    Resumed,
}

/// The result of a read of the store.
pub type Read<T> = Result<T, StoreError>;

/// Why an item could not be read from the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StoreError {
    /// The store is unreachable, or nothing proves that the response is its own.
    #[error("the store is unreachable")]
    Unreachable,
    /// The store refuses such requests permanently.
    #[error("{0}")]
    Misconfigured(ServiceRefusal),
    /// The stored item does not have the form that the broker writes. Names item and attribute, never a value.
    #[error("{0}")]
    Unreadable(String),
}

/// A service refuses the broker itself, so retrying does not help.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{service} refused {operation} with {code}")]
pub struct ServiceRefusal {
    /// The service, as its vendor names it.
    pub service: &'static str,
    /// The operation that it refused.
    pub operation: &'static str,
    /// The service's own code for the reason.
    pub code: String,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unreachable => Self::StoreUnavailable { retry_after: STORE_RETRY },
            StoreError::Misconfigured(refusal) => Self::Misconfigured(refusal),
            StoreError::Unreadable(what) => Self::UnreadableItem(what),
        }
    }
}

/// How a conditional write ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// It was carried out.
    Applied,
    /// The condition was not met, because of another writer or an earlier try of this same write.
    Conflict,
    /// The reply was lost. It may or may not have been carried out, and may still be.
    Unknown,
    /// The store refused it. An earlier try of this same write may still have been carried out.
    Refused(ServiceRefusal),
}

/// Why a secret could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretError {
    /// There is no secret of that name.
    Missing,
    /// The secret does not have the documented form. Says what is missing, never what is there.
    Bad(String),
    /// Secrets Manager is unreachable, or nothing proves that the response is its own.
    Unreachable,
    /// Secrets Manager refuses such requests permanently.
    Misconfigured(ServiceRefusal),
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Missing => Self::UnknownAccount,
            SecretError::Bad(what) => Self::BadSecret(what),
            SecretError::Unreachable => Self::SecretUnavailable,
            SecretError::Misconfigured(refusal) => Self::Misconfigured(refusal),
        }
    }
}

/// An event of a flow that belongs in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// The lease was taken. The following steps run under this fence.
    LeaseAcquired(Generation),
    /// Another attempt wrote the record first.
    LeaseConflict,
    /// An expiry was missing, unreadable, in the past or impossibly far ahead, and one hour was assumed.
    ExpiryAssumed,
    /// The expiry of a refresh token is past or impossibly far ahead, and was dropped.
    RefreshExpiryDropped,
    /// A token that was granted is longer than a record can hold, and was dropped.
    TokenTooLong,
    /// The upstream refused the refresh token.
    RefreshRefused,
    /// A caller reported this generation as rejected, and a probe found its access token alive.
    FoundAlive(Generation),
    /// A probe found the access token of this generation dead.
    FoundDead(Generation),
    /// An operator withdrew the pair of this generation.
    PairWithdrawn(Generation),
    /// A pair was saved.
    PairSaved(Generation),
    /// A pair could not be saved yet. It is served from memory meanwhile.
    WritePending(Generation),
    /// Another attempt took over before this pair was saved.
    LeaseLost(Generation),
    /// The next maintenance will revoke a pair that was neither saved nor handed out.
    OrphanRecorded(Generation),
    /// This many pending revocations were dropped, because they expired or were too many.
    RevocationsDropped(usize),
    /// The upstream refused to revoke a token: the call may be malformed (see `BROKER_REVOKE_FIELD`).
    RevocationRefused,
    /// The account was unblocked by an operator.
    Unblocked,
    /// The instance's clock was still off at a second look, so it took no lease.
    ClockOff,
    /// The account is in cooldown until then.
    CooldownStarted(Timestamp),
    /// The upstream refused this secret version.
    SecretRejected(SecretVersion),
}
